"""Layers of int8 and of int16 in one model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.compiler import compile_model
from irshrink.errors import RecipeError
from irshrink.module import Module
from irshrink.recipe import make_recipe
from irshrink.testing.small_net import error, quantized, small_net

MODELS = Path(__file__).parent.parent / "models"
#: Layers of the small net, and what a layer reads and writes.
LAYERS = ("node_c1", "node_c2", "node_y")


def text(module: Module) -> str:
    return onnx.printer.to_text(module.to_proto())


def reads(module: Module, name: str) -> str:
    """The type in which a node's first input was stored."""
    node = next(node for node in module.graph if node.name == name)
    assert node.inputs[0] is not None
    dequantize = node.inputs[0].producer()
    assert dequantize is not None
    assert dequantize.inputs[0] is not None
    return str(ir.DataType(dequantize.inputs[0].dtype).name) if dequantize.inputs[0].dtype else ""


def test_all_layers_named_is_what_the_option_for_all_does() -> None:
    named = quantized(small_net(), layer_activation_bits={"*": 16}, method="minmax")
    assert text(named) == text(quantized(small_net(), activation_bits=16, method="minmax"))


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.sets(st.sampled_from(LAYERS)), st.sampled_from([8, 16]))
def test_each_layer_reads_its_own_width(named: set[str], usual: int) -> None:
    other = 24 - usual
    options = {"activation_bits": usual, "layer_activation_bits": dict.fromkeys(sorted(named), other)}
    result = quantized(small_net(), **options)
    for name in LAYERS:
        assert reads(result, name) == f"INT{other if name in named else usual}"
    assert error(small_net(), **options) < 0.05


def test_more_bits_lose_less() -> None:
    named = [{}, {"node_c1": 16}, {"node_c1": 16, "node_c2": 16}, {"*": 16}]
    errors = [error(small_net(), layer_activation_bits=one) for one in named]
    assert errors[-1] < errors[0]
    assert max(errors) <= errors[0] * 1.2


def test_a_name_that_fits_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"layer_activation_bits: no node is named or is a 'node_c9'"):
        quantized(small_net(), layer_activation_bits={"node_c9": 16})


def test_a_build_computes_both(tmp_path: Path) -> None:
    first = next(node.name for node in onnx.load(MODELS / "kws.onnx").graph.node if node.op_type == "Conv")
    step = {"pass": "quantize-int8", "layer_activation_bits": {first: 16}}
    recipe = make_recipe(
        {"target": "host", "calibration": str(MODELS / "kws-samples.npz"), "steps": [step], "test_inputs": 2}
    )
    compile_model(MODELS / "kws.onnx", recipe, tmp_path / "build")
    report = json.loads((tmp_path / "build" / "report.json").read_text("utf-8"))
    counted = [layer["op"] for layer in report["layers"]]
    assert counted.count("ConvInt16") == 1
    assert counted.count("ConvInt8") == 8
    assert report["accuracy"]["compiled"] >= 0.95
    assert np.isfinite(report["accuracy"]["compiled"])

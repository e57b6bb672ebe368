"""Block reconstruction: where a graph is cut, what it learns with PyTorch, what it says without."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx_ir as ir
import pytest

from irshrink.calibration.walk import LayerWalk
from irshrink.errors import IrshrinkError, RecipeError
from irshrink.passes.quantize.reconstruct import operators
from irshrink.passes.quantize.reconstruct.blocks import blocks, nodes_between
from irshrink.passes.quantize.reconstruct.operators import OPERATORS, why_unknown
from irshrink.passes.quantize.reconstruct.reconstruct import require_torch
from irshrink.passes.quantize.rounding.layer import Layer
from irshrink.registry import make_pass
from irshrink.testing.small_net import outputs, quantized, small_net

HAS_TORCH = importlib.util.find_spec("torch") is not None
MISSING = "reconstruct_steps needs PyTorch. Install irshrink[pytorch], or leave the option out."


def test_blocks_end_where_one_value_is_alive() -> None:
    reference = small_net()
    module = quantized(reference)
    assert module.calibration is not None
    pairs = {node.name: node for node in reference.graph}
    layers = [
        Layer(node, pairs[node.name], 1.0, True, 8)
        for node in module.graph
        if node.op_type in ("Conv", "Gemm")
    ]
    found = blocks(module.graph, LayerWalk(module, module.calibration), layers)
    assert [[layer.key for layer in block.layers] for block in found] == [["c1", "c2"], ["y"]]
    inside = nodes_between(module.graph, found[0].source, found[0].result(module.graph))
    assert {node.op_type for node in inside} >= {"Conv", "Add", "Relu", "QuantizeLinear"}
    assert found[1].stop is None


def test_learning_takes_a_block_closer_or_says_what_is_missing() -> None:
    options = {"weight_bits": 2, "bias_correction": "none"}
    if not HAS_TORCH:
        with pytest.raises(IrshrinkError) as caught:
            quantized(small_net(), **options, reconstruct_steps=10)
        assert MISSING in str(caught.value)
        return
    assert require_torch().__name__ == "torch"
    first, second = (quantized(small_net(), **options, reconstruct_steps=100) for _ in range(2))
    np.testing.assert_array_equal(outputs(first), outputs(second))
    plain, wanted = outputs(quantized(small_net(), **options)), outputs(small_net())
    assert np.square(outputs(first) - wanted).mean() < 0.8 * np.square(plain - wanted).mean()


def test_operators_that_it_does_not_compute() -> None:
    assert all(why_unknown(ir.node(op_type, [])) is None for op_type in OPERATORS if op_type != "Transpose")
    assert why_unknown(ir.node("LSTM", [])) == "LSTM is not known to it"
    assert why_unknown(ir.node("Transpose", [], {"perm": [1, 0]})) == "a Transpose moves the first axis"
    assert "follows from the shape" in str(why_unknown(ir.node("Conv", [], {"auto_pad": "SAME_UPPER"})))
    assert operators.why_unknown(ir.node("AveragePool", [], {"pads": [0, 0, 1, 1]})) == (
        "an AveragePool pads its sides unequally"
    )


def test_a_negative_number_of_steps() -> None:
    with pytest.raises(RecipeError, match="reconstruct_steps is -1; it cannot be negative"):
        make_pass("quantize-int8", {"reconstruct_steps": -1})

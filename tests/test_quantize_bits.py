"""Weights of fewer than 8 bits: what the QDQ graph stores, who reads it, and what reaches the program."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.errors import RecipeError
from irshrink.graph.edit import opset
from irshrink.module import Module
from irshrink.passes.quantize.weights import WEIGHT_LIMITS, quantize_weights
from irshrink.program.lower import lower
from irshrink.program.ops import (
    AddInt16,
    AveragePoolInt16,
    ConvInt8,
    ConvInt16,
    DenseInt8,
    DenseInt16,
    Reshape,
    Transpose,
)
from irshrink.program.reference.evaluate import run_program
from irshrink.registry import make_pass
from irshrink.testing.small_net import Node, error, outputs, quantized, small_net


def stored(module: Module) -> dict[str, ir.DataType]:
    """Element types of the integer weights, by the node that reads them."""
    found = {}
    for node in module.graph:
        value = node.inputs[0]
        if node.op_type == "DequantizeLinear" and value is not None and value.const_value is not None:
            (use,) = node.outputs[0].uses()
            if use.idx == 1:
                found[str(use.node.name)] = value.const_value.dtype
    return found


@pytest.mark.parametrize(
    ("bits", "kind", "least_opset"),
    [(4, ir.DataType.INT4, 21), (3, ir.DataType.INT4, 21), (2, ir.DataType.INT2, 25)],
)
def test_weights_are_stored_in_their_bits(bits: int, kind: ir.DataType, least_opset: int) -> None:
    result = quantized(small_net(), weight_bits=bits)
    assert set(stored(result).values()) == {kind}
    assert opset(result.graph) >= least_opset


def test_the_fewer_bits_the_more_is_lost() -> None:
    eight, four, three, two = (error(small_net(), weight_bits=bits) for bits in (8, 4, 3, 2))
    assert eight < four < three < two


def test_the_first_pattern_that_fits_decides() -> None:
    result = quantized(small_net(), weight_bits=4, layer_bits={"node_c2": 8, "Conv": 2})
    kinds = stored(result)
    assert kinds["node_c2"] == ir.DataType.INT8
    assert kinds["node_c1"] == ir.DataType.INT2
    assert kinds["node_y"] == ir.DataType.INT4


def test_a_pattern_of_layer_bits_that_fits_nothing() -> None:
    with pytest.raises(RecipeError, match="layer_bits: no node is named or is a 'Convolution'"):
        quantized(small_net(), layer_bits={"Convolution": 4})


def test_a_width_that_there_is_not() -> None:
    with pytest.raises(RecipeError, match="pass 'quantize-int8'"):
        make_pass("quantize-int8", {"weight_bits": 5})


def test_the_program_knows_the_width() -> None:
    program = lower(quantized(small_net(), layer_bits={"node_c1": 4, "node_y": 2}))
    widths = {op.origin[0]: op.weight_bits for op in program if isinstance(op, ConvInt8 | DenseInt8)}
    assert widths == {"node_c1": 4, "node_c2": 8, "node_y": 2}


def test_the_reference_computes_what_onnx_runtime_computes() -> None:
    result = quantized(small_net(), weight_bits=4)
    program, samples = lower(result, io="float"), result.calibration
    assert samples is not None
    ours = np.stack([run_program(program, [feeds["x"]])[0] for feeds in samples.feeds()])
    step = float(np.ptp(outputs(result))) / 255
    assert np.abs(ours - outputs(result)).max() <= 1.01 * step


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4, 8]), st.sampled_from([0, None]))
def test_no_weight_is_off_by_more_than_half_a_step(seed: int, bits: int, axis: Any) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((3, 5)).astype(np.float32)
    result = quantize_weights(weight, None, 0.1, axis, bits)
    low, high = WEIGHT_LIMITS[bits]
    assert low <= result.weight.min()
    assert result.weight.max() <= high
    off = np.abs(result.dequantized(0) - weight)
    steps = result.scale.reshape(-1, 1) if axis == 0 else result.scale
    assert (off <= 0.5001 * steps).all()


def test_sixteen_bits_lose_far_less_than_eight() -> None:
    assert error(small_net(), activation_bits=16, method="minmax") < 0.5 * error(small_net())


def test_activations_in_16_bits_run_between_int16() -> None:
    program = lower(quantized(small_net(), activation_bits=16))
    kinds = [type(op) for op in program if not isinstance(op, Reshape | Transpose)]
    assert kinds == [ConvInt16, ConvInt16, AddInt16, AveragePoolInt16, DenseInt16]
    assert {program.tensors[port.tensor].dtype for port in (*program.inputs, *program.outputs)} == {"int16"}


def test_the_reference_of_int16_computes_what_onnx_runtime_computes() -> None:
    result = quantized(small_net(), activation_bits=16, method="minmax")
    program, samples = lower(result, io="float"), result.calibration
    assert samples is not None
    ours = np.stack([run_program(program, [feeds["x"]])[0] for feeds in samples.feeds()])
    assert np.abs(ours - outputs(result)).max() <= 2 * float(np.ptp(outputs(result))) / 65535


def test_what_has_no_int16_form_runs_in_float() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w1", "b1"], "c", {"pads": [1, 1, 1, 1]}),
        ("Sigmoid", ["c"], "s", {}),
        ("Mul", ["c", "s"], "m", {}),
        ("GlobalAveragePool", ["m"], "p", {}),
        ("Flatten", ["p"], "f", {}),
        ("Gemm", ["f", "w3", "b3"], "y", {}),
    ]
    program = lower(quantized(small_net(nodes), activation_bits=16))
    kinds = Counter(type(op).__name__ for op in program)
    assert kinds["UnaryF32"] == kinds["BinaryF32"] == 1
    assert kinds["QuantizeInt16"] == 1  # a sigmoid times its own input is one function
    assert program.float_reasons.keys() == {"node_s", "node_m"}

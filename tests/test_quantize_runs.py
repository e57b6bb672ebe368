"""quantize-int8 on runs of functions, behind nodes that stay float, and why these do."""

from __future__ import annotations

import numpy as np

from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.testing.nodes import Node, floats, model, ours, quantized, theirs

CONV: Node = ("Conv", ["x", "w"], "c", {})
WEIGHT = floats(3, 4, 3, 1, 1)
SHAPE = (1, 3, 5, 6)
#: x * clip(x + 3, 0, 6) / 6 * k + b, as PaddleOCR's exporter writes it.
HARD_SWISH: list[Node] = [
    ("Add", ["c", "three"], "a", {}),
    ("Clip", ["a", "zero", "six"], "l", {}),
    ("Mul", ["c", "l"], "m", {}),
    ("Mul", ["m", "sixth"], "d", {}),
    ("Add", ["d", "half"], "e", {}),
]
NUMBERS = {
    **{"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
    **{"sixth": np.float32(0.17), "half": np.float32(0.5), "w": WEIGHT},
}
CONSTANTS = {"w": WEIGHT, "k": floats(6, 4, 1, 1), "axis": np.array(2)}


def kinds(program: Program) -> list[str]:
    return [type(op).__name__ for op in program]


def quantizers(nodes: list[Node], constants: dict[str, np.ndarray]) -> tuple[int, Program]:
    """How many QuantizeLinear nodes there are, and the program; it gives ONNX Runtime's bytes."""
    module = quantized(model(nodes, SHAPE, constants))
    program = lower(module, io="float")
    x = floats(4, *SHAPE)
    difference = theirs(module.model, x, optimize=False) != ours(program, x)
    assert np.mean(difference) <= 0.01
    return sum(node.op_type == "QuantizeLinear" for node in module.graph), program


def test_a_run_of_functions_is_one_table() -> None:
    last: Node = ("Conv", ["e", "v"], "y", {})
    count, program = quantizers([CONV, *HARD_SWISH, last], {**NUMBERS, "v": floats(5, 2, 4, 1, 1)})
    assert count == 4  # input, both convolutions, the run
    assert kinds(program).count("TableInt8") == 1
    assert program.float_reasons == {}
    assert "BinaryF32" not in kinds(program)


def test_a_value_that_others_read_ends_a_run() -> None:
    nodes = [CONV, *HARD_SWISH, ("Concat", ["l", "e"], "y", {"axis": 1})]
    _, program = quantizers(nodes, NUMBERS)
    assert kinds(program).count("TableInt8") >= 2
    assert program.float_reasons == {}


def test_two_values_are_no_run() -> None:
    nodes: list[Node] = [
        CONV,
        ("Conv", ["x", "v"], "d", {}),
        ("Mul", ["c", "d"], "m", {}),
        ("Sigmoid", ["m"], "y", {}),
    ]
    _, program = quantizers(nodes, {"w": WEIGHT, "v": floats(5, 4, 3, 1, 1)})
    assert "MulInt8" in kinds(program)


def test_a_clamp_stays_part_of_its_convolution() -> None:
    nodes: list[Node] = [CONV, ("Relu", ["c"], "r", {}), ("Sigmoid", ["r"], "y", {})]
    count, program = quantizers(nodes, {"w": WEIGHT})
    assert count == 3
    assert kinds(program)[1:3] == ["ConvInt8", "TableInt8"] or "ConvInt8" in kinds(program)


def test_int8_returns_before_the_next_layer() -> None:
    """Behind a node without int8 form, what leads to a convolution is int8 again."""
    nodes: list[Node] = [
        CONV,
        ("CumSum", ["c", "axis"], "f", {}),
        ("Mul", ["f", "k"], "m", {}),
        ("Transpose", ["m"], "t", {"perm": [0, 1, 3, 2]}),
        ("Conv", ["t", "v"], "y", {}),
    ]
    _, program = quantizers(nodes, {**CONSTANTS, "v": floats(5, 2, 4, 1, 1)})
    assert "MulInt8" in kinds(program)
    assert list(program.float_reasons) == ["node_f"]


def test_what_leads_to_no_layer_stays_float() -> None:
    nodes: list[Node] = [CONV, ("CumSum", ["c", "axis"], "f", {}), ("Mul", ["f", "k"], "y", {})]
    module = quantized(model(nodes, SHAPE, CONSTANTS))
    reasons = lower(module).float_reasons
    assert reasons == {"node_f": "it has no int8 form", "node_y": "what it reads is float"}


def test_a_kept_node_says_so() -> None:
    nodes: list[Node] = [CONV, ("Conv", ["c", "v"], "y", {})]
    proto = model(nodes, SHAPE, {"w": WEIGHT, "v": floats(5, 2, 4, 1, 1)})
    module = quantized(proto, keep_float=["node_y"])
    assert lower(module).float_reasons == {"node_y": "the recipe keeps it"}

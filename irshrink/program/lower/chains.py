"""What follows a value: clamps and the QuantizeLinear that make an operator an integer one."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.constants import Constants
from irshrink.program.lower.fitting import data_type
from irshrink.program.lower.numbers import quantize
from irshrink.program.lower.refusal import Refusal
from irshrink.program.program import Quantization

#: The type of activations that take 16 bits.
WIDE = "int16"

#: Operators that only rename or reorder the elements of their first input.
MOVES = frozenset(
    {
        "DepthToSpace",
        "Dropout",
        "Flatten",
        "Identity",
        "Reshape",
        "SpaceToDepth",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)


@dataclass(frozen=True)
class Sink:
    """The QuantizeLinear behind an operator, seen through clamps and moves.

    Attributes:
        quantization: of the stored int8 (or, if so asked for, int16).
        low, high: the clamps in the quantized domain.
        absorbed: Relu and Clip nodes that ``low`` and ``high`` stand for.
    """

    quantization: Quantization
    low: int
    high: int
    absorbed: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Clamp:
    """Relu and Clip nodes right behind an operator, as one interval."""

    low: float
    high: float
    absorbed: tuple[ir.Node, ...]

    def applied(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The clamp in float64."""
        return np.clip(x, self.low, self.high)


def parameters(node: ir.Node, constants: Constants, stored: str | None = None) -> tuple[Quantization, str]:
    """The quantization of an activation, and the integer type in the file: 8 bits, or int16 around 0.

    uint8 codes are stored less 128, and so is their zero point.

    Args:
        node: a QuantizeLinear or DequantizeLinear.
        stored: the integer type when a DequantizeLinear has no zero point to tell it.

    Raises:
        Refusal: not a positive constant scale per tensor, or another type.
    """
    scale = constants.array(edit.input_of(node, 1))
    zero_input = edit.input_of(node, 2)
    zero = constants.array(zero_input)
    if scale is None or (zero is None and zero_input is not None):
        raise Refusal(
            "its scale or zero point is computed at run time", "Quantize statically, with calibration."
        )
    if scale.size != 1 or (zero is not None and zero.size != 1):
        raise Refusal(
            "an activation is quantized per channel", "Quantize activations per tensor, weights per channel."
        )
    dtype = zero.dtype.name if zero is not None else stored or _output_dtype(node)
    if dtype not in ("int8", "uint8", WIDE):
        raise Refusal(f"an activation is quantized to {dtype}", "Quantize activations to 8 bits, or int16.")
    number = float(scale.reshape(()).astype(np.float32))
    if not 0.0 < number < inf:
        raise Refusal(f"its scale is {number}", "A scale is a positive number; quantize the model again.")
    zero_point = 0 if zero is None else int(zero.reshape(()))
    if dtype == WIDE and zero_point:
        raise Refusal(f"its int16 zero point is {zero_point}", "Quantize to int16 symmetrically, around 0.")
    return Quantization(number, zero_point - 128 if dtype == "uint8" else zero_point), dtype


def _output_dtype(node: ir.Node) -> str:
    kind = data_type(node, "output_dtype", 0)
    return "uint8" if kind == ir.DataType.UNDEFINED else kind.name.lower()


def sink(value: ir.Value, constants: Constants, *, wide: bool = False) -> Sink | None:
    """Where ``value`` is quantized to int8 (``wide``: to int16), None when someone reads it otherwise.

    Exact: QuantizeLinear is monotone, so it commutes with a clamp whose bounds are quantized likewise, and it
    works element by element, so it commutes with moves.
    """
    clamps: list[Clamp] = []
    while not value.is_graph_output():
        users = tuple(value.uses())
        if users and all(use.node.op_type == "QuantizeLinear" and use.idx == 0 for use in users):
            return _sink([use.node for use in users], clamps, constants, wide)
        if len(users) != 1 or users[0].idx != 0:
            return None
        node = users[0].node
        clamp = bounds(node, constants)
        if clamp is not None:
            clamps.append(clamp)
        elif node.op_type not in MOVES:
            return None
        value = node.outputs[0]
    return None


def _sink(quantizers: list[ir.Node], clamps: list[Clamp], constants: Constants, wide: bool) -> Sink | None:
    found = {parameters(node, constants) for node in quantizers}
    if len({quantization for quantization, _ in found}) != 1 or {d == WIDE for _, d in found} != {wide}:
        return None
    quantization, _ = found.pop()
    limits = np.iinfo(np.int16 if wide else np.int8)
    low, high = limits.min, limits.max
    for clamp in clamps:
        ends = quantize(np.array([clamp.low, clamp.high], np.float32), quantization, limits)
        low, high = (int(min(max(bound, ends[0]), ends[1])) for bound in (low, high))
    return Sink(quantization, low, high, tuple(node for clamp in clamps for node in clamp.absorbed))


def clamp_behind(value: ir.Value, constants: Constants) -> Clamp:
    """The Relu or Clip that alone reads ``value``; no bounds and no node when there is none."""
    users = tuple(value.uses())
    if len(users) == 1 and not value.is_graph_output() and users[0].idx == 0:
        clamp = bounds(users[0].node, constants)
        if clamp is not None:
            return clamp
    return Clamp(-inf, inf, ())


def bounds(node: ir.Node, constants: Constants) -> Clamp | None:
    """The interval of a Relu or of a Clip with constant bounds, None for other nodes."""
    if node.op_type == "Relu":
        return Clamp(0.0, inf, (node,))
    if node.op_type != "Clip":
        return None
    low = edit.attribute_float(node, "min", -inf)
    high = edit.attribute_float(node, "max", inf)
    for index, value in ((1, edit.input_of(node, 1)), (2, edit.input_of(node, 2))):
        if value is None:
            continue
        array = constants.array(value)
        if array is None or array.size != 1:
            return None
        low, high = (float(array.item()), high) if index == 1 else (low, float(array.item()))
    return Clamp(min(low, high), high, (node,))


def leaves(value: ir.Value) -> list[ir.Node | None]:
    """Who reads ``value`` behind moves; None stands for an output of the graph."""
    found: list[ir.Node | None] = [None] if value.is_graph_output() else []
    for use in value.uses():
        if use.node.op_type in MOVES and use.idx == 0:
            found.extend(leaves(use.node.outputs[0]))
        else:
            found.append(use.node)
    return found

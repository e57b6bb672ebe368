"""The int16 form of layers, sums and averages; everything else reads int16 in float32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.program.lower.chains import Sink
from irshrink.program.lower.constants import Constant
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import (
    INT16,
    OUT_OF_RANGE,
    extreme_sums,
    fits_int32,
    layer_multiplier,
    mean_multiplier,
    usable,
)
from irshrink.program.lower.rules.align import aligned
from irshrink.program.lower.rules.layer import IntegerWeights, integer_weights
from irshrink.program.lower.view import View
from irshrink.program.ops import AddInt16, AveragePoolInt16, QuantizeInt16, ToInt16, Window
from irshrink.program.program import Quantization


def wide_layer(
    x: Quantization | None, weight: Constant, bias: Constant | None, sink: Sink | None
) -> tuple[IntegerWeights, ToInt16] | str:
    """Weights and bias in integers with the way to int16, or the reason why the layer runs in float.

    Args:
        weight: output channels first.
        bias: one number per output channel.
    """
    if x is None or sink is None:
        return f"its {'input' if x is None else 'output'} is not quantized to int16"
    found = integer_weights(x.scale, weight, bias)
    if isinstance(found, str):
        return found
    multiplier = layer_multiplier(x.scale, found.scale, sink.quantization.scale)
    if not usable(multiplier):
        return OUT_OF_RANGE
    if not fits_int32(*extreme_sums(found.weight.astype(np.int64), found.bias, INT16)):
        return "its accumulator could overflow 32 bits"
    return found, ToInt16(multiplier=multiplier, low=sink.low, high=sink.high)


def wide_addition(lowering: Lowering, node: ir.Node) -> bool:
    """Emit AddInt16 for Add or Sub of two int16 tensors; False when the node is none of that kind."""
    sink = lowering.wide_sink(node)
    if sink is None or node.op_type not in ("Add", "Sub"):
        return False
    if any(lowering.constants.get(value) is not None for value in node.inputs):
        return False
    views = [lowering.real(node, index) for index in (0, 1)]
    held = [lowering.builder.wide(view) for view in views]
    scales = [one.scale for one in held if one is not None]
    if len(scales) != 2:
        return False
    with np.errstate(all="ignore"):
        ratios = np.array(scales, np.float32) / np.float32(sink.quantization.scale)
    if not usable(ratios):
        return False
    pair = aligned(lowering, *views)
    a, b = (float(ratio) for ratio in ratios)
    tensor = lowering.emit_int16(
        AddInt16, node, pair.tensors, pair.shape, sink=sink,
        multipliers=(a, -b if node.op_type == "Sub" else b), low=sink.low, high=sink.high,
    )  # fmt: skip
    lowering.bind(node.outputs[0], pair.view.on(tensor))
    return True


def wide_average(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    source: str,
    shape: list[int],
    *,
    window: Window,
    counts: NDArray[np.int64],
    count_padding: bool,
) -> str | None:
    """The tensor of an average pool in int16; None where input or output are not.

    Args:
        source: the input's tensor, [N, H, W, C].
        shape: physical, of the output.
        counts: how many values there are in a sum, each number that occurs.
    """
    held, sink = lowering.builder.wide(x), lowering.wide_sink(node)
    largest = 2**15 * int(counts.max())
    if held is None or sink is None or not fits_int32(-largest, largest):
        return None
    y = sink.quantization.scale
    multipliers = {int(n): mean_multiplier(held.scale, y, int(n)) for n in counts}
    if not usable(np.array(list(multipliers.values()), np.float32)):
        return None
    return lowering.emit_int16(
        AveragePoolInt16, node, [source], shape, sink=sink,
        window=window, count_padding=count_padding, multipliers=multipliers, low=sink.low, high=sink.high,
    )  # fmt: skip


def quantized(lowering: Lowering, node: ir.Node, x: View, wanted: Quantization) -> str:
    """The tensor of a QuantizeLinear to int16: the one at hand, if it is held so already."""
    if lowering.builder.wide(x) == wanted:
        return x.tensor
    real = lowering.builder.as_float(x)
    shape = lowering.builder.shape(real.tensor)
    return lowering.emit(
        QuantizeInt16, node, [real.tensor], shape, quantization=wanted, dtype="int16", scale=wanted.scale
    )

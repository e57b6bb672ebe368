"""ConvTranspose, as a convolution.

With stride s, an output position is ``o = q s + r - p``: q counts steps of the input, r = 0..s-1 is the
phase. Only the weights ``w[m s + r]`` meet inputs there, so each phase is a convolution of stride 1,

    y[q s + r - p] = sum over m of x[q - m] w[m s + r]

and all of them together are one, with s times as many output channels. Its result lies in memory as it is:
that pixels are spread over channels is a matter of how the tensor is viewed. The products are those of the
transposed convolution and zeros (where s does not divide the kernel), so the sum in integers is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.constants import Codes, Constant
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.convolution import convolved
from irshrink.program.lower.rules.movement import sliced
from irshrink.program.lower.rules.windows import image, like_input, pair
from irshrink.program.lower.view import View, channels_last, view_of
from irshrink.program.ops import Window
from irshrink.program.reference.dispatch import Array

_DAMAGED = "The model is damaged; export it again."


@dataclass(frozen=True)
class _Axis:
    """One spatial axis.

    Attributes:
        steps: M, of the convolution's kernel.
        stride: s, the number of phases.
        first, last: smallest and largest q of the output.
        start: index of the first output among the positions from ``first * stride`` on.
        size: of the output.
    """

    steps: int
    stride: int
    first: int
    last: int
    start: int
    size: int

    @staticmethod
    def of(kernel: int, stride: int, before: int, size: int) -> _Axis:
        """Of a dilated kernel; ``before`` is the pad and ``size`` the length of the output."""
        first, last = before // stride, (before + size - 1) // stride
        return _Axis(-(-kernel // stride), stride, first, last, before - first * stride, size)

    def pads(self, length: int) -> tuple[int, int]:
        """Of the convolution over an input of this length; negative ones crop."""
        return self.steps - 1 - self.first, self.last + 1 - length


def conv_transpose(lowering: Lowering, node: ir.Node) -> None:
    """1-D and 2-D, any strides, pads, dilations, groups and output padding."""
    x = lowering.real(node, 0)
    weight = lowering.weights(node, 1, "weights")
    bias = None if edit.input_of(node, 2) is None else lowering.weights(node, 2, "biases")
    if weight.array.ndim not in (3, 4):
        raise Refusal(f"its kernel has {weight.array.ndim - 2} axes", "Only 1-D and 2-D convolutions run.")
    pixels, groups = image(lowering, x), edit.attribute_int(node, "group", 1)
    if pixels.shape[1] != weight.array.shape[0] or weight.array.shape[0] % groups:
        raise Refusal(f"{pixels.shape[1]} channels do not fit {list(weight.array.shape)}", _DAMAGED)
    axes = _axes(node, weight.array.shape[2:], pixels.shape[2:])
    pixels, window = _window(lowering, node, pixels, axes)
    constants = _weights(node, weight, groups, axes), _biases(bias, groups, axes)
    phases = convolved(lowering, node, pixels, constants, window=window, groups=groups)
    y = _interleaved(lowering, phases, groups, axes)
    lowering.bind(node.outputs[0], like_input(lowering, _cut(lowering, node, y, axes), x.rank))


def _axes(node: ir.Node, kernel: tuple[int, ...], size: tuple[int, ...]) -> tuple[_Axis, _Axis]:
    ones = (1,) * len(kernel)
    strides = pair(edit.attribute_ints(node, "strides") or ones)
    extents = [(k - 1) * d + 1 for k, d in zip(pair(kernel), _dilations(node), strict=True)]
    extra = pair(edit.attribute_ints(node, "output_padding") or (0,) * len(kernel), 0)
    full = [s * (n - 1) + e + k for s, n, e, k in zip(strides, size, extra, extents, strict=True)]
    automatic = edit.attribute_string(node, "auto_pad", "NOTSET")
    wanted = edit.attribute_ints(node, "output_shape")
    if wanted is not None:
        out: tuple[int, ...] | None = pair(wanted[-len(kernel) :])
    else:
        out = tuple(n * s for n, s in zip(size, strides, strict=True)) if "SAME" in automatic else None
    if out is None:
        pads = edit.attribute_ints(node, "pads") or (0,) * (2 * len(kernel))
        begin, end = pair(pads[: len(kernel)], 0), pair(pads[len(kernel) :], 0)
        out = tuple(n - b - e for n, b, e in zip(full, begin, end, strict=True))
    else:
        totals = [max(n - o, 0) for n, o in zip(full, out, strict=True)]
        half = [total // 2 for total in totals]
        begin = (
            (half[0], half[1]) if automatic == "SAME_UPPER" else (totals[0] - half[0], totals[1] - half[1])
        )
    if min(out) < 1 or min(begin) < 0:
        raise Refusal("nothing is left between its pads", _DAMAGED)
    first, second = (_Axis.of(k, s, b, n) for k, s, b, n in zip(extents, strides, begin, out, strict=True))
    return first, second


def _dilations(node: ir.Node) -> tuple[int, int]:
    return pair(edit.attribute_ints(node, "dilations") or (1,))


def _window(lowering: Lowering, node: ir.Node, x: View, axes: tuple[_Axis, _Axis]) -> tuple[View, Window]:
    """The convolution's window, and its input without what no output depends on."""
    pads = [axis.pads(size) for axis, size in zip(axes, x.shape[2:], strict=True)]
    ranges = {
        2 + i: (max(-before, 0), x.shape[2 + i] - max(-behind, 0), 1)
        for i, (before, behind) in enumerate(pads)
        if min(before, behind) < 0
    }
    (top, bottom), (left, right) = ((max(a, 0), max(b, 0)) for a, b in pads)
    window = Window(kernel=(axes[0].steps, axes[1].steps), pads=(top, left, bottom, right))
    return sliced(lowering, node, x, ranges), window


def _weights(node: ir.Node, weight: Constant, groups: int, axes: tuple[_Axis, _Axis]) -> Constant:
    """[Ci, Co / groups, kh, kw] as [groups * phases * Co / groups, Ci / groups, Mh, Mw]."""
    dilations = _dilations(node)
    codes = weight.codes
    if codes is None:
        return Constant(_phases(weight.array, groups, axes, dilations))
    channels = weight.array.shape[1]
    integers = _phases(codes.integers - codes.broadcast(codes.zero_point), groups, axes, dilations)
    per_input = weight.array.shape[0] // groups
    if codes.axis is None:
        scale = codes.scale
    elif codes.axis == 1:
        scale = _spread(np.broadcast_to(codes.scale, (groups, channels)), axes)
    elif codes.axis == 0 and per_input == 1:
        scale = _spread(np.broadcast_to(codes.scale[:, None], (groups, channels)), axes)
    else:
        return Constant(_phases(weight.array, groups, axes, dilations))
    zero = np.zeros(scale.shape, np.int64)
    made = Codes(integers, scale, zero, None if codes.axis is None else 0, codes.bits)
    return Constant(made.real(), made)


def _phases(weight: Array, groups: int, axes: tuple[_Axis, _Axis], dilations: tuple[int, int]) -> Array:
    (mh, sh), (mw, sw) = ((axis.steps, axis.stride) for axis in axes)
    ci, co, *kernel = weight.shape
    kh, kw = kernel if len(kernel) == 2 else (1, kernel[0])
    full = np.zeros((ci, co, mh * sh, mw * sw), weight.dtype)
    full[:, :, : kh * dilations[0] : dilations[0], : kw * dilations[1] : dilations[1]] = weight.reshape(
        ci, co, kh, kw
    )
    split = full.reshape(groups, ci // groups, co, mh, sh, mw, sw)[:, :, :, ::-1, :, ::-1, :]
    ordered = split.transpose(0, 4, 6, 2, 1, 3, 5)
    return np.ascontiguousarray(ordered).reshape(-1, ci // groups, mh, mw)


def _spread(per_channel: Array, axes: tuple[_Axis, _Axis]) -> Array:
    """[groups, Co / groups] for every phase, in the order of the convolution's channels."""
    groups, channels = per_channel.shape
    phases = axes[0].stride * axes[1].stride
    repeated: Array = np.broadcast_to(per_channel[:, None, :], (groups, phases, channels)).reshape(-1).copy()
    return repeated


def _biases(bias: Constant | None, groups: int, axes: tuple[_Axis, _Axis]) -> Constant | None:
    if bias is None:
        return None
    codes = bias.codes
    if codes is not None and not codes.zero_point.any():
        integers = _spread(codes.integers.reshape(groups, -1), axes)
        scale = np.broadcast_to(codes.scale.reshape(-1), (bias.array.size,)).reshape(groups, -1)
        codes = Codes(integers, _spread(scale, axes), np.zeros(integers.shape, np.int64), 0)
    return Constant(_spread(bias.array.reshape(groups, -1), axes), codes)


def _interleaved(lowering: Lowering, y: View, groups: int, axes: tuple[_Axis, _Axis]) -> View:
    """[N, groups * phases * C, Qh, Qw] seen as [N, groups * C, Qh * sh, Qw * sw]."""
    n, channels, height, width = y.shape
    sh, sw = axes[0].stride, axes[1].stride
    inner = channels // (groups * sh * sw)
    split = lowering.builder.view_as(y, (n, groups, sh, sw, inner, height, width))
    mixed = split.transposed((0, 1, 4, 5, 2, 6, 3))
    return lowering.builder.view_as(mixed, (n, groups * inner, height * sh, width * sw))


def _cut(lowering: Lowering, node: ir.Node, y: View, axes: tuple[_Axis, _Axis]) -> View:
    """The outputs between the pads."""
    ranges = {2 + i: (axis.start, axis.start + axis.size, 1) for i, axis in enumerate(axes)}
    if all(start == 0 and stop == y.shape[i] for i, (start, stop, _) in ranges.items()):
        return y
    if y.order() is None:
        order = channels_last(4)
        y = view_of(lowering.builder.dense(y, order), y.shape, order)
    assert prod(y.shape) > 0
    return sliced(lowering, node, y, ranges)

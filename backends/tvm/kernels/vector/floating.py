"""float32 convolution and dense layers with fused sums: the geometry of int8, counted in bytes.

What has no vector form (sums with two roundings, weights in int8, several images that are not one long row)
falls to the general kernels.
"""

from __future__ import annotations

from math import inf

import numpy as np

from irshrink.backends.tvm.kernels import floating as general
from irshrink.backends.tvm.kernels.call import KernelCall, Schedule
from irshrink.backends.tvm.kernels.tiles import block_starts
from irshrink.backends.tvm.kernels.vector import depthwise_floating, fourier, winograd
from irshrink.backends.tvm.kernels.vector.convolution import layer_call
from irshrink.backends.tvm.kernels.vector.float_results import FloatResults
from irshrink.backends.tvm.kernels.vector.fma import FmaKernel, NeonFma, X86Fma, as_stored
from irshrink.backends.tvm.kernels.vector.layer import Layer, best_tile, tiles_of
from irshrink.backends.tvm.kernels.vector.micro import VectorTile, blocks_of
from irshrink.errors import InternalError
from irshrink.program.ops import ConvF16, ConvF32, DenseF16, DenseF32, Window
from irshrink.program.program import Program
from irshrink.target import Target

_Op = ConvF32 | DenseF32


def select_convolution(
    op: ConvF32, program: Program, target: Target, schedule: Schedule | None = None
) -> KernelCall:
    """The kernel for a float32 convolution."""
    if op.winograd or op.fourier:
        return _transformed(op, program, target, schedule)
    found = _select(op, program, target, schedule)
    return found or general.select_convolution_f32(op, program, target)


def select_dense(
    op: DenseF32, program: Program, target: Target, schedule: Schedule | None = None
) -> KernelCall:
    """The kernel for a float32 dense layer."""
    return _select(op, program, target, schedule) or general.select_dense_f32(op, program, target)


def candidates(op: _Op, program: Program, target: Target) -> list[Schedule]:
    """The schedules of a float32 layer; the general kernels have none."""
    micro, layer = _micro(op, target), layer_of(op, program)
    if isinstance(op, ConvF32) and op.winograd and micro is not None:
        return [*winograd.candidates(winograd.layer_of(op, program), micro, target.threads)]
    if isinstance(op, ConvF32) and op.fourier and micro is not None:
        return [*fourier.candidates(op, program, micro)]
    if micro is None or layer is None or layer.group_out < micro.lanes:
        return []
    return [*tiles_of(micro, layer)]


def _micro(op: _Op, target: Target) -> NeonFma | X86Fma | None:
    """The micro-kernel for an operator; None where the general kernels have it."""
    groups = op.groups if isinstance(op, ConvF32) else 1
    depthwise = groups == len(op.weight) and op.weight.shape[-1] == 1
    per_group = len(op.weight) // (1 if depthwise else groups)
    if isinstance(op, ConvF32) and op.winograd:
        per_group = min(per_group, op.weight.shape[3])  # both are vectors there
    if isinstance(op, ConvF32) and op.fourier:
        per_group *= 2  # real and imaginary parts
    if not op.fused or op.codes is not None:
        return None
    if target.has("vnni"):
        return X86Fma(lanes=16 if per_group >= 16 else 8) if per_group >= 8 else None
    if target.triple.startswith("aarch64-") and target.has("neon") and per_group >= 4:
        return NeonFma()
    return None


def _transformed(op: ConvF32, program: Program, target: Target, schedule: Schedule | None) -> KernelCall:
    """The kernel for a convolution by tiles of 2x2 or by Fourier transforms."""
    micro = _micro(op, target)
    if micro is None:
        raise InternalError(f"{op.name}: {target.name} has no kernel for its algorithm")
    if op.fourier:
        turned = schedule if isinstance(schedule, fourier.FourierTile) else None
        return fourier.select(op, program, micro, target.threads, turned)
    tile = schedule if isinstance(schedule, winograd.WinogradTile) else None
    return winograd.select(op, program, micro, target.threads, tile)


def layer_of(op: _Op | ConvF16 | DenseF16, program: Program, nbytes: int = 4) -> Layer | None:
    """The layer with its channels in bytes; None for several images that are not one long row."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    if isinstance(op, DenseF32 | DenseF16):
        channels, depth = op.weight.shape
        pixels = y.elements // channels
        sizes = (1, 1, pixels, nbytes * depth)
        return Layer(Window(kernel=(1, 1)), sizes, (1, pixels, channels), 1, 0, nbytes)
    images, height, width, ci = x.shape
    _, out_h, out_w, co = y.shape
    window = op.window
    if window.kernel == (1, 1) and window.strides == (1, 1) and not any(window.pads):
        height, width, out_h, out_w, images = 1, images * height * width, 1, images * out_h * out_w, 1
    if images != 1:
        return None
    return Layer(window, (1, height, width, nbytes * ci), (out_h, out_w, co), op.groups, 0, nbytes)


def _select(op: _Op, program: Program, target: Target, schedule: Schedule | None) -> KernelCall | None:
    micro, layer = _micro(op, target), layer_of(op, program)
    if micro is None or layer is None:
        return None
    if isinstance(op, ConvF32) and op.groups == len(op.weight) > 1:
        return depthwise_floating.select(op, program, micro)
    return kernel(op, micro, layer, schedule if isinstance(schedule, VectorTile) else None)


def kernel(
    op: _Op | ConvF16 | DenseF16, micro: FmaKernel, layer: Layer, tile: VectorTile | None
) -> KernelCall:
    """The kernel for a layer, of the tile of fewest instructions where none is given."""
    tile = tile or best_tile(micro, layer)
    row_count, parts, run = layer.runs("rows")
    low, high = float(np.float32(op.low)), float(np.float32(op.high))
    results = FloatResults(micro.functions, micro.lanes, low != -inf, high != inf, micro.element)
    starts = block_starts(layer.group_out, tile.channels)
    grouped = op.weight.reshape(layer.groups, layer.group_out, row_count * parts, run // micro.nbytes)
    blocks = np.concatenate([blocks_of(starts, group, tile.channels) for group in grouped])
    bias = as_stored(np.broadcast_to(op.bias, (layer.out[2],)))
    return layer_call(micro, layer, tile, results, [micro.pack(blocks), bias], results.arguments(low, high))

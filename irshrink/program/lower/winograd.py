"""Which convolutions a target computes in tiles of 2x2 results: those that this made clearly faster.

Measured by `python benchmarks/winograd.py` (decision 22). A tile takes 16 products where the window takes 36,
and about 15 additions for each of its inputs and outputs: few channels do not pay for them. Tiles that hang
over the edge are computed in whole. The transformed weights are 16/9 of the size, which costs more than it
saves where a layer of few pixels has so many that they come from main memory.
"""

from __future__ import annotations

from dataclasses import replace

from irshrink.program.ops import ConvF32
from irshrink.program.program import Program
from irshrink.program.winograd import STEP
from irshrink.target import Target

#: The fewest channels, in and out, by the feature that brings the kernels.
_LEAST_CHANNELS = {"vnni": 16, "neon": 8}
#: The most pairs of channels in and out: 4 MiB of transformed weights.
_MOST_WEIGHTS = 1 << 16
#: The fewest tiles, and the share of their results that must belong to the output.
_LEAST_TILES, _LEAST_FILLED = 4, 0.65


def with_winograd(program: Program, target: Target) -> Program:
    """The program with the convolutions in tiles of 2x2 that the target computes faster so, and no others."""
    ops = [
        replace(op, winograd=_pays(op, program, target)) if isinstance(op, ConvF32) else op
        for op in program.ops
    ]
    return replace(program, ops=ops)


def _pays(op: ConvF32, program: Program, target: Target) -> bool:
    least = _least_channels(target)
    images, out_h, out_w, co = program.tensors[op.output].shape
    window, ci = op.window, op.weight.shape[3]
    if least is None or not op.fused or op.codes is not None or images != 1 or op.groups != 1:
        return False
    if (window.kernel, window.strides, window.dilations) != ((3, 3), (1, 1), (1, 1)):
        return False
    if min(ci, co) < least or ci * co > _MOST_WEIGHTS:
        return False
    tiles = -(-out_h // STEP) * -(-out_w // STEP)
    return tiles >= _LEAST_TILES and out_h * out_w >= _LEAST_FILLED * STEP * STEP * tiles


def _least_channels(target: Target) -> int | None:
    """None for targets without kernels."""
    if not target.has("fma"):
        return None
    if target.has("vnni"):
        return _LEAST_CHANNELS["vnni"]
    return _LEAST_CHANNELS["neon"] if target.triple.startswith("aarch64-") and target.has("neon") else None

"""Which convolutions a target computes in tiles of 2x2 results: those that this made clearly faster.

Measured by `python benchmarks/float_convolutions.py` (decision 22). A tile takes 16 products where the window
takes 36, and about 15 additions for each of its inputs and outputs: few channels do not pay for them. Tiles
that hang over the edge are computed in whole. The transformed weights are 16/9 of the size, which costs more
than it saves where a layer of few pixels has so many that they come from main memory.
"""

from __future__ import annotations

from dataclasses import replace

from irshrink.program.ops import ConvF16, ConvF32
from irshrink.program.ops.float16 import PIECE
from irshrink.program.program import Program
from irshrink.program.winograd import STEP
from irshrink.target import Target

#: The fewest channels, in and out. Vectors of 16 channels serve both or none: with 8 in and 16 out, vectors
#: of 8 would stand against 16 of the direct kernel.
_LEAST_CHANNELS, _VECTOR = 8, 16
#: The most pairs of channels in and out: 4 MiB of transformed weights.
_MOST_WEIGHTS = 1 << 16
#: The fewest tiles, and the share of their results that must belong to the output.
_LEAST_TILES, _LEAST_FILLED = 4, 0.65


def with_winograd(program: Program, target: Target) -> Program:
    """The program with the convolutions in tiles of 2x2 that the target computes faster so, and no others."""
    ops = [
        replace(op, winograd=_pays(op, program, target)) if isinstance(op, ConvF32 | ConvF16) else op
        for op in program.ops
    ]
    return replace(program, ops=ops)


def _pays(op: ConvF32 | ConvF16, program: Program, target: Target) -> bool:
    images, out_h, out_w, co = program.tensors[op.output].shape
    window, ci = op.window, op.weight.shape[3]
    if not _has_kernels(op, target) or images != 1 or op.groups != 1:
        return False
    if (window.kernel, window.strides, window.dilations) != ((3, 3), (1, 1), (1, 1)):
        return False
    if min(ci, co) < _LEAST_CHANNELS or ci * co > _MOST_WEIGHTS:
        return False
    if target.has("vnni") and (ci < _VECTOR) != (co < _VECTOR):
        return False
    tiles = -(-out_h // STEP) * -(-out_w // STEP)
    return tiles >= _LEAST_TILES and out_h * out_w >= _LEAST_FILLED * STEP * STEP * tiles


def _has_kernels(op: ConvF32 | ConvF16, target: Target) -> bool:
    neon = target.triple.startswith("aarch64-") and target.has("neon")
    if isinstance(op, ConvF16):  # of more channels the sums would be cut into pieces
        return neon and target.has("fp16") and op.weight.shape[3] <= PIECE
    return op.fused and op.codes is None and target.has("fma") and (target.has("vnni") or neon)

"""Which convolutions a target computes by Fourier transforms: those that this made clearly faster.

The rule compares products. Directly, an output takes ``kh kw ci`` of them for each channel. By transforms, a
value of a spectrum takes 4 real ones for each row, channel in and channel out, and the transforms of inputs
and sums some for each of their log2(n) stages, which load and store. The two weights are fitted to what
`python benchmarks/float_convolutions.py` measured (decision 22); they are right to about a half, so only half
of the direct cost counts as faster.
"""

from __future__ import annotations

from dataclasses import replace

from irshrink.program.fourier import LENGTHS, Segments
from irshrink.program.ops import ConvF32
from irshrink.program.program import Program
from irshrink.target import Target

#: Channels of the shortest vectors, by the feature that brings them; layers have multiples of them.
_LANES = {"vnni": 8, "neon": 4}
#: What a product of spectra and a value's stage of a transform cost, in products of the direct kernel.
_PRODUCT, _STAGE = 1.5, 9.0
#: Of the direct cost, what is clearly faster.
_WORTH = 0.5
#: The most bytes of weights, and of the spectra of one row: more do not stay in a cache.
_MOST_BYTES = 2 << 20


def with_fourier(program: Program, target: Target) -> Program:
    """The program with those convolutions by transforms that the target computes faster so, and no others."""
    lanes = _lanes(target)
    ops = [
        replace(op, fourier=_length(op, program, lanes)) if isinstance(op, ConvF32) else op
        for op in program.ops
    ]
    return replace(program, ops=ops)


def _length(op: ConvF32, program: Program, lanes: int | None) -> int:
    """Of the transforms; 0 where the direct kernel stays."""
    images, out_h, out_w, co = program.tensors[op.output].shape
    window, ci = op.window, op.weight.shape[3]
    if lanes is None or not op.fused or op.winograd or op.codes is not None:
        return 0
    if images != 1 or op.groups != 1 or window.strides[1] != 1 or window.dilations[1] != 1:
        return 0
    if ci % lanes or co % lanes:
        return 0
    height, (kh, kw) = program.tensors[op.inputs[0]].shape[1], window.kernel

    def cost(length: int) -> float:
        segments = Segments.of(length, kw, out_w)
        products = out_h * 4 * kh * ci * co * _PRODUCT
        transforms = (height * ci + out_h * co) * segments.stages * _STAGE
        return float(segments.pairs * length * (products + transforms))

    def fits(length: int) -> bool:
        row = Segments.of(length, kw, out_w).pairs * length * 2 * ci * 4
        return bool(max(row, length * kh * ci * co * 4 * 4) <= _MOST_BYTES)

    lengths = [n for n in LENGTHS if n >= 2 * kw and fits(n)]
    best = min(lengths, key=cost, default=0)
    return best if best and cost(best) <= _WORTH * out_h * out_w * kh * kw * ci * co else 0


def _lanes(target: Target) -> int | None:
    """None for targets without kernels."""
    if not target.has("fma"):
        return None
    if target.has("vnni"):
        return _LANES["vnni"]
    return _LANES["neon"] if target.triple.startswith("aarch64-") and target.has("neon") else None

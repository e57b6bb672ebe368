"""The last steps on a list of operators: dead ones go, additions move into convolutions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from irshrink.program.lower.fourier import with_fourier
from irshrink.program.lower.halves import with_halves
from irshrink.program.lower.winograd import with_winograd
from irshrink.program.ops import AddInt8, Addition, ConvF32, ConvInt8, DenseF32, MatMulF32, Op
from irshrink.program.program import Program, Tensor
from irshrink.target import Target


def without_dead(ops: Sequence[Op], outputs: Collection[str]) -> list[Op]:
    """The operators that an output depends on."""
    needed = set(outputs)
    kept: list[Op] = []
    for op in reversed(ops):
        if op.output in needed:
            needed.update(op.inputs)
            kept.insert(0, op)
    return kept


def with_sums(program: Program, fused: bool) -> Program:
    """The program with sums of float32 products that add each one with a single rounding, or with two."""
    summing = (ConvF32, DenseF32, MatMulF32)
    ops = [replace(op, fused=fused) if isinstance(op, summing) else op for op in program.ops]
    return replace(program, ops=ops)


def with_zeros(program: Program, target: Target) -> Program:
    """The program with zeros in the float layers whose kernels do not skip them.

    Vectors multiply by them; elsewhere a number and its column take six bytes instead of four.
    """

    def skips(op: DenseF32) -> bool:
        small = 6 * np.count_nonzero(op.weight) + 2 * len(op.weight) < 4 * op.weight.size
        return bool(small and op.weight.shape[1] <= 1 << 16 and not target.has("simd"))

    ops = [
        replace(op, sparse=op.sparse and skips(op)) if isinstance(op, DenseF32) else op for op in program.ops
    ]
    return replace(program, ops=ops)


def for_target(program: Program, target: Target) -> Program:
    """The program with real numbers, their sums and their convolutions as the target computes them."""
    summed = with_zeros(with_sums(with_halves(program, target), target.has("fma")), target)
    return with_fourier(with_winograd(summed, target), target)


def with_residuals(ops: Sequence[Op], tensors: dict[str, Tensor], outputs: Collection[str]) -> list[Op]:
    """Additions to the output of a convolution that nobody else reads, computed by the convolution.

    Of two such convolutions the later one takes it; the other operand must be there before it runs. The
    arithmetic is the same two steps, so no byte changes.
    """
    fused = list(ops)
    for add in [op for op in ops if isinstance(op, AddInt8)]:
        place = _host(add, fused, tensors, outputs)
        if place is None:
            continue
        conv = fused[place]
        assert isinstance(conv, ConvInt8)
        other = add.inputs[1 - add.inputs.index(conv.output)]
        fused[place] = replace(
            conv,
            origin=(*conv.origin, *add.origin),
            inputs=(*conv.inputs, other),
            output=add.output,
            residual=_conv_first(add.addition, add.inputs.index(conv.output)),
        )
        fused.remove(add)
    return fused


def _host(
    add: AddInt8, ops: Sequence[Op], tensors: dict[str, Tensor], outputs: Collection[str]
) -> int | None:
    """Index of the convolution that can take the addition, None when there is none."""
    places = {op.output: index for index, op in enumerate(ops)}
    for name in sorted(add.inputs, key=lambda name: -places.get(name, -1)):
        place = places.get(name)
        other = add.inputs[1 - add.inputs.index(name)]
        if place is None or name == other or places.get(other, -1) >= place:
            continue
        conv, readers = ops[place], sum(name in op.inputs for op in ops)
        if not isinstance(conv, ConvInt8) or conv.residual is not None:
            continue
        same = tensors[name].shape == tensors[other].shape == tensors[add.output].shape
        if same and readers == 1 and name not in outputs:
            return place
    return None


def _conv_first(addition: Addition, index: int) -> Addition:
    """The addition with the convolution's result as operand a; integer addition commutes."""
    if index == 0:
        return addition
    (a, b), (za, zb) = addition.multipliers, addition.zero_points
    return replace(addition, multipliers=(b, a), zero_points=(zb, za))

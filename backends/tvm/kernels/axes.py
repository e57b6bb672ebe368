"""Loop nests over strided arrays, with as few loops as the strides allow.

Strides and extents are in elements and become run-time arguments of a kernel; only the number of loops is
fixed in its C function, so that collapsing axes first lets most shapes share one function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from irshrink.backends.tvm.tir import Expr, Function, Parameter, i32, scalars


@dataclass(frozen=True)
class Nest:
    """Loops from outside to inside: the extent of each, and the step of each array per loop."""

    extents: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]  # [array][loop]

    @property
    def rank(self) -> int:
        return len(self.extents)

    def split_last(self) -> tuple[Nest, int, tuple[int, ...]]:
        """The nest without its innermost loop, that loop's extent, and its strides."""
        outer = Nest(self.extents[:-1], tuple(s[:-1] for s in self.strides))
        return outer, self.extents[-1], tuple(s[-1] for s in self.strides)

    def arguments(self) -> list[int]:
        """Values of :func:`nest_parameters`."""
        return [*self.extents, *(step for strides in self.strides for step in strides)]


def nest_parameters(rank: int, *arrays: str, extent: str = "n") -> list[Parameter]:
    """``n0 n1 ...``, then for each array its strides ``x_step0 x_step1 ...``."""
    names = [f"{extent}{i}" for i in range(rank)]
    names += [f"{array}_step{i}" for array in arrays for i in range(rank)]
    return scalars(*names)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return tuple(strides)


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """Strides with which a contiguous ``shape`` is read as ``target`` (NumPy broadcasting)."""
    aligned = (1,) * (len(target) - len(shape)) + tuple(shape)
    return tuple(0 if n == 1 else step for n, step in zip(aligned, row_major(aligned), strict=True))


def collapse(extents: Sequence[int], *strides: Sequence[int]) -> Nest:
    """The same walk with axes of extent 1 dropped and adjacent axes merged where every array allows it."""
    merged: list[tuple[int, list[int]]] = []
    for axis, extent in enumerate(extents):
        steps = [s[axis] for s in strides]
        if extent == 1:
            continue
        if merged and all(outer == inner * extent for outer, inner in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * extent, steps)
        else:
            merged.append((extent, steps))
    merged = merged or [(1, [1] * len(strides))]
    return Nest(
        tuple(extent for extent, _ in merged),
        tuple(tuple(steps[i] for _, steps in merged) for i in range(len(strides))),
    )


@contextmanager
def loops(
    f: Function, rank: int, given: Sequence[Expr], arrays: Sequence[str], *, shared: bool = False
) -> Iterator[list[Expr]]:
    """Loops over a nest whose values are ``given`` in the order of :func:`nest_parameters`.

    Yields the offset of each array, kept under the name ``<array>_at``. With ``shared``, threads may share
    the outermost loop.
    """
    if rank == 0:
        yield [i32(0)] * len(arrays)
        return
    with ExitStack() as stack:
        kinds = [f.share if shared and axis == 0 else f.loop for axis in range(rank)]
        nest = [loop(f"i{axis}", given[axis]) for axis, loop in enumerate(kinds)]
        indices = [stack.enter_context(loop) for loop in nest]
        offsets = []
        for number, array in enumerate(arrays):
            steps = given[rank * (number + 1) : rank * (number + 2)]
            offset = sum((i * step for i, step in zip(indices, steps, strict=True)), start=i32(0))
            offsets.append(f.bind(f"{array}_at", offset))
        yield offsets

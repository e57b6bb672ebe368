"""What a stripe would need and cost, without its events: the turns of all operators as arrays.

How far an operator is after each turn follows from how far its inputs are, not from who reads it: with
``ready[t]`` rows that the inputs allow in turn t, ``done[t] = min(ready[t], done[t - 1] + rows)``, which is
``min over s <= t of (ready[s] + rows * (t - s))``. Whoever reads a tensor comes later in the same turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irshrink.program.stripes import Reach, RowOp

Turns = NDArray[np.int64]


@dataclass(frozen=True)
class Sketch:
    """What is known of a stripe.

    Attributes:
        windows, distances: as in :class:`irshrink.program.stripes.Stripe`.
        calls, moved_bytes: how many calls are made, and about how many bytes windows move.
        added_macs: multiply-accumulates beyond those of a call for all rows, as tiles end with every call.
    """

    windows: Mapping[str, int]
    distances: Mapping[tuple[str, str], int]
    calls: int
    moved_bytes: int
    added_macs: int


def sketch_stripe(
    ops: Sequence[RowOp], images: Mapping[str, tuple[int, int]], inner: set[str], rows: int
) -> Sketch:
    """The same figures as :func:`irshrink.program.stripes.make_stripe` finds, for the same arguments."""
    turns = _Turns(ops, images, rows)
    windows: dict[str, int] = {}
    distances: dict[tuple[str, str], int] = {}
    calls = moved = added = 0
    outside = sorted({name for op in ops for name, _ in op.inputs} - {op.output for op in ops})
    for op in ops:
        done, before = turns.done[op.output], turns.before(op.output)
        works = done > before
        counts = np.bincount((done - before)[works])
        made = sum(int(n) * op.tiles.macs_of(count) for count, n in enumerate(counts) if n)
        calls, added = calls + int(works.sum()), added + made - op.tiles.macs_of(op.out_rows)
        if op.output in inner:
            needed = np.minimum(turns.needed(op.output, op), before)[works]
            windows[op.output] = int((done[works] - needed).max())
            moves = np.diff(needed, prepend=0) > 0
            moved += int((before[works] - needed)[moves].sum()) * op.row_bytes
            continue
        for name in outside:
            (rows_in, row_bytes), needed = images[name], turns.needed(name, op)
            ahead = np.where(needed < rows_in, done * op.row_bytes, 0) - needed * row_bytes
            distances[op.output, name] = int(ahead[works].max())
    return Sketch(windows, distances, calls, moved, added)


class _Turns:
    """How far every operator is after each turn."""

    def __init__(self, ops: Sequence[RowOp], images: Mapping[str, tuple[int, int]], rows: int) -> None:
        self.images, self.order = images, {op.output: place for place, op in enumerate(ops)}
        self.readers: dict[str, list[tuple[RowOp, Reach]]] = {}
        for op in ops:
            for name, reach in op.inputs:
                self.readers.setdefault(name, []).append((op, reach))
        self.done: dict[str, Turns] = {}
        count = sum(-(-op.out_rows // rows) for op in ops)
        steps = np.arange(1, min(count, self._enough(ops, rows)) + 1, dtype=np.int64) * rows
        while True:
            for op in ops:
                ready = np.minimum.reduce(
                    [self._ready(op, name, reach, len(steps)) for name, reach in op.inputs]
                )
                behind = np.minimum.accumulate(np.minimum(ready - steps, 0))
                self.done[op.output] = steps + behind
            if all(self.done[op.output][-1] == op.out_rows for op in ops):
                return
            steps = np.arange(1, 2 * len(steps) + 1, dtype=np.int64) * rows

    @staticmethod
    def _enough(ops: Sequence[RowOp], rows: int) -> int:
        """Turns that most stripes are done after."""
        return max(-(-op.out_rows // rows) for op in ops) + 4 * len(ops) + 8

    def before(self, name: str) -> Turns:
        """Rows that are done when a turn begins."""
        return np.concatenate([np.zeros(1, np.int64), self.done[name][:-1]])

    def needed(self, name: str, at: RowOp) -> Turns:
        """The first row of a tensor that is still to be read when it is ``at``'s turn."""
        firsts = []
        for op, reach in self.readers[name]:
            earlier = self.order[op.output] < self.order[at.output]
            done = self.done[op.output] if earlier else self.before(op.output)
            remembered = np.where(done > 0, reach.remembered, 0)
            row = done * reach.stride - reach.top + remembered
            firsts.append(np.clip(row, 0, self.images[name][0]))
        lowest: Turns = np.minimum.reduce(firsts)
        return lowest

    def _ready(self, op: RowOp, name: str, reach: Reach, turns: int) -> Turns:
        """Output rows that one input allows in each turn."""
        if name not in self.done:
            return np.full(turns, op.out_rows, np.int64)
        have, rows = self.done[name], self.images[name][0]
        allowed = np.clip((have - reach.span + reach.top) // reach.stride + 1, 0, op.out_rows)
        return np.where(have == rows, op.out_rows, allowed)

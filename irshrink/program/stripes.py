"""Operators that take turns, a few rows each: what a run of them needs to remember of the tensors between.

A stripe is a run of consecutive operators over images. In every turn each computes the rows that the rows of
its inputs allow, at most ``rows`` of them. A tensor that only the stripe needs never exists in full: a window
of its last rows is kept, and moved on when it is full. Nothing is computed twice, as it is in patch-based
inference (Lin et al. 2021, arXiv:2110.15352), and no operator adds in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reach:
    """Which rows of an input one output row needs: ``y * stride - top`` and the ``span - 1`` after it.

    Rows outside the image are padding. ``kept`` says that the kernel itself remembers what it has read.
    """

    span: int = 1
    stride: int = 1
    top: int = 0
    kept: bool = False

    @property
    def remembered(self) -> int:
        """Rows that a kernel that remembers has from the output row before."""
        return max(self.span - self.stride, 0) if self.kept else 0

    def ready(self, have: int, rows: int, out_rows: int) -> int:
        """How many output rows can be computed from the first ``have`` of ``rows`` input rows."""
        if have == rows:
            return out_rows
        return min(max((have - self.span + self.top) // self.stride + 1, 0), out_rows)

    def first(self, done: int, rows: int) -> int:
        """The first input row that is read once ``done`` output rows are computed."""
        remembered = self.remembered if done else 0
        return min(max(done * self.stride - self.top + remembered, 0), rows)


@dataclass(frozen=True)
class Tiles:
    """How a kernel goes through pixels: ``size`` at once, counted through the rows of a call.

    Attributes:
        width: pixels in a row of the output.
        singles: whether pixels left over take a tile each; else all that are left take one.
        macs: multiply-accumulates of a pixel.
    """

    width: int
    size: int = 1
    singles: bool = False
    macs: int = 0

    def macs_of(self, rows: int) -> int:
        """Multiply-accumulates of a call for some rows, tiles counted whole."""
        whole, left = divmod(rows * self.width, self.size)
        return (whole + (left if self.singles else min(left, 1))) * self.size * self.macs


@dataclass(frozen=True)
class RowOp:
    """One operator of a stripe.

    Attributes:
        index: its place in the program.
        inputs: tensors in the arena that it reads, each with its reach.
        row_bytes: of the output, which has ``out_rows`` rows.
        tiles: how much work some rows are.
    """

    index: int
    inputs: tuple[tuple[str, Reach], ...]
    output: str
    out_rows: int
    row_bytes: int
    tiles: Tiles = Tiles(1)


@dataclass(frozen=True)
class Event:
    """What a turn does for operator ``index``: ``count`` rows of its output from ``first`` on are computed.

    With ``moved`` they are moved to the start of the output's window, before others are computed.
    """

    index: int
    first: int
    count: int
    moved: bool = False


@dataclass(frozen=True)
class Stripe:
    """A run of operators that take turns.

    Attributes:
        ops: in program order; consecutive.
        rows: most rows that an operator computes in one turn.
        turns: after so many everything is computed.
        windows: tensors that only the stripe needs: how many rows are kept of each.
        events: what happens, in order.
        distances: of ``(output, input)`` outside of the stripe: how many bytes before the input the output
            has to begin, so that it overwrites only rows that are not read any more.
    """

    ops: tuple[RowOp, ...]
    rows: int
    turns: int
    windows: Mapping[str, int]
    events: tuple[Event, ...]
    distances: Mapping[tuple[str, str], int]

    @property
    def first(self) -> int:
        return self.ops[0].index

    @property
    def last(self) -> int:
        return self.ops[-1].index


def make_stripe(
    ops: Sequence[RowOp], images: Mapping[str, tuple[int, int]], inner: set[str], rows: int
) -> Stripe:
    """Interleave ``ops`` with at most ``rows`` rows a turn.

    Args:
        images: rows and bytes of a row of every tensor that is read.
        inner: outputs that nobody needs outside of the stripe.
    """
    walk = _Walk(ops, images, inner, rows, {})
    walk.run()
    walk = _Walk(ops, images, inner, rows, walk.most)
    turns = walk.run()
    return Stripe(tuple(ops), rows, turns, walk.most, tuple(walk.events), walk.distances)


@dataclass
class _Walk:
    """A stripe's turns, one after the other; ``room`` is the capacity of each window, unlimited if empty."""

    ops: Sequence[RowOp]
    images: Mapping[str, tuple[int, int]]
    inner: set[str]
    rows: int
    room: Mapping[str, int]
    done: dict[str, int] = field(default_factory=dict)
    base: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    distances: dict[tuple[str, str], int] = field(default_factory=dict)

    def run(self) -> int:
        """All turns; returns how many there were."""
        self.done = {op.output: 0 for op in self.ops}
        self.base = dict.fromkeys(self.inner, 0)
        self.most = dict.fromkeys(sorted(self.inner), 0)
        turns = 0
        while any(self.done[op.output] < op.out_rows for op in self.ops):
            before = len(self.events)
            for op in self.ops:
                self._turn(op)
            assert len(self.events) > before, "a stripe that does not get on"
            turns += 1
        return turns

    def _turn(self, op: RowOp) -> None:
        done = self.done[op.output]
        ready = min(
            (reach.ready(self._have(name), self.images[name][0], op.out_rows) for name, reach in op.inputs),
            default=op.out_rows,
        )
        count = min(self.rows, ready - done)
        if count <= 0:
            return
        if op.output in self.inner:
            self._make_room(op, done, count)
        else:
            self._watch(op, done + count)
        self.events.append(Event(op.index, done, count))
        self.done[op.output] = done + count

    def _have(self, name: str) -> int:
        return self.done.get(name, self.images[name][0])

    def _make_room(self, op: RowOp, done: int, count: int) -> None:
        name = op.output
        needed = min(self._needed(name), done)
        if not self.room:
            self.base[name] = needed
        elif done + count - self.base[name] > self.room[name]:
            self.events.append(Event(op.index, needed, done - needed, moved=True))
            self.base[name] = needed
        self.most[name] = max(self.most[name], done + count - self.base[name])

    def _needed(self, name: str) -> int:
        """The first row of a tensor that is still to be read."""
        rows = self.images[name][0]
        readers = [(op, reach) for op in self.ops for source, reach in op.inputs if source == name]
        return min(reach.first(self.done[op.output], rows) for op, reach in readers)

    def _watch(self, op: RowOp, done: int) -> None:
        """How far before the inputs from outside the output has to begin for ``done`` rows of it."""
        outside = {n for o in self.ops for n, _ in o.inputs} - set(self.done)
        for name in sorted(outside):
            (rows, row_bytes), needed = self.images[name], self._needed(name)
            # once all is read, the output may go on behind the input
            distance = done * op.row_bytes - needed * row_bytes if needed < rows else -rows * row_bytes
            known = self.distances.get((op.output, name), distance)
            self.distances[op.output, name] = max(known, distance)

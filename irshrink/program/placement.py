"""Placing items at addresses: first fit over many orders, under pairwise rules of distance.

Two items that are in use at once lie apart, with two exceptions between an output and an input that dies with
the operator: they may begin at the same address, where the operator works in place; and they may overlap when
the output begins at least some distance before the input, so that every byte is read before it is overwritten
(diagonal memory optimization: Blacker, Bridges and Hadfield 2020, arXiv:2010.01668). Dynamic storage
allocation is NP-hard (Garey and Johnson 1979, SR2), so orders are tried until the lower bound is met.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

T = TypeVar("T")

#: Everything in the arena starts at a multiple of this: kernels load words, floats need it.
ALIGNMENT = 4
#: Random orders that are tried before a plan above the lower bound is accepted: so many, or as many as place
#: so many items in all.
ATTEMPTS, PLACEMENTS = 600, 120_000


@dataclass(frozen=True)
class Overlap:
    """How an output may share memory with an input.

    Attributes:
        same: they may begin at the same address.
        distance: they may overlap when the output begins at least so many bytes before the input (after it,
            where this is negative); None if that helps nothing.
    """

    same: bool = False
    distance: int | None = None

    def shared(self, source: int, output: int) -> int:
        """Most bytes that an input of ``source`` and an output of ``output`` bytes can have in common."""
        found = min(source, output) if self.same else 0
        if self.distance is None:
            return found
        return max(found, min(source, output, max(output - max(self.distance, 0), 0)))


@dataclass(eq=False)
class Item:
    """Something that needs memory from operator ``first`` to operator ``last``.

    Attributes:
        overread: bytes behind its end that may be read.
        steady: those of them that nothing may write to.
        over: for an output, the inputs whose memory it may share.
    """

    name: str
    nbytes: int
    first: int
    last: int
    overread: int = 0
    steady: int = 0
    over: dict[str, Overlap] = field(default_factory=dict)

    @property
    def reserved(self) -> int:
        return aligned(self.nbytes + self.steady)

    def meets(self, other: Item) -> bool:
        """Whether both are in use at some operator."""
        return self.first <= other.last and other.first <= self.last


def most_shared(pairs: Sequence[tuple[Item, Item, Overlap]]) -> int:
    """Most bytes that outputs and inputs, all in use at once, can have in common.

    An output that may not begin behind an input covers its first byte wherever they overlap, so that at most
    one such output shares an input's memory.

    Args:
        pairs: output, input, and how the one may lie over the other.
    """
    by_source: dict[str, list[int]] = {}
    limits = {source.name: source.nbytes for _, source, _ in pairs}
    by_output: dict[str, int] = {}
    outputs = {output.name: output.nbytes for output, _, _ in pairs}
    for output, source, rule in pairs:
        both = rule.shared(source.nbytes, output.nbytes)
        found = by_source.setdefault(source.name, [0, 0])
        if rule.distance is not None and rule.distance < 0:
            found[1] += both
        else:
            found[0] = max(found[0], both)
        by_output[output.name] = by_output.get(output.name, 0) + both
    of_sources = sum(min(limits[name], sum(found)) for name, found in by_source.items())
    of_outputs = sum(min(outputs[name], found) for name, found in by_output.items())
    return min(of_sources, of_outputs)


def aligned(nbytes: int) -> int:
    """``nbytes`` or the next larger multiple of the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def place(items: Sequence[Item], bound: int, seed: int = 0, *, thorough: bool = True) -> dict[str, int]:
    """Offsets by name: of the first arrangement that meets ``bound``, or of the lowest that was found.

    Args:
        thorough: try random arrangements, too, where no fixed one meets it.
    """
    search = _Search(items, seed)
    for order, floors in search.arrangements(ATTEMPTS if thorough else 0):
        offsets = first_fit(order, search.rivals, floors)
        if search.keep(order, floors, offsets) <= aligned(bound):
            break
    return search.offsets


def top(items: Sequence[Item], offsets: dict[str, int]) -> int:
    """Bytes from the start of the arena to the end of its last item."""
    return max((offsets[i.name] + i.reserved for i in items), default=0)


def first_fit(
    order: Sequence[Item], rivals: Mapping[str, Sequence[Item]], floors: Mapping[str, int]
) -> dict[str, int]:
    """Place the items one after the other at the lowest free address from their floor on."""
    offsets: dict[str, int] = {}
    for item in order:
        closed: list[tuple[int, int]] = []
        for other in rivals[item.name]:
            if other.name in offsets:
                closed += forbidden(item, other, offsets[other.name])
        offsets[item.name] = _lowest(closed, floors.get(item.name, 0))
    return offsets


def forbidden(item: Item, other: Item, at: int) -> list[tuple[int, int]]:
    """Open intervals in which ``item`` cannot start while ``other`` starts at ``at``."""
    low, high = at - item.reserved, at + other.reserved
    rule = item.over.get(other.name)
    if rule is not None and rule.distance is not None:
        low = max(low, at - rule.distance)
    if rule is None:
        rule = other.over.get(item.name)
        if rule is not None and rule.distance is not None:
            high = min(high, at + rule.distance)
    if low >= high:
        return []
    if rule is not None and rule.same and low < at < high:
        return [(low, at), (at, high)]
    return [(low, high)]


def _lowest(closed: list[tuple[int, int]], floor: int) -> int:
    """The lowest aligned address, ``floor`` or above, inside none of the open intervals."""
    start = floor
    for low, high in sorted(closed):
        if start <= low:
            break
        if start < high:
            start = aligned(high)
    return start


class _Search:
    """Arrangements: orders to place items in, and floors below which some are not placed.

    Some fixed ones come first, then random ones, in turns with changes of the best one so far around what
    lies highest. A floor leaves room below an input for the output that has to begin before it.
    """

    def __init__(self, items: Sequence[Item], seed: int) -> None:
        self.items = items
        self.rivals = {a.name: [b for b in items if b is not a and b.meets(a)] for a in items}
        self.rng = np.random.default_rng(seed)
        self.order: list[Item] = []
        self.floors: dict[str, int] = {}
        self.offsets: dict[str, int] = {}
        self.size = -1
        before: dict[str, set[int]] = {}  # how far before each item outputs would have to begin
        for item in items:
            for name, rule in item.over.items():
                before.setdefault(name, {0}).add(aligned(max(rule.distance or 0, 0)))
        self.before = {name: sorted(distances) for name, distances in before.items()}

    def keep(self, order: list[Item], floors: dict[str, int], offsets: dict[str, int]) -> int:
        """Remember the arrangement if none was better; the lowest top so far."""
        size = top(self.items, offsets)
        if self.size < 0 or size <= self.size:
            self.order, self.floors, self.offsets, self.size = order, floors, offsets, size
        return self.size

    def arrangements(self, most: int) -> Iterator[tuple[list[Item], dict[str, int]]]:
        items, lifted = self.items, {name: max(distances) for name, distances in self.before.items()}
        by_time = sorted(items, key=lambda i: (i.first, -i.reserved, i.name))
        yield sorted(items, key=lambda i: (-i.reserved, i.first, i.name)), {}
        yield sorted(items, key=lambda i: (-i.reserved * (i.last - i.first + 1), i.first, i.name)), {}
        yield by_time, {}
        # an output lies below its input: going back in time, each is placed right above the one before
        yield sorted(items, key=lambda i: (-i.last, -i.first, -i.reserved, i.name)), {}
        yield by_time, {i.name: lifted.get(i.name, 0) for i in by_time[:1]}
        attempts = min(most, PLACEMENTS // max(len(items), 1)) if len(items) > 2 else 0
        for number in range(attempts):
            yield self._by_size() if number % 4 == 0 else self._changed()

    def _by_size(self) -> tuple[list[Item], dict[str, int]]:
        """Large ones first, more or less."""
        keys = self.rng.uniform(0.3, 1.0, len(self.items))
        ranked = sorted(zip(self.items, keys, strict=True), key=lambda p: -p[0].reserved * p[1])
        return [item for item, _ in ranked], {}

    def _changed(self) -> tuple[list[Item], dict[str, int]]:
        """The best arrangement with another place or floor for an item near the top, or one that it meets."""
        order, floors = list(self.order), dict(self.floors)
        ends = [self.offsets[i.name] + i.reserved for i in order]
        highest = [item for item, end in zip(order, ends, strict=True) if end == max(ends)]
        item = self._any(highest)
        for _ in range(int(self.rng.integers(3))):
            item = self._any(self.rivals[item.name] or [item])
        if item.name in self.before and self.rng.random() < 0.3:
            floors[item.name] = self._any(self.before[item.name])
            return order, floors
        order.remove(item)
        order.insert(int(self.rng.integers(len(order) + 1)), item)
        return order, floors

    def _any(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

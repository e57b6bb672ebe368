"""Addresses in the arena: which tensors may share memory, and how little memory suffices.

Tensors and workspaces are live over intervals of operators; two that are live together may not overlap, with
one exception: an operator that works in place may put its output exactly where an input begins that dies
with it. Placement is greedy first fit over an order of the slots; several orders, then seeded random ones,
are tried until the lower bound is met (dynamic storage allocation is NP-hard: Garey and Johnson 1979, SR2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from irshrink.program.ops import Reshape
from irshrink.program.program import Program

#: Everything in the arena starts at a multiple of this: kernels load words, floats need it.
ALIGNMENT = 4
#: Random orders that are tried before a plan above the lower bound is accepted: so many, or as many as place
#: so many items in all.
ATTEMPTS, PLACEMENTS = 300, 20_000


@dataclass(frozen=True)
class Slot:
    """A stretch of the arena: a tensor or a workspace, and when it is in use.

    Attributes:
        name: tensor name, or ``<operator>.workspace``.
        offset, nbytes: place in the arena, bytes.
        first, last: indices of the first and last operator that need it.
    """

    name: str
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Addresses of everything in the arena.

    ``lower_bound`` is the largest sum of bytes that are in use at once: no plan for this order of
    operators can be smaller.
    """

    slots: tuple[Slot, ...]
    nbytes: int
    lower_bound: int
    aliases: dict[str, str]

    def offset(self, tensor: str) -> int:
        """Where a tensor (or ``<operator>.workspace``) starts, bytes from the start of the arena."""
        root = self.aliases.get(tensor, tensor)
        return next(slot.offset for slot in self.slots if slot.name == root)


@dataclass(frozen=True)
class Demand:
    """What the kernel of one operator needs besides its tensors.

    Attributes:
        workspace_bytes: scratch memory during the operator.
        overread_bytes: how far past the end of an input it may read.
        in_place: indices of the inputs at whose address the output may be written.
    """

    workspace_bytes: int = 0
    overread_bytes: int = 0
    in_place: tuple[int, ...] = ()


@dataclass
class _Item:
    name: str
    nbytes: int
    first: int
    last: int
    overread: int = 0
    shares: frozenset[str] = frozenset()  # names of items that may begin at the same address

    @property
    def reserved(self) -> int:
        return -(-self.nbytes // ALIGNMENT) * ALIGNMENT

    def overlaps(self, other: _Item) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan_memory(program: Program, demands: Sequence[Demand], seed: int = 0) -> MemoryPlan:
    """Place every tensor and workspace of ``program``; ``demands`` has one entry an operator."""
    aliases = _aliases(program)
    items = _items(program, demands, aliases)
    bound = _lower_bound(items, len(program.ops))
    best: dict[str, int] = {}
    best_size = -1
    rivals = _rivals(items)
    for order in _orders(items, seed):
        offsets = _first_fit(order, rivals)
        size = max((offsets[i.name] + i.reserved for i in items), default=0)
        if best_size < 0 or size < best_size:
            best, best_size = offsets, size
        if best_size <= bound:
            break
    total = max((best[i.name] + max(i.reserved, i.nbytes + i.overread) for i in items), default=0)
    slots = tuple(Slot(i.name, best[i.name], i.nbytes, i.first, i.last) for i in items)
    return MemoryPlan(slots, -(-total // ALIGNMENT) * ALIGNMENT, bound, aliases)


def _aliases(program: Program) -> dict[str, str]:
    """Outputs of Reshape, mapped to the tensor whose memory they share."""
    roots: dict[str, str] = {}
    for op in program.ops:
        if isinstance(op, Reshape):
            roots[op.output] = roots.get(op.inputs[0], op.inputs[0])
    return roots


def _items(program: Program, demands: Sequence[Demand], aliases: dict[str, str]) -> list[_Item]:
    items: dict[str, _Item] = {}
    end = len(program.ops)

    def touch(name: str, index: int) -> _Item:
        tensor = program.tensors[aliases.get(name, name)]
        item = items.setdefault(tensor.name, _Item(tensor.name, tensor.nbytes, index, index))
        item.last = max(item.last, index)
        return item

    for port in program.inputs:
        touch(port.tensor, 0)
    for index, (op, demand) in enumerate(zip(program.ops, demands, strict=True)):
        for name in _stored(op.inputs, program):
            item = touch(name, index)
            item.overread = max(item.overread, demand.overread_bytes)
        touch(op.output, index)
        if demand.workspace_bytes:
            name = f"{op.name}.workspace"
            items[name] = _Item(name, demand.workspace_bytes, index, index)
    for port in program.outputs:
        touch(port.tensor, end)
    _mark_sharing(program, demands, aliases, items)
    return list(items.values())


def _stored(names: Sequence[str], program: Program) -> list[str]:
    """The tensors that live in the arena; constants live in flash."""
    return [name for name in names if name not in program.constants]


def _mark_sharing(
    program: Program, demands: Sequence[Demand], aliases: dict[str, str], items: dict[str, _Item]
) -> None:
    """An output may begin where an input begins that dies with the operator."""
    for index, (op, demand) in enumerate(zip(program.ops, demands, strict=True)):
        if isinstance(op, Reshape):
            continue
        output = items[aliases.get(op.output, op.output)]
        names = [aliases.get(name, name) for name in op.inputs]
        for k in demand.in_place:
            source = items.get(names[k])
            if source is None:
                continue
            if source.last == index and output.first == index and names.count(names[k]) == 1:
                output.shares |= {source.name}
                source.shares |= {output.name}


def _lower_bound(items: Sequence[_Item], steps: int) -> int:
    """Largest sum of live bytes; of items that may share an address only the larger counts."""
    bound = 0
    for step in range(steps + 1):
        live = [i for i in items if i.first <= step <= i.last]
        total = sum(i.nbytes for i in live)
        for born in (i for i in live if i.first == step):
            dying = [i.nbytes for i in live if i.name in born.shares and i.last == step]
            total -= min(born.nbytes, max(dying, default=0))
        bound = max(bound, total)
    return bound


def _orders(items: Sequence[_Item], seed: int) -> Iterator[list[_Item]]:
    by_size = sorted(items, key=lambda i: (-i.reserved, i.first, i.name))
    by_time = sorted(items, key=lambda i: (i.first, -i.reserved, i.name))
    by_area = sorted(items, key=lambda i: (-i.reserved * (i.last - i.first + 1), i.first, i.name))
    yield from (by_size, by_area, by_time)
    rng = np.random.default_rng(seed)
    for _ in range(min(ATTEMPTS, PLACEMENTS // max(len(items), 1)) if len(items) > 2 else 0):
        keys = rng.uniform(0.3, 1.0, len(items))
        ranked = sorted(zip(items, keys, strict=True), key=lambda p: -p[0].reserved * p[1])
        yield [item for item, _ in ranked]


def _rivals(items: Sequence[_Item]) -> dict[str, list[_Item]]:
    """For every item the others that are in use while it is."""
    return {a.name: [b for b in items if b is not a and b.overlaps(a)] for a in items}


def _first_fit(order: Sequence[_Item], rivals: dict[str, list[_Item]]) -> dict[str, int]:
    """Place the items one after the other at the lowest address that is free while they live."""
    offsets: dict[str, int] = {}
    for item in order:
        placed = [(offsets[o.name], o) for o in rivals[item.name] if o.name in offsets]
        taken = sorted((at, at + other.reserved) for at, other in placed)
        best = _lowest_gap(taken, item.reserved)
        for at, partner in placed:
            if at < best and partner.name in item.shares and _fits(item, at, partner, placed):
                best = at
        offsets[item.name] = best
    return offsets


def _lowest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Start of the lowest free stretch of ``size`` bytes between sorted intervals."""
    start = 0
    for begin, end in taken:
        if start + size <= begin:
            break
        start = max(start, end)
    return start


def _fits(item: _Item, at: int, partner: _Item, placed: Sequence[tuple[int, _Item]]) -> bool:
    """Whether ``item`` at its partner's address ``at`` stays clear of everything else."""
    end = at + item.reserved
    return all(o is partner or end <= begin or begin + o.reserved <= at for begin, o in placed)

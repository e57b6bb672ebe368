"""Addresses in the arena: which tensors may share memory, and how little memory suffices.

Tensors and workspaces are live over intervals of operators. What is live together lies apart, but an operator
may be able to write its output over an input that dies with it (:class:`Demand`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irshrink.program.ops import Op, Reshape
from irshrink.program.placement import ALIGNMENT, Item, Overlap, aligned, most_shared, place
from irshrink.program.program import Program

__all__ = [
    "ALIGNMENT",
    "Demand",
    "MemoryPlan",
    "Slot",
    "aliases_of",
    "live_bytes",
    "plan_memory",
    "tensor_items",
    "workspace_of",
]


@dataclass(frozen=True)
class Slot:
    """A stretch of the arena: a tensor or a workspace, and when it is in use.

    Attributes:
        name: tensor name, or ``<operator>.workspace``.
        offset, nbytes: place in the arena, bytes.
        first, last: indices of the first and last operator that need it.
        rows: how many rows are kept of a tensor between operators that take turns, None where all are.
    """

    name: str
    offset: int
    nbytes: int
    first: int
    last: int
    rows: int | None = None


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
        steady: whether what lies there must stay as it is: it is then part of the input.
        lasting: whether the workspace holds rows of the input from call to call, in a stripe.
        in_place: indices of the inputs at whose address the output may be written.
        distances: ``(index, bytes)`` of inputs that the output may overlap in any way, as long as it begins
            at least so many bytes before them: what is overwritten has been read by then.
    """

    workspace_bytes: int = 0
    overread_bytes: int = 0
    steady: bool = False
    lasting: bool = False
    in_place: tuple[int, ...] = ()
    distances: tuple[tuple[int, int], ...] = ()

    def overlap(self, index: int) -> Overlap | None:
        """How the output may lie over input ``index``, if at all."""
        distance = dict(self.distances).get(index)
        if index not in self.in_place and distance is None:
            return None
        return Overlap(index in self.in_place, distance)


def plan_memory(
    program: Program, demands: Sequence[Demand], seed: int = 0, *, thorough: bool = True
) -> MemoryPlan:
    """Place every tensor and workspace of ``program``; ``demands`` has one entry an operator.

    All that the operators of a stripe need is in use during the whole stripe, but of the tensors between them
    only windows, and one workspace serves all whose contents need not last. Without ``thorough`` the plan is
    made at once, and may take more than it has to.
    """
    aliases = aliases_of(program) | _shared_workspaces(program, demands)
    items = _items(program, demands, aliases)
    bound = max(_live_bytes(items, len(program.ops)), default=0)
    offsets = place(items, bound, seed, thorough=thorough)
    total = max((offsets[i.name] + max(i.reserved, i.nbytes + i.overread) for i in items), default=0)
    windows = {name: rows for stripe in program.stripes for name, rows in stripe.windows.items()}
    slots = tuple(
        Slot(i.name, offsets[i.name], i.nbytes, i.first, i.last, windows.get(i.name)) for i in items
    )
    return MemoryPlan(slots, aligned(total), bound, aliases)


def aliases_of(program: Program) -> dict[str, str]:
    """Outputs of Reshape, mapped to the tensor whose memory they share."""
    roots: dict[str, str] = {}
    for op in program.ops:
        if isinstance(op, Reshape):
            roots[op.output] = roots.get(op.inputs[0], op.inputs[0])
    return roots


def _shared_workspaces(program: Program, demands: Sequence[Demand]) -> dict[str, str]:
    """Workspaces of a stripe's operators, mapped to the largest, whose memory they share."""
    roots: dict[str, str] = {}
    for stripe in program.stripes:
        members = [(demands[op.index].workspace_bytes, op.index) for op in stripe.ops]
        scratch = [(n, i) for n, i in members if n and not demands[i].lasting]
        if scratch:
            _, largest = max(scratch, key=lambda pair: (pair[0], -pair[1]))
            root = workspace_of(program.ops[largest])
            roots |= {workspace_of(program.ops[i]): root for _, i in scratch if i != largest}
    return roots


def workspace_of(op: Op) -> str:
    """Name of an operator's workspace in the plan."""
    return f"{op.name}.workspace"


def _items(program: Program, demands: Sequence[Demand], aliases: dict[str, str]) -> list[Item]:
    items: dict[str, Item] = {}
    end = len(program.ops)
    times = {op.index: (s.first, s.last) for s in program.stripes for op in s.ops}
    windows = {n: rows for s in program.stripes for n, rows in s.windows.items()}

    def touch(name: str, index: int) -> Item:
        tensor = program.tensors[aliases.get(name, name)]
        first, last = times.get(index, (index, index))
        nbytes = tensor.nbytes
        if tensor.name in windows:
            nbytes = nbytes // tensor.shape[1] * windows[tensor.name]
        item = items.setdefault(tensor.name, Item(tensor.name, nbytes, first, last))
        item.last = max(item.last, last)
        return item

    for port in program.inputs:
        touch(port.tensor, 0)
    for index, (op, demand) in enumerate(zip(program.ops, demands, strict=True)):
        for name in _stored(op.inputs, program):
            item = touch(name, index)
            item.overread = max(item.overread, demand.overread_bytes)
            item.steady = max(item.steady, demand.overread_bytes if demand.steady else 0)
        touch(op.output, index)
        name = workspace_of(op)
        if demand.workspace_bytes and name not in aliases:
            items[name] = Item(name, demand.workspace_bytes, *times.get(index, (index, index)))
    for port in program.outputs:
        touch(port.tensor, end)
    _mark_sharing(program, demands, aliases, items)
    return list(items.values())


def _stored(names: Sequence[str], program: Program) -> list[str]:
    """The tensors that live in the arena; constants live in flash."""
    return [name for name in names if name not in program.constants]


def _mark_sharing(
    program: Program, demands: Sequence[Demand], aliases: dict[str, str], items: dict[str, Item]
) -> None:
    """An output may share the memory of an input that dies with the operator and is read as that one only."""
    striped = {op.index for stripe in program.stripes for op in stripe.ops}
    for stripe in program.stripes:
        for (output_name, source_name), distance in stripe.distances.items():
            output, source = items[output_name], items.get(aliases.get(source_name, source_name))
            if source is None or source.last != stripe.last:
                continue
            known = output.over.get(source.name, Overlap(distance=distance)).distance
            output.over[source.name] = Overlap(distance=distance if known is None else max(known, distance))
    for index, (op, demand) in enumerate(zip(program.ops, demands, strict=True)):
        if isinstance(op, Reshape) or index in striped:
            continue
        output = items[aliases.get(op.output, op.output)]
        names = [aliases.get(name, name) for name in op.inputs]
        for k, name in enumerate(names):
            source, overlap = items.get(name), demand.overlap(k)
            if source is None or overlap is None:
                continue
            if source.last == index and output.first == index and names.count(name) == 1:
                output.over[name] = overlap


def tensor_items(program: Program, demands: Sequence[Demand]) -> dict[str, Item]:
    """Every tensor in the arena, by the name of the one whose memory it is, without workspaces."""
    items = _items(program, demands, aliases_of(program))
    spaces = {workspace_of(op) for op in program.ops}
    return {item.name: item for item in items if item.name not in spaces}


def live_bytes(program: Program, demands: Sequence[Demand]) -> list[int]:
    """What no plan can do without while each operator runs, and (last) after all of them."""
    aliases = aliases_of(program) | _shared_workspaces(program, demands)
    return _live_bytes(_items(program, demands, aliases), len(program.ops))


def _live_bytes(items: Sequence[Item], steps: int) -> list[int]:
    """Sums of live bytes, less what outputs can have in common with the inputs that they overwrite."""
    sums = []
    for step in range(steps + 1):
        live = {i.name: i for i in items if i.first <= step <= i.last}
        pairs = [(i, live[n], rule) for i in live.values() for n, rule in i.over.items() if n in live]
        sums.append(sum(i.nbytes for i in live.values()) - most_shared(pairs))
    return sums

"""The order of operators that needs least memory at once.

Of all orders that begin with the same set of operators only the one with the lowest peak is followed further:
dynamic programming over the sets (Ahn et al. 2020, arXiv:2003.02369). Where there are too many sets, the most
promising are followed: the order may then not be the best, but it is never worse than the given one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irshrink.program.arena import Demand, aliases_of, live_bytes
from irshrink.program.ops import Reshape
from irshrink.program.placement import Item, most_shared
from irshrink.program.program import Program

#: Sets of computed operators that are kept of each size.
WIDTH = 64
#: Operators that are tried in all, before the given order is left as it is.
TRIES = 20_000


def least_memory_order(program: Program, demands: Sequence[Demand]) -> list[int]:
    """Indices of the operators of ``program`` in an order whose peak is lowest; the given order if none is
    lower."""
    given = list(range(len(program.ops)))
    graph = _Graph(program, demands)
    if not graph.branches:
        return given
    states, tries = [_State(0, graph.inputs, 0, ())], 0
    for _ in given:
        following: dict[int, _State] = {}
        for state in states:
            for index in graph.ready(state.done):
                tries += 1
                made = graph.after(state, index)
                known = following.get(made.done)
                if known is None or (made.peak, made.order) < (known.peak, known.order):
                    following[made.done] = made
        if tries > TRIES:
            return given
        ranked = sorted(following.values(), key=lambda s: (s.peak, s.live, s.order))
        states = ranked[:WIDTH]
    best = states[0]
    return list(best.order) if best.peak < max(live_bytes(program, demands)) else given


@dataclass(frozen=True)
class _State:
    """Operators that are computed (bits of ``done``), their order, and the bytes in use now and at most."""

    done: int
    live: int
    peak: int
    order: tuple[int, ...]


class _Graph:
    """Who needs whom, and how much memory."""

    def __init__(self, program: Program, demands: Sequence[Demand]) -> None:
        self.program, self.demands = program, demands
        self.roots = aliases_of(program)
        self.makers = {op.output: index for index, op in enumerate(program.ops)}
        self.needs = [self._bits(op.inputs) for op in program.ops]
        self.last: dict[str, int] = {}  # the operators after which a tensor is not needed, or -1: never
        for index, op in enumerate(program.ops):
            for name in op.inputs:
                root = self.root(name)
                self.last[root] = self.last.get(root, 0) | 1 << index
            self.last.setdefault(self.root(op.output), 0)
        for port in program.outputs:
            self.last[self.root(port.tensor)] = -1
        self.inputs = sum(self.nbytes(name) for name in dict.fromkeys(p.tensor for p in program.inputs))
        self.branches = any(1 << k - 1 & ~need for k, need in enumerate(self.needs) if k)

    def root(self, name: str) -> str:
        return self.roots.get(name, name)

    def nbytes(self, name: str) -> int:
        return 0 if name in self.program.constants else self.program.tensors[name].nbytes

    def ready(self, done: int) -> list[int]:
        """Operators that can be computed next."""
        return [k for k, need in enumerate(self.needs) if not done >> k & 1 and need & ~done == 0]

    def after(self, state: _State, index: int) -> _State:
        """The state with one more operator computed."""
        op, done = self.program.ops[index], state.done | 1 << index
        roots = list(dict.fromkeys(self.root(name) for name in op.inputs))
        dying = [name for name in roots if self.last[name] >= 0 and self.last[name] & ~done == 0]
        freed = sum(self.nbytes(name) for name in dying)
        if isinstance(op, Reshape):
            return _State(done, state.live - freed, state.peak, (*state.order, index))
        made = self.nbytes(op.output)
        during = state.live + made + self.demands[index].workspace_bytes - self._shared(index, dying)
        unread = made if self.last[op.output] == 0 else 0
        return _State(
            done, state.live + made - freed - unread, max(state.peak, during), (*state.order, index)
        )

    def _shared(self, index: int, dying: Sequence[str]) -> int:
        """Bytes that the output can have in common with inputs that are not needed any more."""
        op, demand = self.program.ops[index], self.demands[index]
        output = Item(op.output, self.nbytes(op.output), 0, 0)
        pairs, roots = [], [self.root(name) for name in op.inputs]
        for k, root in enumerate(roots):
            rule = demand.overlap(k)
            if rule is not None and root in dying and roots.count(root) == 1:
                pairs.append((output, Item(root, self.nbytes(root), 0, 0), rule))
        return most_shared(pairs)

    def _bits(self, names: Sequence[str]) -> int:
        bits = 0
        for name in names:
            if name in self.makers:
                bits |= 1 << self.makers[name]
        return bits

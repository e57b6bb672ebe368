"""Which operators take turns, so that a program fits the memory there is at the least cost.

Every run of consecutive operators that can be called by rows is a candidate. What a run needs does not depend
on the other runs, because what leaves a run exists in full: so dynamic programming over the operators finds
the partition with the lowest peak, and among those below a limit the one that moves and calls least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from irshrink.program.arena import Demand, live_bytes
from irshrink.program.program import Program
from irshrink.program.stripes import RowOp, Stripe, make_stripe

#: Rows a turn that are tried.
ROWS = (1, 2, 4)
#: Operators in the longest run that is tried.
LONGEST = 24
#: Instructions that a call and its arguments take, about, where a moved byte takes one.
CALL = 60


@dataclass(frozen=True)
class _Run:
    """Operators ``first`` to ``last``: one, or a stripe of several; ``nbytes`` are in use at its peak."""

    first: int
    last: int
    nbytes: int
    cost: int = 0
    stripe: Stripe | None = None


class Striping:
    """The candidates of one program; ask :meth:`within` for several limits."""

    def __init__(
        self,
        program: Program,
        demands: Sequence[Demand],
        row_ops: Mapping[int, RowOp],
        choices: Sequence[int] = ROWS,
    ) -> None:
        self.program, self.demands, self.row_ops, self.choices = program, demands, row_ops, choices
        alone = live_bytes(program, demands)
        self.runs = [[_Run(k, k, alone[k])] for k in range(len(program.ops))]  # by last operator
        self.after = alone[-1]
        for first in sorted(row_ops):
            self._start(first)

    def lowest(self) -> int:
        """The lowest peak that any partition has, bytes."""
        best = [0]
        for runs in self.runs:
            best.append(min(max(best[run.first], run.nbytes) for run in runs))
        return max(best[-1], self.after)

    def within(self, limit: int) -> tuple[Stripe, ...] | None:
        """The cheapest stripes that keep the peak at or below ``limit``; None if there are none."""
        best: list[tuple[int, tuple[Stripe, ...]] | None] = [(0, ())]
        for runs in self.runs:
            choices = []
            for run in runs:
                before = best[run.first]
                if before is not None and run.nbytes <= limit:
                    stripes = (*before[1], run.stripe) if run.stripe is not None else before[1]
                    choices.append((before[0] + run.cost, stripes))
            best.append(min(choices, key=lambda choice: choice[0], default=None))
        found = best[-1]
        return found[1] if found is not None and self.after <= limit else None

    def _start(self, first: int) -> None:
        ops = [self.row_ops[first]]
        while ops[-1].index + 1 in self.row_ops and len(ops) < LONGEST:
            ops.append(self.row_ops[ops[-1].index + 1])
            for rows in self.choices:
                self._add(ops, rows)

    def _add(self, ops: Sequence[RowOp], rows: int) -> None:
        stripe = make_stripe(ops, self._images(ops), self._inner(ops), rows)
        if not stripe.windows:
            return
        program = replace(self.program, stripes=(stripe,))
        nbytes = live_bytes(program, self.demands)[stripe.first]
        cost = stripe.moved_bytes + CALL * len(stripe.events)
        self.runs[stripe.last].append(_Run(stripe.first, stripe.last, nbytes, cost, stripe))

    def _images(self, ops: Sequence[RowOp]) -> dict[str, tuple[int, int]]:
        names = {name for op in ops for name, _ in op.inputs} | {op.output for op in ops}
        tensors = [self.program.tensors[name] for name in sorted(names)]
        return {t.name: (t.shape[1], t.nbytes // t.shape[1]) for t in tensors}

    def _inner(self, ops: Sequence[RowOp]) -> set[str]:
        """Tensors that the operators make for each other only."""
        inside = {op.index for op in ops}
        outputs = {port.tensor for port in self.program.outputs}
        readers = self.program.readers
        return {
            op.output
            for op in ops
            if op.output not in outputs and readers[op.output] and set(readers[op.output]) <= inside
        }

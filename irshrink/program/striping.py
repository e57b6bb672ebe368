"""Which operators take turns, so that a program fits the memory there is at the least cost.

Every run of consecutive operators that can be called by rows is a candidate. What a run needs does not depend
on the other runs, because what leaves a run exists in full: so dynamic programming over the operators finds
the partition with the lowest peak, and among those below a limit the one that moves and calls least.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irshrink.program.arena import Demand, aliases_of, live_bytes, tensor_items
from irshrink.program.placement import Overlap, most_shared
from irshrink.program.program import Program
from irshrink.program.sketch import Sketch, sketch_stripe
from irshrink.program.stripes import RowOp, Stripe, make_stripe

#: Rows a turn that are tried.
ROWS = (1, 2, 3, 4, 6)
#: Operators in the longest run that is tried.
LONGEST = 16
#: Instructions that a call and its arguments take, about, where a moved byte and a product take one.
CALL = 60


@dataclass(frozen=True)
class _Run:
    """Operators that take turns, or a single one (``rows`` 0); ``nbytes`` are in use at its peak."""

    first: int
    last: int
    nbytes: int
    cost: int = 0
    rows: int = 0


class Striping:
    """The candidates of one program; ask :meth:`within` for several limits."""

    def __init__(
        self,
        program: Program,
        demands: Sequence[Demand],
        row_ops: Mapping[int, RowOp],
    ) -> None:
        self.program, self.demands, self.row_ops = program, demands, row_ops
        self.alone = live_bytes(program, demands)
        self.items, self.roots = tensor_items(program, demands), aliases_of(program)
        # by the last operator
        self.runs = [[_Run(k, k, nbytes)] for k, nbytes in enumerate(self.alone[:-1])]
        for first in sorted(row_ops):
            self._start(first)

    def lowest(self) -> int:
        """The lowest peak that any partition has, bytes."""
        best = [0]
        for runs in self.runs:
            best.append(min(max(best[run.first], run.nbytes) for run in runs))
        return max(best[-1], self.alone[-1])

    def within(self, limit: int) -> tuple[Stripe, ...] | None:
        """The cheapest stripes that keep the peak at or below ``limit``; None if there are none."""
        found = self._cheapest(limit)
        return self._stripes(found[1]) if found is not None else None

    def affordable(self, share: float) -> tuple[Stripe, ...]:
        """The stripes of lowest peak that cost at most a share of the work of all operators."""
        work = sum(op.tiles.macs_of(op.out_rows) for op in self.row_ops.values())
        limits = sorted({run.nbytes for runs in self.runs for run in runs})

        def enough(place: int) -> bool:
            found = self._cheapest(limits[place])
            return found is not None and found[0] <= share * work

        # the higher the limit, the cheaper; at the highest, there are no stripes
        place = bisect_left(range(len(limits)), True, key=enough)
        found = self._cheapest(limits[place])
        assert found is not None
        return self._stripes(found[1])

    def _cheapest(self, limit: int) -> tuple[int, tuple[_Run, ...]] | None:
        """The partition that costs least below a limit, and its cost."""
        best: list[tuple[int, tuple[_Run, ...]] | None] = [(0, ())]
        for runs in self.runs:
            choices = []
            for run in runs:
                before = best[run.first]
                if before is not None and run.nbytes <= limit:
                    choices.append((before[0] + run.cost, (*before[1], run)))
            best.append(min(choices, key=lambda choice: choice[0], default=None))
        return best[-1] if self.alone[-1] <= limit else None

    def _stripes(self, runs: Sequence[_Run]) -> tuple[Stripe, ...]:
        return tuple(self.stripe(run.first, run.last, run.rows) for run in runs if run.rows)

    def stripe(self, first: int, last: int, rows: int) -> Stripe:
        """Operators ``first`` to ``last`` with ``rows`` rows a turn."""
        ops = [self.row_ops[k] for k in range(first, last + 1)]
        return make_stripe(ops, self._images(ops), self._inner(ops), rows)

    def _start(self, first: int) -> None:
        """Candidates that begin with an operator; where one row a turn saves nothing, more do not either.

        More operators only add windows: runs whose windows alone are too large are not made longer.
        """
        ops, worst = [self.row_ops[first]], max(self.alone)
        while ops[-1].index + 1 in self.row_ops and len(ops) < LONGEST:
            ops.append(self.row_ops[ops[-1].index + 1])
            images, inner = self._images(ops), self._inner(ops)
            apart = max(self.alone[first : ops[-1].index + 1])
            for rows in ROWS:
                sketch = sketch_stripe(ops, images, inner, rows)
                windows = sum(op.row_bytes * sketch.windows.get(op.output, 0) for op in ops)
                if windows >= worst and rows == ROWS[0]:
                    return
                nbytes = self._bytes(ops, inner, sketch)
                if nbytes >= apart:
                    break
                cost = sketch.moved_bytes + sketch.added_macs + CALL * sketch.calls
                self.runs[ops[-1].index].append(_Run(first, ops[-1].index, nbytes, cost, rows))

    def _bytes(self, ops: Sequence[RowOp], inner: set[str], sketch: Sketch) -> int:
        """What is in use while the operators take turns."""
        first, last = ops[0].index, ops[-1].index
        live = [i for i in self.items.values() if i.first <= last and i.last >= first]
        total = sum(item.nbytes for item in live if item.name not in inner)
        total += sum(op.row_bytes * sketch.windows[op.output] for op in ops if op.output in inner)
        demands = [self.demands[op.index] for op in ops]
        total += sum(d.workspace_bytes for d in demands if d.lasting)
        total += max((d.workspace_bytes for d in demands if not d.lasting), default=0)
        over = []
        for (output, name), distance in sketch.distances.items():
            source = self.items.get(self.roots.get(name, name))
            if source is not None and source.last <= last:
                over.append((self.items[output], source, Overlap(distance=distance)))
        return total - most_shared(over)

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

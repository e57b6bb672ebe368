"""From measurements to one schedule a task: the fastest, but less code where that costs next to nothing.

Layers of different sizes may share a C function, and then its code is there once. So tasks are decided
together: within ``slack`` of each one's best cost, a schedule that adds the fewest bytes of code to what was
chosen before it wins, the most expensive task first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irshrink.tuning.journal import Measurement


@dataclass(frozen=True)
class Measured:
    """A task's measurements that have a cost, in the order of its candidates, and how many layers it has.

    ``rule`` is that of the rule's schedule, if it has one.
    """

    workload: str
    layers: int
    found: Sequence[Measurement]
    rule: Measurement | None = None


def choose(tasks: Sequence[Measured], slack: float, margin: float = 0.0) -> list[Measurement]:
    """One measurement for each task, which has one at least; the same for the same measurements.

    Args:
        slack: by how much more than its best cost a task may take, as a fraction.
        margin: by how much more the rule's schedule may take before another one counts as better.
    """
    chosen: dict[int, Measurement] = {}
    present: set[str] = set()
    bests = [min(_cost(m) for m in task.found) for task in tasks]
    for i in sorted(range(len(tasks)), key=lambda i: (-bests[i] * tasks[i].layers, i)):
        allowed = [m for m in tasks[i].found if _cost(m) <= bests[i] * (1 + slack)]
        rule = tasks[i].rule
        if margin and rule is not None and _cost(rule) <= bests[i] * (1 + margin):
            allowed = [rule]
        best = min(allowed, key=lambda m: (_added(m, tasks[i], present), _cost(m)))
        present.add(_function(best, tasks[i]))
        chosen[i] = best
    return [chosen[i] for i in range(len(tasks))]


def _added(m: Measurement, task: Measured, present: set[str]) -> int:
    return 0 if _function(m, task) in present else m.code_bytes


def _function(m: Measurement, task: Measured) -> str:
    """What tells one C function from another: a specialized one knows the sizes of its workload."""
    return f"{m.kernel} for {task.workload}" if m.specialized else m.kernel


def _cost(m: Measurement) -> float:
    assert m.cost is not None
    return m.cost

"""A search over all tasks of a model: in turns, within limits, from where the journal ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from irshrink.console import Progress, plural
from irshrink.errors import RecipeError
from irshrink.tuning.database import Schedule
from irshrink.tuning.journal import Journal, Measurement
from irshrink.tuning.measure import Measurer
from irshrink.tuning.search import next_batch
from irshrink.tuning.tasks import Task, same_schedule

#: Schedules that run against each other once more where measuring is not exact.
_FINALISTS = 4


@dataclass(frozen=True)
class Limits:
    """``trials`` of each workload, and ``seconds`` in all (None: no limit)."""

    trials: int
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What is known of one task.

    Attributes:
        best: the cheapest schedule; the first in the order of candidates, where several are.
        rule: the rule's schedule, if it could be measured.
        measured: how many schedules have a cost.
        failures: schedules that have none, and why.
    """

    task: Task
    best: Measurement | None
    rule: Measurement | None
    measured: int
    failures: tuple[Measurement, ...]


class Session:
    """Measures until limits or spaces are exhausted.

    Args:
        clock: seconds, for the time limit and the estimate.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        measurer: Measurer,
        journal: Journal,
        limits: Limits,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._tasks, self._measurer, self._journal = tasks, measurer, journal
        self._limits, self._clock = limits, clock

    def run(self, say: Progress = lambda _: None) -> list[Outcome]:
        """Trial after trial, one of each task before the second of any; what is known then, task by task."""
        begin, done = self._clock(), 0
        while True:
            due = [(task, batch) for task in self._tasks if (batch := self._batch(task))]
            if not due:
                break
            fewest = min(self._trials(task) for task, _ in due)
            task, batch = next((t, b) for t, b in due if self._trials(t) == fewest)
            spent = self._clock() - begin
            if self._limits.seconds is not None and spent >= self._limits.seconds:
                break
            say(self._status(task, spent, done))
            self._journal.add(task.workload, self._measurer.trial(task, batch))
            done += 1
        return [self._outcome(task) for task in self._tasks]

    def _trials(self, task: Task) -> int:
        return self._journal.trials_of(task.workload)

    def _batch(self, task: Task) -> list[Schedule]:
        if self._trials(task) >= self._limits.trials:
            return []
        found = self._journal.found.get(task.workload, [])
        return next_batch(task.candidates, found, self._measurer.source.at_once, self._limits.trials)

    def _status(self, task: Task, spent: float, done: int) -> str:
        """Where we are; how long it will still take is the mean of the trials so far, limits considered."""
        size = self._measurer.source.at_once
        open_trials = 0
        for one in self._tasks:
            left = len(one.candidates) - len(self._journal.found.get(one.workload, []))
            open_trials += max(0, min(-(-left // size), self._limits.trials - self._trials(one)))
        text = f"{task.layers[0]}, {plural(open_trials, 'trial')} left"
        if done:
            seconds = open_trials * spent / done
            if self._limits.seconds is not None:
                seconds = min(seconds, self._limits.seconds - spent)
            text += f", about {_duration(seconds)}"
        return text

    def _outcome(self, task: Task) -> Outcome:
        found = self._journal.found.get(task.workload, [])
        costs = [m for m in found if m.cost is not None]
        order = {id(c): i for i, c in enumerate(task.candidates)}

        def place(m: Measurement) -> int:
            return next((order[id(c)] for c in task.candidates if same_schedule(c, m.schedule)), len(order))

        known = [m for m in costs if place(m) < len(order)]
        best = min(known, key=lambda m: (m.cost, place(m)), default=None)
        rule = next((m for m in known if place(m) == 0), None)
        failures = tuple(m for m in found if m.cost is None)
        return Outcome(task, best, rule, len(known), failures)


def parse_duration(text: str) -> float:
    """``"90s"``, ``"20m"``, ``"2h"``, ``"90"`` in seconds.

    Raises:
        RecipeError: no duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise RecipeError(f"time limit '{text}' is no duration. Write 90s, 20m or 2h.")
    return float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2] or "s"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"

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
from irshrink.tuning.tasks import Task, same_schedule, schedule_key

#: Schedules of a task that run against the rule's once more where measuring is not exact.
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
        found: what has a cost, in the order of candidates; the last measurements of those that were measured
            again.
        failures: schedules that have none, and why.
    """

    task: Task
    found: tuple[Measurement, ...]
    failures: tuple[Measurement, ...]

    @property
    def rule(self) -> Measurement | None:
        """Of the rule's schedule, if it could be measured."""
        rule = self.task.candidates[0]
        return next((m for m in self.found if same_schedule(m.schedule, rule)), None)


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
        """Trial after trial, one of each task before the second of any; what is known then, task by task.

        Where measuring is not exact, the best of each task run against each other and the rule's once more.
        """
        self._search(say)
        if not self._measurer.source.exact:
            for task in self._tasks:
                say(f"{task.layers[0]}, once more")
                self._finals(task)
        return [self._outcome(task) for task in self._tasks]

    def _finals(self, task: Task) -> None:
        found = [m for m in self._outcome(task).found if m.cost is not None]
        if task.workload in self._journal.finals or not found:
            return
        best = sorted(found, key=lambda m: m.cost or 0.0)[:_FINALISTS]
        rule = task.candidates[0]
        others = [m.schedule for m in best if not same_schedule(m.schedule, rule)]
        self._journal.add(task.workload, self._measurer.trial(task, [rule, *others]), final=True)

    def _search(self, say: Progress) -> None:
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
        measured = self._journal.found.get(task.workload, [])
        finals = self._journal.finals.get(task.workload, [])
        known = {schedule_key(m.schedule): m for m in finals or measured}
        found = [known[key] for c in task.candidates if (key := schedule_key(c)) in known]
        return Outcome(
            task,
            tuple(m for m in found if m.cost is not None),
            tuple(m for m in found if m.cost is None),
        )


def parse_duration(text: str) -> float:
    """``"90s"``, ``"20m"``, ``"2h"``, ``"90"`` in seconds.

    Raises:
        RecipeError: no duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise RecipeError(f"time limit '{text}' is no duration. Write 90s, 20m or 2h.")
    return float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2] or "s"]


def parse_slack(text: str) -> float:
    """``"1%"`` or ``"0.01"`` as a fraction.

    Raises:
        RecipeError: no fraction.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if match is None:
        raise RecipeError(f"slack '{text}' is no fraction. Write 1% or 0.01.")
    return float(match[1]) / (100 if match[2] else 1)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"

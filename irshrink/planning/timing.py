"""How long a search is going to take, told before it starts and as it goes; no part of any build.

What passes say of their knobs (:attr:`irshrink.knobs.Knob.inferences`), times the time of one inference, says
how evaluations compare. How long they take is learned from those that are done, the baseline first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from irshrink import onnxrt
from irshrink.console import Line, Milestone, Progress
from irshrink.knobs import Knob
from irshrink.planning.evaluate import Job, Measured
from irshrink.planning.subject import Subject

__all__ = ["Timing", "inference_seconds"]

#: Seconds of an evaluation that do not depend on samples: passes, lowering, planning, writing.
_BESIDES = 1.0
#: How many of the knobs that could be on are so in a plan that is not known yet.
_USUAL_SHARE = 0.6
#: How much the first guess counts against evaluations that are done.
_DOUBT = 0.25


class Knobs(Protocol):
    """What is searched."""

    @property
    def knobs(self) -> tuple[Knob, ...]: ...


@dataclass
class Timing:
    """Estimates, and says, how long a search takes.

    Args:
        processes: how many evaluations run at a time.
    """

    subject: Subject
    progress: Progress
    processes: int = 1
    _knobs: tuple[Knob, ...] = ()
    _planned: int = 0
    _done: int = 0
    _inference: float | None = None
    _expected_seconds: float = 0.0
    _seen_seconds: float = 0.0
    _ahead: list[float] = field(default_factory=list)

    def announce(self, most: int, sweep: Sequence[tuple[int, ...]], space: Knobs) -> str:
        """Say how many evaluations there are going to be and about how long they take.

        Args:
            most: evaluations, those included that are done.
            sweep: the settings that come next, one level for each knob of ``space``; 0 is off.
        """
        self._knobs, self._planned = space.knobs, most
        known = [self._raw([k for k, level in zip(space.knobs, one, strict=True) if level]) for one in sweep]
        left = max(0, most - self._done - len(known))
        self._ahead = [*known, *[self._usual()] * left]
        text = f"at most {most} evaluations, {self._left()}"
        self.progress(Milestone(text))
        return text

    def seconds_left(self) -> float:
        """Of all evaluations that were announced and are not done."""
        return self._factor() * sum(self._ahead) / max(1, self.processes)

    def watch(self, jobs: Sequence[Job]) -> Callable[[int, Measured, float, bool], None]:
        """What to call when a job is done."""
        expected = [self._raw(self._on(job)) for job in jobs]

        def done(index: int, measured: Measured, seconds: float, reused: bool) -> None:
            if not reused and jobs[index].judged and measured.figures is not None:
                self._expected_seconds += expected[index]
                self._seen_seconds += seconds
            self._done += jobs[index].judged
            self._ahead = self._ahead[1:]
            self.progress(Line(self._said()))

        return done

    def _said(self) -> str:
        if not self._planned:
            return f"evaluation {self._done}"
        return f"evaluation {min(self._done, self._planned)} of {self._planned}, {self._left()}"

    def _left(self) -> str:
        seconds = self.seconds_left()
        if seconds < 90:
            return f"about {max(5, round(seconds / 5) * 5)} s left"
        return f"about {round(seconds / 60)} min left"

    def _factor(self) -> float:
        """How much longer evaluations take than was thought."""
        doubt = _DOUBT * self._expected_seconds if self._expected_seconds else 1.0
        return (doubt + self._seen_seconds) / (doubt + self._expected_seconds)

    def _usual(self) -> float:
        """Of a plan that is not known yet."""
        sure = [knob for knob in self._knobs if knob.obligatory]
        maybe = sum(knob.inferences for knob in self._knobs if not knob.obligatory)
        return self._raw(sure) + _USUAL_SHARE * maybe * self._fitting()

    def _raw(self, knobs: Sequence[Knob]) -> float:
        """What is thought of an evaluation before any is seen."""
        judging = self._one() * len(self.subject.held)
        return _BESIDES + judging + self._fitting() * sum(knob.inferences for knob in knobs)

    def _fitting(self) -> float:
        """Seconds of one inference on every sample that is fitted to."""
        return self._one() * len(self.subject.fitted)

    def _one(self) -> float:
        if self._inference is None:
            self._inference = inference_seconds(self.subject)
        return self._inference

    def _on(self, job: Job) -> list[Knob]:
        """The knobs whose steps a job has."""
        steps: list[Any] = [dict(step) for step in job.steps]
        return [
            knob
            for knob in self._knobs
            if any(all(dict(s) in steps for s in (*one.steps, *one.behind)) for one in knob.levels)
        ]


def inference_seconds(subject: Subject) -> float:
    """Seconds of one inference of the float model on this machine, the quickest of a few."""
    session, found = onnxrt.session(subject.module.model), []
    for feeds in islice(subject.held.feeds(), 8):
        start = time.perf_counter()
        onnxrt.run(session, feeds)
        found.append(time.perf_counter() - start)
    return min(found)

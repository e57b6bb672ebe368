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
from irshrink.calibration.patches import moment_macs
from irshrink.console import Line, Milestone, Progress
from irshrink.knobs import Knob
from irshrink.planning.evaluate import Job, Measured
from irshrink.planning.subject import Subject

__all__ = ["Timing", "inference_seconds"]

#: Seconds of an evaluation whatever the model: passes, lowering, building, running once.
_BESIDES = 1.2
#: Seconds of what a knob does, for each inference that it says it takes, however small the model.
_TURN = 0.03
#: Seconds of a multiply-accumulate of linear algebra.
_ALGEBRA = 2e-10
#: Seconds of judging for each sample, besides running the model.
_ANSWER = 4e-5
#: How much longer a pass takes for an inference than ONNX Runtime, and a quantized model than a float one.
_FITTING, _QUANTIZED = 1.5, 3.0
#: What an obligatory knob's first level takes, in inferences: it decides nothing.
_PLAIN = 5.0
#: Seconds until all kinds of layers that a knob asks about are measured on the target: the first time, and
#: where others were measured before.
_FIRST, _FURTHER = 12.0, 4.0
#: Knobs that ask what layers cost.
_ASKING = ("blocks", "channels", "rank")
#: How many of the knobs that could be on are so in a plan that is not known yet.
_USUAL_SHARE = 0.6
#: How much the first guess counts against evaluations that are done: so many of the usual ones.
_DOUBT = 4.0


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
    _moments: int | None = None
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
        known = [self._raw(list(zip(space.knobs, setting, strict=True))) for setting in sweep]
        left = max(0, most - self._done - len(known))
        self._ahead = [self._measuring(), *known, *[self._usual()] * left]
        text = f"at most {most} evaluations, {self._left()}"
        self.progress(Milestone(text))
        return text

    def seconds_left(self) -> float:
        """Of all evaluations that were announced and are not done."""
        return self._factor() * sum(self._ahead) / max(1, self.processes)

    def watch(self, jobs: Sequence[Job]) -> Callable[[int, Measured, float, bool], None]:
        """What to call when a job is done."""
        expected = [self._raw(self._on(job)) if self._knobs else self._baseline() for job in jobs]

        def done(index: int, measured: Measured, seconds: float, reused: bool) -> None:
            if not reused and jobs[index].judged and measured.figures is not None:
                self._expected_seconds += expected[index]
                self._seen_seconds += seconds
            self._done += jobs[index].judged
            self._ahead = self._ahead[len(self._ahead) - max(0, self._planned - self._done) :]
            if jobs[index].judged:
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
        doubt = _DOUBT * self._usual()
        return (doubt + self._seen_seconds) / (doubt + self._expected_seconds)

    def _baseline(self) -> float:
        """Of the obligatory levels alone, tried before the knobs are known, and of the original's answers."""
        answers = 2 * (self._one() + _ANSWER) * len(self.subject.held)
        return self._raw([]) + _PLAIN * self._inferred() + answers

    def _usual(self) -> float:
        """Of a plan that is not known yet."""
        maybe = sum(self._turns(knob, 2) for knob in self._knobs if not knob.obligatory)
        return self._raw([(knob, 2) for knob in self._knobs if knob.obligatory]) + _USUAL_SHARE * maybe

    def _raw(self, chosen: Sequence[tuple[Knob, int]]) -> float:
        """What is thought of an evaluation before any is seen: of knobs and their levels, counted from 1."""
        judging = (_QUANTIZED * self._one() + _ANSWER) * len(self.subject.held)
        return _BESIDES + judging + sum(self._turns(knob, level) for knob, level in chosen if level)

    def _turns(self, knob: Knob, level: int) -> float:
        """Seconds that a knob at a level takes."""
        if knob.obligatory and level == 1:
            return _PLAIN * self._inferred()
        return knob.inferences * self._inferred() + knob.products * self._product()

    def _inferred(self) -> float:
        """Seconds of a pass for one inference on every sample that is fitted to."""
        return _TURN + _FITTING * self._one() * len(self.subject.fitted)

    def _product(self) -> float:
        """Seconds of the product of every layer's weights with the second moments of what it reads."""
        if self._moments is None:
            self._moments = moment_macs(self.subject.module.graph)
        return _ALGEBRA * self._moments

    def _measuring(self) -> float:
        """Seconds for layers that are measured while they are asked about for the first time."""
        if self.subject.costs is None:
            return 0.0
        once = _FURTHER if self.subject.costs.predictor.store.rows else _FIRST
        return once * sum(knob.place in _ASKING for knob in self._knobs)

    def _one(self) -> float:
        if self._inference is None:
            self._inference = inference_seconds(self.subject)
        return self._inference

    def _on(self, job: Job) -> list[tuple[Knob, int]]:
        """The knobs whose steps a job has, and their levels."""
        steps: list[Any] = [dict(step) for step in job.steps]
        found = []
        for knob in self._knobs:
            for number, level in enumerate(knob.levels, 1):
                if all(dict(step) in steps for step in (*level.steps, *level.behind)):
                    found.append((knob, number))
                    break
        return found


def inference_seconds(subject: Subject) -> float:
    """Seconds of one inference of the float model on this machine, the quickest of a few."""
    session, found = onnxrt.session(subject.module.model), []
    for feeds in islice(subject.held.feeds(), 8):
        start = time.perf_counter()
        onnxrt.run(session, feeds)
        found.append(time.perf_counter() - start)
    return min(found)

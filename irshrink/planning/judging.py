"""How much accuracy a plan loses, on samples that nothing was fitted to, and how sure that is.

The drop is counted as a compilation counts it (:func:`irshrink.evaluate.compare`). Its standard error comes
from the differences of single samples where the metric is a mean over samples, as both models answer the same
ones; else from leaving out a twentieth of the samples at a time (the jackknife; Efron and Stein, Annals of
Statistics 1981): ``(B - 1) / B`` times the sum of squares of the B drops around their mean.

Top-k accuracy and agreement of classifiers are counted in answers. Where the samples are too few for that,
the drop is estimated as :mod:`irshrink.judge` does; where the original knows them by heart, on what lies
between them (:mod:`irshrink.planning.blended`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import msgspec
import numpy as np

from irshrink import onnxrt
from irshrink.errors import SamplesError, UserError
from irshrink.evaluate import is_classifier, require_numbers
from irshrink.judge import Estimate, with_scores
from irshrink.metrics.metric import Metric, Observation, Outputs
from irshrink.metrics.table import fitting_metric, metric_named
from irshrink.module import Module
from irshrink.planning.blended import blended, can_be_blended
from irshrink.planning.unpacked import unpack
from irshrink.samples import Samples

__all__ = ["Grounds", "Judge", "Verdict"]

Array = np.ndarray[Any, np.dtype[Any]]
Counter = Callable[[int, int], None]

#: Metrics that are the mean of those of single samples, besides top-k.
_MEANS = frozenset({"agreement", "kl", "mae"})
#: Parts of the samples that are left out in turn.
_BLOCKS = 20
#: Samples that the smooth loss is found on.
_SMOOTH = 1024
#: A model that is wrong on less than this share of the samples may know them by heart.
_BY_HEART = 0.005
#: Answers that a budget must allow to change, so that counting them says whether it is kept.
_COUNTABLE = 5
#: Samples that are counted on where there is no budget.
_ENOUGH = 500
#: Bytes of samples that are held in memory rather than read each time.
MOST_HELD_BYTES = 2**27


@dataclass(frozen=True)
class Verdict:
    """What a model loses.

    Attributes:
        drop: accuracy lost, in the metric's unit, or of what there was.
        spread: standard error of ``drop``.
        loss: as :class:`irshrink.judge.Estimate` has it.
    """

    drop: float
    spread: float
    loss: float


class Grounds(msgspec.Struct, frozen=True):
    """What decides how drops are found, besides the samples and the budget.

    Attributes:
        countable: the metric counts answers of a classifier.
        original: the original's accuracy.
    """

    countable: bool
    original: float

    def way(self, held: Samples, max_drop: float | None, relative: bool) -> tuple[bool, bool]:
        """Whether drops are estimated, and whether that is on what lies between the samples."""
        allowed = None if max_drop is None else max_drop * (abs(self.original) if relative else 1.0)
        learned = self.countable and _knows_by_heart(held, self.original, allowed)
        return self.countable and (learned or _too_few(len(held), allowed)), learned


class Judge:
    """Judges models against one original.

    Args:
        max_drop: the budget, if there is one; decides whether answers are counted.
        relative: drops are fractions of the original's accuracy.

    Attributes:
        metric, title, share: what accuracy is.
        original: the original's accuracy.
        grounds: decide with the budget the following.
        estimated: whether drops are estimated: of a classifier's top-k accuracy or agreement, where fewer
            than 5 answers may change, or there is no budget and fewer than 500 samples judge, or it knows
            the samples by heart.
        learned: whether it does.

    Raises:
        UserError: as :func:`irshrink.evaluate.compare`.
    """

    def __init__(
        self,
        original: Module,
        held: Samples,
        metric: str | None = None,
        max_drop: float | None = None,
        relative: bool = False,
    ) -> None:
        self._held, self._relative = held, relative
        self._labels = held.labels
        self._feeds = _small(held)
        first = next(held.feeds())
        scores = self._answered(original)
        classifier = is_classifier(first, self._outputs[0])
        self.metric = metric or fitting_metric(self._labels, classifier)
        self._make = metric_named(self.metric, self._labels)
        self._mean = self.metric in _MEANS or self.metric.startswith("top-")
        before = _Tally(self._make, self._mean)
        for feeds, outputs, index in zip(self._each(), self._outputs, range(len(held)), strict=True):
            before.add(Observation(feeds, outputs, outputs, self._label(index)))
        self._before = before
        self.original = before.value()
        self.title, self.share, self._falls = before.whole.title, before.whole.share, before.whole.falls
        self.grounds = Grounds(self._mean and self.share and classifier, self.original)
        self.estimated, self.learned = self.grounds.way(held, max_drop, relative)
        if self.learned:
            self._feeds = blended(held)
            scores = self._answered(original)
        count = len(held) if self.estimated else min(_SMOOTH, len(held))
        self._smooth = frozenset((np.arange(count) * len(held) // count).tolist())
        self._estimate = Estimate(
            first, [scores[index] for index in sorted(self._smooth)], answers=self.metric == "agreement"
        )

    def _answered(self, original: Module) -> list[Outputs]:
        """Remember what the original says on all samples; what goes into its Softmax is returned."""
        self._outputs: list[Outputs] = []
        scores: list[Outputs] = []
        for index, (_, outputs, score) in enumerate(self._runs(original)):
            require_numbers(outputs, self._held, index)
            self._outputs.append(outputs)
            scores.append(score)
        return scores

    def judge(self, module: Module, progress: Counter = lambda done, total: None) -> Verdict:
        """Run a model on all samples that judge; it is not changed.

        Raises:
            ModelError: ONNX Runtime cannot run it.
        """
        after = _Tally(self._make, self._mean)
        scores: list[Outputs] = []
        for index, (feeds, outputs, score) in enumerate(self._runs(module)):
            if index in self._smooth:
                scores.append(score)
            if not self.estimated:
                after.add(Observation(feeds, self._outputs[index], outputs, self._label(index)))
            progress(index + 1, len(self._held))
        loss = self._estimate.loss(scores)
        if not self.estimated:
            return Verdict(self._lost(self.original, after.value()), self._spread(after), loss)
        unit = abs(self.original) if self._relative and self.original else 1.0
        lost = self._estimate.losses(scores) / unit
        return Verdict(float(np.mean(lost)), _error(lost), loss)

    def _lost(self, before: float, after: float) -> float:
        lost = after - before if self._falls else before - after
        if not self._relative or lost <= 0:
            return lost
        return lost / abs(before) if before else inf

    def _spread(self, after: _Tally) -> float:
        unit = abs(self.original) if self._relative and self.original else 1.0
        if self._mean:
            lost = np.array(self._before.parts) - np.array(after.parts)
            return _error(lost / unit)
        pairs = zip(self._before.without(), after.without(), strict=True)
        drops = np.array([self._lost(a, b) for a, b in pairs if a is not None and b is not None])
        count = len(drops)
        return float(sqrt((count - 1) / count * np.square(drops - drops.mean()).sum())) if count > 1 else 0.0

    def _label(self, index: int) -> Any:
        return None if self._labels is None else self._labels[index]

    def _each(self) -> Iterator[dict[str, Array]]:
        return self._held.feeds() if self._feeds is None else iter(self._feeds)

    def _runs(self, module: Module) -> Iterator[tuple[dict[str, Array], Outputs, Outputs]]:
        """Each sample, the model's outputs on it, and the same with what goes into a Softmax at the end."""
        scored, name = with_scores(module)
        unpack(scored)
        session = onnxrt.session(scored.model)
        for feeds in self._each():
            outputs = onnxrt.run(session, feeds)
            score = outputs if name is None else {next(iter(outputs)): outputs.pop(name)}
            yield feeds, outputs, score


class _Tally:
    """A metric over all samples, and what its spread is found from.

    Attributes:
        parts: the metric of each sample by itself, where it is their mean.
    """

    def __init__(self, make: Callable[[], Metric], mean: bool) -> None:
        self._make, self._mean = make, mean
        self.whole = make()
        self.parts: list[float] = []
        self._seen: list[Observation] = []

    def add(self, seen: Observation) -> None:
        self.whole.add(seen)
        if not self._mean:
            self._seen.append(seen)
            return
        alone = self._make()
        alone.add(seen)
        self.parts.append(alone.value())

    def value(self) -> float:
        return self.whole.value()

    def without(self) -> Sequence[float | None]:
        """The metric without each block in turn; None where it has no meaning without that."""
        blocks = min(_BLOCKS, len(self._seen))
        return [self._left(block, blocks) for block in range(blocks)]

    def _left(self, block: int, blocks: int) -> float | None:
        metric = self._make()
        try:
            for index, seen in enumerate(self._seen):
                if index % blocks != block:
                    metric.add(seen)
            return metric.value()
        except (UserError, ZeroDivisionError):
            return None


def _error(values: Array) -> float:
    """Standard error of the mean."""
    return float(np.std(values, ddof=1) / sqrt(len(values))) if len(values) > 1 else 0.0


def _too_few(count: int, allowed: float | None) -> bool:
    """Whether counting answers does not tell if so large a drop, a fraction of the samples, is exceeded."""
    return count < _ENOUGH if allowed is None else count * allowed < _COUNTABLE


def _knows_by_heart(samples: Samples, original: float, allowed: float | None) -> bool:
    """Whether the original is wrong on fewer samples than may be lost: then their answers say little."""
    if samples.classes is None or allowed is None or not can_be_blended(samples):
        return False
    return 1.0 - original < min(allowed, _BY_HEART) and len(samples) * _BY_HEART >= 1


def _small(samples: Samples) -> list[dict[str, Array]] | None:
    """All samples in memory, unless they are large.

    Raises:
        SamplesError: there are none.
    """
    first: Mapping[str, Array] | None = next(samples.feeds(), None)
    if first is None:
        raise SamplesError(f"{samples.path}: no samples are left to judge with.")
    nbytes = sum(array.nbytes for array in first.values()) * len(samples)
    return list(samples.feeds()) if nbytes <= MOST_HELD_BYTES else None

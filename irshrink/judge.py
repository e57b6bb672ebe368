"""How far a changed model is from the float one: a smooth loss for ranking, and points of accuracy.

The loss of a classifier is the Kullback-Leibler divergence KL(p || q) of its class probabilities, that of
other models the squared error of the outputs relative to their energy. Both are of second order in a small
change of the weights, so that the losses of layers changed one by one add up, as far as the changes are
independent (Dong et al., *HAWQ-V2*, NeurIPS 2020).

Points of accuracy are too coarse to count on calibration data: one answer of 64 is 1.6 points, and a changed
answer that was a toss-up costs nothing. They are estimated instead, without labels. The log-ratio of the
float answer's probability to that of a rival, ``m_j``, must be overcome by what quantization does to it; with
``s`` the root mean square of that over samples and rivals,

    expected loss = mean over samples of  sum_j (p_1 - p_j) Phi(-m_j / s)

which is what is lost if the float model is as often right as it believes, and if quantization disturbs
log-ratios normally. It says how many answers should change as well, ``sum Phi(-m_j / s)``; where so many more
do that a Poisson distribution would have it in one case of twenty, as with small networks that are sure of
everything, the belief that the changed answers lost, ``p_1 - p_answer``, is taken instead. What goes into a
Softmax at the end is looked at, not what comes out, which an int8 model rounds to 256ths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from irshrink.agreement import Agreement
from irshrink.evaluate import compare, is_classifier
from irshrink.graph.edit import is_op
from irshrink.module import Module
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
Outputs = Mapping[str, Array]

#: Probabilities below this are this.
_LEAST = 1e-7
#: Rivals of the answer that are looked at.
_RIVALS = 5
#: Probability of so many changed answers below which the estimate is given up.
_UNLIKELY = 0.05


def outputs_of(module: Module, feeds: Sequence[Mapping[str, Array]]) -> list[Outputs]:
    """The model's outputs on each sample; of one that ends in a Softmax what goes into it."""
    scored = module.clone()
    outputs = scored.graph.outputs
    scores = _before_softmax(outputs[0]) if len(outputs) == 1 else None
    if scores is not None:
        outputs[0] = scores
    names = [str(value.name) for value in module.graph.outputs]
    return [dict(zip(names, one.values(), strict=True)) for one in _run_all(scored, feeds)]


def with_scores(module: Module) -> tuple[Module, str | None]:
    """A copy that also gives what goes into the Softmax at its end, and its name; None without."""
    scored = module.clone()
    outputs = scored.graph.outputs
    scores = _before_softmax(outputs[0]) if len(outputs) == 1 else None
    if scores is None:
        return scored, None
    outputs.append(scores)
    return scored, str(scores.name)


def _run_all(module: Module, feeds: Sequence[Mapping[str, Array]]) -> list[Outputs]:
    from irshrink import onnxrt

    session = onnxrt.session(module.model)
    return [onnxrt.run(session, one) for one in feeds]


def _before_softmax(value: ir.Value) -> ir.Value | None:
    node = value.producer()
    while node is not None and is_op(node, "DequantizeLinear", "QuantizeLinear"):
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return node.inputs[0] if node is not None and is_op(node, "Softmax", "LogSoftmax") else None


class Judge(Protocol):
    """What says how much of the float model's accuracy another model loses.

    Attributes:
        samples: how many it looks at.
        points: what a drop is counted in.
    """

    @property
    def samples(self) -> int: ...

    @property
    def points(self) -> str: ...

    def drop(self, module: Module) -> float:
        """Accuracy lost by a quantized module, as a fraction."""
        ...


class Counted:
    """The drop that ``compile`` counts, in the user's metric or in the one that fits the model."""

    def __init__(
        self, original: Module, samples: Samples, metric: str | None = None, relative: bool = False
    ) -> None:
        self._data = samples
        self._expected = _run_all(original, list(samples.feeds()))
        self._metric, self._relative = metric, relative

    @property
    def samples(self) -> int:
        return len(self._data)

    @property
    def points(self) -> str:
        return f"points of {self._metric}"

    def drop(self, module: Module) -> float:
        from irshrink import onnxrt

        session, expected = onnxrt.session(module.model), iter(self._expected)
        found = compare(
            lambda _: next(expected),
            lambda feeds: onnxrt.run(session, feeds),
            self._data,
            metric=self._metric,
        )
        self._metric = found.compiled.metric
        return found.relative_drop if self._relative else found.drop


class Estimate:
    """What is lost, from outputs alone, without labels.

    Args:
        feeds: the first sample.
        outputs: what :func:`outputs_of` the original gives on all samples.
        answers: every changed answer is a loss, as where agreement is counted; else what it costs.

    Attributes:
        classifier: whether the outputs are scores of classes.
    """

    def __init__(
        self, feeds: Mapping[str, Array], outputs: Sequence[Outputs], *, answers: bool = False
    ) -> None:
        self._outputs, self._answers = outputs, answers
        self.classifier = is_classifier(feeds, outputs[0])
        self._before = _log_probabilities(outputs) if self.classifier else None

    def loss(self, given: Sequence[Outputs]) -> float:
        """Mean KL divergence, or mean relative squared error over samples and outputs."""
        if self._before is not None:
            before, after = self._before, _log_probabilities(given)
            divergences = np.einsum("ij,ij->i", np.exp(before), before - after)
            return float(np.mean(np.maximum(divergences, 0.0)))
        pairs = zip(self._outputs, given, strict=True)
        return float(np.mean([_relative_error(a[name], b[name]) for a, b in pairs for name in a]))

    def drop(self, given: Sequence[Outputs]) -> float:
        """Accuracy, or agreement, expected to be lost; of no classifiers 1 - cosine of the worst output."""
        if self.classifier:
            return float(np.mean(self.losses(given)))
        agreement = Agreement()
        for a, b in zip(self._outputs, given, strict=True):
            agreement.add(a, b)
        return 1.0 - min(output.cosine for output in agreement.scores())

    def losses(self, given: Sequence[Outputs]) -> Array:
        """What a classifier is expected to lose on each sample, [samples]; the mean is :meth:`drop`."""
        assert self._before is not None, "no other model's answers are right or wrong"
        return _expected_losses(self._before, _log_probabilities(given), self._answers)


class Expected:
    """The drop to be expected, on some samples without labels.

    Attributes:
        classifier: whether the outputs are scores of classes.
    """

    def __init__(self, original: Module, samples: Samples) -> None:
        self._feeds = list(samples.feeds())
        self._estimate = Estimate(self._feeds[0], outputs_of(original, self._feeds))
        self.classifier = self._estimate.classifier

    @property
    def samples(self) -> int:
        return len(self._feeds)

    @property
    def points(self) -> str:
        return "points of top-1" if self.classifier else "points of cosine similarity"

    def loss(self, module: Module) -> float:
        """Mean KL divergence, or mean relative squared error over samples and outputs."""
        return self._estimate.loss(outputs_of(module, self._feeds))

    def drop(self, module: Module) -> float:
        """Accuracy expected to be lost; for models that are no classifiers 1 - cosine of the worst output."""
        return self._estimate.drop(outputs_of(module, self._feeds))


def _expected_losses(before: Array, after: Array, answers: bool = False) -> Array:
    """The same for each sample; with ``answers`` how many should change, each counting 1."""
    from scipy.special import ndtr, pdtrc

    order = np.argsort(-before, axis=1, kind="stable")[:, : _RIVALS + 1]
    old, new = (np.take_along_axis(scores, order, axis=1) for scores in (before, after))
    margin = old[:, :1] - old[:, 1:]
    moved = (new[:, :1] - new[:, 1:]) - margin
    spread = np.sqrt(np.mean(np.square(moved)))
    if spread == 0:
        return np.zeros(len(before))
    likely, overcome = np.exp(old[:, :1]) - np.exp(old[:, 1:]), ndtr(-margin / spread)
    losses: Array = np.minimum(overcome.sum(axis=1), 1.0) if answers else np.sum(likely * overcome, axis=1)
    changed = int(np.count_nonzero(before.argmax(axis=1) != after.argmax(axis=1)))
    if changed and pdtrc(changed - 1, overcome.sum()) < _UNLIKELY:
        believed = _believed_losses(before, after, answers)
        return believed if np.mean(believed) > np.mean(losses) else losses
    return losses


def _believed_losses(before: Array, after: Array, answers: bool) -> Array:
    """How much less the float model believes in the answers of the changed one than in its own."""
    rows = np.arange(len(before))
    own, other = before.argmax(axis=1), after.argmax(axis=1)
    if answers:
        return np.asarray(own != other, np.float64)
    lost: Array = np.exp(before[rows, own]) - np.exp(before[rows, other])
    return lost


def _log_probabilities(outputs: Sequence[Outputs]) -> Array:
    """[samples, classes], of scores that are probabilities, or that a Softmax would make into some."""
    scores = np.stack([next(iter(one.values())).reshape(-1) for one in outputs]).astype(np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    made = np.maximum(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.log(_LEAST))
    are = (scores.min(axis=1) >= 0) & (np.abs(scores.sum(axis=1) - 1) < 0.05)
    return np.where(are[:, np.newaxis], np.log(np.maximum(scores, _LEAST)), made)


def _relative_error(expected: Array, given: Array) -> float:
    a, b = (np.asarray(values, np.float64) for values in (expected, given))
    energy = float(np.square(a).sum())
    return float(np.square(a - b).sum()) / energy if energy > 0 else float(np.square(b).sum())

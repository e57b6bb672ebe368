"""One pass over the samples: noise and ranges of every point, and how far the outputs are off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink import onnxrt
from irshrink.errors import ModelError
from irshrink.explain.points import Point, Rounded
from irshrink.explain.score import Score, Scorer
from irshrink.explain.tally import Tally
from irshrink.explain.weave import Alone, Change, Weave
from irshrink.graph.edit import is_op
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
#: Called after every sample with how many are done and how many there are.
Counter = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """What is explained, and on what.

    Attributes:
        floats: the float model, if there is one.
        matched: which of its values the points are.
        known: values that the points are in any form of the float model, for its weights.
        ir_version: of the quantized model's file.
    """

    rounded: Rounded
    samples: Samples
    ir_version: int
    floats: ir.Graph | None = None
    matched: Mapping[Point, ir.Value] = field(default_factory=dict)
    known: Mapping[Point, ir.Value] = field(default_factory=dict)

    @property
    def outputs(self) -> list[str]:
        return [str(value.name) for value in self.rounded.graph.outputs]

    def weave(self) -> tuple[Weave, Alone]:
        """A woven graph that begins with the model in float, whose outputs it gives as ``float output N``."""
        weave = Weave(self.rounded)
        values = {} if self.floats is None else weave.float_model(self.floats)
        alone = weave.alone({point: values[value] for point, value in self.matched.items()})
        outputs = alone.outputs if self.floats is None else [values[v] for v in self.floats.outputs]
        if len(outputs) != len(self.outputs):
            raise ModelError(
                f"the float model has {len(outputs)} outputs, the quantized one {len(self.outputs)}. Give "
                "the model that was quantized."
            )
        give_outputs(weave, "float", outputs, self.rounded.graph)
        return weave, alone


@dataclass(frozen=True)
class Measurement:
    """Sums by point, and the score of the model as it is."""

    tallies: Mapping[Point, Tally]
    score: Score


def give_outputs(weave: Weave, kind: str, values: Sequence[ir.Value], graph: ir.Graph) -> None:
    """The outputs of one branch: ``KIND output N``; integers that stand for real numbers are real already."""
    for number, (value, known) in enumerate(zip(values, graph.outputs, strict=True)):
        codes = is_op(known.producer(), "QuantizeLinear")
        weave.give(
            f"{kind} output {number}",
            value,
            ir.DataType.FLOAT if codes or known.dtype is None else known.dtype,
        )


def measure(subject: Subject, progress: Counter = lambda done, total: None) -> Measurement:
    """Run every sample once.

    Raises:
        ModelError: ONNX Runtime cannot run the model, or a value in float is NaN or infinite.
    """
    points = subject.rounded.points
    weave, alone = subject.weave()
    whole, outputs = weave.whole()
    give_outputs(weave, "whole", outputs, subject.rounded.graph)
    for number, point in enumerate(points):
        weave.give(f"computed {number}", alone.computed[point])
        weave.give(f"float {number}", alone.going_on[point])
        weave.give(f"whole {number}", whole[point])
    tallies: dict[Point, Tally] = {}
    scorer = Scorer(subject.outputs, subject.samples.classes)
    for feeds, given in _runs(subject, weave, progress):
        for number, point in enumerate(points):
            arrays = [given[f"{kind} {number}"] for kind in ("float", "computed", "whole")]
            _require_finite(point, arrays[0], subject.samples)
            if point not in tallies:
                tallies[point] = Tally(point.grid, channel_axis(point, arrays[0].shape))
            tallies[point].add(arrays[0], arrays[1], arrays[2])
        scorer.add(feeds, _outputs(given, "float"), _outputs(given, "whole"))
    return Measurement(tallies, scorer.score())


def try_changes(
    subject: Subject, changes: Sequence[Change], progress: Counter = lambda done, total: None
) -> list[Score]:
    """The scores of several changed models, all in one pass over the samples.

    Raises:
        ModelError: ONNX Runtime cannot run one.
    """
    if not changes:
        return []
    weave, _ = subject.weave()
    for number, change in enumerate(changes):
        give_outputs(weave, f"try {number}", weave.whole(change)[1], subject.rounded.graph)
    scorers = [Scorer(subject.outputs, subject.samples.classes) for _ in changes]
    for feeds, given in _runs(subject, weave, progress):
        for number, scorer in enumerate(scorers):
            scorer.add(feeds, _outputs(given, "float"), _outputs(given, f"try {number}"))
    return [scorer.score() for scorer in scorers]


def channel_axis(point: Point, shape: Sequence[int]) -> int | None:
    """The axis of a point's value that counts channels; None for vectors."""
    if len(shape) < 2:
        return None
    node = point.node
    if is_op(node, "MatMul", "Gemm", "LayerNormalization", "Gelu") or len(shape) == 2:
        return len(shape) - 1
    if node is None and len(shape) == 4 and shape[3] <= 4 < shape[1]:
        return 3  # images with their channels last
    return 1


def _runs(subject: Subject, weave: Weave, progress: Counter) -> Any:
    """Feeds and results by key of every sample."""
    session = onnxrt.session(weave.model(subject.ir_version), optimize=False)
    total = len(subject.samples)
    for done, feeds in enumerate(subject.samples.feeds(), start=1):
        by_name = onnxrt.run(session, feeds)
        yield feeds, {key: by_name[name] for key, name in weave.keys.items()}
        progress(done, total)


def _outputs(given: Mapping[str, Array], kind: str) -> list[Array]:
    return [array for key, array in given.items() if key.startswith(f"{kind} output ")]


def _require_finite(point: Point, array: Array, samples: Samples) -> None:
    if not np.isfinite(array).all():
        raise ModelError(
            f"'{point.name}' gives NaN or infinity in float on the samples of {samples.path}. "
            "Check the preprocessing of the samples, and the model's weights."
        )

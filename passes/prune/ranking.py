"""In which order the channels of a family go, and what the model loses with each.

The order is a score's; the loss of a channel is the error that the layers reading it make without it, after
they made up for it as far as they can (:mod:`irshrink.passes.prune.scores.reconstruction`), in units of what
the model's outputs lose: with shares of the family gone, the model is run on samples held back and compared
with itself (:mod:`irshrink.judge`). So a layer's error counts as much as it does at the
end, and an error that calibration data hid from the fit shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.calibration.moments import Moments
from irshrink.calibration.patches import from_rows
from irshrink.channels.groups import Site
from irshrink.graph.edit import Refusal, constant, input_of, is_op, set_constant
from irshrink.graph.linear import bias_name
from irshrink.judge import Expected
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.scene import Scene
from irshrink.passes.prune.scores import NEED_DATA, SCORES, ScoreName
from irshrink.passes.prune.scores.reconstruction import Reader, eliminate

Array = np.ndarray[Any, np.dtype[Any]]

#: Shares of a family at which the model's loss is measured; what lies beyond the last is not removed at once.
LEVELS = (0.125, 0.3, 0.5)
#: The least loss of a channel, relative to its family's, so that no channel is free of charge.
FREE = 1e-9


@dataclass(frozen=True)
class Ranking:
    """Attributes:
    order: groups, the first to go first, int64.
    losses: what the model loses with each, float64.
    scores: each one's score, where the score gives numbers.
    """

    family: Family
    order: Array
    losses: Array


def rank_by_score(scene: Scene, family: Family, score: ScoreName) -> Ranking:
    """By a score alone, in shares of the family's sum.

    Raises:
        Refusal: the score has nothing to look at.
    """
    scores = SCORES[score](scene, family)
    order = np.argsort(scores, kind="stable")
    return Ranking(family, family.members[order], scores[order] / (scores.sum() or 1.0))


def rank_by_loss(scene: Scene, family: Family, score: ScoreName, judge: Expected) -> Ranking:
    """By a score, with losses as the module's docstring says.

    Raises:
        Refusal: the score has nothing to look at.
    """
    if not family.readers:
        raise Refusal("no layer reads them that could make up for them")
    readers = [_reader(scene, site, family) for site in family.readers]
    given = None
    if score != "reconstruction":
        given = np.argsort(SCORES[score](scene, family), kind="stable")
    order = np.zeros(0, np.int64)
    losses: list[float] = []
    for level in LEVELS:
        most = min(int(np.ceil(level * len(family))), len(family) - 1) - len(order)
        if most < 1:
            continue
        left = np.setdiff1d(np.arange(len(family)), order) if given is None else given[len(order) :]
        gone, costs = eliminate(readers, left, most, given is not None)
        order = np.concatenate([order, gone])
        now = max(judge.loss(_without(scene, family, readers)), 0.0) - sum(losses)
        losses += list(np.maximum(_shares(costs) * max(now, 0.0), FREE))
    return Ranking(family, family.members[order], np.array(losses))


def _shares(costs: Array) -> Array:
    """Parts of one, no later one smaller than an earlier one."""
    rising = np.maximum.accumulate(costs) + FREE
    return np.asarray(rising / rising.sum())


def _reader(scene: Scene, site: Site, family: Family) -> Reader:
    rows = scene.rows(site.node)
    moments = scene.moments(site.node).fitted
    hessian = shrunk(moments)
    taps = rows.shape[1] // len(site.groups)
    inputs = [np.flatnonzero(site.groups == member) for member in family.members]
    columns = [(channels[:, None] * taps + np.arange(taps)).reshape(-1) for channels in inputs]
    worth = 1.0 / max(float(((rows @ hessian) * rows).sum()), np.finfo(np.float64).tiny)
    return _padded(Reader(rows.copy(), np.linalg.inv(hessian), np.zeros((0, 0), np.int64), worth), columns)


def _padded(reader: Reader, columns: Sequence[Array]) -> Reader:
    """Blocks of one size; inputs without weights fill up those of channels that are read less often."""
    most = max(len(one) for one in columns)
    size = len(reader.inverse)
    blocks = []
    for one in columns:
        missing = most - len(one)
        blocks.append(np.concatenate([one, np.arange(size, size + missing)]))
        size += missing
    extra = size - len(reader.inverse)
    if extra:
        inverse = np.eye(size)
        inverse[:-extra, :-extra] = reader.inverse
        reader.inverse = inverse
        reader.rows = np.pad(reader.rows, [(0, 0), (0, extra)])
    reader.blocks = np.stack(blocks)
    return reader


def shrunk(moments: Moments) -> Array:
    """Second moments about the mean, pulled towards a multiple of one as far as few vectors ask for.

    Oracle approximating shrinkage (Chen, Wiesel, Eldar and Hero, *Shrinkage algorithms for MMSE covariance
    estimation*, IEEE Transactions on Signal Processing 2010, equation 23), and never less than a hundredth.
    """
    mean = moments.mean[0]
    raw = moments.hessian[0] - np.outer(mean, mean)
    size, trace, square = len(raw), float(np.trace(raw)), float(np.square(raw).sum())
    spread = (moments.count + 1 - 2 / size) * (square - trace**2 / size)
    share = ((1 - 2 / size) * square + trace**2) / spread if spread > 0 else 1.0
    share = min(max(share, 0.01), 1.0)
    level = trace / size if trace > 0 else 1.0
    return np.asarray((1 - share) * raw + share * level * np.eye(size))


def _without(scene: Scene, family: Family, readers: Sequence[Reader]) -> Any:
    """The model with the readers' weights as they are now, and biases that keep the means."""
    copy = scene.module.clone()
    twins = dict(zip(scene.module.graph, copy.graph, strict=True))
    for site, reader in zip(family.readers, readers, strict=True):
        node, rows = twins[site.node], scene.rows(site.node)
        weight, bias = constant(node.inputs[1]), constant(input_of(node, 2))
        assert weight is not None
        new = reader.rows[:, : rows.shape[1]]
        node.attributes.pop("alpha", None)
        set_constant(node, 1, from_rows(node, new[np.newaxis], weight.shape).astype(weight.dtype), "weight")
        if not is_op(node, "MatMul"):
            beta = node.attributes.pop("beta", None)
            old = (
                0.0 if bias is None else bias.astype(np.float64) * (1.0 if beta is None else beta.as_float())
            )
            shift = old + (rows - new) @ scene.moments(site.node).fitted.mean[0]
            set_constant(node, 2, shift.astype(weight.dtype), bias_name(node))
    return copy


def needs_data(score: ScoreName) -> bool:
    return score in NEED_DATA

"""Factors that keep what layers give, found one layer after the other.

A layer behind others that were factorized reads something else than it did. What it should give stays: the
outputs t of the model as it was. So its weights are first fitted to give t from what it reads now, and the
factors are those of the fitted weights (the asymmetric reconstruction of Zhang et al., arXiv:1505.06798,
section 3.3). Moments are taken about the mean where the layer has a bias, which then sees to the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.moments import row_generator, rows_per_sample
from irshrink.calibration.patches import input_rows, output_rows
from irshrink.calibration.regression import Regression, repaired
from irshrink.calibration.walk import LayerWalk
from irshrink.module import Module
from irshrink.passes.lowrank.allocate import Candidate, Choice
from irshrink.passes.lowrank.form import Factors
from irshrink.passes.lowrank.layers import Layer, layer_of
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.problem import Problem, damped
from irshrink.passes.lowrank.write import write_bias, write_factors
from irshrink.pipeline import Context
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: One sample of so many is held back: from it comes the error that is reported.
HELD_BACK = 4
#: Pulls of the fitted weights towards those of the layer that are tried on samples held back, and the one
#: that is taken where there are none; shares of the mean second moment of an input.
STRENGTHS = (np.inf, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
PULL = 0.1


@dataclass(frozen=True)
class Fitted:
    """What a layer becomes.

    Attributes:
        choice: the layer, its form and ranks.
        error: relative squared error of its outputs; on samples held back where there are some.
        factors: of the form.
        bias: float64 [outputs]; None leaves it as it is.
    """

    choice: Choice
    error: float
    factors: Factors
    bias: Array | None

    def write(self, layer: Layer) -> list[str]:
        """Put it into the graph of ``layer``, in its place. Names of the nodes."""
        chosen = self.choice.chosen
        assert chosen is not None, "only chosen layers are fitted"
        names = write_factors(layer, chosen.form.stages(layer, chosen.ranks), self.factors)
        if self.bias is not None:
            write_bias(layer, self.bias)
        return names


def fit_to_outputs(
    module: Module, choices: Sequence[Choice], samples: Samples, ctx: Context, options: RankOptions
) -> tuple[list[Fitted], Module]:
    """Factors of all chosen layers, found in the order of the graph, and a copy of the model that has them.

    Args:
        module: its outputs are wanted; it is not changed.

    Raises:
        ModelError: ONNX Runtime cannot run a model.
    """
    trial = module.clone()
    nodes = {str(node.outputs[0].name): node for node in trial.graph}
    walks = [LayerWalk(module, samples)]
    if options.sequential:
        walks.append(LayerWalk(trial, samples))
    found = []
    chosen = [choice for choice in choices if choice.chosen is not None]
    for number, choice in enumerate(chosen):
        ctx.progress(f"factorizing layer {number + 1:,} of {len(chosen):,}")
        layer = layer_of(nodes[str(choice.layer.node.outputs[0].name)])
        fitted, held = _sums(number, layer, choice.layer.node, walks, len(samples))
        found.append(_settle(choice, layer, fitted, held, options.damping))
        found[-1].write(layer)
    return found, trial


def fit_to_weights(choices: Sequence[Choice]) -> list[Fitted]:
    """The same without data: all inputs count alike."""
    found = []
    for choice in choices:
        if choice.chosen is not None:
            factors = choice.chosen.form.factor(
                choice.layer, weights_alone(choice.layer), choice.chosen.ranks
            )
            found.append(Fitted(choice, choice.chosen.error, factors, None))
    return found


def is_held_back(sample: int, samples: int) -> bool:
    """Whether nothing is fitted to a sample of so many before its error has been told."""
    return samples >= HELD_BACK and sample % HELD_BACK == HELD_BACK - 1


def weights_alone(layer: Layer) -> Problem:
    """The problem of a layer that reads white noise."""
    return Problem(layer.rows, np.eye(layer.rows.shape[1]))


def _sums(
    number: int, layer: Layer, original: ir.Node, walks: Sequence[LayerWalk], samples: int
) -> tuple[Regression, Regression]:
    """Over what the layer reads and should give: samples to fit to, and those held back."""
    outputs, size = layer.rows.shape
    sums = Regression.zero(1, outputs, size), Regression.zero(1, outputs, size)
    count = rows_per_sample(size, samples)
    read, given = original.inputs[0], original.outputs[0]
    assert read is not None
    shape = (layer.outputs, layer.channels, *layer.kernel)
    wanted = walks[0].read_values(original, (read, given))
    reads = walks[-1].read(layer.node) if len(walks) > 1 else None
    for sample, values in enumerate(wanted):
        x = values[str(read.name)] if reads is None else next(reads)
        rows = input_rows(layer.node, shape, x, count, row_generator(number, sample))
        t = output_rows(original, 1, values[str(given.name)], count, row_generator(number, sample))
        sums[is_held_back(sample, samples)].update(rows, t)
    if reads is not None:
        for _ in reads:
            pass
    return sums


def _settle(choice: Choice, layer: Layer, fitted: Regression, held: Regression, damping: float) -> Fitted:
    """Factors from the samples held back as well; the error that is told is of those fitted without them."""
    chosen = choice.chosen
    assert chosen is not None
    everything = fitted + held
    weights = _wanted(layer, fitted, held)
    factors, bias = _factors(layer, chosen, weights, everything, damping)
    matrix, shift, judged = factors.matrix, bias, everything
    if held.count:
        apart, shift = _factors(layer, chosen, weights, fitted, damping)
        matrix, judged = apart.matrix, held
    energy = float(judged.energy().sum())
    error = float(judged.error(matrix[np.newaxis], shift).sum()) / energy if energy > 0 else 0.0
    return Fitted(choice, error, factors, None if layer.bias is None else bias.reshape(-1))


def _wanted(layer: Layer, fitted: Regression, held: Regression) -> Array:
    """Weights of the whole layer that give what it should from what it reads now, [outputs, n]."""
    has_bias = layer.bias is not None
    start = layer.rows[np.newaxis]
    if not held.count:
        return np.asarray(fitted.fit(start, PULL, has_bias)[0][0])
    bias = fitted.bias(start) if has_bias else np.zeros((1, layer.outputs))
    return np.asarray(repaired(fitted, held, start, bias, has_bias, STRENGTHS).weights[0])


def _factors(
    layer: Layer, chosen: Candidate, weights: Array, sums: Regression, damping: float
) -> tuple[Factors, Array]:
    """Of such weights on these inputs, with the bias that goes with them, [1, outputs]."""
    second = sums.xx[0] / max(1, sums.count)
    if layer.bias is not None:
        mean = sums.x[0] / max(1, sums.count)
        second = second - np.outer(mean, mean)
    factors = chosen.form.factor(layer, Problem(weights, damped(second, damping)), chosen.ranks)
    matrix = factors.matrix[np.newaxis]
    return factors, sums.bias(matrix) if layer.bias is not None else np.zeros((1, layer.outputs))

"""Settling the weights of a quantized graph again, layer after layer, by what its layers compute.

The graph is quantized already, to nearest integers. In the order of the graph, each layer gets new ones that
keep its output close to the float model's on calibration data: second moments of what it reads (see
:mod:`irshrink.calibration.moments`), a span for its integers, a rounding method, and a bias that takes the
mean error back.

``compensate`` lets it read what it will read in the quantized model, x', while its output is compared with
that of the float model on x. The weights that would do best without any rounding are then not W but

    W E[x x'^T] E[x' x'^T]^-1

which are rounded in its place: a layer takes back what the layers before it do wrong, as far as it can be
told from its input (Li et al., *GPTAQ: efficient finetuning-free quantization for asymmetric calibration*,
ICML 2025). Weights of W that are 0 were pruned, unless they are few, and stay 0; others are then the best.
Where the bias is corrected, moments are taken about the mean, for the bias sees to the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from irshrink.calibration.elimination import least_squares
from irshrink.calibration.moments import Moments, row_generator, rows_per_sample
from irshrink.calibration.patches import from_rows, input_rows, weight_rows, why_no_rows
from irshrink.calibration.walk import LayerWalk
from irshrink.graph.edit import constant, describe, input_of
from irshrink.module import Module
from irshrink.passes.quantize.rounding import ROUNDINGS, Problem, RoundingName
from irshrink.passes.quantize.rounding.layer import Layer, write_layer
from irshrink.passes.quantize.rounding.weight_range import WeightRange, search_scale
from irshrink.passes.quantize.weights import (
    WEIGHT_LIMITS,
    QuantizedWeights,
    bounded_scale,
    full_span,
    with_bias,
)
from irshrink.pipeline import Context
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
BiasCorrection = Literal["none", "analytic", "empirical"]

#: A layer with a smaller share of weights that are 0 was not pruned: they belong to dead channels.
FEW_ZEROS = 0.05
#: Inputs of an output above which the matrix of second moments is taken as blocks on its diagonal.
LARGEST_MATRIX = 4096
#: Of an input's second moment, what is left of a variance that is 0, and then some.
NOISE = 1e-7


@dataclass(frozen=True)
class Refinement:
    """The options of ``quantize-int8`` that choose integers; see there."""

    rounding: RoundingName
    weight_range: WeightRange
    bias_correction: BiasCorrection
    compensate: bool
    damping: float

    @property
    def is_needed(self) -> bool:
        """Whether anything here differs from rounding to nearest, all at once."""
        plain = self.rounding == "nearest" and self.weight_range == "max" and not self.compensate
        return not plain or self.bias_correction == "empirical"

    def run(
        self, reference: Module, module: Module, layers: Sequence[Layer], samples: Samples, ctx: Context
    ) -> None:
        """Change the weights and biases of ``layers``, which are of ``module``.

        Args:
            reference: the float model that ``module`` was.

        Raises:
            ModelError: ONNX Runtime cannot run one of the models.
        """
        walks = [LayerWalk(reference, samples)]
        if self.compensate or self.bias_correction == "empirical":
            walks.append(LayerWalk(module, samples, optimize=False))
        for index, layer in enumerate(layers):
            ctx.progress(f"rounding layer {index + 1:,} of {len(layers):,}")
            reason = why_no_rows(layer.original)
            if reason is not None:
                ctx.note(f"{describe(layer.original)} is rounded to nearest: {reason}")
                continue
            write_layer(layer, self._settle(layer, self._moments(index, layer, walks, len(samples))))

    def _moments(self, index: int, layer: Layer, walks: Sequence[LayerWalk], samples: int) -> Moments:
        """Of what the layer reads in the last walk, beside the first one where there are two."""
        weight = constant(layer.original.inputs[1])
        assert weight is not None, "rules.py quantizes no layer whose weights vary"
        groups, _, size = weight_rows(layer.original, weight).shape
        parts = _parts(size)
        moments = Moments.zero(groups * parts, size // parts, paired=len(walks) > 1)
        nodes = (layer.original, layer.node)
        reads = [walk.read(node) for walk, node in zip(walks, nodes, strict=False)]
        count = rows_per_sample(size, samples)
        for sample, arrays in enumerate(zip(*reads, strict=True)):
            rows = [
                _split(
                    input_rows(layer.original, weight.shape, x, count, row_generator(index, sample)), parts
                )
                for x in arrays
            ]
            moments.update(rows[-1], rows[0] if len(rows) > 1 else None)
        return moments

    def _settle(self, layer: Layer, moments: Moments) -> QuantizedWeights:
        weight, bias = constant(layer.original.inputs[1]), constant(input_of(layer.original, 2))
        assert weight is not None, "see _moments"
        rows = weight_rows(layer.original, weight)
        groups, outputs, size = rows.shape
        parts = _parts(size)
        wanted = _split(rows, parts)
        corrected = self.bias_correction != "none" and layer.node.op_type != "MatMul"
        hessian, target = self._problem(moments, wanted, corrected)
        means = moments.mean, moments.reference_mean
        flat = None if bias is None or layer.node.op_type == "MatMul" else bias.reshape(-1).astype(np.float64)

        def bias_for(real: Array) -> Array | None:
            if not corrected:
                return flat
            shift = np.einsum("gon,gn->go", wanted, means[1]) - np.einsum("gon,gn->go", real, means[0])
            moved = shift.reshape(groups, parts, outputs).sum(axis=1).reshape(-1)
            return np.asarray(moved if flat is None else flat + moved)

        span = _spans(target, parts, layer)
        problem = Problem(target, np.where(span > 0, span, 1.0), hessian, *WEIGHT_LIMITS[layer.bits])
        searched = np.where(
            span > 0,
            search_scale(problem, self.weight_range, ROUNDINGS[self.rounding], parts, layer.per_channel),
            0.0,
        )
        channels = searched.reshape(groups, parts, outputs)[:, 0].reshape(-1)
        if not layer.per_channel:
            channels = channels[:1]
        scale, raised = bounded_scale(channels, bias_for(target), layer.x_scale)
        spread = np.broadcast_to(scale.astype(np.float64), groups * outputs).reshape(groups, outputs, 1)
        problem = replace(problem, scale=np.repeat(spread, parts, axis=0))
        integers = ROUNDINGS[self.rounding](problem)
        joined = from_rows(layer.original, _joined(integers, parts), weight.shape)
        final = scale if layer.per_channel else scale.reshape(())
        return with_bias(joined, final, bias_for(integers * problem.scale), layer.x_scale, raised)

    def _problem(self, moments: Moments, wanted: Array, centred: bool) -> tuple[Array, Array]:
        """The damped matrix of second moments, and the weights that would do best without rounding."""
        hessian, cross, mean = moments.hessian, moments.cross_moment, moments.mean
        noise = NOISE * np.diagonal(hessian, axis1=1, axis2=2).mean(axis=1)
        if centred:
            hessian = hessian - mean[:, :, np.newaxis] * mean[:, np.newaxis, :]
        sizes = np.diagonal(hessian, axis1=1, axis2=2).mean(axis=1)
        added = np.maximum(self.damping * sizes, noise)
        damping = np.where(added > 0, added, 1.0)[:, np.newaxis, np.newaxis] * np.eye(hessian.shape[1])
        hessian = hessian + damping
        if not self.compensate or cross is None:
            return hessian, wanted
        if centred:
            cross = cross - moments.reference_mean[:, :, np.newaxis] * mean[:, np.newaxis, :]
        right = (wanted @ (cross + damping)).swapaxes(1, 2)
        target = np.linalg.solve(hessian, right).swapaxes(1, 2)
        pruned = wanted == 0
        few = pruned.mean() < FEW_ZEROS
        return hessian, target if few else least_squares(target, hessian, ~pruned)


def _parts(size: int) -> int:
    """The least number of equal parts that are not too large for a matrix of second moments."""
    return next(
        parts for parts in range(1, size + 1) if size % parts == 0 and size // parts <= LARGEST_MATRIX
    )


def _split(rows: Array, parts: int) -> Array:
    """[g, o, n] to [g * parts, o, n / parts]."""
    groups, outputs, size = rows.shape
    apart = rows.reshape(groups, outputs, parts, size // parts).swapaxes(1, 2)
    return np.asarray(apart.reshape(groups * parts, outputs, size // parts))


def _joined(rows: Array, parts: int) -> Array:
    """The inverse of :func:`_split`."""
    groups, outputs, size = rows.shape
    apart = rows.reshape(groups // parts, parts, outputs, size).swapaxes(1, 2)
    return np.asarray(apart.reshape(groups // parts, outputs, parts * size))


def _spans(rows: Array, parts: int, layer: Layer) -> Array:
    """The least scale of every output that clips none of its weights, [g * parts, o, 1]."""
    joined = _joined(rows, parts)
    spans = full_span(joined, layer.bits, axis=2)[:, :, np.newaxis]
    if not layer.per_channel:
        spans = np.full_like(spans, spans.max(initial=0))
    return np.repeat(spans, parts, axis=0)

"""Layer after layer, least squares towards what the original computes (irshrink/calibration/regression.py).

Each layer reads what the changed model gives it by now, so that it makes up for what the layers before it do
wrong as far as its input tells, and errors do not add up. Three quarters of the samples fit, every fourth one
says how strongly the layer is pulled towards the weights that it has; a layer that is not closer to the
original on those stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.moments import row_generator
from irshrink.calibration.patches import from_rows, input_rows, output_rows, weight_rows
from irshrink.calibration.regression import Regression, Repaired, repaired
from irshrink.calibration.walk import LayerWalk
from irshrink.graph.edit import base_name, constant, is_op, set_constant
from irshrink.graph.linear import bias_name
from irshrink.module import Module, Original
from irshrink.passes.prune.repair.rectified import LEAST_STRENGTH, Rows, repaired_behind
from irshrink.passes.prune.repair.wanted import Wanted, in_reference_order, wanted_layers
from irshrink.pipeline import Context
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: Every so many samples one is held back.
HELD = 4
#: Vectors wanted in all, over the samples: so many, and so many for each of their elements.
LEAST_ROWS, ROWS_PER_ELEMENT = 16384, 32
#: Bytes of vectors that are kept of a layer before an activation.
ROW_BYTES = 96 * 2**20
#: Errors above this share are worth the turns that a fit behind an activation takes.
MATTERS = 0.01
#: Errors below this share of the output's variance are rounding, not damage.
UNHURT = 1e-9


@dataclass(frozen=True)
class LayerRepair:
    """What became of one layer.

    Attributes:
        name: of its node.
        strength: the pull towards its old weights; None where it stayed as it was.
        before, after: relative squared error of its output on samples held back.
    """

    name: str
    strength: float | None
    before: float
    after: float


def repair_layers(
    module: Module, original: Original, samples: Samples, ctx: Context, names: Sequence[str] | None = None
) -> list[LayerRepair]:
    """Change the weights and biases of the layers of ``module`` for the better.

    Args:
        original: what its layers should compute.
        samples: at least two.
        names: names of the nodes that may change; all without.

    Raises:
        ModelError: ONNX Runtime cannot run one of the models.
    """
    layers = wanted_layers(module.graph, original, ctx)
    if names is not None:
        layers = [layer for layer in layers if base_name(layer.node) in set(names)]
    found: list[LayerRepair] = []
    for run in in_reference_order(layers, original):
        walks = LayerWalk(original.module, samples), LayerWalk(module, samples)
        for layer in run:
            ctx.progress(f"repairing layer {len(found) + 1:,} of {len(layers):,}")
            fitted, held = _seen(layer, original, walks, len(samples), len(found))
            found.append(_settle(layer, fitted, held))
    return found


@dataclass
class _Seen:
    """What a layer reads and should give, on the samples to fit to or on those held back."""

    sums: Regression
    rows: Rows = field(default_factory=Rows)


def _seen(
    layer: Wanted, original: Original, walks: tuple[LayerWalk, LayerWalk], samples: int, number: int
) -> tuple[_Seen, _Seen]:
    node, source = layer.node, layer.node.inputs[0]
    weight = constant(node.inputs[1])
    assert weight is not None, "see wanted_layers"
    assert source is not None
    groups, outputs, size = weight_rows(node, weight).shape
    count = -(-max(LEAST_ROWS, ROWS_PER_ELEMENT * size) // samples)
    if layer.bounds is not None:
        count = min(
            -(-LEAST_ROWS // samples), max(1, ROW_BYTES // (4 * groups * (size + 2 * outputs) * samples))
        )
    both = tuple(_Seen(Regression.zero(groups, outputs, size)) for _ in range(2))
    for sample, (reference, now) in enumerate(_read(layer, walks)):
        seen = both[is_held(sample, samples)]

        def rows(array: Array, sample: int = sample) -> Array:
            return output_rows(node, groups, array, count, row_generator(number, sample))

        x = input_rows(node, weight.shape, now[str(source.name)], count, row_generator(number, sample))
        t = rows(layer.target(original, reference, now))
        seen.sums.update(x, t)
        if layer.bounds is not None:
            added = np.zeros_like(t) if layer.shortcut is None else rows(now[str(layer.shortcut.name)])
            for kept, part in zip((seen.rows.x, seen.rows.t, seen.rows.s), (x, t, added), strict=True):
                kept.append(part.astype(np.float32))
    return both[0], both[1]


def is_held(sample: int, samples: int) -> bool:
    """Whether a sample is held back: every fourth one, and one of two or three."""
    return sample % min(HELD, samples) == min(HELD, samples) - 1


def _read(
    layer: Wanted, walks: tuple[LayerWalk, LayerWalk]
) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    source = layer.node.inputs[0]
    assert source is not None
    now = [source] if layer.shortcut is None else [source, layer.shortcut]
    return zip(
        walks[0].read_values(layer.before, [layer.like]),
        walks[1].read_values(layer.node, now),
        strict=True,
    )


def _settle(layer: Wanted, fitted: _Seen, held: _Seen) -> LayerRepair:
    op, node = layer.op(), layer.node
    weight = constant(node.inputs[1])
    assert weight is not None, "see wanted_layers"
    start = weight_rows(node, weight)
    groups, outputs, _ = start.shape
    bias = np.zeros((groups, outputs)) if op.bias is None else op.bias.reshape(groups, outputs)
    has_bias = not is_op(node, "MatMul")
    name = base_name(node)
    now = float(held.sums.error(start, bias).sum()) / (float(held.sums.energy().sum()) or 1.0)
    if now < UNHURT:
        return LayerRepair(name, None, now, now)
    found = repaired(fitted.sums, held.sums, start, bias, has_bias)
    if layer.bounds is not None and has_bias and now > MATTERS:
        strengths = _around(found.strength)
        found = repaired_behind(fitted.rows, held.rows, layer.bounds, start, bias, strengths)
    if found.strength is not None:
        _store(node, found, weight, has_bias)
    return LayerRepair(name, found.strength, found.before, found.after)


def _around(strength: float | None) -> tuple[float, ...]:
    """Strengths to try behind an activation, where less of the error counts."""
    chosen = 1.0 if strength is None or not np.isfinite(strength) else max(strength, LEAST_STRENGTH)
    return chosen, max(0.1 * chosen, LEAST_STRENGTH)


def _store(node: ir.Node, found: Repaired, weight: Array, has_bias: bool) -> None:
    """Weights with Gemm's alpha and beta in them."""
    set_constant(node, 1, from_rows(node, found.weights, weight.shape).astype(weight.dtype), "weight")
    for applied in ("alpha", "beta"):
        if is_op(node, "Gemm"):
            node.attributes.pop(applied, None)
    if has_bias:
        set_constant(node, 2, found.bias.reshape(-1).astype(weight.dtype), bias_name(node))

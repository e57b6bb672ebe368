"""LinearClassifier and LinearRegressor."""

from __future__ import annotations

from math import inf

import numpy as np
import onnx_ir as ir

from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.classical import scores
from irshrink.program.lower.rules.classical.attributes import (
    AGAIN,
    class_labels,
    finite,
    integers,
    require_length,
    rows,
    target_count,
)
from irshrink.program.ops import DenseF32, Float32


def product(lowering: Lowering, node: ir.Node, source: str, coefficients: Float32, bias: Float32) -> str:
    """``source @ coefficients.T + bias`` in float32, a tensor [N, C]; coefficients [C, F] as they lie."""
    count, features = lowering.builder.shape(source)
    require_length(coefficients, bias.size * features, "coefficients")
    lowering.float_note(node, "its weights are no constants of the graph")
    return lowering.emit(
        DenseF32,
        node,
        [source],
        (count, bias.size),
        weight=coefficients.reshape(bias.size, features),
        bias=bias + np.float32(0),  # never -0
        low=-inf,
        high=inf,
    )


def classifier(lowering: Lowering, node: ir.Node) -> None:
    """The class with the largest score; of one score for two classes, the second above 0."""
    coefficients, bias = finite(node, "coefficients"), finite(node, "intercepts")
    if not bias.size:
        raise Refusal("it has no intercepts", AGAIN)
    labels, transform = class_labels(node), scores.transform_of(node)
    raw = product(lowering, node, rows(lowering, node)[0], coefficients, bias)
    if bias.size == 1:
        require_length(integers(node, "classlabels_ints"), 2, "classes")
        scores.bind_classes(lowering, node, raw, labels, 0.0)
        both = scores.two_columns(lowering, node, raw, transform, probability=True)
        scores.bind_scores(lowering, node, both)
        return
    require_length(integers(node, "classlabels_ints"), bias.size, "classes")
    scores.bind_classes(lowering, node, raw, labels)
    scores.bind_scores(lowering, node, scores.transformed(lowering, node, raw, transform))


def regressor(lowering: Lowering, node: ir.Node) -> None:
    """Weighted sums of the features."""
    targets = target_count(node, "targets")
    transform = scores.transform_of(node)
    if targets == 1 and transform not in ("NONE", "PROBIT"):
        raise Refusal(
            f"runtimes do not agree about the transform {transform} of one target",
            "Apply it by its own node.",
        )
    bias = finite(node, "intercepts")
    bias = bias if bias.size else np.zeros(targets, np.float32)
    require_length(bias, targets, "intercepts")
    raw = product(lowering, node, rows(lowering, node)[0], finite(node, "coefficients"), bias)
    scores.bind_scores(lowering, node, scores.transformed(lowering, node, raw, transform), index=0)

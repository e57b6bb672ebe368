"""SVMClassifier and SVMRegressor."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.classical import linear, scores
from irshrink.program.lower.rules.classical.attributes import (
    AGAIN,
    as_int32,
    class_labels,
    finite,
    integers,
    require_length,
    rows,
)
from irshrink.program.ops import (
    Cast,
    ChooseClass,
    PairwiseProbabilities,
    PairwiseScores,
    PairwiseVotes,
    SupportVectors,
    VectorKernel,
)

_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
_HIGHEST_DEGREE = 64


def classifier(lowering: Lowering, node: ir.Node) -> None:
    """The class that wins most pairs; probabilities where the model has them, else scores of the pairs."""
    labels = class_labels(node)
    if labels.size < 2:
        raise Refusal("it has one class", "Leave the model out: its answer is known.")
    counts = integers(node, "vectors_per_class")
    if not counts.sum():
        _linear_classifier(lowering, node)
        return
    require_length(counts, labels.size, "vectors_per_class")
    if (counts < 0).any():
        raise Refusal("it has a negative number of vectors", AGAIN)
    pairs = labels.size * (labels.size - 1) // 2
    rho, prob_a, prob_b = (finite(node, name) for name in ("rho", "prob_a", "prob_b"))
    require_length(rho, pairs, "rho")
    values = _kernel_values(lowering, node, int(counts.sum()))
    count, vectors = lowering.builder.shape(values)
    coefficients = finite(node, "coefficients")
    require_length(coefficients, (labels.size - 1) * vectors, "coefficients")
    raw = lowering.emit(
        PairwiseScores,
        node,
        [values],
        (count, pairs),
        coefficients=coefficients.reshape(labels.size - 1, vectors),
        starts=as_int32(np.cumsum([0, *counts]), "vectors"),
        rho=rho,
    )
    votes = lowering.emit(PairwiseVotes, node, [raw], (count, labels.size))
    scores.bind_classes(lowering, node, votes, labels)
    transform = scores.transform_of(node)
    if prob_a.size:
        require_length(prob_a, pairs, "prob_a")
        require_length(prob_b, pairs, "prob_b")
        raw = lowering.emit(
            PairwiseProbabilities, node, [raw], (count, labels.size), prob_a=prob_a, prob_b=prob_b
        )
    elif labels.size == 2:
        raw = scores.two_columns(lowering, node, raw, transform, probability=transform != "NONE")
        transform = "NONE"
    scores.bind_scores(lowering, node, scores.transformed(lowering, node, raw, transform))


def regressor(lowering: Lowering, node: ir.Node) -> None:
    """The weighted sum of the kernel values; with ``one_class`` its sign."""
    if scores.transform_of(node) != "NONE":
        raise Refusal("runtimes do not agree about its post_transform", "Apply it by its own node.")
    vectors = edit.attribute_int(node, "n_supports", 0)
    rho = finite(node, "rho")[:1]
    require_length(rho, 1, "rho")
    coefficients = finite(node, "coefficients")
    source = _kernel_values(lowering, node, vectors) if vectors > 0 else rows(lowering, node)[0]
    y = linear.product(lowering, node, source, coefficients, rho)
    if edit.attribute_int(node, "one_class", 0):
        y = _sign(lowering, node, y)
    scores.bind_scores(lowering, node, y, index=0)


def _sign(lowering: Lowering, node: ir.Node, score: str) -> str:
    """1 above 0, else -1."""
    count = lowering.builder.shape(score)[0]
    labels = np.array([-1, 1], np.int32)
    sign = lowering.emit(ChooseClass, node, [score], (count,), dtype="int32", labels=labels, threshold=0.0)
    return lowering.builder.reshaped(lowering.emit(Cast, node, [sign], (count,)), (count, 1))


def _linear_classifier(lowering: Lowering, node: ir.Node) -> None:
    """Without support vectors: a row of coefficients a class, one offset for all."""
    labels, coefficients = class_labels(node), finite(node, "coefficients")
    if labels.size == 2 and lowering.is_read(node.outputs[0]):
        raise Refusal("runtimes do not agree about the class of a linear SVM of two", "Use LinearClassifier.")
    rho = finite(node, "rho")[:1]
    require_length(rho, 1, "rho")
    raw = linear.product(lowering, node, rows(lowering, node)[0], coefficients, np.repeat(rho, labels.size))
    scores.bind_classes(lowering, node, raw, labels)
    scores.bind_scores(lowering, node, scores.transformed(lowering, node, raw, scores.transform_of(node)))


def _kernel_values(lowering: Lowering, node: ir.Node, vectors: int) -> str:
    """A tensor [N, S]: each row against each support vector."""
    source, count, features = rows(lowering, node)
    array = finite(node, "support_vectors")
    require_length(array, vectors * features, "numbers in its support vectors")
    name = edit.attribute_string(node, "kernel_type", "LINEAR")
    if name not in _KERNELS:
        raise Refusal(f"its kernel_type is '{name}'", f"Known: {', '.join(_KERNELS)}.")
    parameters = finite(node, "kernel_params")
    if name != "LINEAR":
        require_length(parameters, 3, "kernel_params")
    gamma, coef0, degree = parameters.tolist() if parameters.size == 3 else (0.0, 0.0, 0.0)
    if name == "POLY" and not (degree == int(degree) and 1 <= degree <= _HIGHEST_DEGREE):
        raise Refusal(f"its polynomial is of degree {degree:g}", "Use a whole degree above 0.")
    lowering.float_note(node, "support vectors have no integer form")
    return lowering.emit(
        SupportVectors,
        node,
        [source],
        (count, vectors),
        kind=cast(VectorKernel, name.lower()),
        vectors=array.reshape(vectors, features),
        gamma=gamma,
        coef0=coef0,
        degree=int(degree),
    )

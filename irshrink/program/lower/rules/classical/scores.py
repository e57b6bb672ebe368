"""From raw scores to what a classifier gives: transformed scores, and a class."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.classical.probit import probit
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import BinaryF32, ChooseClass, Concat, Int32, SoftmaxF32, SoftmaxZeroF32, UnaryF32

TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def transform_of(node: ir.Node) -> str:
    """``post_transform``, by name or, in TreeEnsemble 5, by number.

    Raises:
        Refusal: an unknown one.
    """
    attribute = node.attributes.get("post_transform")
    if attribute is not None and attribute.type == ir.AttributeType.INT:
        number = attribute.as_int()
        name = TRANSFORMS[number] if 0 <= number < len(TRANSFORMS) else str(number)
    else:
        name = edit.attribute_string(node, "post_transform", "NONE")
    if name not in TRANSFORMS:
        raise Refusal(f"its post_transform is '{name}'", f"Known: {', '.join(TRANSFORMS)}.")
    return name


def transformed(lowering: Lowering, node: ir.Node, scores: str, transform: str) -> str:
    """Scores [N, C] after ``post_transform``."""
    shape = lowering.builder.shape(scores)
    if transform == "LOGISTIC":
        return lowering.emit(UnaryF32, node, [scores], shape, kind="sigmoid")
    if transform == "SOFTMAX":
        return lowering.emit(SoftmaxF32, node, [scores], shape)
    if transform == "SOFTMAX_ZERO":
        return lowering.emit(SoftmaxZeroF32, node, [scores], shape)
    if transform == "PROBIT":
        return probit(lowering, node, scores)
    return scores


def two_columns(lowering: Lowering, node: ir.Node, score: str, transform: str, *, probability: bool) -> str:
    """Columns of both classes from the score [N, 1] of the second.

    LOGISTIC: ``sigmoid(-s), sigmoid(s)``; else ``1 - s, s`` of a probability and ``-s, s`` of another score,
    with whatever transform: there is only one score to transform.

    Raises:
        Refusal: PROBIT, which no runtime defines here.
    """
    if transform == "PROBIT":
        raise Refusal("it has one score for two classes and the transform PROBIT", "Use LOGISTIC.")
    count = lowering.builder.shape(score)[0]
    if probability and transform != "LOGISTIC":
        one = np.ones((1, 1), np.float32)
        other = lowering.emit(
            BinaryF32, node, [score], (count, 1), kind="sub", constant=one, constant_first=True
        )
    else:
        other = lowering.emit(UnaryF32, node, [score], (count, 1), kind="neg")
    both = lowering.emit(Concat, node, [other, score], (count, 2), axis=1, tables=(None, None))
    return transformed(lowering, node, both, "LOGISTIC") if transform == "LOGISTIC" else both


def bind_classes(
    lowering: Lowering, node: ir.Node, scores: str, labels: Int32, threshold: float | None = None
) -> None:
    """Output 0 of a classifier, [N]: the label of the largest score, or by one score and a threshold."""
    if not lowering.is_read(node.outputs[0]):
        return
    count = lowering.builder.shape(scores)[0]
    tensor = lowering.emit(
        ChooseClass, node, [scores], (count,), dtype="int32", labels=labels, threshold=threshold
    )
    view = view_of(tensor, (count,))
    lowering.bind(node.outputs[0], View(tensor, view.axes, "int64"))


def bind_scores(lowering: Lowering, node: ir.Node, scores: str, index: int = 1) -> None:
    """Output ``index``: a tensor [N, C]."""
    if index < len(node.outputs):
        lowering.bind(node.outputs[index], view_of(scores, lowering.builder.shape(scores)))

"""What comes before a classical model: scaling, norms, missing values, columns."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import elementwise, integers_of
from irshrink.program.lower.rules.classical.attributes import (
    AGAIN,
    as_int32,
    finite,
    integers,
    require_length,
    rows,
)
from irshrink.program.lower.rules.conversion import converted
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import BinaryF32, BinaryKind, Compare, Concat, Impute, Norm, NormalizeF32
from irshrink.program.reference.dispatch import Array


def scaler(lowering: Lowering, node: ir.Node) -> None:
    """``(x - offset) * scale``, one of each for all columns or one a column."""
    tensor, count, features = rows(lowering, node)
    steps: tuple[tuple[str, BinaryKind, float], ...] = (("offset", "sub", 0.0), ("scale", "mul", 1.0))
    for name, kind, neutral in steps:
        values = finite(node, name)
        if values.size and not (values == neutral).all():
            constant = _columns(values, features, name).reshape(1, -1)
            tensor = lowering.emit(BinaryF32, node, [tensor], (count, features), kind=kind, constant=constant)
    lowering.float_note(node, "it scales columns")
    _bind_like_input(lowering, node, tensor)


def normalizer(lowering: Lowering, node: ir.Node) -> None:
    """Rows divided by their norm."""
    norm = edit.attribute_string(node, "norm", "MAX")
    if norm not in ("MAX", "L1", "L2"):
        raise Refusal(f"its norm is '{norm}'", "Known: MAX, L1, L2.")
    source, count, features = rows(lowering, node)
    lowering.float_note(node, "it has no integer form")
    kind = cast(Norm, norm.lower())
    _bind_like_input(
        lowering, node, lowering.emit(NormalizeF32, node, [source], (count, features), norm=kind)
    )


def binarizer(lowering: Lowering, node: ir.Node) -> None:
    """1 above the threshold, else 0; of the input's type."""
    x = lowering.view(node.inputs[0])
    element = x.stored or "float32"
    x = lowering.builder.as_float(converted(lowering, node, x, "float32"))
    threshold = np.array(np.float32(edit.attribute_float(node, "threshold", 0.0)))
    constant = view_of(lowering.builder.constant("threshold", threshold), ())
    lowering.float_note(node, "it has no integer form")
    above = elementwise(lowering, node, Compare, [x, constant], "bool", kind="greater")
    lowering.bind(node.outputs[0], converted(lowering, node, above, element))


def imputer(lowering: Lowering, node: ir.Node) -> None:
    """Values for missing ones, one for all columns or one a column."""
    x = lowering.view(node.inputs[0])
    if x.stored is not None:
        x = integers_of(lowering, node, x)
        values: Array = as_int32(integers(node, "imputed_value_int64s"), "imputed values")
        replaced: float = edit.attribute_int(node, "replaced_value_int64", 0)
        dtype = "int32"
    else:
        x = lowering.builder.as_float(x)
        values = finite(node, "imputed_value_floats")
        replaced = edit.attribute_float(node, "replaced_value_float", 0.0)
        dtype = "float32"
    if x.rank not in (1, 2) or not values.size:
        raise Refusal("it has no values to impute, or no rows to impute them in", AGAIN)
    features = x.shape[-1]
    source = lowering.builder.row_major(x).tensor
    tensor = lowering.emit(
        Impute, node, [source], lowering.builder.shape(source), dtype=dtype,
        values=_columns(values, features, "values"), replaced=replaced,
    )  # fmt: skip
    view = view_of(tensor, x.shape)
    lowering.bind(node.outputs[0], View(tensor, view.axes, x.stored))


def feature_vectorizer(lowering: Lowering, node: ir.Node) -> None:
    """Columns of all inputs side by side, in float32."""
    parts = [rows(lowering, node, index) for index in range(len(node.inputs))]
    count = parts[0][1]
    if any(part[1] != count for part in parts):
        raise Refusal("its inputs have different numbers of rows", AGAIN)
    declared = integers(node, "inputdimensions")
    if declared.size and declared.tolist() != [part[2] for part in parts]:
        raise Refusal("its inputdimensions are not those of its inputs", AGAIN)
    tensor = lowering.emit(
        Concat, node, [part[0] for part in parts], (count, sum(part[2] for part in parts)),
        axis=1, tables=(None,) * len(parts),
    )  # fmt: skip
    lowering.bind(node.outputs[0], view_of(tensor, lowering.builder.shape(tensor)))


def _columns(values: Array, features: int, name: str) -> Array:
    """One value a column."""
    if values.size == 1:
        return np.repeat(values, features)
    require_length(values, features, name)
    return values


def _bind_like_input(lowering: Lowering, node: ir.Node, tensor: str) -> None:
    """Output 0 is ``tensor`` [N, F] in the shape of input 0."""
    shape = lowering.view(node.inputs[0]).shape
    lowering.bind(node.outputs[0], view_of(lowering.builder.reshaped(tensor, shape), shape))

"""Operators whose result follows from places: Trilu, EyeLike, Hardmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program import elements
from irshrink.program.lower.fitting import data_type, positive
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import constant_integers, elementwise
from irshrink.program.lower.rules.choice import bind_choice, index_range
from irshrink.program.lower.rules.conversion import converted
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import ArgReduce, Compare
from irshrink.program.reference.dispatch import Array


def trilu(lowering: Lowering, node: ir.Node) -> None:
    """What lies on one side of a diagonal; zeros elsewhere."""
    x = lowering.view(node.inputs[0])
    k = (lowering.integers(node, 1, "diagonal") or (0,))[0]
    rows, columns = np.ogrid[: x.shape[-2], : x.shape[-1]]
    upper = bool(edit.attribute_int(node, "upper", 1))
    kept = columns - rows >= k if upper else columns - rows <= k
    zero = _constant(lowering, np.zeros((), x.stored or "float32"))
    bind_choice(lowering, node, constant_integers(lowering, kept, "bool"), x, zero)


def eye_like(lowering: Lowering, node: ir.Node) -> None:
    """A constant: ones on a diagonal."""
    shape = lowering.view(node.inputs[0]).shape
    kind = data_type(node, "dtype", 0)
    if kind == ir.DataType.UNDEFINED and node.inputs[0] is not None:
        kind = node.inputs[0].dtype or kind
    element = {"UNDEFINED": "float32", "FLOAT": "float32", "DOUBLE": "float64"}.get(
        kind.name, kind.name.lower()
    )
    if element not in elements.STORAGE or len(shape) != 2:
        raise Refusal(f"it makes a matrix of {element}", "Only numbers and truth values run on the target.")
    matrix = np.eye(*shape, k=edit.attribute_int(node, "k", 0)).astype(element)
    lowering.bind(node.outputs[0], _constant(lowering, matrix))


def hardmax(lowering: Lowering, node: ir.Node) -> None:
    """1 at the first largest element along an axis, 0 elsewhere."""
    if lowering.opset < 13:
        raise Refusal("before opset 13 it works on rows of a matrix", "Raise the model's opset.")
    x = lowering.floating(node, 0)
    axis = positive(edit.attribute_int(node, "axis", -1), x.rank)
    source = lowering.builder.dense(x, range(x.rank))
    shape = [1 if place == axis else size for place, size in enumerate(x.shape)]
    tensor = lowering.emit(ArgReduce, node, [source], shape, dtype="int32", kind="max", axis=axis)
    best = replace(view_of(tensor, shape), stored="int32")
    numbers = index_range(lowering, x.shape[axis], x.rank, axis)
    here = elementwise(lowering, node, Compare, [numbers, best], "bool", kind="equal")
    lowering.bind(node.outputs[0], converted(lowering, node, here, "float32"))


def _constant(lowering: Lowering, array: Array) -> View:
    """A constant of an ONNX type as the target stores it."""
    element = array.dtype.name
    stored = elements.stored(array)
    assert stored is not None, "zeros and ones fit"
    view = view_of(lowering.builder.constant("constant", stored, elements.codes(element)), array.shape)
    return view if elements.is_real(element) else replace(view, stored=element)

"""Operators that look up numbers: LabelEncoder, OneHotEncoder, ArrayFeatureExtractor."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import integers_of
from irshrink.program.lower.rules.classical.attributes import (
    AGAIN,
    as_int32,
    floats,
    integers,
    require_length,
)
from irshrink.program.lower.rules.conversion import converted
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Float32, Int32, Lookup, OneHot, Take
from irshrink.program.reference.dispatch import Array

_STRINGS = "Number the categories before, as the training data had them."


def label_encoder(lowering: Lowering, node: ir.Node) -> None:
    """A value by its key; the default for others."""
    keys, values = _numbers(node, "keys"), _numbers(node, "values")
    require_length(values, keys.size, "values")
    default: float
    if "default_tensor" in node.attributes:
        default = node.attributes["default_tensor"].as_tensor().numpy().reshape(-1)[0].item()
    elif values.dtype == np.int32:
        default = edit.attribute_int(node, "default_int64", -1)
    else:
        default = edit.attribute_float(node, "default_float", -0.0)
    _look_up(lowering, node, lowering.view(node.inputs[0]), keys, values, default)


def one_hot_encoder(lowering: Lowering, node: ir.Node) -> None:
    """1 in the column of the category; a row of zeros for others, whatever ``zeros`` says."""
    categories = as_int32(integers(node, "cats_int64s"), "categories")
    if not categories.size:
        raise Refusal("its categories are strings", _STRINGS)
    x = lowering.view(node.inputs[0])
    x = integers_of(lowering, node, x if x.stored else converted(lowering, node, x, "int64"))
    if not edit.attribute_int(node, "zeros", 1):
        lowering.notes.append(f"'{node.name}' gives zeros for unknown categories instead of an error.")
    shape = (*x.shape, categories.size)
    source = lowering.builder.row_major(x).tensor
    tensor = lowering.emit(OneHot, node, [source], shape, categories=categories)
    lowering.bind(node.outputs[0], view_of(tensor, shape))


def array_feature_extractor(lowering: Lowering, node: ir.Node) -> None:
    """Columns by constant numbers, or entries of a constant table by computed numbers."""
    table, chosen = (lowering.constants.array(edit.input_of(node, index)) for index in (0, 1))
    if table is not None and table.size == table.shape[-1]:
        index = lowering.view(node.inputs[1])
        keys = np.arange(table.size, dtype=np.int32)
        values = as_int32(table.reshape(-1), "table") if table.dtype.kind in "iu" else table.reshape(-1)
        shape = (*table.shape[:-1], prod(index.shape)) if table.ndim > 1 else (1, prod(index.shape))
        _look_up(lowering, node, index, keys, values, values[0].item(), shape)
        return
    if chosen is None:
        raise Refusal("both its table and its indices are computed at run time", "Make one constant.")
    x = lowering.view(node.inputs[0])
    numbers = tuple(int(number) for number in chosen.reshape(-1))
    if not numbers or min(numbers) < 0 or max(numbers) >= x.shape[-1]:
        raise Refusal(f"it extracts a column that is none of {x.shape[-1]}", AGAIN)
    x = lowering.builder.view_as(x, (1, *x.shape)[-max(2, x.rank) :])
    source = lowering.builder.reshaped(lowering.builder.row_major(x).tensor, x.shape)
    shape = (*x.shape[:-1], len(numbers))
    indices = (*(None,) * (x.rank - 1), numbers)
    tensor = lowering.emit_like(x, Take, node, [source], shape, indices=indices)
    lowering.bind(node.outputs[0], View(tensor, view_of(tensor, shape).axes, x.stored))


def _look_up(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    keys: Int32 | Float32,
    values: Int32 | Float32,
    default: float,
    shape: tuple[int, ...] | None = None,
) -> None:
    """Bind output 0 to the values for x, keys in the type of x."""
    x = lowering.builder.as_float(x) if x.stored is None else integers_of(lowering, node, x)
    if (x.stored is None) != (keys.dtype == np.float32):
        raise Refusal(f"its keys are {keys.dtype}, its input is {x.stored or 'float32'}", AGAIN)
    order = np.argsort(keys, kind="stable")
    shape = shape or x.shape
    source = lowering.builder.row_major(x).tensor
    element = "int64" if values.dtype == np.int32 else None
    tensor = lowering.emit(
        Lookup, node, [source], lowering.builder.shape(source), dtype=values.dtype.name,
        keys=keys[order], values=values[order], default=default,
    )  # fmt: skip
    tensor = lowering.builder.reshaped(tensor, shape)
    lowering.bind(node.outputs[0], View(tensor, view_of(tensor, shape).axes, element))


def _numbers(node: ir.Node, name: str) -> Array:
    """``<name>_int64s``, ``<name>_floats`` or ``<name>_tensor``."""
    if node.attributes.get(f"{name}_floats") is not None:
        return floats(node, f"{name}_floats")
    if node.attributes.get(f"{name}_int64s") is not None:
        return as_int32(integers(node, f"{name}_int64s"), name)
    tensor = node.attributes.get(f"{name}_tensor")
    array = None if tensor is None else tensor.as_tensor().numpy().reshape(-1)
    if array is None or array.dtype.kind not in "iuf":
        raise Refusal(f"its {name} are strings", _STRINGS)
    return array.astype(np.float32) if array.dtype.kind == "f" else as_int32(array.astype(np.int64), name)

"""Old forms of operators that ONNX's version converter would change the meaning of.

What these computed before their present form, as ONNX Runtime computes it:

    Upsample 7 to 9, Resize 10   output i reads input i / scale, rounded down to enlarge and up to
                                 shrink; the converter leaves Resize's default, the centres of pixels
    Hardmax 1 to 11              over all axes from ``axis`` on, flattened; now over ``axis`` alone
    Dropout 7 to 10              ONNX Runtime's mask is all false, since 12 all true
    Scan 8                       a batch in front that Scan 9 does not have
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.graph.edit import (
    Names,
    attribute_int,
    attribute_string,
    become,
    constant,
    describe,
    input_of,
    insert_before,
    is_op,
    opset,
    rank,
)

Correction = Callable[[ir.Node, Names], None]


def corrections(graph: ir.Graph) -> dict[str, Correction]:
    """What must be done to nodes after their conversion, by the name of their first output.

    Raises:
        ModelError: a node whose meaning no newer form has.
    """
    version, found = opset(graph), {}
    for node in graph.all_nodes():
        correction = _correction(node, version)
        if correction is not None:
            found[str(node.outputs[0].name)] = correction
    return found


def correct(graph: ir.Graph, wanted: Mapping[str, Correction]) -> None:
    """Apply what :func:`corrections` found to the converted graph."""
    if not wanted:
        return
    names = Names(graph)
    for node in tuple(graph.all_nodes()):
        correction = wanted.get(str(node.outputs[0].name)) if node.outputs else None
        if correction is not None:
            correction(node, names)


def _correction(node: ir.Node, version: int) -> Correction | None:
    if version < 11 and is_op(node, "Upsample", "Resize"):
        return partial(_read_from_corners, rounding=_rounding(node))
    if version < 13 and is_op(node, "Hardmax"):
        axis, axes = attribute_int(node, "axis", 1), rank(node.inputs[0])
        if axes is None:
            raise ModelError(f"the rank of the input of {describe(node)} is not known.")
        return None if axis % axes == axes - 1 else partial(_flatten_around, axis=axis % axes)
    if version < 12 and is_op(node, "Dropout") and _is_read(node.outputs[1:]):
        raise ModelError(f"the mask of {describe(node)} is used, which means something else since opset 12.")
    if version < 9 and is_op(node, "Scan"):
        raise ModelError(f"{describe(node)} has a batch axis, which Scan has no longer since opset 9.")
    return None


def _is_read(values: Sequence[ir.Value]) -> bool:
    return any(value.uses() or value.is_graph_output() for value in values)


def _rounding(node: ir.Node) -> str | None:
    """``nearest_mode`` of a nearest Upsample or Resize; None where it interpolates."""
    if attribute_string(node, "mode", "nearest") != "nearest":
        return None
    if is_op(node, "Upsample"):
        return "floor"  # it can only enlarge
    scales = constant(input_of(node, 1))
    if scales is None:
        raise ModelError(f"the scales of {describe(node)} are not constant.")
    if (scales >= 1).all():
        return "floor"
    if (scales <= 1).all():
        return "ceil"
    raise ModelError(f"{describe(node)} enlarges one axis and shrinks another, and rounds both ways.")


def _read_from_corners(node: ir.Node, names: Names, rounding: str | None) -> None:
    node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
    if rounding is not None:
        node.attributes.add(ir.AttrString("nearest_mode", rounding))


def _flatten_around(node: ir.Node, names: Names, axis: int) -> None:
    """``f(x)`` becomes ``reshape(f(flatten(x)), shape(x))``."""
    source = node.inputs[0]
    shape = insert_before(node, "Shape", [source], names=names).outputs[0]
    shape.type = ir.TensorType(ir.DataType.INT64)
    flat = insert_before(node, "Flatten", [source], {"axis": axis}, names).outputs[0]
    maximum = insert_before(node, "Hardmax", [flat], {"axis": -1}, names).outputs[0]
    become(node, "Reshape", [maximum, shape])

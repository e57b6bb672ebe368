"""Operands of elementwise operators in one element type and one layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from irshrink.program import elements
from irshrink.program.lower.fitting import broadcast
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Cast, Op
from irshrink.program.reference.dispatch import Array


@dataclass(frozen=True)
class Aligned:
    """Operands whose physical axes broadcast against each other.

    Attributes:
        tensors: of all, in order.
        shape: physical shape of the result.
        view: the result's layout, on any tensor.
    """

    tensors: tuple[str, ...]
    shape: tuple[int, ...]
    view: View


def aligned(lowering: Lowering, *views: View) -> Aligned:
    """All operands in the layout of the first one that has the result's shape."""
    builder, first = lowering.builder, views[0]
    if all(view.axes == first.axes for view in views):
        shape = builder.shape(first.tensor)
        return Aligned(tuple(builder.reshaped(view.tensor, shape) for view in views), shape, first)
    logical = broadcast(*(view.shape for view in views))
    operands = [padded(lowering, view, len(logical)) for view in views]
    order = _common_order(operands, logical)
    tensors = tuple(builder.dense(view, order) for view in operands)
    return Aligned(tensors, tuple(logical[axis] for axis in order), view_of(tensors[0], logical, order))


def padded(lowering: Lowering, view: View, rank: int) -> View:
    """Axes of size 1 in front, up to ``rank``."""
    return lowering.builder.view_as(view, (1,) * (rank - view.rank) + view.shape)


def _common_order(views: Sequence[View], shape: tuple[int, ...]) -> tuple[int, ...]:
    for view in sorted(views, key=lambda view: view.shape != shape):
        order = view.order()
        if order is not None:
            return order
    return tuple(range(len(shape)))


def elementwise(
    lowering: Lowering,
    node: ir.Node,
    operator: type[Op],
    views: Sequence[View],
    element: str,
    /,
    **fields: Any,
) -> View:
    """Append an operator over broadcast operands; its output is of the ONNX type ``element``."""
    operands = aligned(lowering, *views)
    dtype, held = elements.STORAGE[element], elements.codes(element)
    tensor = lowering.emit(
        operator, node, operands.tensors, operands.shape, dtype=dtype, quantization=held, **fields
    )
    return View(tensor, operands.view.axes, None if elements.is_real(element) else element)


def integers_of(lowering: Lowering, node: ir.Node, view: View) -> View:
    """Integers in a form that can be computed with: 8-bit ones widened to int32.

    Raises:
        Refusal: the value is real numbers.
    """
    if view.stored is None:
        raise Refusal(
            "its operands are partly integers, partly not", "The model is damaged; export it again."
        )
    held = elements.codes(view.stored)
    if held is None or lowering.builder.tensors[view.tensor].dtype != "int8":
        return view
    shape = lowering.builder.shape(view.tensor)
    zero_point = held.zero_point
    tensor = lowering.emit(Cast, node, [view.tensor], shape, dtype="int32", input_zero_point=zero_point)
    return replace(view, tensor=tensor)


def narrowed(lowering: Lowering, node: ir.Node, view: View, element: str) -> View:
    """int32 results as the ONNX type ``element`` has them: its low bits, in the form that it is stored in."""
    tensor = lowering.builder.tensors[view.tensor]
    low, high = elements.limits(element)
    if tensor.dtype != "int32" or (element not in ("int8", "uint8", "int16", "uint16")):
        return replace(view, stored=element)
    held = elements.codes(element)
    name = lowering.emit(
        Cast, node, [view.tensor], tensor.shape, dtype=elements.STORAGE[element], quantization=held,
        low=low, high=high, output_zero_point=0 if held is None else held.zero_point,
    )  # fmt: skip
    return View(name, view.axes, element)


def same_kind(lowering: Lowering, views: Sequence[View]) -> list[View]:
    """Views whose tensors have one element type and, where it is int8, one quantization.

    Real numbers that do not share a quantization become float32.
    """
    builder = lowering.builder
    held = {(builder.tensors[view.tensor].dtype, builder.quantization(view)) for view in views}
    if len(held) == 1 or any(view.stored is not None for view in views):
        return list(views)
    return [builder.as_float(view) for view in views]


def constant_integers(lowering: Lowering, numbers: Array, element: str) -> View:
    """A constant operand of int32 or truth values."""
    tensor = lowering.builder.constant("constant", numbers.astype(elements.STORAGE[element]))
    return replace(view_of(tensor, numbers.shape), stored=element)

"""The target of a Reshape that is computed from the sizes of its own input is constant.

    reshape(x, concat(shape(x)[0], shape(x)[1], [12, 32])) = reshape(x, [0, 0, 12, 32])

0 stands for the size that x has there (ONNX, Reshape), so the batch and the length of a sequence stay open.
A size may be taken from another value, if both dimensions have the same name. One size that cannot be found
is -1: the number of elements decides it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    add_constant,
    attribute_int,
    base_name,
    become,
    constant,
    input_of,
    is_constant,
    is_op,
    rank,
    rewrite_each,
    scalar,
)
from irshrink.graph.patterns import remove_dead
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: A number, a dimension with a name, or None for what is not known.
Element = int | str | None


@dataclass(frozen=True)
class FoldReshapeTargets:
    """Write the target of a Reshape as a constant where it is made of sizes."""

    name: ClassVar[str] = "fold-reshape-targets"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        folded = rewrite_each(module.graph, ctx, {"Reshape"}, _fold)
        return PassResult(folded > 0, stats={"folded": folded})


def _fold(node: ir.Node) -> bool:
    source, target = node.inputs[0], input_of(node, 1)
    if source is None or source.shape is None or target is None or is_constant(target):
        return False
    elements = _elements(target)
    if elements is None or attribute_int(node, "allowzero", 0) or node.graph is None:
        return False
    own = [_element(source, axis) for axis in range(source.shape.rank())]
    sizes = [_size(element, own[axis : axis + 1]) for axis, element in enumerate(elements)]
    if sizes.count(-1) > 1:
        raise Refusal(f"the sizes {elements} of its target are computed, and not those of its input")
    constant_target = add_constant(node.graph, np.array(sizes, np.int64), f"{base_name(node)}_target")
    become(node, "Reshape", [source, constant_target])
    remove_dead([target])
    return True


def _size(element: Element, own: list[Element]) -> int:
    """What the target says: a number, 0 for the size that the input has there, or -1."""
    if isinstance(element, int):
        return element
    return 0 if element is not None and [element] == own else -1


def _element(value: ir.Value, axis: int) -> Element:
    assert value.shape is not None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else dim.value


def _elements(value: ir.Value | None) -> list[Element] | None:
    """The numbers of a scalar or a vector of integers, in order; None when their count is not known."""
    array, producer = constant(value), None if value is None else value.producer()
    if array is not None:
        return [int(number) for number in array.reshape(-1)] if array.ndim < 2 else None
    if producer is not None and is_op(producer, *_MADE_OF):
        return _made_of(producer)
    return [None] if rank(value) == 0 else None


def _made_of(node: ir.Node) -> list[Element] | None:
    first = node.inputs[0]
    if node.op_type == "Shape":
        if first is None or first.shape is None:
            return None
        sizes = [_element(first, axis) for axis in range(first.shape.rank())]
        return sizes[attribute_int(node, "start", 0) : attribute_int(node, "end", len(sizes))]
    if node.op_type == "Concat":
        parts = [_elements(value) for value in node.inputs]
        known = [part for part in parts if part is not None]
        return [element for part in known for element in part] if len(known) == len(parts) else None
    elements = _elements(first)
    if elements is None:
        return None
    if node.op_type == "Gather":
        return _gathered(node, elements)
    if node.op_type == "Slice":
        return _sliced(node, elements)
    return elements if node.op_type == "Cast" or len(elements) == 1 else None


def _gathered(node: ir.Node, elements: list[Element]) -> list[Element] | None:
    indices, count = constant(node.inputs[1]), len(elements)
    if indices is None or indices.ndim > 1 or rank(node.inputs[0]) != 1:
        return None
    if not all(-count <= index < count for index in indices.reshape(-1)):
        return None
    return [elements[int(index)] for index in indices.reshape(-1)]


def _sliced(node: ir.Node, elements: list[Element]) -> list[Element] | None:
    start, end = scalar(input_of(node, 1)), scalar(input_of(node, 2))
    step = 1.0 if input_of(node, 4) is None else scalar(input_of(node, 4))
    if start is None or end is None or step is None or step < 1:
        return None
    return elements[int(start) : int(end) : int(step)]


_MADE_OF = ("Cast", "Concat", "Gather", "Reshape", "Shape", "Slice", "Squeeze", "Unsqueeze")

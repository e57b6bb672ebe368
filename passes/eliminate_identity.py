"""Nodes that compute nothing: their readers read their input instead.

The table at the end says, for each operator, when its output equals its first input (or, for arithmetic
with a neutral constant, its varying input).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from irshrink.graph.dropout import training_mode
from irshrink.graph.edit import (
    Array,
    Refusal,
    attribute_int,
    attribute_ints,
    attribute_string,
    can_replace,
    constant,
    input_of,
    remove,
    replace_value,
    rewrite_each,
    same_shape,
    split_constant,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: What exporters write for "to the end" of an axis whose size they do not know.
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class EliminateIdentity:
    """Remove Identity, inference Dropout, casts and reshapes to the same, arithmetic with 0 and 1, ..."""

    name: ClassVar[str] = "eliminate-identity"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        removed = rewrite_each(module.graph, ctx, _RULES.keys(), _eliminate)
        return PassResult(removed > 0, stats={"removed": removed})


def _eliminate(node: ir.Node) -> bool:
    source = _RULES[node.op_type](node)
    output = node.outputs[0]
    if source is None or any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
        return False
    if source.dtype != output.dtype and None not in (source.dtype, output.dtype):
        return False
    if not can_replace(output, source):
        raise Refusal(f"computes nothing, but stands between '{source.name}' and the output '{output.name}'")
    replace_value(output, source)
    remove(node)
    return True


def _always(node: ir.Node) -> ir.Value | None:
    return node.inputs[0]


def _single_input(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _single_output(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.outputs) == 1 else None


def _dropout(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if training_mode(node) is False else None


def _cast(node: ir.Node) -> ir.Value | None:
    value = node.inputs[0]
    return value if value is not None and value.dtype == attribute_int(node, "to", 0) else None


def _same_shape(node: ir.Node) -> ir.Value | None:
    """Operators that keep the elements and their order: equal shapes make them the identity."""
    value = node.inputs[0]
    return value if value is not None and same_shape(value, node.outputs[0]) else None


def _transpose(node: ir.Node) -> ir.Value | None:
    perm = attribute_ints(node, "perm")
    return node.inputs[0] if perm is not None and perm == tuple(range(len(perm))) else None


def _pad(node: ir.Node) -> ir.Value | None:
    pads = constant(input_of(node, 1))
    return node.inputs[0] if pads is not None and not pads.any() else None


def _tile(node: ir.Node) -> ir.Value | None:
    repeats = constant(input_of(node, 1))
    return node.inputs[0] if repeats is not None and (repeats == 1).all() else None


def _slice(node: ir.Node) -> ir.Value | None:
    """All elements in order: every step goes forward, and the shape stays or nothing is cut."""
    steps = input_of(node, 4)
    if steps is not None:
        array = constant(steps)
        if array is None or not (array == 1).all():
            return None
    return node.inputs[0] if _cuts_nothing(node) else _same_shape(node)


def _cuts_nothing(node: ir.Node) -> bool:
    """From 0 to the end of every axis; open ones are cut at the largest int32 or beyond."""
    value, axes_value = node.inputs[0], input_of(node, 3)
    starts, ends, axes = constant(input_of(node, 1)), constant(input_of(node, 2)), constant(axes_value)
    if value is None or value.shape is None or starts is None or ends is None or starts.any():
        return False
    if axes is None and axes_value is not None:
        return False
    rank = value.shape.rank()
    places = range(ends.size) if axes is None else [int(axis) for axis in axes.reshape(-1)]
    if len(places) != ends.size or any(not -rank <= axis < rank for axis in places):
        return False  # shape inference will refuse it
    sizes = [value.shape[axis] for axis in places]
    bounds = [size if isinstance(size, int) else _LARGEST for size in sizes]
    return bool((ends.reshape(-1) >= bounds).all())


def _clip(node: ir.Node) -> ir.Value | None:
    bounds = (input_of(node, 1), input_of(node, 2))
    no_attributes = not {"min", "max"} & node.attributes.keys()
    return node.inputs[0] if bounds == (None, None) and no_attributes else None


def _pool(node: ir.Node) -> ir.Value | None:
    """A window of one element at every position."""
    kernel = attribute_ints(node, "kernel_shape") or ()
    strides = attribute_ints(node, "strides") or ()
    pads = attribute_ints(node, "pads") or ()
    if {*kernel, *strides} != {1} or any(pads) or attribute_string(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    return node.inputs[0]


def _commutative(neutral: float) -> Callable[[ir.Node], ir.Value | None]:
    """``x + 0``, ``1 * x``: either operand may be the neutral one."""

    def rule(node: ir.Node) -> ir.Value | None:
        found = split_constant(node)
        return _if_neutral(node, found[0], neutral, found[1]) if found else None

    return rule


def _right(neutral: float) -> Callable[[ir.Node], ir.Value | None]:
    """``x - 0``, ``x / 1``: only the right operand."""

    def rule(node: ir.Node) -> ir.Value | None:
        array = constant(node.inputs[1])
        return None if array is None else _if_neutral(node, node.inputs[0], neutral, array)

    return rule


def _if_neutral(node: ir.Node, value: ir.Value | None, neutral: float, array: Array) -> ir.Value | None:
    # Broadcasting against the constant may have widened the shape.
    if value is None or not same_shape(value, node.outputs[0]):
        return None
    return value if bool((array == neutral).all()) else None


_RULES: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Add": _commutative(0),
    "AveragePool": _pool,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _single_input,
    "Div": _right(1),
    "Dropout": _dropout,
    "Expand": _same_shape,
    "Flatten": _same_shape,
    "Identity": _always,
    "Max": _single_input,
    "MaxPool": _pool,
    "Mean": _single_input,
    "Min": _single_input,
    "Mul": _commutative(1),
    "Pad": _pad,
    "Pow": _right(1),
    "ReduceMax": _same_shape,
    "ReduceMean": _same_shape,
    "ReduceMin": _same_shape,
    "ReduceSum": _same_shape,
    "Reshape": _same_shape,
    "Slice": _slice,
    "Split": _single_output,
    "Squeeze": _same_shape,
    "Sub": _right(0),
    "Sum": _single_input,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _same_shape,
}

"""Transposes in a row are one Transpose, and elementwise operators between them do not mind.

    transpose(transpose(x, p), q) = transpose(x, p[q])
    f(transpose(x, p))            = transpose(f(x), p)                    f elementwise
    f(transpose(x, p), transpose(y, p)) = transpose(f(x, y), p)

The second and third are used when they let a Transpose meet another one, or save one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from irshrink.graph.edit import (
    attribute_ints,
    base_name,
    become,
    can_replace,
    constant,
    fresh_node_name,
    insert_before,
    is_op,
    remove,
    replace_value,
    rewrite_each,
    same_shape,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

_UNARY = frozenset(
    {
        *("Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
        *("LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign"),
        *("Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
    }
)
_BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Sub"})


@dataclass(frozen=True)
class FuseTransposes:
    """Fuse consecutive Transposes, also through elementwise operators."""

    name: ClassVar[str] = "fuse-transposes"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        sunk = rewrite_each(module.graph, ctx, _UNARY | _BINARY, _sink)
        fused = rewrite_each(module.graph, ctx, {"Transpose"}, _fuse)
        return PassResult(sunk + fused > 0, stats={"fused": fused, "moved": sunk})


def _fuse(node: ir.Node) -> bool:
    """``transpose(transpose(x, p), q)``; the identity disappears."""
    middle, second = node.inputs[0], attribute_ints(node, "perm")
    first = None if middle is None else middle.producer()
    perm = None if first is None or not is_op(first, "Transpose") else attribute_ints(first, "perm")
    if middle is None or first is None or perm is None or second is None:
        return False
    source, output = first.inputs[0], node.outputs[0]
    fused = tuple(perm[axis] for axis in second)
    if source is not None and fused == tuple(range(len(fused))) and can_replace(output, source):
        replace_value(output, source)
        remove(node)
    else:
        node.replace_input_with(0, source)
        node.attributes.add(ir.AttrInt64s("perm", fused))
    if not middle.uses() and not middle.is_graph_output():
        remove(first)
    return True


def _sink(node: ir.Node) -> bool:
    """Move the Transposes before an elementwise node behind it, where another Transpose waits."""
    if node.op_type in _BINARY and len(node.inputs) != 2:
        return False
    moved = [v for v in node.inputs if v is not None and _perm(v) is not None]
    perms = {_perm(v) for v in moved}
    if len(perms) != 1 or any(len({use.node for use in v.uses()}) != 1 or v.is_graph_output() for v in moved):
        return False
    if len(moved) < 2 and not _all_transposes(node.outputs[0]):
        return False
    for value in node.inputs:
        if value is not None and value not in moved and not _is_scalar(value):
            return False
    if len(moved) == 2 and not same_shape(moved[0], moved[1]):
        return False
    _move_behind(node, perms.pop() or ())
    return True


def _move_behind(node: ir.Node, perm: tuple[int, ...]) -> None:
    """``f(transpose(x))`` becomes ``transpose(f(x))``; ``f``'s node is made anew in front of itself."""
    graph = node.graph
    assert graph is not None, "the node was removed before"
    transposes = dict.fromkeys(v.producer() for v in node.inputs if v is not None and _perm(v) is not None)
    inputs = [_untransposed(value) for value in node.inputs]
    attributes = {name: a.value for name, a in node.attributes.items()}
    copy = insert_before(node, node.op_type, inputs, attributes)
    copy.outputs[0].shape = next(v.shape for v in inputs if v is not None and not _is_scalar(v))
    copy.name, node.name = node.name, fresh_node_name(graph, f"{base_name(node)}_transpose")
    become(node, "Transpose", [copy.outputs[0]], {"perm": perm})
    for transpose in transposes:
        if transpose is not None:
            remove(transpose)


def _untransposed(value: ir.Value | None) -> ir.Value | None:
    """What the Transpose that makes ``value`` reads; ``value`` itself when there is none."""
    producer = None if value is None or _perm(value) is None else value.producer()
    return value if producer is None else producer.inputs[0]


def _perm(value: ir.Value) -> tuple[int, ...] | None:
    """The permutation of the Transpose that makes ``value``."""
    producer = value.producer()
    return attribute_ints(producer, "perm") if producer is not None and is_op(producer, "Transpose") else None


def _all_transposes(value: ir.Value) -> bool:
    uses = tuple(value.uses())
    return bool(uses) and not value.is_graph_output() and all(is_op(use.node, "Transpose") for use in uses)


def _is_scalar(value: ir.Value) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and array.ndim <= 1

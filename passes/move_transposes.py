"""Transposes move behind the operators that do not mind the order of axes, where fewer are left then.

    f(transpose(x, p)) = transpose(g(x), q)                see irshrink/graph/permuted.py
    reshape(transpose(x, p)) = reshape(x)                  when only axes of size 1 move

Graphs of channels-last frameworks have a Transpose on either side of every convolution, with QDQ nodes,
activations, additions and pads between them. Each stretch of operators through which Transposes can be
carried is weighed by itself: how many Transposes are in it, and how many of its values are read by an
operator that needs the order they had. It is rewritten when the second number is smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Array,
    Names,
    add_constant,
    attribute_ints,
    base_name,
    become,
    constant,
    input_of,
    is_op,
    rank,
    remove,
    static_shape,
)
from irshrink.graph.permuted import (
    Dequantized,
    Operand,
    Permutation,
    Permuted,
    composed,
    moves_nothing,
    permuted,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class MoveTransposes:
    """Move Transposes through QDQ, elementwise, Pad, Concat and Reduce nodes until they cancel."""

    name: ClassVar[str] = "move-transposes"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        plan = _plan(module.graph)
        moves = [move for move in plan.moves if plan.gains(move.node.outputs[0])]
        before = _count(module.graph)
        if moves:
            _Rewriter(module.graph, plan).rewrite(moves)
        return PassResult(bool(moves), stats={"removed": before - _count(module.graph)})


@dataclass(frozen=True)
class _Move:
    """A node whose output is ``transpose(g(...), permutation)``; ``form`` is None for Transposes."""

    node: ir.Node
    form: Permuted | None
    permutation: Permutation


@dataclass
class _Plan:
    """What could be moved.

    Attributes:
        moves: in the order of the graph.
        permutations: of every value that would come transposed.
    """

    moves: list[_Move] = field(default_factory=list)
    permutations: dict[ir.Value, Permutation] = field(default_factory=dict)
    _parents: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _balance: dict[ir.Value, int] = field(default_factory=dict)

    def add(self, move: _Move, sources: tuple[ir.Value, ...]) -> None:
        output = move.node.outputs[0]
        self.moves.append(move)
        self.permutations[output] = move.permutation
        self._parents[output] = output
        for source in sources:
            if source in self._parents:
                self._parents[self._root(source)] = self._root(output)

    def weigh(self) -> None:
        """Transposes left less Transposes now, by stretch."""
        for move in self.moves:
            root = self._root(move.node.outputs[0])
            left = int(self.needs_order(move.node.outputs[0]))
            self._balance[root] = self._balance.get(root, 0) + left - int(move.form is None)

    def gains(self, value: ir.Value) -> bool:
        """Whether the stretch that ``value`` is in gets fewer Transposes."""
        return self._balance[self._root(value)] < 0

    def needs_order(self, value: ir.Value) -> bool:
        """Whether someone reads ``value`` who needs its axes as they are."""
        permutation = self.permutations[value]
        if value.is_graph_output():
            return True
        if permutation == tuple(range(len(permutation))):
            return False
        return any(not self.takes_any_order(use.node, value) for use in value.uses())

    def takes_any_order(self, reader: ir.Node, value: ir.Value) -> bool:
        return any(output in self.permutations for output in reader.outputs) or self.reshapes(reader, value)

    def reshapes(self, reader: ir.Node, value: ir.Value) -> bool:
        """Whether ``reader`` is a Reshape to which the Transpose of ``value`` makes no difference."""
        shape = static_shape(value)
        sizes = constant(input_of(reader, 1)) if is_op(reader, "Reshape") else None
        if shape is None or sizes is None or reader.inputs[0] is not value or 0 in sizes:
            return False
        return moves_nothing(self.permutations[value], shape)

    def _root(self, value: ir.Value) -> ir.Value:
        while self._parents[value] is not value:
            self._parents[value] = self._parents[self._parents[value]]
            value = self._parents[value]
        return value


def _plan(graph: ir.Graph) -> _Plan:
    plan = _Plan()
    for node in graph:
        source = input_of(node, 0)
        if is_op(node, "Transpose") and source is not None:
            size = rank(source)
            perm = attribute_ints(node, "perm")
            if size is None or (constant(source) is not None):
                continue
            perm = perm or tuple(reversed(range(size)))
            if sorted(perm) != list(range(size)):
                continue
            before = plan.permutations.get(source, tuple(range(size)))
            plan.add(_Move(node, None, composed(before, perm)), (source,))
            continue
        form = permuted(node, plan.permutations)
        if form is not None:
            plan.add(_Move(node, form, form.permutation), form.data)
    plan.weigh()
    return plan


class _Rewriter:
    """Makes the nodes of a plan.

    Attributes:
        plain: by value of the old graph, the new one that it is a Transpose of.
    """

    def __init__(self, graph: ir.Graph, plan: _Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.names = Names(graph)
        self.plain: dict[ir.Value, ir.Value] = {}

    def rewrite(self, moves: list[_Move]) -> None:
        for move in moves:
            output = move.node.outputs[0]
            if move.form is None:
                source = move.node.inputs[0]
                assert source is not None, "a Transpose has an input"
                self.plain[output] = self.plain.get(source, source)
            else:
                self.plain[output] = self._made(move.node, move.form)
        for move in moves:
            self._connect(move.node.outputs[0])
        for move in reversed(moves):
            self._retire(move)

    def _made(self, node: ir.Node, form: Permuted) -> ir.Value:
        """``g``, in front of ``f``."""
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        new = ir.node(
            node.op_type,
            [self._operand(node, operand) for operand in form.inputs],
            {**attributes, **form.attributes},
            name=self.names.node(f"{base_name(node)}_moved"),
        )
        new.metadata_props.update(node.metadata_props)
        self.graph.insert_before(node, new)
        old, made = node.outputs[0], new.outputs[0]
        made.name, made.type = self.names.value(f"{old.name}_moved"), old.type
        if old.shape is not None:
            inverse = [form.permutation.index(axis) for axis in range(len(form.permutation))]
            made.shape = ir.Shape([old.shape[axis] for axis in inverse])
        return made

    def _operand(self, node: ir.Node, operand: Operand) -> ir.Value | None:
        if isinstance(operand, Dequantized):
            return self._dequantized(node, operand)
        if isinstance(operand, np.ndarray):
            return self._constant(operand, f"{base_name(node)}_constant")
        return operand if operand is None else self.plain.get(operand, operand)

    def _dequantized(self, node: ir.Node, operand: Dequantized) -> ir.Value:
        source = operand.node
        attributes = {name: attribute.value for name, attribute in source.attributes.items()}
        if operand.axis is not None:
            attributes["axis"] = operand.axis
        codes = self._constant(operand.integers, f"{base_name(node)}_constant")
        new = ir.node(
            "DequantizeLinear",
            [codes, *source.inputs[1:]],
            attributes,
            name=self.names.node(f"{base_name(source)}_moved"),
        )
        made, old = new.outputs[0], source.outputs[0]
        made.name, made.type = self.names.value(f"{old.name}_moved"), old.type
        made.shape = ir.Shape(operand.integers.shape)
        self.graph.insert_before(node, new)
        return made

    def _constant(self, array: Array, name: str) -> ir.Value:
        return add_constant(self.graph, array, name, self.names)

    def _connect(self, value: ir.Value) -> None:
        """Readers that take any order read the plain value."""
        plain = self.plain[value]
        permutation = self.plan.permutations[value]
        for use in tuple(value.uses()):
            if permutation == tuple(range(len(permutation))) or self.plan.reshapes(use.node, value):
                use.node.replace_input_with(use.idx, plain)

    def _retire(self, move: _Move) -> None:
        """The old node goes, or becomes the Transpose that is left; the new one takes its name."""
        node, output = move.node, move.node.outputs[0]
        plain, name, label = self.plain[output], output.name, node.name
        if output.uses() or output.is_graph_output():
            identity = move.permutation == tuple(range(len(move.permutation)))
            kind, attributes = ("Identity", {}) if identity else ("Transpose", {"perm": move.permutation})
            become(node, kind, [plain], attributes)
            if move.form is not None:
                node.name = self.names.node(f"{base_name(node)}_transpose")
                self._rename(plain, label, None)
            return
        remove(node)
        if move.form is not None:
            self._rename(plain, label, name)

    def _rename(self, made: ir.Value, label: str | None, name: str | None) -> None:
        producer = made.producer()
        assert producer is not None, "a moved node made it"
        producer.name = label
        made.name = name or made.name


def _count(graph: ir.Graph) -> int:
    return sum(1 for _ in _transposes(graph))


def _transposes(graph: ir.Graph) -> Iterator[ir.Node]:
    return (node for node in graph if is_op(node, "Transpose"))

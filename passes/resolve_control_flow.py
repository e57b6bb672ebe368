"""If and Loop whose conditions are constant are plain nodes.

    If(true) <then, else>                       the nodes of the branch taken
    Loop(n, true, v0) <body>, condition true    body(0, v0), body(1, v1), ..., body(n - 1, ...)

Exporters write them for what was a Python ``if`` or ``for``. A result that a Loop collects over its turns is
a Concat of what the turns make. Nested ones resolve from the outside in, with constants folded between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Array,
    Names,
    Refusal,
    add_constant,
    attribute_graph,
    base_name,
    can_replace,
    describe,
    inner_graphs,
    input_of,
    insert_before,
    is_op,
    remove,
    replace_value,
    scalar,
    static_shape,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class ResolveControlFlow:
    """Inline the branch that an If takes, and unroll a Loop with a constant number of turns.

    Attributes:
        max_nodes: a Loop that would become more nodes stays.
    """

    max_nodes: int = 2000

    name: ClassVar[str] = "resolve-control-flow"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        resolved = {"If": 0, "Loop": 0}
        while found := self._resolve_each(module, ctx):  # what was inside of one may be constant now
            for op_type in found:
                resolved[op_type] += 1
        stats = {"branches": resolved["If"], "loops": resolved["Loop"]}
        return PassResult(any(stats.values()), stats=stats)

    def _resolve_each(self, module: Module, ctx: Context) -> list[str]:
        """Resolve what can be resolved as it stands; returns the operators that were."""
        found = []
        for graph in tuple(module.model.graphs()):
            for node in tuple(graph):
                if node.graph is not graph or not is_op(node, "If", "Loop"):
                    continue
                try:
                    inline = _inline if node.op_type == "If" else self._unroll
                    results = inline(node, module.graph)
                except Refusal as reason:
                    ctx.note(f"{describe(node)}: {reason}")
                    continue
                if results is not None:
                    _take_place(node, results)
                    found.append(node.op_type)
        return found

    def _unroll(self, node: ir.Node, root: ir.Graph) -> list[ir.Value]:
        body = attribute_graph(node, "body")
        turns, size = _turns(node, body), len(list(body.all_nodes()))
        if turns * size > self.max_nodes:
            raise Refusal(
                f"its {turns} turns would be {turns * size} nodes, more than {self.max_nodes} (max_nodes)"
            )
        carried = [value for value in node.inputs[2:] if value is not None]
        made = body.outputs[1 + len(carried) :]
        if turns == 0:
            return [*carried, *(_empty(node, value, Names(root)) for value in made)]
        body = _detached(node, "body")
        names = Names(root)
        go_on = _constant(node, np.array(True), "condition", names)
        collected: list[list[ir.Value]] = [[] for _ in made]
        for turn in range(turns):
            index = _constant(node, np.array(turn, np.int64), f"turn_{turn}", names)
            copy = body.clone(allow_outer_scope_values=True)
            results = _splice(copy, node, [index, go_on, *carried], names)[1:]
            carried = results[: len(carried)]
            for values, value in zip(collected, results[len(carried) :], strict=True):
                values.append(value)
        _discard(body)
        return [*carried, *(_stacked(node, values, names) for values in collected)]


def _inline(node: ir.Node, root: ir.Graph) -> list[ir.Value] | None:
    condition = scalar(node.inputs[0])
    if condition is None:
        return None
    branch = _detached(node, "then_branch" if condition else "else_branch")
    return _splice(branch, node, [], Names(root))


def _detached(node: ir.Node, name: str) -> ir.Graph:
    """A graph of ``node``, whose names are free from now on; its other graphs are gone."""
    wanted = attribute_graph(node, name)
    for inner in inner_graphs(node):
        if inner is not wanted:
            _discard(inner)
    node.attributes.clear()
    return wanted


def _turns(node: ir.Node, body: ir.Graph) -> int:
    """How often the body runs.

    Raises:
        Refusal: it depends on the inputs of the model.
    """
    limit, start = input_of(node, 0), input_of(node, 1)
    first = 1.0 if start is None else scalar(start)
    if first is None:
        raise Refusal("whether it starts depends on the inputs of the model")
    if not first:
        return 0
    condition = _behind_identities(body.outputs[0])
    again = 1.0 if condition is body.inputs[1] else scalar(condition)
    if again is None:
        raise Refusal("whether it goes on depends on what it computes")
    count = None if limit is None else scalar(limit)
    if limit is not None and count is None:
        raise Refusal("its number of turns depends on the inputs of the model")
    if count is None:
        if again:
            raise Refusal("it never ends")
        return 1
    return max(int(count), 0) if again else min(max(int(count), 0), 1)


def _behind_identities(value: ir.Value) -> ir.Value:
    producer = value.producer()
    while producer is not None and is_op(producer, "Identity") and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value


def _splice(body: ir.Graph, anchor: ir.Node, inputs: Sequence[ir.Value], names: Names) -> list[ir.Value]:
    """Move the nodes of ``body`` in front of ``anchor``; returns its outputs, ``body`` is empty then."""
    graph = anchor.graph
    assert graph is not None
    for parameter, value in zip(body.inputs, inputs, strict=True):
        parameter.replace_all_uses_with(value, replace_graph_outputs=True)
    outputs = list(body.outputs)
    body.outputs.clear()
    for value in tuple(body.initializers.values()):
        del body.initializers[str(value.name)]
        value.name = names.value(str(value.name))
        graph.register_initializer(value)
    nodes = list(body)
    for node in nodes:
        node.name = names.node(node.name) if node.name else node.name
        for value in node.outputs:
            value.name = names.value(value.name) if value.name else value.name
    body.remove(nodes)
    graph.insert_before(anchor, nodes)
    return outputs


def _take_place(node: ir.Node, results: Sequence[ir.Value]) -> None:
    for old, new in zip(node.outputs, results, strict=True):
        producer = new.producer()
        is_own = producer is not None and producer.graph is node.graph
        if can_replace(old, new) and (is_own or not old.is_graph_output()):
            replace_value(old, new)
            continue
        copy = insert_before(node, "Identity", [new]).outputs[0]
        copy.type, copy.shape = new.type, new.shape
        replace_value(old, copy)
    for inner in inner_graphs(node):
        _discard(inner)
    remove(node)


def _discard(graph: ir.Graph) -> None:
    """Take the nodes of a graph that nobody runs off the list of readers of what is outside."""
    for node in graph:
        for inner in inner_graphs(node):
            _discard(inner)
    graph.outputs.clear()
    graph.remove(list(graph), safe=True)


def _stacked(node: ir.Node, values: Sequence[ir.Value], names: Names) -> ir.Value:
    """What all turns made of one result, along a new first axis."""
    axes = _constant(node, np.array([0], np.int64), "axes", names)
    rows = [insert_before(node, "Unsqueeze", [value, axes], names=names).outputs[0] for value in values]
    result = insert_before(node, "Concat", rows, {"axis": 0}, names).outputs[0]
    shape = values[0].shape
    for value in (*rows, result):
        value.type = values[0].type
    if shape is not None:
        result.shape = ir.Shape([len(values), *shape])
    return result


def _empty(node: ir.Node, made: ir.Value, names: Names) -> ir.Value:
    """A result that no turn added to; ``made`` is what the body would add."""
    shape = static_shape(made)
    if made.dtype is None or shape is None:
        raise Refusal("it has no turn, and the shape of its empty result is not known")
    return _constant(node, np.zeros((0, *shape), made.dtype.numpy()), "empty", names)


def _constant(node: ir.Node, array: Array, what: str, names: Names) -> ir.Value:
    assert node.graph is not None
    return add_constant(node.graph, array, f"{base_name(node)}_{what}", names)

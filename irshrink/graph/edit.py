"""What graph rewrites have in common: reading constants, asking who reads a value, changing nodes.

Rules that every function here keeps:

- arrays are replaced, never written into: a clone of a module shares them;
- the names and the order of the graph's inputs and outputs stay;
- a constant that loses its last reader leaves the graph with the node that read it.

A rewrite that matched but must not be done raises :class:`Refusal`; :func:`rewrite_each` turns it into a
note for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

if TYPE_CHECKING:
    from irshrink.pipeline import Context


Array = npt.NDArray[Any]

#: Under this key of a node's ``meta`` a quantizer leaves why the node stays float, half a sentence.
WHY_FLOAT = "irshrink.why_float"

#: Two spellings of the same operator set.
ONNX_DOMAINS = frozenset({"", "ai.onnx"})


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Why a rewrite that matched is not done: half a sentence that follows the node's name."""


def rewrite_each(
    graph: ir.Graph, ctx: Context, op_types: Collection[str], rule: Callable[[ir.Node], bool]
) -> int:
    """Apply ``rule`` to every ONNX node of the given types, in order; refusals become notes.

    Nodes that an earlier application removed are passed over.

    Returns:
        How many nodes ``rule`` changed.
    """
    count = 0
    for node in tuple(graph):
        if node.graph is not graph or not is_op(node, *op_types):
            continue
        try:
            count += rule(node)
        except Refusal as reason:
            ctx.note(f"{describe(node)}: {reason}")
    return count


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether ``node`` is one of these operators of the ONNX domain."""
    return node is not None and node.domain in ONNX_DOMAINS and node.op_type in op_types


def describe(node: ir.Node) -> str:
    """``Conv 'features.0'``: a node as messages name it; unnamed nodes go by their first output."""
    return f"{node.op_type} '{base_name(node)}'"


def base_name(node: ir.Node) -> str:
    """The name of a node, or of its first output when it has none; what new constants are named after."""
    return node.name or next((v.name for v in node.outputs if v.name), "")


def opset(graph: ir.Graph) -> int:
    """Version of the ONNX operator set that the graph uses."""
    imports = graph.opset_imports
    return imports.get("", imports.get("ai.onnx", 0))


def constant(value: ir.Value | None) -> Array | None:
    """The array of an initializer or of a ``Constant`` node; None for everything that can vary.

    An initializer that is also an input of the graph is a default that the caller may override.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Whether :func:`constant` has an array for it; nothing is read."""
    if value is None or value.is_graph_input():
        return False
    return ir.convenience.get_const_tensor(value) is not None


def scalar(value: ir.Value | None) -> float | None:
    """The number of a constant with one element, whatever its rank."""
    array = constant(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf":
        return None
    return float(array.reshape(()))


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Input ``index``, None when it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def split_constant(node: ir.Node) -> tuple[ir.Value, Array, int] | None:
    """The varying input, the constant one and the index of the varying one, of a binary operator."""
    for index in (0, 1):
        varying, fixed = node.inputs[index], constant(node.inputs[1 - index])
        if varying is not None and fixed is not None and constant(varying) is None:
            return varying, fixed, index
    return None


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape when every dimension is a known number."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return value.shape.numpy()


def same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values surely have the same shape; equal symbols count, unknown dimensions do not."""
    if a.shape is None or b.shape is None or a.shape.rank() != b.shape.rank():
        return False
    if a.shape.has_unknown_dim() or b.shape.has_unknown_dim():
        return False
    return all(x == y for x, y in zip(a.shape, b.shape, strict=True))


def rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else value.shape.rank()


def attribute_int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def attribute_type(node: ir.Node, name: str) -> ir.DataType:
    """An attribute that is the number of an element type; UNDEFINED where there is none, or no such type."""
    code = attribute_int(node, name, 0)
    return next((kind for kind in ir.DataType if int(kind) == code), ir.DataType.UNDEFINED)


def attribute_ints(node: ir.Node, name: str) -> tuple[int, ...] | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_ints())


def attribute_float(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def attribute_string(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def attribute_graph(node: ir.Node, name: str) -> ir.Graph:
    """A graph that the operator requires: the branch of an If, the body of a Loop."""
    return node.attributes[name].as_graph()


def inner_graphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a node holds: branches of If, bodies of Loop and Scan."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def why_not_private(value: ir.Value, reader: ir.Node) -> str | None:
    """Why ``value`` cannot be changed for the sake of ``reader`` alone, or None when it can."""
    if value.is_graph_output():
        return f"'{value.name}' is an output of the model"
    if value.is_graph_input():
        return f"'{value.name}' is an input of the model"
    others = [use.node for use in value.uses() if use.node is not reader]
    if others:
        return f"'{value.name}' is also read by {describe(others[0])}"
    return None


def require_private(value: ir.Value, reader: ir.Node) -> None:
    """
    Raises:
        Refusal: someone besides ``reader`` sees ``value``.
    """
    reason = why_not_private(value, reader)
    if reason is not None:
        raise Refusal(reason)


def can_replace(old: ir.Value, new: ir.Value) -> bool:
    """Whether readers of ``old`` can read ``new`` and the model's signature stays.

    An output of the model must keep its name, which an input, a constant or another output cannot take.
    """
    if not old.is_graph_output():
        return True
    return not (new.is_graph_input() or new.is_initializer() or new.is_graph_output())


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Make all readers of ``old`` read ``new``, which takes the name if ``old`` is an output of the model.

    Call :func:`can_replace` first; remove the producer of ``old`` afterwards.
    """
    if old.is_graph_output() or new.shape is None:
        new.shape = old.shape
    if new.type is None:
        new.type = old.type
    takes_name = old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if takes_name:
        name, old.name = old.name, None
        new.name = name


def remove(node: ir.Node) -> None:
    """Remove a node that nobody reads, and the constants that only it read."""
    graph = node.graph
    assert graph is not None, "the node was removed before"
    inputs = tuple(node.inputs)
    graph.remove(node, safe=True)
    _drop_unread(inputs)


def become(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Turn ``node`` into another operator in place: name, outputs and position stay."""
    before = tuple(node.inputs)
    node.op_type, node.domain = op_type, ""
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    node.attributes.clear()
    for attribute in ir.convenience.convert_attributes(dict(attributes or {})):
        node.attributes.add(attribute)
    _drop_unread(before)


def insert_before(
    anchor: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    names: Names | None = None,
) -> ir.Node:
    """A new node with one output, named after ``anchor``."""
    graph = anchor.graph
    assert graph is not None, "the anchor was removed before"
    base = f"{base_name(anchor)}_{op_type.lower()}"
    name = fresh_node_name(graph, base) if names is None else names.node(base)
    node = ir.node(op_type, inputs, dict(attributes or {}), name=name)
    node.outputs[0].name = fresh_name(graph, base) if names is None else names.value(base)
    node.outputs[0].type = anchor.outputs[0].type
    graph.insert_before(anchor, node)
    return node


def add_constant(graph: ir.Graph, array: Array, name: str, names: Names | None = None) -> ir.Value:
    """Register ``array`` as an initializer, under ``name`` or the nearest free one."""
    return register_constant(graph, array, fresh_name(graph, name) if names is None else names.value(name))


def register_constant(graph: ir.Graph, array: Array, name: str) -> ir.Value:
    """As :func:`add_constant`, under a name that is known to be free."""
    array = np.ascontiguousarray(array).reshape(array.shape)  # a 0-d array stays 0-d
    tensor = ir.tensor(array, name=name)
    kind = ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def set_constant(node: ir.Node, index: int, array: Array, name: str) -> None:
    """Give ``node`` its own constant as input ``index``.

    The constant that was there keeps serving its other readers; when there are none the new one takes
    its name, else (or when there was none) it is called ``name``.
    """
    graph = node.graph
    assert graph is not None, "the node was removed before"
    old = input_of(node, index)
    if old is not None:
        node.replace_input_with(index, None)
        _drop_unread((old,))
        if old.graph is None and old.name:
            name = old.name
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, add_constant(graph, array, name))


class Names:
    """The names that a graph has, asked once: for who adds many, and adds nothing without asking here."""

    def __init__(self, graph: ir.Graph) -> None:
        self._values = set(_value_names(graph))
        self._nodes = {node.name for node in graph.all_nodes()}

    def value(self, name: str) -> str:
        """As :func:`fresh_name`; taken from now on."""
        return _take(name, self._values)

    def node(self, name: str) -> str:
        """As :func:`fresh_node_name`; taken from now on."""
        return _take(name, self._nodes)


def fresh_name(graph: ir.Graph, name: str) -> str:
    """``name``, or ``name_1``, ``name_2``, ... when the graph or one of its subgraphs has it already."""
    return free_name(name, set(_value_names(graph)))


def fresh_node_name(graph: ir.Graph, name: str) -> str:
    """As :func:`fresh_name`, among the names of nodes: ONNX Runtime loads no two nodes of one name."""
    return free_name(name, {node.name for node in graph.all_nodes()})


def free_name(name: str, taken: Collection[str | None]) -> str:
    """``name``, or the first of ``name_1``, ``name_2``, ... that is not taken."""
    free, number = name, 0
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _take(name: str, taken: set[str | None]) -> str:
    free = free_name(name, taken)
    taken.add(free)
    return free


def _value_names(graph: ir.Graph) -> Iterator[str | None]:
    """Names of inputs, constants and results, those of subgraphs included."""
    yield from (value.name for value in graph.inputs)
    yield from graph.initializers
    for node in graph:
        yield from (value.name for value in node.outputs)
        for inner in inner_graphs(node):
            yield from _value_names(inner)


def drop_unread_constants(graph: ir.Graph) -> int:
    """Remove initializers that nobody reads; returns how many."""
    before = len(graph.initializers)
    _drop_unread(tuple(graph.initializers.values()))
    return before - len(graph.initializers)


def _drop_unread(values: Sequence[ir.Value | None]) -> None:
    for value in values:
        if value is None or value.uses() or value.is_graph_input() or value.is_graph_output():
            continue
        producer = value.producer()
        if producer is not None:
            if is_op(producer, "Constant") and producer.graph is not None:
                producer.graph.remove(producer, safe=True)
        elif value.is_initializer() and value.graph is not None and value.name:
            del value.graph.initializers[value.name]

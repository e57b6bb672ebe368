"""What is refused before any library works on a model: the file may come from anywhere.

ONNX's checker, its shape inference and ONNX Runtime are C++ and take what they are told at its word. Here
the message is read as data only: every size is computed in Python's integers before anything is allocated,
and what would recurse without end is found by walking it once.
"""

from __future__ import annotations

from math import ceil, prod
from typing import Any

import onnx_ir as ir

from irshrink.errors import ModelError

#: protobuf cannot hold a message of 2 GiB; the graph itself needs some of it.
PROTOBUF_LIMIT = 2**31 - 2**24
#: Graphs inside graphs. Exporters write two or three.
DEEPEST = 16
#: Nodes after all functions are inlined. The largest transformers have some ten thousand.
MOST_NODES = 1_000_000
#: Of one dimension, and of the elements of one value: what 32-bit indices can count.
LARGEST_DIM = 2**31 - 1

#: What NumPy takes.
LARGEST_RANK = 64

#: Which field of a TensorProto holds the numbers of a type, where it is not ``int32_data``.
_FIELDS = {
    "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data",
    "INT64": "int64_data", "UINT32": "uint64_data", "UINT64": "uint64_data", "STRING": "string_data",
}  # fmt: skip


def vet(proto: Any) -> None:
    """Refuse a ``ModelProto`` whose sizes or nesting no real model has.

    Raises:
        ModelError: half a sentence about the tensor, the value or the function that is wrong.
    """
    parts = Parts(proto)
    _require_text(proto)
    _require_types(proto.graph)
    for graph in parts.graphs:
        _vet_declarations(graph)
    for node in parts.nodes:
        _vet_node(node)
    for tensor in parts.tensors:
        _vet_tensor(tensor)
    _vet_functions(proto)


class Parts:
    """Everything in a ``ModelProto``, in one walk: of subgraphs and functions too.

    Attributes:
        graphs: the model's own comes first.
        nodes: of all graphs and functions.
        tensors: initializers and attributes, the numbers of sparse ones included.

    Raises:
        ModelError: graphs are nested deeper than any exporter does.
    """

    def __init__(self, proto: Any) -> None:
        self.graphs: list[Any] = []
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._graph(proto.graph, 0)
        for function in proto.functions:
            for node in function.node:
                self._node(node, 0)

    def _graph(self, graph: Any, depth: int) -> None:
        if depth > DEEPEST:
            raise ModelError(f"the graph '{graph.name}' is more than {DEEPEST} graphs deep")
        self.graphs.append(graph)
        self.tensors.extend(graph.initializer)
        for sparse in graph.sparse_initializer:
            self.tensors += (sparse.values, sparse.indices)
        for node in graph.node:
            self._node(node, depth)

    def _node(self, node: Any, depth: int) -> None:
        self.nodes.append(node)
        for attribute in node.attribute:
            if attribute.type in _PLAIN:
                continue  # ONNX's checker refuses what has another type's content
            if attribute.HasField("t"):
                self.tensors.append(attribute.t)
            self.tensors.extend(attribute.tensors)
            sparse = (attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()
            for one in (*sparse, *attribute.sparse_tensors):
                self.tensors += (one.values, one.indices)
            graphs = (attribute.g,) if attribute.HasField("g") else ()
            for graph in (*graphs, *attribute.graphs):
                self._graph(graph, depth + 1)


#: Types of attributes that hold no message: FLOAT, INT, STRING and lists of these.
_PLAIN = frozenset({1, 2, 3, 6, 7, 8})


def tensor_bytes(tensor: Any) -> int:
    """What the dimensions of a ``TensorProto`` say, of a type whose elements have a size."""
    bits = int(8 * ir.DataType(tensor.data_type).itemsize)
    count: int = prod(tensor.dims)
    return -(-count * bits // 8)


def _vet_declarations(graph: Any) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type
        if not kind.HasField("tensor_type"):
            continue
        sizes = [dim.dim_value for dim in kind.tensor_type.shape.dim]
        if any(size > LARGEST_DIM for size in sizes) or prod(s for s in sizes if s > 0) > LARGEST_DIM:
            raise ModelError(
                f"'{value.name}' of shape {sizes} has more than the {LARGEST_DIM:,} elements a value may have"
            )


def _require_types(graph: Any) -> None:
    for value in graph.input:
        if value.type.HasField("tensor_type") and not value.type.tensor_type.elem_type:
            raise ModelError(f"the input '{value.name}' has no element type")


def _require_text(message: Any) -> None:
    """Names are UTF-8: protobuf does not insist, what reads them later does."""
    for field, content in message.ListFields():
        many = content if field.is_repeated else (content,)
        if field.type == field.TYPE_STRING:
            wrong = next((text for text in many if not isinstance(text, str)), None)
            if wrong is not None:
                raise ModelError(f"the {field.name} {wrong!r:.60} is not UTF-8 text")
        elif field.type == field.TYPE_MESSAGE:
            for one in many:
                _require_text(one)


def _vet_node(node: Any) -> None:
    for attribute in node.attribute:
        if not attribute.type and not attribute.ref_attr_name:
            raise ModelError(f"the attribute '{attribute.name}' of '{node.name}' has no type")
        for text in (attribute.s, *attribute.strings):
            try:
                text.decode("utf-8")
            except UnicodeDecodeError as e:
                raise ModelError(
                    f"the attribute '{attribute.name}' of '{node.name}' is not UTF-8 text"
                ) from e
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.attribute) != 1:
        raise ModelError(
            f"the Constant '{(*node.output, '')[0]}' has {len(node.attribute)} attributes, not one"
        )


def _vet_tensor(tensor: Any) -> None:
    name = tensor.name or "without a name"
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError:
        kind = ir.DataType.UNDEFINED
    if kind == ir.DataType.UNDEFINED:
        raise ModelError(f"the constant '{name}' has no element type that ONNX knows ({tensor.data_type})")
    dims = list(tensor.dims)
    if len(dims) > LARGEST_RANK:
        raise ModelError(
            f"the constant '{name}' has {len(dims)} dimensions; {LARGEST_RANK} are the most here"
        )
    if any(not 0 <= dim <= LARGEST_DIM for dim in dims):
        raise ModelError(f"the constant '{name}' has the impossible shape {dims}")
    if tensor.data_location == tensor.EXTERNAL:
        return  # the file is measured
    given, needed = _lengths(tensor, kind, prod(dims))
    if given != needed:
        raise ModelError(
            f"the constant '{name}' of shape {dims} needs {needed:,} {_unit(tensor)}, not {given:,}"
        )


def _unit(tensor: Any) -> str:
    return "bytes" if tensor.HasField("raw_data") else "numbers"


def _lengths(tensor: Any, kind: ir.DataType, count: int) -> tuple[int, int]:
    """How much data a tensor holds, and how much its shape asks for, in the unit it is stored in."""
    if tensor.HasField("raw_data") and kind != ir.DataType.STRING:
        return len(tensor.raw_data), tensor_bytes(tensor)
    given = len(getattr(tensor, _FIELDS.get(kind.name, "int32_data")))
    if kind.name.startswith("COMPLEX"):
        return given, 2 * count
    if kind.name not in _FIELDS and kind.itemsize < 1:
        packed = ceil(count * kind.itemsize)
        return given, given if given in (count, packed) else packed
    return given, count


def _vet_functions(proto: Any) -> None:
    """No function calls itself, and inlining all of them ends in a graph of a sane size."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[tuple[str, str, str], int] = {}
    open_: set[tuple[str, str, str]] = set()

    def size(nodes: Any, depth: int) -> int:
        total = 0
        for node in nodes:
            total += 1 + function_size((node.domain, node.op_type, node.overload), depth)
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    total += size(graph.node, depth)
        return total

    def function_size(key: tuple[str, str, str], depth: int) -> int:
        if key not in functions:
            return 0
        if key in open_ or depth > DEEPEST:
            raise ModelError(f"the function '{key[1]}' calls itself, or functions more than {DEEPEST} deep")
        if key not in sizes:
            open_.add(key)
            sizes[key] = size(functions[key].node, depth + 1)
            open_.remove(key)
        return sizes[key]

    if max((size(proto.graph.node, 0), *(function_size(key, 0) for key in functions))) > MOST_NODES:
        raise ModelError(f"it has more than {MOST_NODES:,} nodes, its functions inlined")

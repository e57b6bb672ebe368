"""Constant folding: what does not depend on the model's inputs is computed now.

Every node is evaluated by ONNX Runtime, so a folded constant is what the original model would have
computed. Three forms count as constant: initializers, ``Constant`` nodes (which become initializers), and
``Shape`` and ``Size`` of a value whose shape is static.

A node whose result is larger than the constants it frees is not folded alone. What it feeds may be smaller:
the parts of a sliced weight are together as large as the weight. So nodes that would swell the model are
weighed once more with all constant nodes that they are connected with.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from irshrink.errors import ModelError
from irshrink.graph.edit import (
    ONNX_DOMAINS,
    Array,
    Names,
    add_constant,
    attribute_int,
    describe,
    inner_graphs,
    insert_before,
    is_constant,
    is_op,
    register_constant,
    remove,
    replace_value,
    static_shape,
)
from irshrink.isolation.evaluate import evaluate_constant
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: Not functions of their inputs, or (DequantizeLinear) the compressed form of their output.
_NEVER = frozenset(
    {
        "Bernoulli",
        "DequantizeLinear",
        "Dropout",
        "Multinomial",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


#: Nodes are evaluated together up to this many bytes of results.
_BATCH_BYTES = 1 << 24


@dataclass(frozen=True)
class FoldConstants:
    """Evaluate constant nodes.

    Attributes:
        max_growth_bytes: a result may be this much larger than the constants it frees. An Expand, Tile or
            ConstantOfShape that would swell the model is left in place, with a note.
    """

    max_growth_bytes: int = 1024

    name: ClassVar[str] = "fold-constants"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        lift = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        lifted = lift(module.model).modified
        graph = module.graph
        batch = _Batch(graph, ctx)
        for node in tuple(graph):
            results = _static_result(node)
            if results is not None:
                batch.replace([(v, r) for v, r in zip(node.outputs, results, strict=True)], [node])
            elif _is_foldable(node, batch.made):
                self._fold(node, batch)
        batch.flush()
        for group in _groups(graph):
            if self._is_worth(group, ctx):
                batch.evaluate(group)
        return PassResult(lifted or batch.folded > 0, stats={"folded": batch.folded})

    def _fold(self, node: ir.Node, batch: _Batch) -> None:
        sizes = [_bytes(output) for output in node.outputs if output.name]
        freed = sum(_freed(value, (node,)) for value in dict.fromkeys(node.inputs))
        known = [size for size in sizes if size is not None]
        if sum(known) - freed > self.max_growth_bytes:
            return
        if len(known) == len(sizes):
            batch.add(node, sum(known))
            return
        batch.flush()
        if _is_foldable(node, ()):  # what it reads may have turned out not to be
            batch.evaluate([node], limit=freed + self.max_growth_bytes)

    def _is_worth(self, group: Sequence[ir.Node], ctx: Context) -> bool:
        """Whether folding connected nodes together frees about as much as it adds."""
        sizes = [_bytes(value) for value in _read_outside(group)]
        inputs = dict.fromkeys(value for node in group for value in node.inputs if is_constant(value))
        growth = sum(size or 0 for size in sizes) - sum(_freed(value, group) for value in inputs)
        if None in sizes:
            return False
        if growth > self.max_growth_bytes:
            ctx.note(f"{describe(group[0])}: constant, but folding it would add {growth} bytes to the model")
        return growth <= self.max_growth_bytes


@dataclass
class _Batch:
    """Nodes that wait for being evaluated together: a session of ONNX Runtime costs more than they do.

    Attributes:
        made: their outputs, which are as good as constant.
    """

    graph: ir.Graph
    ctx: Context
    folded: int = 0
    made: dict[ir.Value, None] = field(default_factory=dict)
    _nodes: list[ir.Node] = field(default_factory=list)
    _bytes: int = 0

    def add(self, node: ir.Node, nbytes: int) -> None:
        self._nodes.append(node)
        self.made.update(dict.fromkeys(node.outputs))
        self._bytes += nbytes
        if self._bytes > _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        nodes = self._nodes
        self._nodes, self._bytes, self.made = [], 0, {}
        if nodes and not self.evaluate(nodes, quiet=len(nodes) > 1):
            for node in nodes:
                if _is_foldable(node, ()):
                    self.evaluate([node])

    def evaluate(self, nodes: Sequence[ir.Node], *, limit: int | None = None, quiet: bool = False) -> bool:
        """Replace nodes by what they compute; a failure is a note, unless ``quiet``."""
        wanted = _read_outside(nodes)
        try:
            results = _run(nodes, wanted) if wanted else []
        except ModelError as e:
            if not quiet:
                self.ctx.note(f"{describe(nodes[0])}: constant, but not folded: {e}")
            return False
        growth = sum(result.nbytes for result in results) - (limit or 0)
        if limit is not None and growth > 0:
            self.ctx.note(f"{describe(nodes[0])}: constant, but folding it would add {growth} bytes")
            return False
        self.replace(list(zip(wanted, results, strict=True)), nodes)
        return True

    def replace(self, results: Sequence[tuple[ir.Value, Array]], nodes: Sequence[ir.Node]) -> None:
        """Put constants in the place of values, and remove the nodes that made these."""
        for value, array in results:
            _replace_by_constant(self.graph, value, array)
        for node in reversed(nodes):
            remove(node)
        self.folded += len(nodes)


def _is_foldable(node: ir.Node, made: Collection[ir.Value]) -> bool:
    """A deterministic operator on constants alone, from tensors of numbers to tensors of numbers."""
    if node.domain not in ONNX_DOMAINS or node.op_type in _NEVER:
        return False
    if any(value is not None and value not in made and not is_constant(value) for value in node.inputs):
        return False
    if inner_graphs(node):
        return False
    outputs = [output for output in node.outputs if output.name]
    if any(not isinstance(o.type, ir.TensorType) or o.dtype == ir.DataType.STRING for o in outputs):
        return False
    return not (is_op(node, "Identity") and node.outputs[0].is_graph_output())


def _groups(graph: ir.Graph) -> Iterator[list[ir.Node]]:
    """What is left of the constant nodes, those connected by a value together, in order."""
    made: dict[ir.Value, None] = {}
    group_of: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if not _is_foldable(node, made):
            continue
        made.update(dict.fromkeys(node.outputs))
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        joined = {id(group): group for value in values if (group := group_of.get(value)) is not None}
        nodes = [*(member for group in joined.values() for member in group), node]
        for member in nodes:
            group_of.update((v, nodes) for v in (*member.inputs, *member.outputs) if v is not None)
    position = {node: index for index, node in enumerate(graph)}
    for group in {id(group): group for group in group_of.values()}.values():
        yield sorted(group, key=position.__getitem__)


def _read_outside(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """The outputs of some nodes that others read."""
    inside = set(nodes)
    values = [output for node in nodes for output in node.outputs]
    return [v for v in values if v.is_graph_output() or any(use.node not in inside for use in v.uses())]


def _bytes(value: ir.Value) -> int | None:
    """The size of a result that is known before it is computed."""
    shape = static_shape(value)
    if shape is None or value.dtype in (None, ir.DataType.STRING):
        return None
    return math.ceil(math.prod(shape) * value.dtype.itemsize)  # int4 has half a byte


def _freed(value: ir.Value | None, readers: Collection[ir.Node]) -> int:
    """Size of a constant that only ``readers`` use."""
    if value is None or value.is_graph_output() or any(use.node not in readers for use in value.uses()):
        return 0
    return _bytes(value) or 0


def _static_result(node: ir.Node) -> list[Array] | None:
    """``Shape`` and ``Size`` of a value with a static shape."""
    if not is_op(node, "Shape", "Size"):
        return None
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    if node.op_type == "Size":
        return [np.array(np.prod(shape, dtype=np.int64))]
    start, end = attribute_int(node, "start", 0), attribute_int(node, "end", len(shape))
    return [np.array(shape[start:end], dtype=np.int64)]


def _run(nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> list[Array]:
    """Evaluate nodes whose inputs are all constant: a model of their own without inputs.

    Raises:
        ModelError: ONNX Runtime cannot.
    """
    owner = nodes[0].graph
    assert owner is not None
    graph = ir.Graph([], [], nodes=[], opset_imports=dict(owner.opset_imports), name="constant")
    names, copies = Names(graph), dict[ir.Value, ir.Value]()
    for node in nodes:
        for value in node.inputs:
            tensor = None if value is None else ir.convenience.get_const_tensor(value)
            if value is not None and tensor is not None and value not in copies:
                copies[value] = add_constant(graph, tensor.numpy(), f"constant_{len(copies)}", names)
        outputs = [ir.Value(name=v.name and names.value(f"made_{v.name}"), type=v.type) for v in node.outputs]
        copies.update(zip(node.outputs, outputs, strict=True))
        inputs = [None if value is None else copies[value] for value in node.inputs]
        attributes = list(node.attributes.values())
        graph.append(ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs))
    graph.outputs.extend(copies[value] for value in wanted)
    return evaluate_constant(ir.Model(graph, ir_version=10))


def _replace_by_constant(graph: ir.Graph, output: ir.Value, array: Array) -> None:
    if output.is_graph_output():
        # An output of the model must come from a node: not every tool accepts a constant there.
        producer = output.producer()
        assert producer is not None
        value = add_constant(graph, array, f"{output.name}_constant")
        copy = insert_before(producer, "Identity", [value]).outputs[0]
        copy.type = value.type
        replace_value(output, copy)
        return
    name, output.name = output.name, None
    replace_value(output, register_constant(graph, array, str(name)))

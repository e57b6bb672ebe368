"""Weights that are stored smaller while every operator goes on computing in float: which, and where they go.

A weight becomes a constant of fewer bits and the nodes that make numbers of it again; what reads it stays as
it is. That needs all of its readers to agree, since a second copy in float would save nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.external import release_tensor
from irshrink.graph.edit import Array, Names, add_constant, attribute_int, describe, is_op
from irshrink.passes.quantize.plan import matches

#: Element types of weights, and the opset from which on DequantizeLinear makes them.
REAL = {ir.DataType.FLOAT: 13, ir.DataType.FLOAT16: 19}
#: Elements that are converted together.
_AT_ONCE = 1 << 22

#: Which inputs hold weights.
_WEIGHTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), (1,)),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), (1, 2)),
    "Gather": (0,),
}


@dataclass(frozen=True)
class Place:
    """How the weights of a node lie.

    Attributes:
        axis: counts the output channels, or what Gather picks from.
        inner: counts what one output sums over (the input channels, the numbers of a table's row);
            None where weights are not stored in blocks: recurrent layers, transposed convolutions.
    """

    axis: int
    inner: int | None


@dataclass(frozen=True)
class Choice:
    """Which constants are stored smaller.

    Attributes:
        min_elements: smaller constants stay float; they save nothing.
        keep_float: nodes whose weights stay float, by name or operator type.
    """

    min_elements: int
    keep_float: Sequence[str]

    def weights(self, graph: ir.Graph, note: Callable[[str], None]) -> dict[ir.Value, Place]:
        """The constants, in the order they are met; ``note`` gets the reason of each large one left out."""
        found: dict[ir.Value, Place] = {}
        for node in graph:
            if not is_op(node, *_WEIGHTS) or matches(node, self.keep_float):
                continue
            for index in _WEIGHTS[node.op_type]:
                value = node.inputs[index]
                if value is None or value in found or not self._is_large(value):
                    continue
                place = _place(node, value)
                reason = self._why_not(value, place)
                if reason is None:
                    found[value] = place
                else:
                    note(f"{describe(node)}: its weights '{value.name}' stay float: {reason}")
        return found

    def _is_large(self, value: ir.Value) -> bool:
        tensor = value.const_value if value.is_initializer() and not value.is_graph_input() else None
        if tensor is None or tensor.dtype not in REAL:
            return False
        return len(tensor.shape) > 1 and tensor.size >= self.min_elements

    def _why_not(self, value: ir.Value, place: Place) -> str | None:
        """All readers must be able to share one form."""
        if value.is_graph_output():
            return "they are an output of the model"
        for node, index in value.uses():
            if node.graph is not value.graph:
                return f"{describe(node)} inside of another node reads them too"
            if not is_op(node, *_WEIGHTS) or index not in _WEIGHTS[node.op_type]:
                return f"{describe(node)} reads them too"
            if matches(node, self.keep_float):
                return f"{describe(node)} reads them too, and is kept in float"
            if _place(node, value) != place:
                return f"{describe(node)} reads them too, along another axis"
        return None


def _place(node: ir.Node, value: ir.Value) -> Place:
    tensor = value.const_value
    assert tensor is not None
    rank = len(tensor.shape)
    if node.op_type == "MatMul":
        return Place(rank - 1, rank - 2)
    if node.op_type == "Gemm":
        return Place(0, 1) if attribute_int(node, "transB", 0) else Place(1, 0)
    if node.op_type == "Gather":
        axis = attribute_int(node, "axis", 0) % rank
        return Place(axis, rank - 1 if axis != rank - 1 else None)
    if node.op_type == "Conv":
        return Place(0, 1)
    return Place(1, None)  # behind the input channels, or the directions


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Of a chosen weight."""
    return tuple(int(n) for n in array_of(value).shape.numpy())


def array_of(value: ir.Value) -> ir.TensorProtocol:
    """The tensor of a chosen weight."""
    tensor = value.const_value
    assert tensor is not None, value.name
    return tensor


def chunks(tensor: ir.TensorProtocol, multiple: int = 1) -> Iterator[tuple[slice, Array]]:
    """Runs of whole rows of axis 0 in float32, some million elements each; a mapped file is let go of after.

    Args:
        multiple: how many rows must not be parted.
    """
    array = tensor.numpy()
    rows = max(1, _AT_ONCE // max(1, array.size // max(1, len(array))))
    rows = -(-rows // multiple) * multiple
    for start in range(0, len(array), rows):
        at = slice(start, start + rows)
        yield at, array[at].astype(np.float32)
    del array
    release_tensor(tensor)


class Writer:
    """Puts stored forms in the place of weights."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._names = graph, Names(graph)

    def constant(self, weight: ir.Value, suffix: str, array: Array) -> ir.Value:
        """A new constant named after a weight."""
        return add_constant(self._graph, array, f"{weight.name}_{suffix}", self._names)

    def stored(
        self,
        weight: ir.Value,
        suffix: str,
        kind: np.dtype[Any],
        shape: Sequence[int],
        make: Callable[[], Array],
    ) -> ir.Value:
        """A large constant; in the place of a weight beside the model it is made when it is asked for."""
        value = self.constant(weight, suffix, np.zeros(0, kind))
        value.shape = ir.Shape(shape)

        def tensor() -> ir.TensorProtocol:
            return ir.tensor(make(), name=value.name)

        lazy = isinstance(array_of(weight), ir.ExternalTensor)
        dtype = ir.DataType.from_numpy(kind)
        value.const_value = ir.LazyTensor(tensor, dtype, value.shape, name=value.name) if lazy else tensor()
        return value

    def node(
        self,
        weight: ir.Value,
        result: tuple[str, ir.DataType, ir.Shape],
        op_type: str,
        inputs: Sequence[ir.Value],
        **attributes: Any,
    ) -> ir.Value:
        """The ``result`` (name, type, shape) of a new node, in front of the weight's first reader."""
        suffix, dtype, shape = result
        name = self._names.node(f"{weight.name}_{op_type.lower()}")
        node = ir.node(op_type, inputs, attributes, name=name)
        value = node.outputs[0]
        value.name, value.type = self._names.value(f"{weight.name}_{suffix}"), ir.TensorType(dtype)
        value.shape = shape
        first = min((use.node for use in weight.uses()), key=list(self._graph).index)
        self._graph.insert_before(first, node)
        return value

    def replace(self, weight: ir.Value, real: ir.Value) -> None:
        """All readers of ``weight`` read ``real``; the weight is gone."""
        weight.replace_all_uses_with(real)
        del self._graph.initializers[str(weight.name)]

"""Weights stored without those that are 0: fewer bytes in the file, and in flash where kernels read them so.

What the model computes stays the same to the bit; :mod:`irshrink.passes.prune.sparse.packing` has the forms
and the operators that make the array again. ONNX's own sparse tensors save nothing here: an index takes eight
bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Names, add_constant
from irshrink.graph.opset import raise_opset
from irshrink.module import Module
from irshrink.passes.prune.sparse.packing import Bitmap, Packed, packed, packed_bytes
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]

#: Types that are stored without zeros, and the type in which ScatterND puts them back.
_TYPES = {
    ir.DataType.FLOAT: ir.DataType.FLOAT,
    ir.DataType.FLOAT16: ir.DataType.FLOAT16,
    ir.DataType.INT8: ir.DataType.INT8,
    ir.DataType.INT4: ir.DataType.INT8,
}
#: BitwiseAnd; gaps of 4 bits.
_OPSET, _NARROW_OPSET = 18, 21


@dataclass(frozen=True)
class StoreSparse:
    """Store constants of two axes or more without the numbers that are 0, where that takes fewer bytes.

    Attributes:
        min_saving: bytes that it has to save; the operators of one constant take about so many in the file.
    """

    name: ClassVar[str] = "store-sparse"
    lossy: ClassVar[bool] = False

    min_saving: int = 512

    def run(self, module: Module, ctx: Context) -> PassResult:
        graph = module.graph
        forms = {str(value.name): form for value in _constants(graph) if (form := self._form(value))}
        stats = {"constants": len(forms), "bytes_before": 0, "bytes_after": 0}
        if not forms:
            ctx.note("no constant is smaller without its zeros")
            return PassResult(False, stats=stats)
        narrow = any(not isinstance(form, Bitmap) for form in forms.values())
        raise_opset(module, _NARROW_OPSET if narrow else _OPSET)
        writer = _Writer(graph)
        for name, form in forms.items():
            value = graph.initializers[name]
            stats["bytes_before"] += _tensor(value).nbytes
            stats["bytes_after"] += packed_bytes(form, _tensor(value).dtype.bitwidth)
            writer.write(value, form)
        return PassResult(True, stats=stats)

    def _form(self, value: ir.Value) -> Packed | None:
        """How a constant is stored; None where that would not be smaller."""
        tensor = _tensor(value)
        array = tensor.numpy()
        if tensor.nbytes <= self.min_saving or array.astype(np.float32).all():
            return None
        form = packed(array, tensor.dtype.bitwidth)
        saved = tensor.nbytes - packed_bytes(form, tensor.dtype.bitwidth)
        return form if saved >= self.min_saving else None


def _constants(graph: ir.Graph) -> list[ir.Value]:
    """Weights whose readers may read the output of a node instead."""
    found = []
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in _TYPES or len(tensor.shape) < 2:
            continue
        inside = all(node.graph is graph for node, _ in value.uses())
        if inside and value.uses() and not value.is_graph_input() and not value.is_graph_output():
            found.append(value)
    return found


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None, value.name
    return value.const_value


class _Writer:
    """Puts packed constants and their operators into a graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._names = graph, Names(graph)
        self._shared: dict[str, ir.Value] = {}
        self._order = {node: index for index, node in enumerate(graph)}

    def write(self, value: ir.Value, form: Packed) -> None:
        """Replace a constant by what makes it."""
        tensor = _tensor(value)
        shape = tuple(int(n) for n in tensor.shape.numpy())
        first = min((use.node for use in value.uses()), key=self._order.__getitem__)
        name, kind, count = str(value.name), tensor.dtype, len(form.numbers)
        places = self._places(first, name, form)
        numbers = self._constant(f"{name}_numbers", form.numbers)
        wide = _TYPES[kind]
        if wide != kind:
            numbers = self._node(first, "Cast", [numbers], (wide, (count,)), to=wide)
        size = self._constant(f"{name}_size", np.array([tensor.size], np.int64))
        zero = ir.tensor(np.zeros(1, wide.numpy()))
        zeros = self._node(first, "ConstantOfShape", [size], (wide, (tensor.size,)), value=zero)
        flat = self._node(first, "ScatterND", [zeros, places, numbers], (wide, (tensor.size,)))
        wanted = self._constant(f"{name}_shape", np.array(shape, np.int64))
        made = self._node(first, "Reshape", [flat, wanted], (wide, shape))
        if wide != kind:
            made = self._node(first, "Cast", [made], (kind, shape), to=kind)
        value.replace_all_uses_with(made)
        del self._graph.initializers[name]

    def _places(self, first: ir.Node, name: str, form: Packed) -> ir.Value:
        """Where the numbers are, int64 [numbers, 1]."""
        count, long = len(form.numbers), ir.DataType.INT64
        if not isinstance(form, Bitmap):
            gaps = self._constant(f"{name}_gaps", form.gaps)
            wide = self._node(first, "Cast", [gaps], (long, (count,)), to=long)
            axis = self._common("axis_0", np.array(0, np.int64))
            summed = self._node(first, "CumSum", [wide, axis], (long, (count,)))
            column = self._common("column", np.array([-1, 1], np.int64))
            return self._node(first, "Reshape", [summed, column], (long, (count, 1)))
        size, small = form.bits.size, ir.DataType.UINT8
        bits = self._constant(f"{name}_bits", form.bits)
        each = self._common("each_bit", np.left_shift(1, np.arange(8)).astype(np.uint8))
        apart = self._node(first, "BitwiseAnd", [bits, each], (small, (size, 8)))
        there = self._node(first, "Cast", [apart], (ir.DataType.BOOL, (size, 8)), to=ir.DataType.BOOL)
        flat = self._common("flat", np.array([-1], np.int64))
        line = self._node(first, "Reshape", [there, flat], (ir.DataType.BOOL, (8 * size,)))
        found = self._node(first, "NonZero", [line], (long, (1, None)))
        return self._node(first, "Transpose", [found], (long, (None, 1)))

    def _constant(self, name: str, array: Array) -> ir.Value:
        return add_constant(self._graph, array, name, self._names)

    def _common(self, name: str, array: Array) -> ir.Value:
        """A constant that all share."""
        if name not in self._shared:
            self._shared[name] = self._constant(name, array)
        return self._shared[name]

    def _node(
        self,
        first: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value],
        made: tuple[ir.DataType, Sequence[int | None]],
        **attributes: Any,
    ) -> ir.Value:
        """The output, of this type and shape, of a new node in front of ``first``."""
        name = self._names.node("unpacked")
        node = ir.node(op_type, inputs, attributes, name=name)
        value = node.outputs[0]
        value.name, value.type = self._names.value("unpacked"), ir.TensorType(made[0])
        value.shape = ir.Shape(made[1])
        self._graph.insert_before(first, node)
        return value

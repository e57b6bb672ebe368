"""The ONNX graph under construction: a value for each TFLite tensor, QDQ pairs around quantized ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from irshrink.frontends.tflite.flatbuffer import Array, Graph, Quantization, Tensor

OPSET = 20
IR_VERSION = 9

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)

#: Stored integers with a scale stand for real numbers.
_CODES = ("int8", "uint8", "int16", "uint16", "int32")


class GraphWriter:
    """Nodes, initializers and the ONNX names of TFLite tensors.

    Attributes:
        layer: name of the operator that is being translated; nodes are called ``layer`` or ``layer/part``.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layer = ""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._values: dict[int, str] = {}  # real numbers, or plain integers
        self._stored: dict[int, str] = {}  # the integers of quantized tensors
        self._taken: set[str] = set()
        self._node_names: set[str] = set()
        self._scales: dict[int, tuple[str, str]] = {}
        self._ports = {
            index: self._name(self.tensor(index).name or f"port_{index}") for index in _ports(graph)
        }
        for index in graph.inputs:
            known = self._stored if self.is_quantized(index) else self._values
            known[index] = self._ports[index]

    def tensor(self, index: int) -> Tensor:
        if index < 0:
            raise IndexError("an input that is left out")
        return self.graph.tensors[index]

    def is_quantized(self, index: int) -> bool:
        tensor = self.tensor(index)
        return tensor.quantization is not None and tensor.dtype in _CODES

    def shape(self, index: int) -> tuple[int, ...]:
        return self.tensor(index).shape

    def integers(self, index: int) -> list[int]:
        """A constant tensor of integers: axes, sizes, pads.

        Raises:
            ValueError: it is computed at run time.
        """
        data = self.tensor(index).data
        if data is None or data.dtype.kind not in "iu":
            raise ValueError(f"its input '{self.tensor(index).name}' is not a constant of integers")
        return [int(number) for number in data.reshape(-1)]

    def real(self, index: int) -> str:
        """The numbers that a tensor stands for: float32, or plain integers where it has no scale."""
        if index not in self._values:
            tensor = self.tensor(index)
            if index in self._stored:
                self._values[index] = self._dequantize(self._stored[index], index, tensor.quantization)
            elif tensor.data is not None:
                self._values[index] = self.weights(index, tuple(range(tensor.data.ndim)))
            else:
                raise ValueError(f"nothing computes its input '{tensor.name}'")
        return self._values[index]

    def weights(self, index: int, permutation: Sequence[int]) -> str:
        """A tensor with its axes in another order: constants are stored so, others get a Transpose."""
        tensor = self.tensor(index)
        if tensor.data is None:
            return self.transposed(self.real(index), permutation)
        data = np.ascontiguousarray(tensor.data.transpose(permutation)).reshape(
            [tensor.data.shape[axis] for axis in permutation]
        )
        if data.dtype in (np.float16, np.float64):
            data = data.astype(np.float32)
        hint = tensor.name or f"{self.layer}/constant"
        quantization = tensor.quantization
        if quantization is None or not self.is_quantized(index):
            return self.constant(data, hint)
        axis = permutation.index(quantization.axis) if quantization.scale.size > 1 else 0
        moved = Quantization(quantization.scale, quantization.zero_point, axis)
        return self._dequantize(self.constant(data, f"{hint}_quantized"), index, moved)

    def bias(self, index: int) -> str:
        return self.weights(index, (0,))

    def define(self, index: int, value: str) -> None:
        """``value`` is what an operator computes for a tensor; quantized tensors get a QuantizeLinear."""
        if not self.is_quantized(index):
            self._values[index] = value
            return
        quantization = self.tensor(index).quantization
        assert quantization is not None
        scale, zero_point = self._parameters(index, quantization)
        attributes = {"axis": quantization.axis} if quantization.scale.size > 1 else {}
        name = None if index not in self.graph.outputs else self._ports[index]
        stored = name or self._name(f"{self.layer}_quantized")
        self._append("QuantizeLinear", [value, scale, zero_point], [stored], "quantize", attributes)
        self._stored[index] = stored

    def add(self, op_type: str, *inputs: str, part: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Append a node and return its first output.

        Args:
            part: what the node is beside the layer's main one; empty for the main one.
        """
        return self.add_all(op_type, *inputs, part=part, outputs=outputs, **attributes)[0]

    def add_all(
        self, op_type: str, *inputs: str, part: str = "", outputs: int, **attributes: Any
    ) -> list[str]:
        """Append a node and return all of its outputs."""
        base = f"{self.layer}/{part}" if part else self.layer
        names = [self._name(base) for _ in range(outputs)]
        self._append(op_type, inputs, names, part, attributes)
        return names

    def transposed(self, value: str, permutation: Sequence[int]) -> str:
        return self.add("Transpose", value, part="transpose", perm=list(permutation))

    def constant(self, array: Array, hint: str = "") -> str:
        """An initializer."""
        name = self._name(hint or f"{self.layer}/constant")
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def int64(self, numbers: Sequence[int]) -> str:
        return self.constant(np.array(numbers, np.int64))

    def float32(self, number: float) -> str:
        return self.constant(np.array(number, np.float32))

    def model(self, name: str) -> onnx.ModelProto:
        """The finished model; outputs get the names that they have in the TFLite graph."""
        outputs = [self._output(index) for index in self.graph.outputs]
        inputs = [self._port(index) for index in self.graph.inputs]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name=""
        )

    def _output(self, index: int) -> onnx.ValueInfoProto:
        port = self._ports[index]
        value = self._stored.get(index) or self.real(index)
        if value != port:
            self.layer = port
            self._append("Identity", [value], [port], "output", {})
        return self._port(index)

    def _port(self, index: int) -> onnx.ValueInfoProto:
        tensor = self.tensor(index)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        return helper.make_tensor_value_info(self._ports[index], element, tensor.shape)

    def _dequantize(self, stored: str, index: int, quantization: Quantization | None) -> str:
        assert quantization is not None
        scale, zero_point = self._parameters(index, quantization)
        attributes = {"axis": quantization.axis} if quantization.scale.size > 1 else {}
        name = self._name(f"{stored.removesuffix('_quantized')}_dequantized")
        node = f"{stored.removesuffix('_quantized')}/dequantize"
        self._append("DequantizeLinear", [stored, scale, zero_point], [name], node, attributes, own=True)
        return name

    def _parameters(self, index: int, quantization: Quantization) -> tuple[str, str]:
        """Initializers of scale and zero point: numbers for one per tensor, rows for one per channel."""
        if index in self._scales:
            return self._scales[index]
        tensor = self.tensor(index)
        scale, zero_point = quantization.scale, quantization.zero_point.astype(tensor.dtype)
        if scale.size == 1:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        hint = tensor.name or self.layer
        names = self.constant(scale, f"{hint}_scale"), self.constant(zero_point, f"{hint}_zero_point")
        self._scales[index] = names
        return names

    def _append(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        part: str,
        attributes: dict[str, Any],
        *,
        own: bool = False,
    ) -> None:
        """A node called ``layer/part``, or ``part`` when that is its ``own`` whole name."""
        base = part if own else f"{self.layer}/{part}" if part else self.layer
        name = _free(base, self._node_names)
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attributes))

    def _name(self, hint: str) -> str:
        return _free(hint, self._taken)


def _ports(graph: Graph) -> list[int]:
    return list(dict.fromkeys((*graph.inputs, *graph.outputs)))


def _free(hint: str, taken: set[str]) -> str:
    """``hint``, or the first of ``hint_1``, ``hint_2``, ... that is not taken; it is taken then."""
    name, count = hint, 0
    while name in taken:
        count += 1
        name = f"{hint}_{count}"
    taken.add(name)
    return name

"""Writing QuantizeLinear and DequantizeLinear nodes into a graph."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Array, Names, add_constant, base_name
from irshrink.passes.quantize.qparams import TYPES, QParams


class QdqWriter:
    """Inserts QDQ pairs; Q and DQ of value ``v`` are the nodes ``v_quantize`` and ``v_dequantize``.

    Names that the graph has already get a number.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._names = Names(graph)
        self._last_input: ir.Node | None = None
        self._params: dict[tuple[str, QParams], tuple[ir.Value, ir.Value]] = {}

    def activation(
        self, value: ir.Value, params: QParams, owner: str, readers: Collection[ir.Node] | None
    ) -> ir.Value:
        """Put a pair behind ``value``, for the given readers or for all of them and the model's output.

        Args:
            params: scale and zero point, stored once under the name ``owner``.
            readers: nodes that read the pair; the others go on reading the float value.

        Returns:
            What the pair makes of the value.
        """
        name = str(value.name)
        uses = [use for use in value.uses() if readers is None or use.node in readers]
        scale, zero_point = self._qparams(params, owner)
        quantize = self._node("QuantizeLinear", [value, scale, zero_point], f"{name}_quantize", value.shape)
        stored = quantize.outputs[0]
        stored.name, stored.dtype = self._names.value(f"{name}_quantized"), TYPES[params.bits]
        dequantize = self._node(
            "DequantizeLinear", [stored, scale, zero_point], f"{name}_dequantize", value.shape
        )
        real = dequantize.outputs[0]
        real.name, real.dtype = self._names.value(f"{name}_dequantized"), ir.DataType.FLOAT
        producer = value.producer()
        self._insert(producer, quantize, dequantize)
        for use in uses:
            use.node.replace_input_with(use.idx, real)
        if value.is_graph_output() and readers is None:
            self._take_output(value, real)
        return real

    def constant(
        self,
        node: ir.Node,
        index: int,
        *,
        values: Array,
        scale: Array,
        zero_point: Array | None,
        axis: int = 0,
    ) -> None:
        """Replace input ``index`` of ``node`` by a dequantized constant.

        Args:
            values: int16, int8, int4, int2 or int32.
            scale, zero_point: scalars, or one number per channel along ``axis``.
        """
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        source = node.inputs[index]
        name = f"{base_name(node)}_bias" if source is None else str(source.name)
        inputs = [self._stored(values, f"{name}_quantized"), self._stored(scale, f"{name}_scale")]
        if zero_point is not None:
            inputs.append(self._stored(zero_point, f"{name}_zero_point"))
        dequantize = self._node(
            "DequantizeLinear",
            inputs,
            f"{name}_dequantize",
            ir.Shape(values.shape),
            {"axis": axis} if scale.ndim else {},
        )
        real = dequantize.outputs[0]
        real.name, real.dtype = self._names.value(f"{name}_dequantized"), ir.DataType.FLOAT
        self._graph.insert_before(node, dequantize)
        node.replace_input_with(index, real)

    def _insert(self, producer: ir.Node | None, quantize: ir.Node, dequantize: ir.Node) -> None:
        """Behind the producer; pairs of the model's inputs come first of all, in their order."""
        anchor = producer or self._last_input
        if anchor is None:
            self._graph.insert_before(next(iter(self._graph)), (quantize, dequantize))
        else:
            self._graph.insert_after(anchor, (quantize, dequantize))
        if producer is None:
            self._last_input = dequantize

    def _qparams(self, params: QParams, owner: str) -> tuple[ir.Value, ir.Value]:
        key = (owner, params)
        if key not in self._params:
            self._params[key] = (
                self._stored(np.array(params.scale, np.float32), f"{owner}_scale"),
                self._stored(np.array(params.zero_point, TYPES[params.bits].numpy()), f"{owner}_zero_point"),
            )
        return self._params[key]

    def _take_output(self, value: ir.Value, real: ir.Value) -> None:
        """The model's output keeps its name: the dequantized value takes it."""
        name = str(value.name)
        outputs = self._graph.outputs
        for index, output in enumerate(outputs):
            if output is value:
                outputs[index] = real
        value.name, real.name = self._names.value(f"{name}_float"), name

    def _node(
        self,
        op_type: str,
        inputs: list[ir.Value],
        name: str,
        shape: ir.Shape | None,
        attributes: dict[str, int] | None = None,
    ) -> ir.Node:
        node = ir.node(op_type, inputs, attributes or {}, name=self._names.node(name))
        node.outputs[0].shape = shape
        return node

    def _stored(self, array: Array, name: str) -> ir.Value:
        return add_constant(self._graph, array, name, self._names)

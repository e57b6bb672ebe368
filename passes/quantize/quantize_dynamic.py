"""Matrix products in int8 with activations quantized at run time: no samples, a quarter of the bytes.

    sx, zx = range of this input     x ~ sx (xq - zx)     w ~ sw[n] q       y = sx sw[n] sum((xq - zx) q) + b

Weights are int8 with a scale for each output, chosen now; an input gets its scale and zero point from its
own smallest and largest value whenever the model runs, as a transformer's activations vary much with the
text (Zafrir et al., *Q8BERT*, arXiv:1910.06188, compare it with ranges fixed before). In ONNX:
DynamicQuantizeLinear, once for all readers of a value, MatMulInteger, and the scales behind it.
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
    add_constant,
    attribute_float,
    attribute_int,
    become,
    constant,
    describe,
    input_of,
    is_op,
)
from irshrink.graph.opset import raise_opset
from irshrink.module import Module
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.passes.quantize.weights import largest_weight
from irshrink.pipeline import Context, PassResult

#: DynamicQuantizeLinear came with 11; per-channel scales are those of a Mul, which every opset has.
_OPSET = 13
_FLOAT = ir.DataType.FLOAT
#: Sums of so many products of 8 bits stay in int32.
_MOST_FEATURES = (2**31 - 1) // (256 * 127)


@dataclass(frozen=True)
class QuantizeDynamic:
    """Compute MatMul and Gemm by constant weights in int8, with the range of each input found at run time.

    Attributes:
        min_elements: products by smaller weights stay float.
        keep_float: nodes that stay float, by name or operator type; ``*`` and ``?`` as in files.
    """

    name: ClassVar[str] = "quantize-dynamic"
    lossy: ClassVar[bool] = True

    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()

    def run(self, module: Module, ctx: Context) -> PassResult:
        require_matches(module.graph, self.keep_float)
        found = [node for node in module.graph if self._wanted(node)]
        raised = bool(found) and raise_opset(module, _OPSET)
        writer, stats = _Writer(module.graph), {"products": 0, "bytes_before": 0, "bytes_after": 0}
        for node in [node for node in module.graph if self._wanted(node)]:
            reason = _why_not(node)
            if reason is not None:
                ctx.note(f"{describe(node)} stays float: {reason}")
                continue
            tensor = array_of(node)
            writer.replace(node)
            stats["products"] += 1
            stats["bytes_before"] += tensor.nbytes
            stats["bytes_after"] += tensor.size
        return PassResult(raised or stats["products"] > 0, stats=stats)

    def _wanted(self, node: ir.Node) -> bool:
        if not is_op(node, "MatMul", "Gemm") or matches(node, self.keep_float):
            return False
        value = node.inputs[1]
        tensor = value.const_value if value is not None and value.is_initializer() else None
        if value is None or tensor is None or value.is_graph_input():
            return False
        return (
            tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 2 and tensor.size >= self.min_elements
        )


def _why_not(node: ir.Node) -> str | None:
    weight = array_of(node)
    if constant(node.inputs[0]) is not None:
        return "its input is a constant"
    if attribute_int(node, "transA", 0) or attribute_float(node, "alpha", 1.0) != 1.0:
        return "it transposes or scales its input"
    if input_of(node, 2) is not None and attribute_float(node, "beta", 1.0) != 1.0:
        return "it scales its bias"
    if max(weight.shape) > _MOST_FEATURES:
        return f"a sum of more than {_MOST_FEATURES:,} products may not fit 32 bits"
    return None if np.isfinite(weight).all() else "its weights hold infinity or NaN"


def array_of(node: ir.Node) -> Array:
    """The weights of a chosen node."""
    array = constant(node.inputs[1])
    assert array is not None, node.name
    return array


class _Writer:
    """Puts integer products in the place of float ones; what several read is made once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._names = graph, Names(graph)
        self._inputs: dict[ir.Value, Sequence[ir.Value]] = {}
        self._weights: dict[tuple[ir.Value, bool], tuple[ir.Value, ir.Value]] = {}

    def replace(self, node: ir.Node) -> None:
        """MatMulInteger, the scales and the bias."""
        source, weight = node.inputs[0], node.inputs[1]
        assert source is not None
        assert weight is not None
        turned = node.op_type == "Gemm" and attribute_int(node, "transB", 0) == 1
        if source not in self._inputs:
            self._inputs[source] = self._quantized(node, source)
        if (weight, turned) not in self._weights:
            array = array_of(node)
            self._weights[weight, turned] = self._stored(str(weight.name), array.T if turned else array)
        x, x_scale, x_zero = self._inputs[source]
        integers, scale = self._weights[weight, turned]
        shape, bias = node.outputs[0].shape, input_of(node, 2)
        sums = self._step(node, "MatMulInteger", [x, integers, x_zero], (ir.DataType.INT32, shape))
        real = self._step(node, "Cast", [sums], (_FLOAT, shape), to=_FLOAT)
        both = self._step(node, "Mul", [x_scale, scale], (_FLOAT, scale.shape))
        if bias is None:
            become(node, "Mul", [real, both])
        else:
            become(node, "Add", [self._step(node, "Mul", [real, both], (_FLOAT, shape)), bias])

    def _stored(self, name: str, weight: Array) -> tuple[ir.Value, ir.Value]:
        limit = np.float32(largest_weight(8))
        scale = np.abs(weight).max(axis=0).astype(np.float32) / limit
        scale[scale == 0] = 1
        integers = np.clip(np.rint(weight / scale), -limit, limit).astype(np.int8)
        made = (("quantized", integers), ("scale", scale))
        first, second = (
            add_constant(self._graph, array, f"{name}_{suffix}", self._names) for suffix, array in made
        )
        return first, second

    def _quantized(self, node: ir.Node, source: ir.Value) -> Sequence[ir.Value]:
        """The integers of a value, their scale and their zero point, in front of its first reader."""
        base = f"{source.name}_dynamic"
        made = ir.node("DynamicQuantizeLinear", [source], num_outputs=3, name=self._names.node(base))
        kinds = (("quantized", ir.DataType.UINT8), ("scale", _FLOAT), ("zero_point", ir.DataType.UINT8))
        for value, (suffix, kind) in zip(made.outputs, kinds, strict=True):
            value.name, value.type = self._names.value(f"{base}_{suffix}"), ir.TensorType(kind)
            value.shape = source.shape if suffix == "quantized" else ir.Shape([])
        self._graph.insert_before(node, made)
        return made.outputs

    def _step(
        self,
        node: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value],
        result: tuple[ir.DataType, ir.Shape | None],
        **attributes: int,
    ) -> ir.Value:
        """The result (type, shape) of a new node in front of ``node``, named after what that computes."""
        base = f"{node.outputs[0].name}_{op_type.lower()}"
        made = ir.node(op_type, inputs, attributes, name=self._names.node(base))
        value = made.outputs[0]
        value.name, value.type, value.shape = self._names.value(base), ir.TensorType(result[0]), result[1]
        self._graph.insert_before(node, made)
        return value

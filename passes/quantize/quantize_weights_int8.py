"""Weight-only int8: a quarter of the file, and float arithmetic as before.

    w ~ s[c] * q,   q in [-127, 127],   s[c] = max |w[c]| / 127

with one scale for each output channel c (each row of a table that Gather reads). A weight becomes an int8
constant behind a DequantizeLinear; activations, biases and every operator stay what they were, so neither
samples nor int8 kernels are needed. The largest error of a weight is half a step, s[c] / 2.

Weights that lie beside the model are read twice, block by block: now for their scales, and when the model
is written or run. They are never in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.external import release_tensor
from irshrink.graph.edit import Array, Names, add_constant, attribute_int, describe, is_op
from irshrink.graph.opset import raise_opset
from irshrink.module import Module
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.passes.quantize.weights import largest_weight
from irshrink.pipeline import Context, PassResult

#: DequantizeLinear has an axis since opset 13, and scales of float16 since 19.
_OPSETS = {ir.DataType.FLOAT: 13, ir.DataType.FLOAT16: 19}
_LIMIT = largest_weight(8)
#: Elements that are converted together.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class QuantizeWeightsInt8:
    """Store the weights of MatMul, Gemm, Conv, ConvTranspose, Gather, LSTM, GRU and RNN in int8.

    Attributes:
        min_elements: smaller constants stay float; they save nothing.
        keep_float: nodes whose weights stay float, by name or operator type; ``*`` and ``?`` as in files.
    """

    name: ClassVar[str] = "quantize-weights-int8"
    lossy: ClassVar[bool] = True

    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()

    def run(self, module: Module, ctx: Context) -> PassResult:
        require_matches(module.graph, self.keep_float)
        kinds = {value.dtype for value in self._chosen(module.graph, lambda text: None)}
        raised = bool(kinds) and raise_opset(module, max(_OPSETS[kind] for kind in kinds if kind is not None))
        chosen, names = self._chosen(module.graph, ctx.note), Names(module.graph)
        stats = {"weights": 0, "bytes_before": 0, "bytes_after": 0}
        for value, axis in chosen.items():
            tensor = value.const_value
            assert tensor is not None
            ctx.progress(f"quantizing '{value.name}'")
            scale = _scales(tensor, axis)
            if not np.isfinite(scale).all():
                ctx.note(f"'{value.name}' stays float: it holds infinity")
                continue
            _replace(module.graph, value, scale, axis, names)
            stats["weights"] += 1
            stats["bytes_before"] += tensor.nbytes
            stats["bytes_after"] += tensor.size + scale.nbytes
        return PassResult(raised or stats["weights"] > 0, stats=stats)

    def _chosen(self, graph: ir.Graph, note: Callable[[str], None]) -> dict[ir.Value, int]:
        """Constants that become int8, and the axis that has a scale for each index."""
        found: dict[ir.Value, int] = {}
        for node in graph:
            if not is_op(node, *_WEIGHTS) or matches(node, self.keep_float):
                continue
            for index in _WEIGHTS[node.op_type]:
                value = node.inputs[index]
                if value is None or value in found or not self._is_large(value):
                    continue
                axis = _axis(node, value)
                reason = self._why_not(value, axis)
                if reason is None:
                    found[value] = axis
                else:
                    note(f"{describe(node)}: its weights '{value.name}' stay float: {reason}")
        return found

    def _is_large(self, value: ir.Value) -> bool:
        tensor = value.const_value if value.is_initializer() and not value.is_graph_input() else None
        if tensor is None or tensor.dtype not in _OPSETS:
            return False
        return len(tensor.shape) > 1 and tensor.size >= self.min_elements

    def _why_not(self, value: ir.Value, axis: int) -> str | None:
        """All readers must be able to share one int8 form; a second copy in float would save nothing."""
        if value.is_graph_output():
            return "they are an output of the model"
        for node, index in value.uses():
            if not is_op(node, *_WEIGHTS) or index not in _WEIGHTS[node.op_type]:
                return f"{describe(node)} reads them too"
            if matches(node, self.keep_float):
                return f"{describe(node)} reads them too, and is kept in float"
            if _axis(node, value) != axis:
                return f"{describe(node)} reads them too, along another axis"
        return None


#: Which inputs hold weights.
_WEIGHTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), (1,)),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), (1, 2)),
    "Gather": (0,),
}


def _axis(node: ir.Node, value: ir.Value) -> int:
    """The axis of the weights that counts output channels, or what Gather picks from."""
    tensor = value.const_value
    assert tensor is not None
    if node.op_type == "MatMul":
        return len(tensor.shape) - 1
    if node.op_type == "Gemm":
        return 0 if attribute_int(node, "transB", 0) else 1
    if node.op_type == "Gather":
        return attribute_int(node, "axis", 0) % len(tensor.shape)
    return 0 if node.op_type == "Conv" else 1  # behind the input channels, or the directions


def _replace(graph: ir.Graph, value: ir.Value, scale: Array, axis: int, names: Names) -> None:
    """Put ``DequantizeLinear (int8, scale)`` in the place of a weight."""
    source, name = value.const_value, str(value.name)
    assert source is not None
    stored = add_constant(graph, np.zeros(0, np.int8), f"{name}_quantized", names)
    make = partial(_quantized, source, scale, axis)
    shape = ir.Shape(source.shape.numpy())
    if isinstance(source, ir.ExternalTensor):
        stored.const_value = ir.LazyTensor(make, ir.DataType.INT8, shape, name=stored.name)
    else:
        stored.const_value = make()
    stored.shape = shape
    scales = add_constant(graph, scale, f"{name}_scale", names)
    node = ir.node(
        "DequantizeLinear", [stored, scales], {"axis": axis}, name=names.node(f"{name}_dequantize")
    )
    real = node.outputs[0]
    real.name, real.type, real.shape = names.value(f"{name}_dequantized"), ir.TensorType(source.dtype), shape
    graph.insert_before(min((use.node for use in value.uses()), key=list(graph).index), node)
    value.replace_all_uses_with(real)
    del graph.initializers[name]


def _scales(tensor: ir.TensorProtocol, axis: int) -> Array:
    """One for each index of ``axis``, in the weights' own type; 1 for a channel of zeros."""
    largest = np.zeros(tensor.shape.numpy()[axis], np.float32)
    for at, block in _blocks(tensor):
        others = tuple(i for i in range(block.ndim) if i != axis)
        peak = np.maximum(block.max(axis=others), -block.min(axis=others)).astype(np.float32)
        part = largest[at] if axis == 0 else largest
        np.maximum(part, peak, out=part)
    scale = (largest / _LIMIT).astype(tensor.dtype.numpy())
    scale[scale == 0] = 1
    return np.asarray(scale)


def _quantized(tensor: ir.TensorProtocol, scale: Array, axis: int) -> ir.TensorProtocol:
    stored = np.empty(tensor.shape.numpy(), np.int8)
    real = scale.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(stored.ndim)])
    for at, block in _blocks(tensor):
        rounded = np.rint(block / (real[at] if axis == 0 else real))
        stored[at] = np.clip(rounded, -_LIMIT, _LIMIT)
    return ir.Tensor(stored)


def _blocks(tensor: ir.TensorProtocol) -> Iterator[tuple[slice, Array]]:
    """Runs of whole rows of axis 0, some million elements each; a mapped file is let go of at the end."""
    array = tensor.numpy()
    rows = max(1, _BLOCK // max(1, array.size // max(1, len(array))))
    for start in range(0, len(array), rows):
        at = slice(start, start + rows)
        yield at, array[at]
    del array
    release_tensor(tensor)

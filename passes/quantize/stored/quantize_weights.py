"""Weight-only quantization: 8, 4 or 2 bits a weight in the file, and float arithmetic as before.

    w ~ s q        symmetric
    w ~ s (q - z)  asymmetric

with one scale for each output channel (each row of a table that Gather reads), or for each block of
``block_size`` neighbours that an output sums over. A weight becomes an integer constant behind a
DequantizeLinear; activations, biases and every operator stay what they were, so neither samples nor integer
kernels are needed. The largest error of a weight is half a step, s / 2, where nothing is clipped. Two bits
symmetric are ternary weights, -s, 0 and s (Li et al., arXiv:1605.04711).

The two formulas of textbooks are there by name. ``step`` is ``alpha * round(w / alpha)``, with alpha given.
``range`` is ``q = round((w - min) / (max - min) * (2^n - 1))`` for a whole tensor; its numbers are
``min + q (max - min) / (2^n - 1)``, none of which need be 0, so they are stored as a table of 2^n levels.

Weights that lie beside the model are read two or three times, block by block: now for their scales, and when
the model is written or run. They are never in memory as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from irshrink.calibration.patches import from_rows, weight_rows
from irshrink.graph.edit import Array
from irshrink.graph.opset import raise_opset
from irshrink.module import Module
from irshrink.passes.quantize.plan import require_matches
from irshrink.passes.quantize.stored.codebook import put_levels, range_levels
from irshrink.passes.quantize.stored.output_error import (
    Grid,
    fitted_integers,
    hessians,
    layer_rows,
    require_samples,
)
from irshrink.passes.quantize.stored.weight_only import (
    REAL,
    Choice,
    Place,
    Writer,
    array_of,
    chunks,
    shape_of,
)
from irshrink.passes.quantize.stored.weight_scales import Groups, Linear, WeightRange
from irshrink.pipeline import Context, PassResult

#: By bits and whether they are signed: the NumPy type that ONNX stores, and the first opset that has it.
TYPES: dict[tuple[int, bool], np.dtype[Any]] = {
    (8, True): np.dtype(np.int8),
    (8, False): np.dtype(np.uint8),
    (4, True): np.dtype(ml_dtypes.int4),
    (4, False): np.dtype(ml_dtypes.uint4),
    (2, True): np.dtype(ml_dtypes.int2),
    (2, False): np.dtype(ml_dtypes.uint2),
}
OPSETS = {8: 13, 4: 21, 2: 25}
#: DequantizeLinear has blocks since this opset.
_BLOCK_OPSET = 21


@dataclass(frozen=True)
class QuantizeWeights:
    """Store the weights of MatMul, Gemm, Conv, ConvTranspose, Gather, LSTM, GRU and RNN in 8, 4 or 2 bits.

    Attributes:
        bits: of a weight: 8, 4 or 2.
        block_size: neighbours that share a scale; 0 for one scale an output channel. Weights whose outputs
            sum over no more than one block keep a scale an output channel.
        formula: ``symmetric``, ``asymmetric``, ``step`` or ``range``, as above.
        weight_range: ``max`` clips nothing, ``mse`` has the smallest squared error.
        fit: round each weight to the nearest integer (``weights``), or so that the ``outputs`` of layers on
            calibration data stay nearest; of what other operators read, the weights.
        power_of_two: scales are powers of two.
        step: of the formula ``step``.
        min_elements: smaller constants stay float; they save nothing.
        keep_float: nodes whose weights stay float, by name or operator type; ``*`` and ``?`` as in files.
    """

    name: ClassVar[str] = "quantize-weights"
    lossy: ClassVar[bool] = True

    bits: Literal[2, 4, 8] = 8
    block_size: int = 0
    formula: Literal["symmetric", "asymmetric", "step", "range"] = "symmetric"
    weight_range: WeightRange = "max"
    fit: Literal["weights", "outputs"] = "weights"
    power_of_two: bool = False
    step: float = 0.0
    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.block_size and (self.block_size < 16 or self.block_size & (self.block_size - 1)):
            raise ValueError("block_size is a power of two from 16 on, or 0 for one scale a channel.")
        if (self.step > 0) != (self.formula == "step"):
            raise ValueError("step is a number above 0 for the formula 'step', and for no other.")
        chosen = self.block_size or self.power_of_two or self.weight_range != "max" or self.fit != "weights"
        if self.formula == "range" and chosen:
            raise ValueError("the formula 'range' has no block_size, power_of_two, weight_range or fit.")

    def run(self, module: Module, ctx: Context) -> PassResult:
        require_matches(module.graph, self.keep_float)
        if self.fit == "outputs":
            require_samples(module, self.name)
        choice = Choice(self.min_elements, self.keep_float)
        first = choice.weights(module.graph, lambda text: None)
        raised = bool(first) and raise_opset(module, self._opset(first))
        writer, stats = Writer(module.graph), {"weights": 0, "bytes_before": 0, "bytes_after": 0}
        chosen = choice.weights(module.graph, ctx.note)
        seen = hessians(module, chosen, ctx) if self.fit == "outputs" else {}
        for value, place in chosen.items():
            tensor = array_of(value)
            ctx.progress(f"quantizing '{value.name}'")
            stored = self._store(writer, value, place, seen.get(value))
            if stored is None:
                ctx.note(f"'{value.name}' stays float: it holds infinity")
                continue
            stats["weights"] += 1
            stats["bytes_before"] += tensor.nbytes
            stats["bytes_after"] += stored
        return PassResult(raised or stats["weights"] > 0, stats=stats)

    def _opset(self, chosen: dict[ir.Value, Place]) -> int:
        kinds = [REAL[array_of(value).dtype] for value in chosen]
        blocks = _BLOCK_OPSET if self.block_size else 0
        return max(OPSETS[self.bits], blocks, *kinds)

    def _store(self, writer: Writer, value: ir.Value, place: Place, hessian: Array | None) -> int | None:
        """Replace one weight; the bytes of its new form, None if its range is not finite."""
        tensor = array_of(value)
        if self.formula == "range":
            levels = range_levels(tensor, self.bits)
            return None if levels is None else put_levels(writer, value, levels)
        linear = Linear(
            self.bits, self.formula != "asymmetric", self.weight_range, self.power_of_two, self.step
        )
        groups = Groups.of(shape_of(value), place, self.block_size)
        scale, zero = linear.parameters(tensor, groups)
        if not np.isfinite(scale).all():
            return None
        kind = TYPES[self.bits, linear.symmetric]
        make = partial(_quantized, tensor, linear, groups, (scale, zero), kind)
        if hessian is not None:
            free = linear.symmetric and not (groups.block_size or self.power_of_two or self.step)
            integers, scale = _fitted(value, hessian, linear, groups, (scale, zero), free)
            make = partial(np.asarray, integers.astype(kind))
        shape = shape_of(value)
        stored = writer.stored(value, "quantized", kind, shape, make)
        inputs = [stored, writer.constant(value, "scale", scale)]
        if not linear.symmetric:
            inputs.append(writer.constant(value, "zero_point", zero.astype(kind)))
        blocks = {"block_size": groups.block_size} if groups.block_size else {}
        result = ("dequantized", tensor.dtype, ir.Shape(shape))
        real = writer.node(value, result, "DequantizeLinear", inputs, axis=groups.axis, **blocks)
        writer.replace(value, real)
        return int(tensor.size * self.bits // 8) + scale.nbytes + (0 if linear.symmetric else zero.size)


def _fitted(
    value: ir.Value,
    hessian: Array,
    linear: Linear,
    groups: Groups,
    parameters: tuple[Array, Array],
    free: bool,
) -> tuple[Array, Array]:
    """Integers (int16) and scales that keep the outputs of a layer."""
    whole = np.empty(shape_of(value), np.float32)
    node = next(iter(value.uses())).node
    scale, zero = (np.broadcast_to(groups.spread(p, whole), whole.shape) for p in parameters)
    grid = Grid(weight_rows(node, scale), weight_rows(node, zero), linear.limits, free)
    integers, scales = fitted_integers(layer_rows(value), hessian, grid)
    placed = from_rows(node, integers, whole.shape).astype(np.int16)
    found = scales[..., 0].reshape(-1).astype(parameters[0].dtype) if free else parameters[0]
    return placed, found


def _quantized(
    tensor: ir.TensorProtocol,
    linear: Linear,
    groups: Groups,
    parameters: tuple[Array, Array],
    kind: np.dtype[Any],
) -> Array:
    stored = np.empty(tensor.shape.numpy(), kind)
    for at, chunk in chunks(tensor, groups.rows):
        scale, zero = (groups.spread(groups.part(p, at), chunk) for p in parameters)
        stored[at] = linear.integers(chunk, scale, zero).astype(np.int16).astype(kind)
    return stored

"""Weight sharing: every weight becomes the nearest of 2^bits numbers, which a table holds.

    w ~ levels[index]

The numbers are the centres of k-means on the weights (Han et al., *Deep Compression*, ICLR 2016,
arXiv:1510.00149, section 3), one table for a tensor or one for each output channel. Unlike a scale they
follow the weights' distribution, so 4 bits lose about what 5 do at even distances. With ``fit = outputs``
indices and levels keep the outputs of a layer instead (:mod:`irshrink.passes.quantize.stored.output_error`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Array
from irshrink.graph.opset import raise_opset
from irshrink.module import Module
from irshrink.passes.quantize.plan import require_matches
from irshrink.passes.quantize.stored.codebook import (
    Levels,
    array_from_rows,
    has_tables,
    index_type,
    nearest_level,
    put_levels,
    rows_of,
)
from irshrink.passes.quantize.stored.kmeans import kmeans
from irshrink.passes.quantize.stored.output_error import fitted_levels, hessians, layer_rows, require_samples
from irshrink.passes.quantize.stored.weight_only import (
    REAL,
    Choice,
    Place,
    Writer,
    array_of,
    chunks,
    shape_of,
)
from irshrink.pipeline import Context, PassResult

Bits = Literal[2, 3, 4, 5, 6, 7, 8]


@dataclass(frozen=True)
class ClusterWeights:
    """Store the weights of MatMul, Gemm, Conv, Gather and recurrent layers as indices into tables.

    Attributes:
        bits: of an index: 2 to 8, stored in 2, 4 or 8.
        tables: one for a ``tensor``, or one for each output ``channel`` (of matrices and convolutions).
        fit: to the ``weights`` alone, or to the ``outputs`` of layers on calibration data, which 2 and 3 bits
            need; of what other operators read, the weights.
        iterations: of k-means, at most.
        min_elements: smaller constants stay float; they save nothing.
        keep_float: nodes whose weights stay float, by name or operator type; ``*`` and ``?`` as in files.
    """

    name: ClassVar[str] = "cluster-weights"
    lossy: ClassVar[bool] = True

    bits: Bits = 4
    tables: Literal["tensor", "channel"] = "tensor"
    fit: Literal["weights", "outputs"] = "weights"
    iterations: int = 300
    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError("iterations is a number of steps, 0 or more.")

    def run(self, module: Module, ctx: Context) -> PassResult:
        require_matches(module.graph, self.keep_float)
        if self.fit == "outputs":
            require_samples(module, self.name)
        choice, (_, opset) = Choice(self.min_elements, self.keep_float), index_type(self.bits)
        kinds = [REAL[array_of(value).dtype] for value in choice.weights(module.graph, lambda text: None)]
        raised = bool(kinds) and raise_opset(module, max(opset, *kinds))
        writer, stats = Writer(module.graph), {"weights": 0, "bytes_before": 0, "bytes_after": 0}
        chosen = choice.weights(module.graph, ctx.note)
        seen = hessians(module, chosen, ctx) if self.fit == "outputs" else {}
        for value, place in chosen.items():
            tensor = array_of(value)
            ctx.progress(f"clustering '{value.name}'")
            levels = self._fitted(value, place, seen[value]) if value in seen else self._levels(tensor, place)
            if levels is None:
                ctx.note(f"'{value.name}' stays float: it holds infinity or NaN")
                continue
            stats["weights"] += 1
            stats["bytes_before"] += tensor.nbytes
            stats["bytes_after"] += put_levels(writer, value, levels)
        return PassResult(raised or stats["weights"] > 0, stats=stats)

    def _axis(self, weight: ir.TensorProtocol, place: Place) -> int | None:
        """The axis that has a table for each index; None for one table."""
        shape = tuple(weight.shape.numpy())
        return place.axis if self.tables == "channel" and has_tables(shape, place.axis) else None

    def _fitted(self, value: ir.Value, place: Place, hessian: Array) -> Levels:
        shape, axis = shape_of(value), self._axis(array_of(value), place)
        values, indices = fitted_levels(
            layer_rows(value), hessian, 1 << self.bits, shared=axis is None, iterations=self.iterations
        )
        placed = array_from_rows(indices.astype(np.uint8), shape, place.axis)
        table = values.astype(np.float32)
        return Levels(table[0] if axis is None else table, self.bits, axis, lambda: placed)

    def _levels(self, tensor: ir.TensorProtocol, place: Place) -> Levels | None:
        """The tables of a weight and its way to indices; None where it is not finite."""
        weight = np.concatenate([chunk for _, chunk in chunks(tensor)])
        if not np.isfinite(weight).all():
            return None
        axis = self._axis(tensor, place)
        rows = rows_of(weight, axis)
        ones = np.ones(rows.shape[1])
        values = np.stack([kmeans(row, ones, 1 << self.bits, self.iterations) for row in rows])
        values = values.astype(np.float32)
        table = values[0] if axis is None else values
        return Levels(table, self.bits, axis, partial(_indices, tensor, values, axis))


def _indices(tensor: ir.TensorProtocol, values: Array, axis: int | None) -> Array:
    """Of the nearest level; ``values`` as [tables, levels]."""
    found = np.empty(tensor.shape.numpy(), np.uint8)
    for at, chunk in chunks(tensor):
        tables = values[at] if axis == 0 else values
        rows = [nearest_level(row, table) for row, table in zip(rows_of(chunk, axis), tables, strict=True)]
        found[at] = array_from_rows(np.stack(rows), chunk.shape, axis)
    return found

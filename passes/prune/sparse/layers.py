"""The layers whose weights can become 0, and what they read and should give on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.calibrate import each_sample
from irshrink.calibration.moments import row_generator, rows_per_sample
from irshrink.calibration.patches import from_rows, input_rows, weight_rows, why_no_rows
from irshrink.calibration.regression import Regression
from irshrink.calibration.walk import LayerWalk
from irshrink.graph.edit import Refusal, attribute_int, base_name, constant, describe, input_of, set_constant
from irshrink.graph.linear import bias_name, is_linear, linear_op
from irshrink.module import Module
from irshrink.pipeline import Context
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: Inputs of an output above which there is no matrix of second moments.
LARGEST_MATRIX = 4096
#: One sample of so many is held back.
_HELD = 4


@dataclass(frozen=True)
class Layer:
    """A layer whose weights are its own.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul.
        rows: its weights, float64 [g, o, n], inputs in the order ``order`` of those of
            :func:`irshrink.calibration.patches.weight_rows`: taps first, then channels, as kernels read them.
        bias: [g, o], zeros where it has none.
        has_bias: whether it could have one.
        index: of all layers of the pass.
    """

    node: ir.Node
    rows: Array
    bias: Array
    order: Array
    has_bias: bool
    index: int

    @property
    def name(self) -> str:
        return base_name(self.node)

    @property
    def key(self) -> str:
        """A name that is the same in all variants of a model."""
        return str(self.node.outputs[0].name)

    @property
    def why_no_update(self) -> str | None:
        """Why its weights cannot be fitted to data, half a sentence, or None."""
        if self.rows.shape[2] > LARGEST_MATRIX:
            return f"an output sums over {self.rows.shape[2]:,} inputs, more than {LARGEST_MATRIX:,}"
        return self.why_no_vectors

    @property
    def why_no_vectors(self) -> str | None:
        """Why :meth:`vectors` does not know what it reads, half a sentence, or None."""
        if attribute_int(self.node, "transA", 0):
            return "its input is transposed"
        return why_no_rows(self.node)

    def write(self, rows: Array, bias: Array | None = None) -> None:
        """Give the node these weights, zeros exactly 0, and this bias."""
        old = constant(self.node.inputs[1])
        assert old is not None, "a layer has constant weights"
        back = rows[:, :, np.argsort(self.order)]
        alpha = self.node.attributes.get("alpha") if self.node.op_type == "Gemm" else None
        scale = 1.0 if alpha is None else alpha.as_float()
        weight = from_rows(self.node, back, old.shape) / (scale or 1.0)
        set_constant(self.node, 1, weight.astype(old.dtype), "weight")
        if bias is not None and self.has_bias:
            if self.node.op_type == "Gemm":
                self.node.attributes.pop("beta", None)
            set_constant(self.node, 2, bias.reshape(-1).astype(old.dtype), bias_name(self.node))

    def vectors(self, x: Array, sample: int, samples: int) -> Array:
        """What the weights are multiplied with, [g, positions, n] in the order of ``rows``."""
        weight = constant(self.node.inputs[1])
        assert weight is not None, "a layer has constant weights"
        count = rows_per_sample(self.rows.shape[2], samples)
        rng = row_generator(self.index, sample)
        return input_rows(self.node, weight.shape, x, count, rng)[:, :, self.order]


def chosen_layers(
    graph: ir.Graph, keep_dense: Sequence[str], min_elements: int, ctx: Context, matches: Any
) -> list[Layer]:
    """Layers that may be changed, in the order of the graph; the others are named with their reasons."""
    found: list[Layer] = []
    for node in graph:
        if not is_linear(node) or matches(node, keep_dense):
            continue
        weight = constant(node.inputs[1])
        if weight is None or weight.size < min_elements:
            continue
        try:
            op = linear_op(node)
        except Refusal as reason:
            ctx.note(f"{describe(node)} stays as it is: {reason}")
            continue
        if not np.isfinite(weight).all():
            ctx.note(f"{describe(node)} stays as it is: its weights are not all finite")
            continue
        rows = weight_rows(node, weight)
        taps = op.weight.shape[3]
        order = np.arange(rows.shape[2]).reshape(-1, taps).T.reshape(-1)
        shape = rows.shape[:2]
        bias = np.zeros(shape) if op.bias is None else op.bias.reshape(shape)
        could = node.op_type != "MatMul" and _bias_is_own(node)
        found.append(Layer(node, rows[:, :, order], bias, order, could, len(found)))
    return found


def _bias_is_own(node: ir.Node) -> bool:
    value = input_of(node, 2)
    return value is None or (len(value.uses()) == 1 and not value.is_graph_output())


def mean_squares(module: Module, samples: Samples, layers: Sequence[Layer]) -> list[Array]:
    """Of what each layer reads, [g, 1, n]; ones where that cannot be told from its input.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
    """
    sums = [np.ones((len(layer.rows), 1, layer.rows.shape[2])) for layer in layers]
    known = [layer for layer in layers if layer.why_no_vectors is None]
    names = [str(layer.node.inputs[0].name) for layer in known if layer.node.inputs[0] is not None]
    total = dict.fromkeys((layer.index for layer in known), 0.0)
    for sample, arrays in enumerate(each_sample(module, samples, list(dict.fromkeys(names)))):
        for layer, name in zip(known, names, strict=True):
            rows = layer.vectors(arrays[name], sample, len(samples)).astype(np.float64)
            total[layer.index] = total[layer.index] + np.square(rows).mean(axis=1)[:, np.newaxis]
    for layer in known:
        sums[layer.index] = np.asarray(total[layer.index]) / len(samples)
    return sums


def gathered(layer: Layer, now: LayerWalk, before: tuple[LayerWalk, ir.Node], samples: int) -> tuple[
    Regression, Regression
]:  # fmt: skip
    """Sums over what the layer reads now and what it gave: over most samples, and over those held back.

    Args:
        before: a walk through the model as it was, and the layer there.
    """
    groups, outputs, inputs = layer.rows.shape
    sums = Regression.zero(groups, outputs, inputs), Regression.zero(groups, outputs, inputs)
    walk, node = before
    for sample, (x, original) in enumerate(zip(now.read(layer.node), walk.read(node), strict=True)):
        rows, old = (layer.vectors(one, sample, samples) for one in (x, original))
        wanted = old @ layer.rows.swapaxes(1, 2) + layer.bias[:, np.newaxis, :]
        sums[sample % _HELD == _HELD - 1].update(rows, wanted)
    return sums

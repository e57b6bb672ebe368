"""BatchNormalization at inference is an affine function per channel, which a linear operator can absorb.

With s = gamma / sqrt(var + epsilon),

    bn(y)[c] = s[c] * y[c] + (beta[c] - s[c] * mean[c])

(Ioffe and Szegedy 2015, section 3.1). After Conv, ConvTranspose, Gemm or MatMul it goes into their weights
and bias; anywhere else it becomes Mul and Add, which later passes can move and fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    add_constant,
    attribute_float,
    attribute_int,
    base_name,
    become,
    constant,
    describe,
    insert_before,
    rank,
    remove,
    replace_value,
    require_private,
    rewrite_each,
)
from irshrink.graph.linear import Float64, is_linear, linear_op, scale_and_shift_output
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class FoldBatchNorm:
    """Fold BatchNormalization into the linear operator before it, or spell it as Mul and Add."""

    name: ClassVar[str] = "fold-batchnorm"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        def rule(node: ir.Node) -> bool:
            return _fold(node, ctx)

        folded = rewrite_each(module.graph, ctx, {"BatchNormalization"}, rule)
        return PassResult(folded > 0, stats={"folded": folded})


def _fold(node: ir.Node, ctx: Context) -> bool:
    scale, shift = _scale_and_shift(node)
    try:
        _fold_into_linear(node, scale, shift)
    except Refusal as reason:
        ctx.note(f"{describe(node)}: not folded, written as Mul and Add: {reason}")
        _spell_out(node, scale, shift)
    return True


def _scale_and_shift(node: ir.Node) -> tuple[Float64, Float64]:
    """The per-channel factor and offset, ``[C]`` each."""
    if attribute_int(node, "training_mode", 0) or any(v.uses() for v in node.outputs[1:]):
        raise Refusal("is in training mode; export the model for inference")
    parameters = [constant(value) for value in node.inputs[1:5]]
    if any(array is None for array in parameters):
        raise Refusal("its statistics are not constant")
    gamma, beta, mean, var = (np.asarray(array, np.float64) for array in parameters)
    with np.errstate(divide="ignore", invalid="ignore"):  # a broken variance makes NaN, here as in the model
        scale = gamma / np.sqrt(var + attribute_float(node, "epsilon", 1e-5))
    return scale, beta - scale * mean


def _fold_into_linear(node: ir.Node, scale: Float64, shift: Float64) -> None:
    value = node.inputs[0]
    producer = None if value is None else value.producer()
    if value is None or not is_linear(producer):
        raise Refusal("there is no Conv, ConvTranspose, Gemm or MatMul before it")
    require_private(value, node)
    op = linear_op(producer)
    if producer.op_type == "MatMul" and rank(producer.inputs[0]) != 2:
        raise Refusal(f"{describe(producer)} has its channels on another axis")
    scale_and_shift_output(op, scale, shift)
    replace_value(node.outputs[0], value)
    remove(node)


def _spell_out(node: ir.Node, scale: Float64, shift: Float64) -> None:
    value, graph = node.inputs[0], node.graph
    axes = rank(value)
    assert graph is not None
    if value is None or axes is None or value.dtype is None:
        raise Refusal("the shape of its input is unknown")
    shape, dtype = (-1, *(1,) * (axes - 2)), value.dtype.numpy()
    factor = add_constant(graph, scale.astype(dtype).reshape(shape), f"{base_name(node)}_scale")
    offset = add_constant(graph, shift.astype(dtype).reshape(shape), f"{base_name(node)}_offset")
    product = insert_before(node, "Mul", [value, factor]).outputs[0]
    product.shape = value.shape
    become(node, "Add", [product, offset])

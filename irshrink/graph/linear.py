"""Conv, ConvTranspose, Gemm and MatMul seen as one thing: weights, bias and output channels.

Passes that fold an affine function into such an operator (fold-batchnorm, fold-affine) need two identities,
with o an output channel and i an input channel:

    linear(x)[o] * s[o] + t[o] = linear'(x)[o],   W'[o, i] = s[o] W[o, i],   b'[o] = s[o] b[o] + t[o]
    linear(x * s + t)[o]       = linear'(x)[o],   W'[o, i] = W[o, i] s[i],   b'[o] = b[o] + sum W[o, i] t[i]

(the second with t = 0 where the operator pads with zeros). Both are computed in float64 and rounded once to
the type of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    attribute_float,
    attribute_int,
    attribute_ints,
    attribute_string,
    base_name,
    become,
    constant,
    describe,
    input_of,
    is_op,
    rank,
    require_private,
    set_constant,
)

_LINEAR_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LinearOp:
    """A linear node whose weights are constant.

    Attributes:
        node: the node; its weights are input 1.
        weight: its weights as ``[g, Co/g, Ci/g, kernel]`` in float64, whatever the operator's own layout.
            Gemm's ``alpha`` is applied.
        bias: what is added to each output channel, ``[Co]``, or None. Gemm's ``beta`` is applied.
        channel_axis: the axis of input and output that counts channels: 1, or -1 for MatMul.
    """

    node: ir.Node
    weight: Float64
    bias: Float64 | None
    channel_axis: int

    @property
    def outputs(self) -> int:
        """Co"""
        return int(self.weight.shape[0] * self.weight.shape[1])

    @property
    def inputs(self) -> int:
        """Ci"""
        return int(self.weight.shape[0] * self.weight.shape[2])

    def pads(self) -> bool:
        """Whether the operator may see zeros that are not in its input."""
        if self.node.op_type not in ("Conv", "ConvTranspose"):
            return False
        auto = attribute_string(self.node, "auto_pad", "NOTSET")
        return auto.startswith("SAME") or any(attribute_ints(self.node, "pads") or ())


def is_linear(node: ir.Node | None) -> TypeGuard[ir.Node]:
    """Whether ``node`` multiplies by weights; a product of two varying matrices does not."""
    if node is None or not is_op(node, *_LINEAR_OPS):
        return False
    return node.op_type != "MatMul" or constant(node.inputs[1]) is not None


def linear_op(node: ir.Node) -> LinearOp:
    """View ``node`` as a linear operator that may be changed.

    Raises:
        Refusal: its weights or bias are not constant, are seen by someone else, or have a form that has
            no per-channel meaning.
    """
    value = input_of(node, 1)
    weight = constant(value)
    if weight is None or value is None:
        raise Refusal(f"the weights of {describe(node)} are not constant")
    if weight.dtype.kind != "f":
        raise Refusal(f"the weights of {describe(node)} are {weight.dtype}")
    groups = attribute_int(node, "group", 1)
    if weight.ndim < 2 or not weight.size or groups < 1 or weight.shape[0] % groups:
        shape = list(weight.shape)
        raise Refusal(f"the weights of {describe(node)} of shape {shape} are empty or not {groups} groups")
    require_private(value, node)
    if node.op_type == "MatMul" and weight.ndim != 2:
        raise Refusal(f"the weights of {describe(node)} have rank {weight.ndim}, not 2")
    grouped = to_grouped(node, weight.astype(np.float64))
    bias = _bias(node, grouped.shape[0] * grouped.shape[1])
    return LinearOp(node, grouped, bias, -1 if node.op_type == "MatMul" else 1)


def scale_and_shift_output(op: LinearOp, scale: Float64, shift: Float64) -> None:
    """Change ``op`` so that it computes ``old(x) * scale + shift``.

    Args:
        scale, shift: ``[Co]``.

    Raises:
        Refusal: see :func:`_replace`; nothing was changed.
    """
    groups, outputs = op.weight.shape[:2]
    bias = np.zeros(op.outputs) if op.bias is None else op.bias
    with np.errstate(over="ignore", invalid="ignore"):
        _replace(op, op.weight * scale.reshape(groups, outputs, 1, 1), bias * scale + shift)


def scale_and_shift_input(op: LinearOp, scale: Float64, shift: Float64) -> None:
    """Change ``op`` so that it computes ``old(x * scale + shift)``.

    Args:
        scale, shift: ``[Ci]``.

    Raises:
        Refusal: the operator pads and ``shift`` is not zero, or see :func:`_replace`; nothing was changed.
    """
    if shift.any() and op.node.op_type == "ConvTranspose":
        raise Refusal(f"an offset before {describe(op.node)} reaches its borders unequally")
    if shift.any() and op.pads():
        raise Refusal(f"{describe(op.node)} pads with zeros, which the offset before it would change")
    groups, _, inputs = op.weight.shape[:3]
    bias = np.zeros(op.outputs) if op.bias is None else op.bias
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.einsum("goik,gi->go", op.weight, shift.reshape(groups, inputs)).reshape(-1)
        _replace(op, op.weight * scale.reshape(groups, 1, inputs, 1), bias + moved)


def bias_name(node: ir.Node) -> str:
    """What to call a new bias: beside its weights."""
    weight = node.inputs[1]
    return f"{weight.name if weight is not None else base_name(node)}_bias"


def _replace(op: LinearOp, weight: Float64, bias: Float64) -> None:
    """Store weights ``[g, Co/g, Ci/g, kernel]`` and bias ``[Co]``; a MatMul that needs a bias becomes a Gemm.

    Raises:
        Refusal: the weights would not be finite, or a MatMul on more than two axes has no bias.
    """
    original = constant(op.node.inputs[1])
    assert original is not None
    new_weight = from_grouped(op.node, weight, original.shape).astype(original.dtype)
    new_bias = bias.astype(original.dtype)
    if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
        raise Refusal(f"the folded weights of {describe(op.node)} would not be finite")
    if op.node.op_type == "MatMul" and new_bias.any():
        if rank(op.node.inputs[0]) != 2:
            raise Refusal(f"{describe(op.node)} has no bias to take the offset")
        become(op.node, "Gemm", tuple(op.node.inputs))
    set_constant(op.node, 1, new_weight, "weight")
    for applied in ("alpha", "beta"):
        if op.node.op_type == "Gemm":
            op.node.attributes.pop(applied, None)
    if op.bias is None and not new_bias.any():
        return
    set_constant(op.node, 2, new_bias, bias_name(op.node))


def to_grouped(node: ir.Node, weight: Float64) -> Float64:
    """``[g, Co/g, Ci/g, kernel]`` from the operator's own layout; Gemm's ``alpha`` is applied.

    Conv has ``[Co, Ci/g, *kernel]``, ConvTranspose ``[Ci, Co/g, *kernel]``, MatMul ``[Ci, Co]``, Gemm the
    same or (transB) ``[Co, Ci]``.
    """
    groups = attribute_int(node, "group", 1)
    if node.op_type == "Conv":
        return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    if node.op_type == "ConvTranspose":
        grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return np.swapaxes(grouped, 1, 2)
    rows = weight if attribute_int(node, "transB", 0) else weight.T
    return rows[np.newaxis, :, :, np.newaxis] * attribute_float(node, "alpha", 1.0)


def from_grouped(node: ir.Node, weight: Float64, shape: tuple[int, ...]) -> Float64:
    """The operator's own layout, of ``shape``, from ``[g, Co/g, Ci/g, kernel]``."""
    if node.op_type == "Conv":
        return weight.reshape(shape)
    if node.op_type == "ConvTranspose":
        return np.swapaxes(weight, 1, 2).reshape(shape)
    rows: Float64 = weight[0, :, :, 0]
    return rows if attribute_int(node, "transB", 0) else rows.T


def _bias(node: ir.Node, channels: int) -> Float64 | None:
    value = None if node.op_type == "MatMul" else input_of(node, 2)
    if value is None:
        return None
    array = constant(value)
    if array is None:
        raise Refusal(f"the bias of {describe(node)} is not constant")
    # Gemm's C may be a scalar, [M], [1, M], [N, 1] or [N, M]; only the first three are per channel.
    if array.size != 1 and (array.size != channels or array.shape[-1] != channels):
        raise Refusal(f"the bias of {describe(node)} has shape {list(array.shape)}, not [{channels}]")
    beta = attribute_float(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
    return np.broadcast_to(array.astype(np.float64).reshape(-1) * beta, (channels,))

"""A Pad in front of a Conv or a pool is work that the operator does by itself.

- Conv: zeros on the spatial axes are added to ``pads``.
- AveragePool: the same, if its own padding counts as zeros (``count_include_pad``) or it has none.
- MaxPool: its own padding is -infinity, so the padded value must be -infinity too, or anything that cannot
  win: zero before an input that is not negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    attribute_int,
    attribute_ints,
    attribute_string,
    constant,
    describe,
    input_of,
    is_op,
    rank,
    remove,
    rewrite_each,
    scalar,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class FoldPad:
    """Fold constant Pad into Conv, AveragePool and MaxPool."""

    name: ClassVar[str] = "fold-pad"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        folded = rewrite_each(module.graph, ctx, {"Conv", "AveragePool", "MaxPool"}, _fold)
        return PassResult(folded > 0, stats={"folded": folded})


def _fold(node: ir.Node) -> bool:
    value = node.inputs[0]
    pad = None if value is None else value.producer()
    if value is None or pad is None or not is_op(pad, "Pad"):
        return False
    if attribute_string(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Refusal("its padding depends on the size of its input (auto_pad)")
    extra = _spatial_pads(pad)
    own = attribute_ints(node, "pads") or (0,) * len(extra)
    pads = [a + b for a, b in zip(own, extra, strict=True)]
    _check_fill(node, pad, own)
    if node.op_type != "Conv":
        _check_windows(node, pad, pads)
    if node.op_type == "AveragePool":
        node.attributes.add(ir.AttrInt64("count_include_pad", 1))
    node.attributes.pop("auto_pad", None)
    node.attributes.add(ir.AttrInt64s("pads", pads))
    node.replace_input_with(0, pad.inputs[0])
    if not value.uses() and not value.is_graph_output():
        remove(pad)
    return True


def _spatial_pads(pad: ir.Node) -> tuple[int, ...]:
    """Begins then ends of the axes after batch and channels, as Conv's ``pads`` has them."""
    pads, axes_value = constant(input_of(pad, 1)), input_of(pad, 3)
    axes_count = rank(pad.inputs[0])
    if pads is None or axes_count is None:
        raise Refusal(f"the amounts of {describe(pad)} are not constant")
    axes = np.arange(axes_count) if axes_value is None else constant(axes_value)
    if axes is None:
        raise Refusal(f"the axes of {describe(pad)} are not constant")
    full = np.zeros((2, axes_count), np.int64)
    full[:, axes % axes_count] = pads.reshape(2, -1)
    if full[:, :2].any():
        raise Refusal(f"{describe(pad)} pads the batch or the channels")
    if (full < 0).any():
        raise Refusal(f"{describe(pad)} crops")
    return tuple(int(amount) for amount in full[:, 2:].reshape(-1))


def _fill(pad: ir.Node) -> float:
    mode = attribute_string(pad, "mode", "constant")
    if mode != "constant":
        raise Refusal(f"{describe(pad)} fills by '{mode}'")
    value = input_of(pad, 2)
    fill = 0.0 if value is None else scalar(value)
    if fill is None:
        raise Refusal(f"the value of {describe(pad)} is not constant")
    return fill


def _check_fill(node: ir.Node, pad: ir.Node, own: tuple[int, ...]) -> None:
    """Whether the operator's own padding has the value of the Pad, or one that does not show."""
    fill = _fill(pad)
    if node.op_type != "MaxPool" and fill != 0:
        raise Refusal(f"{describe(pad)} fills with {fill}, not 0")
    if node.op_type == "AveragePool" and any(own) and not attribute_int(node, "count_include_pad", 0):
        raise Refusal("its own padding is left out of the average, the zeros of the Pad are not")
    if node.op_type != "MaxPool" or fill <= np.finfo(np.float32).min:
        return
    if fill != 0 or any(own) or not _is_not_negative(pad.inputs[0]):
        raise Refusal(f"{describe(pad)} fills with {fill}, which may be larger than the input")


def _check_windows(pool: ir.Node, pad: ir.Node, pads: list[int]) -> None:
    """Whether a pool has the same windows when the border is its own; Conv has in any case."""
    kernel = attribute_ints(pool, "kernel_shape") or ()
    if any(output.uses() or output.is_graph_output() for output in pool.outputs[1:]):
        raise Refusal("its indices are used, and would count from another corner")
    if attribute_int(pool, "ceil_mode", 0):
        raise Refusal("its last windows overhang (ceil_mode), which would count other elements")
    if set(attribute_ints(pool, "dilations") or ()) - {1}:
        raise Refusal(f"it is dilated, and {describe(pad)} may make windows of padding alone")
    if any(amount >= kernel[i % len(kernel)] for i, amount in enumerate(pads)):
        raise Refusal(f"{describe(pad)} makes windows of padding alone")


def _is_not_negative(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    if producer is None:
        return False
    if is_op(producer, "Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Softplus"):
        return True
    lower = scalar(input_of(producer, 1)) if is_op(producer, "Clip") else None
    return lower is not None and lower >= 0

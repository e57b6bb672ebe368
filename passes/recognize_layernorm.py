"""Layer normalization that is written out in parts becomes LayerNormalization again.

    y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * gamma + beta

with the means over the last axes (Ba, Kiros and Hinton 2016). First the normalization is recognized, with
gamma one; then a Mul and an Add of constants in the shape of the normalized axes become gamma and beta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Array,
    Refusal,
    add_constant,
    base_name,
    become,
    constant,
    input_of,
    is_op,
    opset,
    rank,
    remove,
    replace_value,
    rewrite_each,
    scalar,
    set_constant,
    split_constant,
    static_shape,
    why_not_private,
)
from irshrink.graph.patterns import first_match, remove_dead
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class RecognizeLayerNorm:
    """Recognize LayerNormalization and what scales and shifts it."""

    name: ClassVar[str] = "recognize-layernorm"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        recognized = 0
        if any(is_op(node, "ReduceMean") for node in module.graph):
            recognized = rewrite_each(module.graph, ctx, {"Div", "Mul"}, _rule(module))
        absorbed = rewrite_each(module.graph, ctx, {"LayerNormalization"}, _absorb_all)
        stats = {"recognized": recognized, "absorbed": absorbed}
        return PassResult(recognized + absorbed > 0, stats=stats)


def _rule(module: Module) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        found = first_match(_PATTERNS, module, node)
        if found is None:
            return False
        _recognize(node, found[1])
        return True

    return rule


def _recognize(node: ir.Node, found: dict[str, ir.Value]) -> None:
    graph, x, epsilon = node.graph, found["x"], scalar(found["epsilon"])
    assert graph is not None
    if opset(graph) < 18:
        raise Refusal(
            f"this is LayerNormalization, but the model has opset {opset(graph)}; run raise-opset first"
        )
    shape, axes = static_shape(x), constant(found["axes"])
    if epsilon is None or axes is None or x.shape is None or x.dtype is None:
        raise Refusal("this is LayerNormalization, but its axes or its epsilon are not constant")
    count = x.shape.rank()
    if rank(found["mean"]) != count or rank(found["variance"]) != count:
        raise Refusal("this is like LayerNormalization, but its means drop their axes")
    axis = count - axes.size
    if sorted(int(a) % count for a in axes.reshape(-1)) != list(range(axis, count)):
        raise Refusal(f"normalizes over axes {axes.tolist()}; LayerNormalization takes the last ones")
    sizes = x.shape[axis:]
    if shape is None and not all(isinstance(size, int) for size in sizes):
        raise Refusal("this is LayerNormalization, but the size of its axes is not known")
    normalized = tuple(size for size in sizes if isinstance(size, int))
    gamma = add_constant(graph, np.ones(normalized, x.dtype.numpy()), f"{base_name(node)}_scale")
    inputs = tuple(node.inputs)
    become(node, "LayerNormalization", [x, gamma], {"axis": axis - count, "epsilon": epsilon})
    remove_dead(inputs)


def _absorb_all(node: ir.Node) -> bool:
    absorbed = False
    while _absorb(node):
        absorbed = True
    return absorbed


def _absorb(node: ir.Node) -> bool:
    """``norm(x) * gamma`` and ``norm(x) + beta`` go into the node; True if one of them did."""
    gamma = constant(node.inputs[1])
    output, uses = node.outputs[0], tuple(node.outputs[0].uses())
    if gamma is None or len(uses) != 1 or any(v.uses() for v in node.outputs[1:]):
        return False
    reader = uses[0].node
    if not is_op(reader, "Mul", "Add") or why_not_private(output, reader) is not None:
        return False
    found = split_constant(reader)
    extra = None if found is None else _per_element(found[1], gamma, rank(output))
    if extra is None:
        return False
    beta = constant(input_of(node, 2))
    if input_of(node, 2) is not None and beta is None:
        return False
    if reader.op_type == "Mul":
        set_constant(node, 1, (gamma * extra).astype(gamma.dtype), "scale")
        if beta is not None:
            set_constant(node, 2, (beta * extra).astype(beta.dtype), "bias")
    else:
        shift = np.broadcast_to(extra if beta is None else beta + extra, gamma.shape)
        set_constant(node, 2, shift.astype(gamma.dtype), f"{base_name(node)}_bias")
    replace_value(reader.outputs[0], output)
    remove(reader)
    return True


def _per_element(array: Array, gamma: Array, axes: int | None) -> Array | None:
    """A constant that varies over the normalized axes only, in float64, or None."""
    if axes is None or array.ndim > axes or array.dtype != gamma.dtype:
        return None
    extra = max(array.ndim - gamma.ndim, 0)
    shape = array.shape[extra:]
    fits = all(size in (1, full) for size, full in zip(shape[::-1], gamma.shape[::-1], strict=False))
    if not fits or any(size != 1 for size in array.shape[:extra]):
        return None
    return array.reshape(shape).astype(np.float64)


def _square(op: Any, x: Any, axes: Any, epsilon: Any) -> Any:
    centred = x - op.ReduceMean(x, axes, _outputs=["mean"])
    return centred / op.Sqrt(op.ReduceMean(op.Pow(centred, 2.0), axes, _outputs=["variance"]) + epsilon)


def _product(op: Any, x: Any, axes: Any, epsilon: Any) -> Any:
    centred = x - op.ReduceMean(x, axes, _outputs=["mean"])
    return centred / op.Sqrt(op.ReduceMean(centred * centred, axes, _outputs=["variance"]) + epsilon)


def _reciprocal(op: Any, x: Any, axes: Any, epsilon: Any) -> Any:
    centred = x - op.ReduceMean(x, axes, _outputs=["mean"])
    variance = op.ReduceMean(centred * centred, axes, _outputs=["variance"])
    return centred * op.Reciprocal(op.Sqrt(variance + epsilon))


_PATTERNS = (_square, _product, _reciprocal)

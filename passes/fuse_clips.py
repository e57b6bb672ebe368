"""Relu, Clip, and Max and Min with a constant are all clamps, and a clamp of a clamp is a clamp.

    clamp(x, lo, hi) = min(max(x, lo), hi)
    clamp(clamp(x, a, b), lo, hi) = clamp(x, clamp(a, lo, hi), clamp(b, lo, hi))

The result is written as Relu when it is [0, inf), else as Clip: Min(Max(x, 0), 6) becomes ReLU6, Relu after
ReLU6 disappears.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    add_constant,
    base_name,
    become,
    constant,
    input_of,
    is_op,
    remove,
    rewrite_each,
    same_shape,
    scalar,
    split_constant,
    why_not_private,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

_CLAMPS = ("Clip", "Max", "Min", "Relu")
_INF = float("inf")


@dataclass(frozen=True)
class FuseClips:
    """Write every clamp as Relu or Clip, and fuse consecutive ones."""

    name: ClassVar[str] = "fuse-clips"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        rewritten = rewrite_each(module.graph, ctx, _CLAMPS, _rewrite)
        return PassResult(rewritten > 0, stats={"rewritten": rewritten})


@dataclass(frozen=True)
class _Clamp:
    source: ir.Value
    low: float
    high: float

    def then(self, outer: _Clamp) -> _Clamp:
        return _Clamp(self.source, outer.apply(self.low), outer.apply(self.high))

    def apply(self, x: float) -> float:
        return min(max(x, self.low), self.high)


def _rewrite(node: ir.Node) -> bool:
    clamp = _clamp(node)
    if clamp is None:
        return False
    inner_node = clamp.source.producer()
    inner = None if inner_node is None else _clamp(inner_node)
    if inner is not None and inner_node is not None and why_not_private(clamp.source, node) is None:
        _write(node, inner.then(clamp))
        remove(inner_node)
        return True
    if is_op(node, "Relu") or (is_op(node, "Clip") and (clamp.low, clamp.high) != (0.0, _INF)):
        return False
    _write(node, clamp)
    return True


def _clamp(node: ir.Node) -> _Clamp | None:
    """The clamp that ``node`` computes on a float value; bounds beyond float32 are infinite."""
    value = node.inputs[0] if node.inputs else None
    if not is_op(node, *_CLAMPS) or value is None or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    if node.op_type == "Relu":
        return _Clamp(value, 0.0, _INF)
    if node.op_type == "Clip":
        return _clip(node, value)
    found = split_constant(node) if len(node.inputs) == 2 else None
    bound = scalar(node.inputs[1 - found[2]]) if found else None
    if found is None or bound is None or not same_shape(found[0], node.outputs[0]):
        return None
    bound = _finite_or_inf(bound)
    return _Clamp(found[0], bound, _INF) if node.op_type == "Max" else _Clamp(found[0], -_INF, bound)


def _clip(node: ir.Node, value: ir.Value) -> _Clamp | None:
    bounds = []
    for index, name, default in ((1, "min", -_INF), (2, "max", _INF)):
        given = input_of(node, index)
        bound = default if given is None else scalar(given)
        if bound is None or name in node.attributes:  # attributes: opset 10 and before
            return None
        bounds.append(_finite_or_inf(bound))
    return _Clamp(value, bounds[0], bounds[1])


def _finite_or_inf(bound: float) -> float:
    limit = float(np.finfo(np.float32).max)
    return float(np.copysign(_INF, bound)) if abs(bound) >= limit else bound


def _write(node: ir.Node, clamp: _Clamp) -> None:
    if (clamp.low, clamp.high) == (0.0, _INF):
        become(node, "Relu", [clamp.source])
        return
    inputs: list[ir.Value | None] = [clamp.source]
    for bound, name in ((clamp.low, "min"), (clamp.high, "max")):
        inputs.append(None if np.isinf(bound) else _bound(node, np.float32(bound), name))
    if inputs[-1] is None:
        inputs.pop()
    become(node, "Clip", inputs)


def _bound(node: ir.Node, bound: np.float32, name: str) -> ir.Value:
    """The scalar as a constant: one that the node reads already, or a new one."""
    for value in node.inputs[1:]:
        old = constant(value)
        if value is not None and old is not None and old.shape == () and old == bound:
            return value
    assert node.graph is not None
    return add_constant(node.graph, np.array(bound), f"{base_name(node)}_{name}")

"""Single steps in float32, which rules put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from irshrink.program.lower.lowering import Lowering, broadcast_constant
from irshrink.program.lower.rules.align import aligned
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import BinaryF32, BinaryKind, ReduceF32, ReduceKind, UnaryF32, UnaryKind
from irshrink.program.reference.dispatch import Array


def unary_f32(
    lowering: Lowering, node: ir.Node, x: View, kind: UnaryKind, alpha: float = 0.0, beta: float = 0.0
) -> View:
    """A function of every element."""
    shape = lowering.builder.shape(x.tensor)
    return x.on(lowering.emit(UnaryF32, node, [x.tensor], shape, kind=kind, alpha=alpha, beta=beta))


def binary_f32(lowering: Lowering, node: ir.Node, kind: BinaryKind, a: View, b: View | Array) -> View:
    """An operation of two values, or of one and a constant that does not grow it; NumPy broadcasting."""
    if isinstance(b, View):
        both = aligned(lowering, a, b)
        return both.view.on(lowering.emit(BinaryF32, node, both.tensors, both.shape, kind=kind))
    order = a.order() or tuple(range(a.rank))
    source = lowering.builder.dense(a, order)
    operand = broadcast_constant(b.astype(np.float32), a.rank, order)
    shape = [a.shape[axis] for axis in order]
    tensor = lowering.emit(BinaryF32, node, [source], shape, kind=kind, constant=operand)
    return view_of(tensor, a.shape, order)


def reduce_f32(lowering: Lowering, node: ir.Node, x: View, kind: ReduceKind, axes: Sequence[int]) -> View:
    """A reduction; the axes stay, with size 1."""
    order = x.order() or tuple(range(x.rank))
    source = lowering.builder.dense(x, order)
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    physical = tuple(place for place, axis in enumerate(order) if axis in axes)
    tensor = lowering.emit(ReduceF32, node, [source], [shape[a] for a in order], kind=kind, axes=physical)
    return view_of(tensor, shape, order)

"""The operators of a program. Each is a frozen record of one computation with all its constants.

Shapes are physical: images are [N, H, W, C]. An operator has any number of inputs and one output. What each
computes is written twice: in docs/integer-semantics.md for people, in ``reference`` for machines.

Notation: ``zx`` zero point, ``requantize(acc, m, zy) = clip(rint(float32(acc) * m) + zy, lo, hi)``; ``rint``
rounds half to even; ``clip(x, lo, hi) = lo if x < lo else hi if x > hi else x``. Every float32 operation
rounds once (no fused multiply-add); a mean is a sum times ``float32(1 / count)``.
"""

from __future__ import annotations

from irshrink.program.ops.base import Addition, Float32, Int8, Int32, Op, Requantization, Window
from irshrink.program.ops.float32 import (
    AveragePoolF32,
    BinaryF32,
    BinaryKind,
    ConvF32,
    DenseF32,
    LayerNormF32,
    MatMulF32,
    ReduceF32,
    SoftmaxF32,
    UnaryF32,
    UnaryKind,
)
from irshrink.program.ops.indexing import (
    ArgReduce,
    Gather,
    GatherElements,
    ReduceInteger,
    Reduction,
    Scatter,
    ScatterElements,
    TopK,
)
from irshrink.program.ops.int8 import (
    AddInt8,
    AveragePoolInt8,
    ConvInt8,
    DenseInt8,
    MatMulInt8,
    MulInt8,
    SoftmaxInt8,
    TableInt8,
)
from irshrink.program.ops.integers import (
    BinaryInteger,
    Cast,
    Compare,
    Comparison,
    IntegerKind,
    Where,
)
from irshrink.program.ops.movement import (
    Concat,
    Dequantize,
    Expand,
    MaxPool,
    Pad,
    Quantize,
    Reshape,
    Slice,
    Take,
    Transpose,
)
from irshrink.program.ops.resample import ResampleF32, ResampleInt8

__all__ = [
    "AddInt8",
    "Addition",
    "ArgReduce",
    "AveragePoolF32",
    "AveragePoolInt8",
    "BinaryF32",
    "BinaryInteger",
    "BinaryKind",
    "Cast",
    "Compare",
    "Comparison",
    "Concat",
    "ConvF32",
    "ConvInt8",
    "DenseF32",
    "DenseInt8",
    "Dequantize",
    "Expand",
    "Float32",
    "Gather",
    "GatherElements",
    "Int8",
    "Int32",
    "IntegerKind",
    "LayerNormF32",
    "MatMulF32",
    "MatMulInt8",
    "MaxPool",
    "MulInt8",
    "Op",
    "Pad",
    "Quantize",
    "ReduceF32",
    "ReduceInteger",
    "Reduction",
    "Requantization",
    "ResampleF32",
    "ResampleInt8",
    "Reshape",
    "Scatter",
    "ScatterElements",
    "Slice",
    "SoftmaxF32",
    "SoftmaxInt8",
    "TableInt8",
    "Take",
    "TopK",
    "Transpose",
    "UnaryF32",
    "UnaryKind",
    "Where",
    "Window",
]

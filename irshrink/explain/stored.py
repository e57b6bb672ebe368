"""Rounded constants: weights and biases as the file stores them, and the real numbers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import attribute_int, constant, input_of, is_op

Array = np.ndarray[Any, np.dtype[Any]]
Role = Literal["weight", "bias", "operand"]


@dataclass(eq=False)
class Stored:
    """A constant behind DequantizeLinear.

    Attributes:
        value: the real numbers, in the graph.
        codes: int64, as stored (or as rounded by the graph itself).
        scale, zero_point: scalar, one number per channel, or one per block; see ``axis``.
        axis: along which the scales run; None for one scale in all.
        block: elements that share a scale along ``axis``; 0 for one scale per index.
        dtype: how the codes are stored: ``int8``, ``int4``.
        low, high: the smallest and the largest code of that type.
        reader: the node that reads it, behind moves.
        role: what it is to that node.
    """

    value: ir.Value
    codes: Array
    scale: Array
    zero_point: Array
    axis: int | None
    block: int
    dtype: str
    low: int
    high: int
    reader: ir.Node | None
    role: Role

    @cached_property
    def steps(self) -> Array:
        """The scale of every element, float32, in a shape that broadcasts."""
        return _spread(self.scale, self)

    @property
    def real(self) -> Array:
        """As DequantizeLinear computes it, float32."""
        centred = (self.codes - _spread(self.zero_point, self)).astype(np.float32)
        return np.asarray(centred * self.steps, np.float32)

    @property
    def per_channel(self) -> bool:
        return self.axis is not None and self.scale.size > 1

    @property
    def output_axis(self) -> int | None:
        """The axis that counts the output channels of the layer; None where none does."""
        node = self.reader
        if node is None or self.codes.ndim < 2:
            return 0 if self.codes.ndim == 1 else None
        if is_op(node, "ConvTranspose"):
            return 1 if attribute_int(node, "group", 1) == 1 else None
        if is_op(node, "Conv") or (is_op(node, "Gemm") and attribute_int(node, "transB", 0)):
            return 0
        return self.codes.ndim - 1


def is_stored(node: ir.Node) -> bool:
    """Whether a node only makes real numbers of a constant, or rounds one."""
    if is_op(node, "QuantizeLinear"):
        return constant(input_of(node, 0)) is not None
    return is_op(node, "DequantizeLinear") and _codes(node) is not None


def read_stored(node: ir.Node) -> Stored | None:
    """The constant behind a DequantizeLinear; None for other nodes and for parameters that vary."""
    if not is_op(node, "DequantizeLinear"):
        return None
    found, scale = _codes(node), constant(input_of(node, 1))
    zero = constant(input_of(node, 2))
    if found is None or scale is None or (zero is None and input_of(node, 2) is not None):
        return None
    codes, dtype, low, high = found
    zero = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    block = attribute_int(node, "block_size", 0)
    axis = attribute_int(node, "axis", 1) % max(codes.ndim, 1) if scale.size > 1 or block else None
    reader, role = _reader(node.outputs[0])
    return Stored(
        node.outputs[0], codes, scale.astype(np.float32), zero, axis, block, dtype, low, high, reader, role
    )


def _codes(node: ir.Node) -> tuple[Array, str, int, int] | None:
    """Codes, their type, and the type's ends; of a constant, or of one that the graph itself rounds."""
    source = input_of(node, 0)
    array = constant(source)
    if array is not None and source is not None:
        name = array.dtype.name
        ends = _ends(name)
        return None if ends is None else (array.astype(np.int64), name, *ends)
    producer = None if source is None else source.producer()
    if producer is None or not is_op(producer, "QuantizeLinear"):
        return None
    real, scale, zero = (constant(input_of(producer, i)) for i in range(3))
    if real is None or scale is None:
        return None
    name = "uint8" if zero is None else zero.dtype.name
    ends = _ends(name)
    if ends is None:
        return None
    shape = [1] * real.ndim
    if scale.size > 1:
        shape[attribute_int(producer, "axis", 1) % real.ndim] = -1
    offset = 0 if zero is None else zero.astype(np.int64).reshape(shape if zero.size > 1 else ())
    steps = scale.reshape(shape if scale.size > 1 else ())
    codes = np.rint(real.astype(np.float32) / steps) + offset
    return np.clip(codes, *ends).astype(np.int64), name, *ends


def _ends(name: str) -> tuple[int, int] | None:
    kind = name.rstrip("0123456789")
    if kind not in ("int", "uint"):
        return None
    bits = int(name[len(kind) :])
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind == "int" else (0, 2**bits - 1)


def _reader(value: ir.Value) -> tuple[ir.Node | None, Role]:
    """Who reads a constant, behind moves, and as what."""
    for node, index in value.uses():
        if is_op(node, "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze"):
            return _reader(node.outputs[0])
        if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
            return node, "bias" if index == 2 else "weight"
        return node, "operand"
    return None, "operand"


def _spread(numbers: Array, stored: Stored) -> Array:
    """One number per channel or block in a shape that broadcasts against the codes."""
    if stored.axis is None:
        return numbers.reshape(())
    if stored.block:
        long = np.repeat(numbers, stored.block, axis=stored.axis)
        return np.take(long, np.arange(stored.codes.shape[stored.axis]), axis=stored.axis)
    shape = [1] * stored.codes.ndim
    shape[stored.axis] = -1
    return numbers.reshape(shape)

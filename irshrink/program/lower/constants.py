"""Constant values of the graph: initializers, Constant nodes, and what QDQ files put around weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit, huffman
from irshrink.program import elements
from irshrink.program.lower.computed import COMPUTED
from irshrink.program.lower.fitting import positive, require
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.stored import Blocks, Halves, Indexed, Move, Scattered, Stored
from irshrink.program.ops import Float32
from irshrink.program.reference.dispatch import Array

#: Operators on constants that exporters and quantizers leave in front of weights.
_MOVES = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Codes:
    """The integers that a DequantizeLinear turns into a constant.

    Attributes:
        integers: as stored.
        scale, zero_point: one number each, or one per index of ``axis``.
        axis: None for one scale per tensor.
        bits: that the file spends on each integer: 8, 4 or 2 (more than 8 for none of these).
        sparse: whether the file leaves out those that are 0.
        huffman: whether they are wished in a Huffman code (:mod:`irshrink.graph.huffman`).
    """

    integers: NDArray[np.int64]
    scale: Float32
    zero_point: NDArray[np.int64]
    axis: int | None
    bits: int = 8
    sparse: bool = False
    huffman: bool = False

    def broadcast(self, parameters: Array) -> Array:
        """``scale`` or ``zero_point`` in a shape that broadcasts against ``integers``."""
        if self.axis is None:
            return parameters.reshape(())
        shape = [1] * self.integers.ndim
        shape[self.axis] = -1
        return parameters.reshape(shape)

    def real(self) -> Float32:
        """``float32(q - zero_point) * scale``."""
        centred = self.integers - self.broadcast(self.zero_point)
        result: Float32 = centred.astype(np.float32) * self.broadcast(self.scale)
        return result


@dataclass(frozen=True)
class Constant:
    """An array known at compile time; ``codes`` when it comes out of a DequantizeLinear.

    ``stored`` is another form in fewer bits that the file has it in.
    """

    array: Array
    codes: Codes | None = None
    stored: Stored | None = None

    def moved(self, move: Move, codes: Codes | None) -> Constant:
        """Its elements in another order or shape; ``codes`` are these, moved."""
        stored = None if self.stored is None else self.stored.moved(move)
        return Constant(np.asarray(move(self.array)), codes, stored)


class Constants:
    """Looks constants up, each value once."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, Constant | None] = {}

    def get(self, value: ir.Value | None) -> Constant | None:
        """The constant that ``value`` is, or None when it varies.

        Also None where the shapes that make it do not fit together: the rule of its node says what is
        wrong.
        """
        if value is None:
            return None
        if value not in self._known:
            try:
                self._known[value] = self._find(value)
            except Refusal:
                self._known[value] = None
        return self._known[value]

    def array(self, value: ir.Value | None) -> Array | None:
        constant = self.get(value)
        return None if constant is None else constant.array

    def _find(self, value: ir.Value) -> Constant | None:
        array = edit.constant(value)
        if array is None and value.is_initializer() and value.const_value is not None:
            array = value.const_value.numpy()  # the default of an input is its value: it has no port
        if array is not None:
            return Constant(as_target_float(array))
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "DequantizeLinear":
            return self._dequantized(node)
        if node.op_type == "QuantizeLinear":
            return self._quantized(node)
        if node.op_type in _MOVES:
            return self._moved(node)
        if node.op_type == "Cast" and (widened := self._widened(node)) is not None:
            return widened
        if node.op_type in ("Gather", "GatherElements"):
            return self._looked_up(node)
        if node.op_type in COMPUTED and node.domain in edit.ONNX_DOMAINS:
            return self._computed(node)
        return None

    def _computed(self, node: ir.Node) -> Constant | None:
        found = [self.get(value) for value in node.inputs]
        if any(value is not None and one is None for value, one in zip(node.inputs, found, strict=True)):
            return None
        array = COMPUTED[node.op_type](node, [None if one is None else one.array for one in found])
        if array is None:
            return None
        first = found[0]
        scattered = first is not None and (
            isinstance(first.stored, Scattered)
            if node.op_type == "Cast"
            else node.op_type == "ScatterND" and not first.array.any()
        )
        return Constant(as_target_float(array), stored=Scattered() if scattered else None)

    def _widened(self, node: ir.Node) -> Constant | None:
        """Weights in 16 bits, and the Cast that makes float32 of them."""
        array = edit.constant(node.inputs[0])
        element = None if array is None else _HALVES.get(array.dtype.name)
        if array is None or element is None or edit.attribute_int(node, "to", 0) != ir.DataType.FLOAT:
            return None
        return Constant(array.astype(np.float32), stored=Halves(element))

    def _looked_up(self, node: ir.Node) -> Constant | None:
        """Numbers of a table by constant indices that are stored in fewer bits."""
        table, indices = self.array(node.inputs[0]), _narrow_indices(node.inputs[1])
        if table is None or indices is None or table.dtype != np.float32:
            return None
        stored = Indexed(indices.astype(np.uint8), _width(indices))
        places = indices.astype(np.int64)
        axis = positive(edit.attribute_int(node, "axis", 0), table.ndim)
        require(places.max(initial=0) < table.shape[axis], "an index lies outside of its table")
        if node.op_type == "Gather":
            return Constant(table[places], stored=stored) if table.ndim == 1 else None
        if table.ndim != 2 or places.ndim != 2 or table.shape[1 - axis] != places.shape[1 - axis]:
            return None
        return Constant(np.take_along_axis(table, places, axis), stored=stored)

    def _dequantized(self, node: ir.Node) -> Constant | None:
        stored, scale = self.get(node.inputs[0]), self.array(node.inputs[1])
        if stored is None or scale is None:
            return None
        if edit.attribute_int(node, "block_size", 0):
            zero = self.array(edit.input_of(node, 2))
            return _blocks(node, stored.array, scale, zero)
        codes = self._codes(node, stored.array.astype(np.int64), scale)
        if codes is None:
            return None
        sparse = isinstance(stored.stored, Scattered)
        bits, coded = _width(stored.array), huffman.is_wished(node)
        codes = replace(codes, bits=bits, sparse=sparse, huffman=coded)
        return Constant(codes.real(), codes)

    def _quantized(self, node: ir.Node) -> Constant | None:
        """Weights that a quantizer left in float, with a QuantizeLinear behind them."""
        real, scale = self.array(node.inputs[0]), self.array(node.inputs[1])
        zero_point = self.array(edit.input_of(node, 2))
        if real is None or scale is None or edit.attribute_int(node, "block_size", 0):
            return None
        dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
        if dtype not in (np.int8, np.uint8):
            return None
        codes = self._codes(node, np.zeros(real.shape, np.int64), scale)
        if codes is None:
            return None
        limits = np.iinfo(dtype)
        rounded = np.rint(real.astype(np.float32) / codes.broadcast(codes.scale))
        shifted = rounded.astype(np.int64) + codes.broadcast(codes.zero_point)
        return Constant(np.clip(shifted, limits.min, limits.max).astype(dtype))

    def _codes(self, node: ir.Node, integers: NDArray[np.int64], scale: Array) -> Codes | None:
        zero = self.get(edit.input_of(node, 2))
        if zero is None and edit.input_of(node, 2) is not None:
            return None
        zero_point = np.zeros(scale.shape) if zero is None else zero.array
        axis: int | None = None
        require(scale.size > 0, "it has no scale")
        if scale.size > 1:
            axis = edit.attribute_int(node, "axis", 1)
            axis = positive(axis, integers.ndim)
            require(scale.shape == (integers.shape[axis],), "its scales are not one for each index")
        require(zero_point.size in (1, scale.size), "its zero points are not one for each scale")
        zero_point = np.broadcast_to(zero_point.reshape(-1), (scale.size,)).reshape(scale.shape)
        return Codes(integers, scale.astype(np.float32), zero_point.astype(np.int64), axis)

    def _wanted_shape(self, node: ir.Node, size: int) -> tuple[int, ...] | None:
        """What a Reshape of so many elements asks for, where it copies no dimension."""
        array = self.array(edit.input_of(node, 1)) if node.op_type == "Reshape" else None
        if array is None or not array.size:
            return None
        shape = [int(n) for n in array.reshape(-1)]
        if shape.count(-1) == 1:
            others = prod(n for n in shape if n != -1)
            shape[shape.index(-1)] = size // others if others > 0 else 0
        return tuple(shape) if min(shape) > 0 else None

    def _moved(self, node: ir.Node) -> Constant | None:
        source = self.get(node.inputs[0])
        if source is None:
            return None
        if node.op_type == "Transpose":
            return _transposed(source, edit.attribute_ints(node, "perm"))
        shape = _known_shape(node.outputs[0]) or self._wanted_shape(node, source.array.size)
        if node.op_type == "Identity" or shape is None:
            return source if node.op_type == "Identity" else None
        require(source.array.size == prod(shape), f"{list(source.array.shape)} does not fit {list(shape)}")
        codes = source.codes
        if codes is not None:
            per_tensor = codes.axis is None
            codes = replace(codes, integers=codes.integers.reshape(shape)) if per_tensor else None
        return source.moved(lambda array: array.reshape(shape), codes)


def _blocks(node: ir.Node, integers: Array, scale: Array, zero: Array | None) -> Constant | None:
    """Integers of at most 8 bits with a scale for each block along an axis."""
    kind = ir.DataType.from_numpy(integers.dtype)
    if kind not in (*_NARROW, ir.DataType.INT2, ir.DataType.INT4, ir.DataType.INT8):
        return None
    size, bits = edit.attribute_int(node, "block_size", 0), _width(integers)
    axis = positive(edit.attribute_int(node, "axis", 1), integers.ndim)
    wanted = [-(-n // size) if i == axis else n for i, n in enumerate(integers.shape)]
    require(list(scale.shape) == wanted, "its scales are not one for each block")
    require(zero is None or zero.shape == scale.shape, "its zero points are not one for each scale")
    half = (1 << (bits - 1)) if kind in _NARROW else 0
    zeros = np.zeros(scale.shape, np.int16) if zero is None else zero.astype(np.int16)
    spread: list[Array] = [
        np.repeat(part, size, axis).take(range(integers.shape[axis]), axis)
        for part in (scale.astype(np.float32), zeros - half)
    ]
    centred = integers.astype(np.int16) - half
    real = (centred - spread[1]).astype(np.float32) * spread[0]
    return Constant(real, stored=Blocks(centred, spread[0], spread[1], size, bits))


#: Element types of 16 bits, by their NumPy name.
_HALVES: dict[str, Literal["float16", "bfloat16"]] = {"float16": "float16", "bfloat16": "bfloat16"}
_NARROW = (ir.DataType.UINT2, ir.DataType.UINT4, ir.DataType.UINT8)


def _narrow_indices(value: ir.Value | None) -> Array | None:
    """Constant indices of at most 8 bits, in the type that the file has, behind a Cast or not."""
    node = None if value is None else value.producer()
    array = edit.constant(node.inputs[0] if node is not None and node.op_type == "Cast" else value)
    if array is None or ir.DataType.from_numpy(array.dtype) not in _NARROW:
        return None
    return array


def _width(integers: Array) -> int:
    """Bits that the ONNX type of these integers has."""
    kind = ir.DataType.from_numpy(integers.dtype)
    return int(kind.bitwidth)


def as_target_float(array: Array) -> Array:
    """Real numbers of any width in float32, the only one that the target computes with."""
    if array.dtype == np.float32 or not elements.is_real(array.dtype.name):
        return array
    with np.errstate(over="ignore"):  # beyond float32 becomes infinity, as a Cast would make it
        return array.astype(np.float32)


def _transposed(source: Constant, permutation: tuple[int, ...] | None) -> Constant:
    order = permutation or tuple(reversed(range(source.array.ndim)))
    require(sorted(order) == list(range(source.array.ndim)), f"{list(order)} is no order of its axes")
    codes = source.codes
    if codes is not None:
        axis = None if codes.axis is None else order.index(codes.axis)
        codes = replace(codes, integers=codes.integers.transpose(order), axis=axis)
    return source.moved(lambda array: array.transpose(order), codes)


def _known_shape(value: ir.Value) -> tuple[int, ...] | None:
    shape: Any = edit.static_shape(value)
    return None if shape is None else tuple(int(size) for size in shape)

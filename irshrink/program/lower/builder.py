"""Writing a program: tensors, operators, and moving bytes where a view does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import base_name
from irshrink.program.lower.fitting import require
from irshrink.program.lower.names import Names
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Dequantize, DequantizeInt16, Op, Reshape, Transpose
from irshrink.program.program import Quantization, Tensor
from irshrink.program.reference.dispatch import Array


class Builder:
    """Operators and tensors so far."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.constants: dict[str, Array] = {}
        self._tensor_names = Names()
        self._op_names = Names()
        self._done: dict[tuple[Any, ...], str] = {}  # copies and conversions are shared by their readers
        self._source: dict[str, str] = {}  # of a Reshape's output: the tensor whose bytes it shows

    def tensor(
        self, hint: str, shape: Sequence[int], dtype: str = "int8", quantization: Quantization | None = None
    ) -> str:
        """Declare a tensor and return its name."""
        name = self._tensor_names.new(hint)
        self.tensors[name] = Tensor(name, tuple(shape), dtype, quantization)
        return name

    def constant(self, hint: str, array: Array, quantization: Quantization | None = None) -> str:
        """Declare a tensor whose contents are known."""
        name = self.tensor(hint, array.shape, array.dtype.name, quantization)
        self.constants[name] = np.asarray(array, order="C")
        return name

    def emit(
        self,
        operator: type[Op],
        hint: str,
        origin: Sequence[ir.Node],
        inputs: Sequence[str],
        output: str,
        /,
        **fields: Any,
    ) -> str:
        """Append an operator that writes the declared tensor ``output``; returns ``output``."""
        names = tuple(label(node) for node in origin)
        name = self._op_names.new(hint)
        self.ops.append(operator(name=name, origin=names, inputs=tuple(inputs), output=output, **fields))
        return output

    def quantization(self, view: View) -> Quantization | None:
        """How to read the int8 that hold a view, None for tensors of other types."""
        tensor = self.tensors[view.tensor]
        return tensor.quantization if tensor.dtype != "int16" else None

    def wide(self, view: View) -> Quantization | None:
        """How to read the int16 that hold a view, None for tensors of other types."""
        tensor = self.tensors[view.tensor]
        return tensor.quantization if tensor.dtype == "int16" else None

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self.tensors[tensor].shape

    def as_float(self, view: View) -> View:
        """The same numbers in float32."""
        quantization = self.tensors[view.tensor].quantization
        if quantization is None:
            return view
        source = view.tensor
        key = ("float", source)
        if key not in self._done:
            output = self.tensor(f"{source}_f32", self.shape(source), "float32")
            hint, scale = f"dequantize_{source}", quantization.scale
            if self.wide(view) is not None:
                self.emit(DequantizeInt16, hint, (), [source], output, scale=scale)
            else:
                zero_point = quantization.zero_point
                self.emit(Dequantize, hint, (), [source], output, scale=scale, zero_point=zero_point)
            self._done[key] = output
        return view.on(self._done[key])

    def dense(self, view: View, order: Sequence[int]) -> str:
        """A tensor whose physical axes are the view's logical axes in ``order``; bytes move if they must."""
        shape = tuple(view.shape[axis] for axis in order)
        if view.tensor in self.constants:
            return self._laid_out(view, order)
        if view.is_dense(order):
            return self.reshaped(view.tensor, shape)
        key = ("move", view.tensor, tuple(view.axes[axis] for axis in order))
        if key not in self._done:
            self._done[key] = self._transposed(view, order)
        return self.reshaped(self._done[key], shape)

    def row_major(self, view: View) -> View:
        """The same value in a tensor whose bytes are in logical order."""
        order = range(view.rank)
        if view.is_dense(order):
            return view
        tensor = self.dense(view, order)
        return View(tensor, view_of(tensor, view.shape).axes, view.stored)

    def view_as(self, view: View, shape: Sequence[int]) -> View:
        """The view under another logical shape.

        Raises:
            Refusal: of another number of elements.
        """
        require(prod(shape) == prod(view.shape), f"{list(view.shape)} does not fit {list(shape)}")
        reshaped = view.reshaped(shape)
        if reshaped is None:
            reshaped = self.row_major(view).reshaped(shape)
        assert reshaped is not None, "a row-major view takes any shape"
        return reshaped

    def reshaped(self, tensor: str, shape: Sequence[int]) -> str:
        """The same bytes under another physical shape; of a constant, another constant.

        Raises:
            Refusal: of another number of elements.
        """
        own = self.shape(tensor)
        require(prod(shape) == prod(own), f"{list(own)} does not fit {list(shape)}")
        source = self._source.get(tensor, tensor)
        for known in (tensor, source):
            if self.shape(known) == tuple(shape):
                return known
        key = ("reshape", source, tuple(shape))
        if key not in self._done and source in self.constants:
            array, declared = self.constants[source].reshape(shape), self.tensors[source]
            self._done[key] = self.constant(source, array, declared.quantization)
        if key not in self._done:
            declared = self.tensors[source]
            output = self.tensor(f"{source}_r", shape, declared.dtype, declared.quantization)
            self._source[output] = source
            self._done[key] = self.emit(Reshape, f"reshape_{source}", (), [source], output)
        return self._done[key]

    def reread(self, tensor: str, quantization: Quantization) -> str:
        """The same bytes under another quantization."""
        key = ("reread", tensor, quantization)
        if key not in self._done and tensor in self.constants:
            self._done[key] = self.constant(tensor, self.constants[tensor], quantization)
        if key not in self._done:
            dtype = self.tensors[tensor].dtype
            output = self.tensor(f"{tensor}_r", self.shape(tensor), dtype, quantization)
            self._done[key] = self.emit(Reshape, f"reread_{tensor}", (), [tensor], output)
        return self._done[key]

    def copied(self, tensor: str) -> str:
        """The same tensor at another address."""
        declared = self.tensors[tensor]
        output = self.tensor(f"{tensor}_copy", declared.shape, declared.dtype, declared.quantization)
        permutation = tuple(range(len(declared.shape)))
        return self.emit(Transpose, f"copy_{tensor}", (), [tensor], output, permutation=permutation)

    def root(self, tensor: str) -> str:
        """The tensor whose memory ``tensor`` shares."""
        producers = {op.output: op for op in self.ops if isinstance(op, Reshape)}
        while tensor in producers:
            tensor = producers[tensor].inputs[0]
        return tensor

    def _laid_out(self, view: View, order: Sequence[int]) -> str:
        """A constant in another layout: another constant."""
        key = ("constant", view.tensor, view.axes, tuple(order))
        if key not in self._done:
            places = np.zeros((1,) * view.rank, np.int64)
            for axis in range(view.rank):
                lengths = [-1 if other == axis else 1 for other in range(view.rank)]
                places = places + view.offsets(axis).reshape(lengths)
            array = self.constants[view.tensor].reshape(-1)[places].transpose(order)
            same = array.shape == self.shape(view.tensor) and view.is_dense(order)
            quantization = self.quantization(view)
            self._done[key] = view.tensor if same else self.constant(view.tensor, array, quantization)
        return self._done[key]

    def _transposed(self, view: View, order: Sequence[int]) -> str:
        """Copy into ``order``: over the tensor's own axes where they suffice, else over the view's digits."""
        wanted = [digit for axis in order for digit in view.axes[axis]]
        source = view.tensor
        physical = _strided(self.shape(source))
        if not set(wanted) <= set(physical):
            physical = sorted(wanted, key=lambda digit: -digit[1])
            source = self.reshaped(source, [size for size, _ in physical])
        ones = [index for index, (size, _) in enumerate(physical) if size == 1]
        permutation = tuple(_permutation([view.axes[axis] for axis in order], physical, ones))
        declared = self.tensors[source]
        shape = [declared.shape[axis] for axis in permutation]
        output = self.tensor(f"{view.tensor}_t", shape, declared.dtype, declared.quantization)
        return self.emit(Transpose, f"transpose_{view.tensor}", (), [source], output, permutation=permutation)


def label(node: ir.Node) -> str:
    """The name of a node, or of its first output when it has none."""
    return base_name(node) or node.op_type


def _strided(shape: Sequence[int]) -> list[tuple[int, int]]:
    """(size, stride) of each axis of a row-major tensor."""
    digits: list[tuple[int, int]] = []
    stride = 1
    for size in reversed(shape):
        digits.insert(0, (size, stride))
        stride *= size
    return digits


def _permutation(
    axes: Sequence[Sequence[tuple[int, int]]], physical: Sequence[tuple[int, int]], ones: list[int]
) -> list[int]:
    """Physical axes in the order of the wanted ones; axes of size 1 stand in for each other."""
    spare = list(ones)
    permutation: list[int] = []
    for axis in axes:
        if axis:
            permutation.extend(physical.index(digit) for digit in axis)
        elif spare:
            permutation.append(spare.pop(0))
    return spare + permutation

"""How the logical axes of an ONNX value lie in the memory of a program tensor.

A value of the graph is a *view* of a dense tensor: each logical axis is a sequence of digits
``(size, stride)``, most significant first, strides in elements (a hierarchical layout, as in the layout
algebra of CuTe). Transpose and Reshape only rewrite this description; bytes move when an operator needs an
order that the view does not have. A channels-last image flattened to [1, C*H*W] keeps its bytes: its axis
becomes two digits, C and H*W, of which the first has the smaller stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

Digit = tuple[int, int]  # (size, stride); a size is at least 2
Axis = tuple[Digit, ...]  # most significant digit first; () is an axis of size 1


@dataclass(frozen=True)
class View:
    """One ONNX value.

    Attributes:
        tensor: the program tensor that holds it.
        axes: where each logical axis lies; together they cover every element of the tensor once.
        stored: None when the value is real numbers (the tensor may be int8 all the same, its quantization
            says how to read it); the ONNX type (int8, int64, bool...) when the value is integers or truth
            values, which lie in the tensor as ``irshrink.program.elements`` says.
    """

    tensor: str
    axes: tuple[Axis, ...]
    stored: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        return tuple(prod(size for size, _ in axis) for axis in self.axes)

    @property
    def rank(self) -> int:
        return len(self.axes)

    def on(self, tensor: str) -> View:
        """The same layout of real numbers on another tensor."""
        return replace(self, tensor=tensor, stored=None)

    def transposed(self, permutation: Sequence[int]) -> View:
        """Logical axis i becomes what was axis ``permutation[i]``."""
        return replace(self, axes=tuple(self.axes[axis] for axis in permutation))

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """The same elements in row-major logical order under another shape.

        None when an axis of the new shape would have to cut a digit unevenly: then bytes must move first.
        """
        digits = list(_merged([digit for axis in self.axes for digit in axis]))
        axes: list[Axis] = []
        for size in reversed(shape):
            axis = _taken(digits, size)
            if axis is None:
                return None
            axes.insert(0, axis)
        return replace(self, axes=tuple(axes))

    def is_dense(self, order: Sequence[int]) -> bool:
        """Whether memory runs through the logical axes in ``order``, each axis in its own order."""
        expected = 1
        for axis in reversed(order):
            for size, stride in reversed(self.axes[axis]):
                if stride != expected:
                    return False
                expected *= size
        return True

    def order(self) -> tuple[int, ...] | None:
        """Logical axes as they follow each other in memory, None when one is scattered.

        Axes of size 1 fit anywhere: channels-last is preferred, then row-major.
        """

        def stride(axis: int) -> int:
            return max((stride for _, stride in self.axes[axis]), default=1 << 62)

        by_stride = sorted(range(self.rank), key=stride, reverse=True)
        for order in (channels_last(self.rank), tuple(range(self.rank)), tuple(by_stride)):
            if self.is_dense(order):
                return order
        return None

    def offsets(self, axis: int) -> NDArray[np.int64]:
        """Memory offset of each index along one logical axis, in elements."""
        total = np.zeros(1, np.int64)
        for size, stride in self.axes[axis]:
            total = (total[:, None] + np.arange(size) * stride).reshape(-1)
        return total


def view_of(tensor: str, shape: Sequence[int], order: Sequence[int] | None = None) -> View:
    """A dense view of logical ``shape`` whose axes follow each other in memory in ``order`` (row-major)."""
    axes: list[Axis] = [()] * len(shape)
    stride = 1
    for axis in reversed(range(len(shape)) if order is None else order):
        if shape[axis] > 1:
            axes[axis] = ((shape[axis], stride),)
            stride *= shape[axis]
    return View(tensor, tuple(axes))


def channels_last(rank: int) -> tuple[int, ...]:
    """Memory order of images: [N, C, L] as N, L, C and [N, C, H, W] as N, H, W, C; row-major otherwise."""
    if rank not in (3, 4):
        return tuple(range(rank))
    return (0, *range(2, rank), 1)


def _taken(digits: list[Digit], size: int) -> Axis | None:
    """Take the least significant digits that make up ``size`` off the end of ``digits``."""
    axis: list[Digit] = []
    missing = size
    while missing > 1:
        have, stride = digits.pop()
        if missing % have == 0:
            axis.insert(0, (have, stride))
            missing //= have
        elif have % missing == 0:
            axis.insert(0, (missing, stride))
            digits.append((have // missing, stride * missing))
            missing = 1
        else:
            return None
    return _merged(axis)


def _merged(digits: Sequence[Digit]) -> Axis:
    """Neighbouring digits that run through memory like one digit, as one."""
    merged: list[Digit] = []
    for size, stride in digits:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return tuple(merged)

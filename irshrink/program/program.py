"""Tensors and the ordered list of operators over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from irshrink.program.ops import Op
    from irshrink.program.stripes import Stripe


@dataclass(frozen=True)
class Quantization:
    """``real = scale * (stored - zero_point)``; one scale per tensor, float32."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Tensor:
    """A value in memory, row-major in ``shape`` (images are N, H, W, C).

    Attributes:
        name: unique in the program.
        shape: physical shape.
        dtype: NumPy name: ``int8``, ``int16``, ``float16``, ``float32``, ``int32`` or ``uint8`` (truth
            values, 0 or 1).
        quantization: how to read the stored integers, None for plain numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    quantization: Quantization | None = None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Port:
    """An input or output of the whole program, as the caller sees it.

    Attributes:
        name: the name in the ONNX graph.
        tensor: the program tensor that holds it.
        shape: logical shape of the ONNX graph, which is also the order of the bytes.
        element: element type in the ONNX graph. Where it is float32 and the tensor int8, the caller
            quantizes; uint8 x is stored as int8 x - 128, int64 as int32, bool as uint8, float64 as float32.
        codes: the integer type that the model itself quantizes an input to, if it does.
        classes: names of the classes that the numbers of an output stand for or, of an output of scores, that
            its columns belong to; () where there are none.
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    element: str = "float32"
    classes: tuple[str, ...] = ()
    codes: str | None = None


@dataclass
class Program:
    """Operators in execution order. Every tensor is written once, by one operator or by the caller.

    Attributes:
        constants: contents of the tensors that nobody writes: they live in flash, not in the arena, and
            operators read them like any other (a per-channel operand of an AddInt8, say).
        notes: sentences for the report.
        planned: whether the operators are in the order of the generated code, and ``stripes`` decided.
        stripes: runs of operators that take turns, a few rows each; all others compute their output at once.
        float_reasons: why a node runs in float although the model is quantized, by ONNX node name.
        float32_nodes: the nodes that stay float32 where a target computes in float16; None where no node
            shall be float16.
    """

    tensors: dict[str, Tensor]
    ops: list[Op]
    inputs: list[Port]
    outputs: list[Port]
    notes: list[str] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    planned: bool = False
    stripes: tuple[Stripe, ...] = ()
    float_reasons: dict[str, str] = field(default_factory=dict)
    float32_nodes: frozenset[str] | None = None

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """Indices of the operators that read each tensor."""
        readers: dict[str, list[int]] = {name: [] for name in self.tensors}
        for index, op in enumerate(self.ops):
            for name in op.inputs:
                readers[name].append(index)
        return readers

"""Operators of other sizes: the same layer with other channels, rows or columns, as a program of its own.

Layers that differ in sizes alone are a *family*. Its name is the workload of the member with a few fixed
sizes, so that kind, window, fused parts and number formats belong to it and weights do not. What has no
:class:`Sizes` is measured as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Op, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.tuning.workload import workload

Array = NDArray[Any]

_CONVOLUTIONS = frozenset({"ConvInt8", "ConvInt16", "ConvF32", "ConvF16"})
_DENSE = frozenset({"DenseInt8", "DenseInt16", "DenseF32", "DenseF16", "DenseInteger"})
#: Operators whose elements have nothing to do with each other, and those along the last axis.
_ELEMENTWISE = frozenset(
    {
        "AddInt8", "MulInt8", "PReluInt8", "TableInt8", "Quantize", "Dequantize", "SoftmaxInt8", "SoftmaxF32",
        "AddInt16", "QuantizeInt16", "DequantizeInt16", "UnaryF32", "BinaryF32", "AddTflm", "SoftmaxTflm",
        "DynamicQuantize", "BinaryF16", "UnaryF16",
    }
)  # fmt: skip
_POOLS = frozenset(
    {
        "MaxPool",
        "AveragePoolInt8",
        "AveragePoolInt16",
        "AveragePoolF32",
        "AveragePoolF16",
        "AveragePoolTflm",
        "MeanTflm",
    }
)


#: The largest of the made-up weights.
_LARGEST = 24


@dataclass(frozen=True, order=True)
class Sizes:
    """What members of a family differ in.

    Attributes:
        rows, columns: of the output, where it is an image; ``rows`` counts what a dense or an elementwise
            layer does again and again.
        inputs, outputs: channels.
    """

    rows: int
    columns: int
    inputs: int
    outputs: int

    @property
    def pixels(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, eq=False)
class Single:
    """A program of one operator."""

    op: Op
    program: Program

    @property
    def workload(self) -> str:
        return workload(self.op, self.program)


def single(op: Op, program: Program) -> Single:
    """The operator alone, with its own weights."""
    tensors = {name: program.tensors[name] for name in (*op.inputs, op.output)}
    constants = {name: program.constants[name] for name in op.inputs if name in program.constants}
    return _program(op, tensors, constants)


def sizes_of(op: Op, program: Program) -> Sizes | None:
    """The sizes that can be others; None for operators that belong to no family."""
    kind, shape = type(op).__name__, program.tensors[op.output].shape
    if getattr(op, "codes", None) is not None:
        return None  # the weights stand there twice
    if kind in _CONVOLUTIONS and len(shape) == 4 and shape[0] == 1:
        groups, group_in = _groups(op), _weight(op).shape[3]
        return None if groups > 1 and group_in > 1 else Sizes(shape[1], shape[2], groups * group_in, shape[3])
    if kind in _DENSE:
        outputs, inputs = _weight(op).shape
        return Sizes(prod(shape[:-1]), 1, inputs, outputs)
    if kind in _POOLS and len(shape) == 4 and shape[0] == 1:
        return Sizes(shape[1], shape[2], shape[3], shape[3])
    if kind in _ELEMENTWISE and shape and _regular(op, program):
        return Sizes(prod(shape[:-1]), 1, shape[-1], shape[-1])
    return None


def resized(op: Op, program: Program, sizes: Sizes) -> Single:
    """The member of the operator's family that has these sizes, with made-up weights.

    ``sizes`` keep what the family keeps: depthwise layers have as many outputs an input as before, pools and
    elementwise layers as many outputs as inputs.
    """
    kind = type(op).__name__
    if kind in _CONVOLUTIONS:
        return _conv(op, program, sizes)
    if kind in _DENSE:
        return _dense(op, program, sizes)
    if kind in _POOLS:
        return _images(op, program, sizes, {})
    return _elementwise(op, program, sizes)


def coupled(op: Op, inputs: int) -> int | None:
    """How many outputs a member with so many inputs has to have; None where that is free."""
    kind = type(op).__name__
    if kind in _DENSE or (kind in _CONVOLUTIONS and _groups(op) == 1):
        return None
    return inputs * (_weight(op).shape[0] // _groups(op)) if kind in _CONVOLUTIONS else inputs


def _conv(op: Op, program: Program, sizes: Sizes) -> Single:
    kernel = _weight(op).shape[1:3]
    depthwise = _groups(op) > 1
    shape = (sizes.outputs, *kernel, 1 if depthwise else sizes.inputs)
    changed = _channels(op, shape, sizes)
    return _images(op, program, sizes, changed | ({"groups": sizes.inputs} if depthwise else {}))


def _dense(op: Op, program: Program, sizes: Sizes) -> Single:
    changed = _channels(op, (sizes.outputs, sizes.inputs), sizes)
    tensors = {
        name: replace(program.tensors[name], shape=_with_last(program.tensors[name], sizes, channels))
        for name, channels in ((op.inputs[0], sizes.inputs), (op.output, sizes.outputs))
    }
    return _program(replace(op, inputs=op.inputs[:1], **changed), tensors, {})


def _with_last(tensor: Tensor, sizes: Sizes, channels: int) -> tuple[int, ...]:
    """The same number of axes, the second to last for all rows."""
    leading = max(0, len(tensor.shape) - 1)
    return (*[1] * (leading - 1), *([sizes.rows] if leading else []), channels)


def _images(op: Op, program: Program, sizes: Sizes, changed: dict[str, Any]) -> Single:
    """Operators with a window: the input is as large as the output needs."""
    window: Window = op.window  # type: ignore[attr-defined]
    height, width = _reach(window, sizes)
    shapes = [(1, height, width, sizes.inputs)]
    shapes += [(1, sizes.rows, sizes.columns, sizes.outputs)] * len(op.inputs)
    tensors = {
        name: replace(program.tensors[name], shape=shape)
        for name, shape in zip((*op.inputs, op.output), shapes, strict=True)
    }
    return _program(replace(op, **changed), tensors, {})


def _reach(window: Window, sizes: Sizes) -> tuple[int, int]:
    """Rows and columns of the input."""
    (rows, columns), (top, left, bottom, right) = window.extent(), window.pads
    down, across = window.strides
    height = (sizes.rows - 1) * down + rows - top - bottom
    width = (sizes.columns - 1) * across + columns - left - right
    return max(1, height), max(1, width)


def _elementwise(op: Op, program: Program, sizes: Sizes) -> Single:
    old = program.tensors[op.output].shape
    new = _with_last(program.tensors[op.output], sizes, sizes.outputs)
    tensors, constants = {op.output: replace(program.tensors[op.output], shape=new)}, {}
    for name in op.inputs:
        tensor = program.tensors[name]
        aligned = (*[1] * (len(old) - len(tensor.shape)), *tensor.shape)
        every = prod(aligned[:-1]) == prod(old[:-1])
        last = sizes.inputs if aligned[-1] == old[-1] else 1
        rows = new[:-1] if every else (1,) * len(new[:-1])
        shape = (*rows, last)[len(old) - len(tensor.shape) :]
        tensors[name] = replace(tensor, shape=shape)
        if name in program.constants:
            constants[name] = np.resize(program.constants[name], shape)
    changed: dict[str, Any] = {
        field.name: np.resize(value, _of_channels(value, old[-1], sizes.outputs))
        for field, value in _arrays(op)
        if field.name == "constant"
    }
    return _program(replace(op, **changed), tensors, constants)


def _regular(op: Op, program: Program) -> bool:
    """Whether every operand has all rows of the output or one, and all channels or one."""
    old = program.tensors[op.output].shape
    for name in op.inputs:
        shape = program.tensors[name].shape
        if len(shape) > len(old) or not shape:
            return False
        if prod(shape[:-1]) not in (1, prod(old[:-1])) or shape[-1] not in (1, old[-1]):
            return False
    constants = [value for field, value in _arrays(op) if field.name == "constant"]
    return all(value.size in (1, old[-1]) for value in constants)


def _channels(op: Op, shape: tuple[int, ...], sizes: Sizes) -> dict[str, Any]:
    """Weights, and what there is one of for every output channel."""
    weight = _weight(op)
    changed: dict[str, Any] = {
        "weight": _made_up(weight, shape, min(_LARGEST, (1 << getattr(op, "weight_bits", 8) - 1) - 1)),
        "bias": np.zeros(sizes.outputs, op.bias.dtype),  # type: ignore[attr-defined]
    }
    for name in ("requantization", "result"):
        form = getattr(op, name, None)
        if form is not None:
            changed[name] = _scaled(form, prod(shape[1:]), weight.shape[0], sizes.outputs)
    return changed


def _scaled(form: Any, depth: int, old: int, new: int) -> Any:
    """A requantization that no channel's results are all the same by."""
    scales: dict[str, Array] = {}
    for field, array in _arrays(form):
        shape = _of_channels(array, old, new)
        if field.name == "shift":
            scales["shift"] = np.resize(array, shape) if (array > 0).any() else np.full(shape, -1, np.int32)
        elif array.dtype.kind == "f":
            scales[field.name] = np.full(shape, 1 / (depth * _LARGEST), np.float32)
        else:
            scales[field.name] = np.full(shape, 2**31 // (depth * _LARGEST), np.int32)
    return replace(form, **scales)


def _arrays(record: Any) -> list[tuple[dataclasses.Field[Any], Array]]:
    every = [(field, getattr(record, field.name)) for field in dataclasses.fields(record)]
    return [(field, value) for field, value in every if isinstance(value, np.ndarray)]


def _of_channels(array: Array, old: int, new: int) -> tuple[int, ...]:
    """The shape of what has one value for every channel, or one for all."""
    return (*array.shape[:-1], new) if array.ndim and array.shape[-1] == old else array.shape


@cache
def _pattern() -> Array:
    """Numbers between 0 and 1, of either sign; as many as no length of weights has for a factor."""
    rng = np.random.default_rng(0)
    pattern: Array = rng.choice([-1.0, 1.0], 4099) * rng.uniform(0.04, 1.0, 4099)
    return pattern


def _made_up(weight: Array, shape: tuple[int, ...], largest: int) -> Array:
    """Weights as small as those of trained layers mostly are, none of them zero."""
    every = np.resize(_pattern(), shape)
    if weight.dtype.kind != "f":
        every = np.sign(every) * np.ceil(np.abs(every) * largest)
    made: Array = every.astype(weight.dtype)
    return made


def _weight(op: Op) -> Array:
    weight: Array = op.weight  # type: ignore[attr-defined]
    return weight


def _groups(op: Op) -> int:
    return int(op.groups)  # type: ignore[attr-defined]


def _program(op: Op, tensors: dict[str, Tensor], constants: dict[str, Array]) -> Single:
    given = [name for name in dict.fromkeys(op.inputs) if name not in constants]
    inputs = [Port(name, name, tensors[name].shape) for name in given]
    output = Port(op.output, op.output, tensors[op.output].shape)
    return Single(op, Program(tensors, [op], inputs, [output], constants=constants))


#: Channels that give a family its name; inputs as few as those of a model's first layer are part of it.
_CANONICAL, _FEW = 12, 4
Resize = Callable[[Sizes], Single]


def family(op: Op, program: Program) -> tuple[str, Resize] | None:
    """The name of an operator's family, and what makes its members; None for operators without one.

    Rows and columns are part of the name: layers that lose channels keep them. What a layer takes whose
    weights are coded depends on them, not on sizes alone.
    """
    sizes = sizes_of(op, program)
    if sizes is None or getattr(op, "huffman", False):
        return None
    resize = partial(resized, op, program)
    inputs = sizes.inputs if fixed_inputs(sizes) else _CANONICAL
    outputs = coupled(op, inputs)
    one = replace(sizes, inputs=inputs, outputs=_CANONICAL if outputs is None else outputs)
    return resize(one).workload, resize


def fixed_inputs(sizes: Sizes) -> bool:
    """Whether all members have the same inputs."""
    return sizes.inputs <= _FEW

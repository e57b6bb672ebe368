"""Reading and writing at indices of run time: every index is moved into its axis first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod

import numpy as np

from irshrink.backends.tvm.kernels.axes import collapse, loops, nest_parameters, row_major
from irshrink.backends.tvm.kernels.call import Argument, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.movement import element_type, itemsize_of
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    address,
    i32,
    inline,
    read,
    scalars,
    select,
    write,
)
from irshrink.program.ops import Gather, GatherElements, Scatter, ScatterElements
from irshrink.program.program import Program
from irshrink.target import Target

_SHORT = {"float32": "f32", "int32": "s32", "int8": "s8", "uint8": "u8"}


def place_of(index: Expr, size: Expr) -> Expr:
    return inline("int32", "irs_int_place", index, size)


def _tuple_parameters(k: int) -> list[Parameter]:
    """Size and step of each axis that an index tuple names."""
    return scalars(*(f"size{i}" for i in range(k)), *(f"step{i}" for i in range(k)))


def _tuple_arguments(sizes: Sequence[int], run: int) -> list[int]:
    steps = [prod(sizes[i + 1 :]) * run for i in range(len(sizes))]
    return [*sizes, *steps]


def _offset(f: Function, indices: Buffer, at: Expr, given: Sequence[Expr]) -> Expr:
    """Where the tuple of indices that begins at ``at`` points to."""
    k = len(given) // 2
    terms = [place_of(indices[at + i], given[i]) * given[k + i] for i in range(k)]
    return f.bind("from", sum(terms, start=i32(0)))


def select_gather(op: Gather, program: Program, target: Target) -> KernelCall:
    """Runs of bytes."""
    data, indices = (program.tensors[name].shape for name in op.inputs)
    run = data[-1] * itemsize_of(op, program)
    batch, count, k = data[0], indices[1], indices[2]
    shared = 0 if indices[0] == 1 else count * k
    sizes = _tuple_arguments(data[1:-1], run)
    function = _gather(k)
    return KernelCall(
        function, (Input(0), Input(1), Output(), batch, count, prod(data[1:-1]) * run, shared, run, *sizes)
    )


@cache
def _gather(k: int) -> TirFunction:
    with Function(f"gather_{k}", "Runs of elements at indices of run time.") as f:
        data, indices, y, batches, count, data_step, index_step, run, *given = f.parameters(
            read("data", "int8"), read("indices", "int32"), write("y", "int8"),
            *scalars("batches", "count", "data_step", "index_step", "run"), *_tuple_parameters(k),
        )  # fmt: skip
        with f.loop("batch", batches) as batch, f.loop("i", count) as i:
            offset = _offset(f, indices, batch * index_step + i * k, given)
            to = (batch * count + i) * run
            f.call("irs_copy", address(y, to), address(data, batch * data_step + offset), run)
    return f.result


def select_gather_elements(op: GatherElements, program: Program, target: Target) -> KernelCall:
    """One element an index; the walk over the indices is the walk over the output."""
    shape, data = program.tensors[op.output].shape, program.tensors[op.inputs[0]].shape
    strides = row_major(data)
    along = [0 if axis == op.axis else step for axis, step in enumerate(strides)]
    nest = collapse(shape, along, row_major(shape))
    function = _gather_elements(element_type(itemsize_of(op, program)), nest.rank)
    sizes = [*nest.arguments(), data[op.axis], strides[op.axis]]
    return KernelCall(function, (Input(0), Input(1), Output(), *sizes))


@cache
def _gather_elements(dtype: str, rank: int) -> TirFunction:
    bits = np.dtype(dtype).itemsize * 8
    with Function(f"gather_elements_b{bits}_{rank}d", "Elements at indices of run time.") as f:
        data, indices, y, *given, size, step = f.parameters(
            read("data", dtype), read("indices", "int32"), write("y", dtype),
            *nest_parameters(rank, "data", "y"), *scalars("size", "step"),
        )  # fmt: skip
        with loops(f, rank, given, ("data", "y")) as (data_at, y_at):
            f.store(y, y_at, data[data_at + place_of(indices[y_at], size) * step])
    return f.result


def _combine(dtype: str, reduction: str) -> Callable[[Expr, Expr], Expr]:
    """``there <reduction> update`` as the reference has it."""
    integer = dtype == "int32"
    if reduction == "add":
        return (lambda a, b: inline("int32", "irs_int_add", a, b)) if integer else (lambda a, b: a + b)
    if reduction == "mul":
        return (lambda a, b: inline("int32", "irs_int_mul", a, b)) if integer else (lambda a, b: a * b)
    if reduction == "min":
        return lambda a, b: select(b < a, b, a)
    if reduction == "max":
        return lambda a, b: select(b > a, b, a)
    return lambda a, b: b


def _scatter_type(op: Scatter | ScatterElements, program: Program) -> str:
    """Elements that are only moved are bits; those that are combined have their type."""
    if op.reduction == "none":
        return element_type(itemsize_of(op, program))
    return program.tensors[op.output].dtype


def select_scatter(op: Scatter, program: Program, target: Target) -> KernelCall:
    """A copy of the data, then the updates in order."""
    data, indices = program.tensors[op.inputs[0]], program.tensors[op.inputs[1]].shape
    sizes = [indices[0], data.shape[-1], *_tuple_arguments(data.shape[:-1], data.shape[-1])]
    function = _scatter(_scatter_type(op, program), op.reduction, indices[1])
    arguments: tuple[Argument, ...] = (Input(0), Output(), data.nbytes, Input(1), Input(2), Output(), *sizes)
    return KernelCall(function, arguments, in_place=(0,))


@cache
def _scatter(dtype: str, reduction: str, k: int) -> TirFunction:
    combine = _combine(dtype, reduction)
    with Function(f"scatter_{reduction}_{_SHORT[dtype]}_{k}", "Updates at indices of run time.") as f:
        data, copy, nbytes, indices, updates, y, count, run, *given = f.parameters(
            read("data", "int8"), write("copy", "int8"), *scalars("nbytes"),
            read("indices", "int32"), read("updates", dtype), write("y", dtype),
            *scalars("count", "run"), *_tuple_parameters(k),
        )  # fmt: skip
        f.call("irs_copy", address(copy, 0), address(data, 0), nbytes)
        with f.loop("i", count) as i:
            first = _offset(f, indices, i * k, given)
            with f.loop("j", run) as j:
                at = f.bind("at", first + j)
                f.store(y, at, combine(y[at], updates[i * run + j]))
    return f.result


def select_scatter_elements(op: ScatterElements, program: Program, target: Target) -> KernelCall:
    """A copy of the data, then one element an index."""
    data, shape = program.tensors[op.inputs[0]], program.tensors[op.inputs[1]].shape
    strides = row_major(data.shape)
    along = [0 if axis == op.axis else step for axis, step in enumerate(strides)]
    nest = collapse(shape, along, row_major(shape))
    function = _scatter_elements(_scatter_type(op, program), op.reduction, nest.rank)
    sizes = [*nest.arguments(), data.shape[op.axis], strides[op.axis]]
    arguments: tuple[Argument, ...] = (Input(0), Output(), data.nbytes, Input(1), Input(2), Output(), *sizes)
    return KernelCall(function, arguments, in_place=(0,))


@cache
def _scatter_elements(dtype: str, reduction: str, rank: int) -> TirFunction:
    combine = _combine(dtype, reduction)
    name = f"scatter_elements_{reduction}_{_SHORT[dtype]}_{rank}d"
    with Function(name, "Single updates at indices of run time.") as f:
        data, copy, nbytes, indices, updates, y, *given, size, step = f.parameters(
            read("data", "int8"), write("copy", "int8"), *scalars("nbytes"),
            read("indices", "int32"), read("updates", dtype), write("y", dtype),
            *nest_parameters(rank, "y", "index"), *scalars("size", "step"),
        )  # fmt: skip
        f.call("irs_copy", address(copy, 0), address(data, 0), nbytes)
        with loops(f, rank, given, ("y", "index")) as (y_at, index_at):
            at = f.bind("at", y_at + place_of(indices[index_at], size) * step)
            f.store(y, at, combine(y[at], updates[index_at]))
    return f.result

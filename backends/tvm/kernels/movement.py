"""Operators that move elements: Transpose, Slice, Expand, Pad, Concat.

All but Concat are one walk over a strided array. Where the innermost axis is contiguous on both sides and
long enough, runs of bytes are copied, whatever the element type; else single elements.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.axes import (
    Nest,
    broadcast_strides,
    collapse,
    loops,
    nest_parameters,
    row_major,
)
from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elementwise import byte_table
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    address,
    cast,
    constant,
    read,
    scalar,
    scalars,
    write,
)
from irshrink.errors import InternalError
from irshrink.program.ops import Concat, Expand, Op, Pad, Slice, Transpose
from irshrink.program.program import Program
from irshrink.target import Target

#: A shorter run is cheaper element by element than by a call of irs_copy.
SHORTEST_RUN = 8


class _Walk:
    """A strided copy: the nest, and the form of its innermost loop."""

    def __init__(self, nest: Nest, itemsize: int) -> None:
        outer, n, steps = nest.split_last()
        self.runs = steps == (1, 1) and n * itemsize >= SHORTEST_RUN
        self.dtype = "int8" if self.runs else element_type(itemsize)
        if not self.runs:
            self.rank, self.sizes = nest.rank, nest.arguments()
            return
        scaled = Nest(outer.extents, tuple(tuple(s * itemsize for s in steps) for steps in outer.strides))
        self.rank, self.sizes = outer.rank, [*scaled.arguments(), n * itemsize]

    @property
    def form(self) -> tuple[str, int, bool]:
        """Generator arguments."""
        return self.dtype, self.rank, self.runs


def element_type(itemsize: int) -> str:
    """The integer type that carries an element; floats move as bits."""
    types = {1: "int8", 2: "int16", 4: "int32"}
    if itemsize not in types:
        raise InternalError(f"no kernel moves elements of {itemsize} bytes")
    return types[itemsize]


def _suffix(dtype: str, rank: int, runs: bool) -> str:
    return f"_runs_{rank}d" if runs else f"_b{np.dtype(dtype).itemsize * 8}_{rank}d"


def _walk_parameters(rank: int, runs: bool) -> list[Parameter]:
    return [*nest_parameters(rank, "x", "y"), *(scalars("run") if runs else [])]


def _emit_walk(
    f: Function, x: Buffer, y: Buffer, given: list[Expr], rank: int, runs: bool, *, shared: bool = False
) -> None:
    with loops(f, rank, given, ("x", "y"), shared=shared) as (x_at, y_at):
        if runs:
            f.call("irs_copy", address(y, y_at), address(x, x_at), given[-1])
        else:
            f.store(y, y_at, x[x_at])


@cache
def _copy(dtype: str, rank: int, runs: bool) -> TirFunction:
    """``y[y_at] = x[x_at]`` over a nest of loops."""
    with Function("copy" + _suffix(dtype, rank, runs), "Copy between strided arrays.") as f:
        x, y, *given = f.parameters(read("x", dtype), write("y", dtype), *_walk_parameters(rank, runs))
        _emit_walk(f, x, y, given, rank, runs, shared=rank > 0)
    return f.result


def itemsize_of(op: Op, program: Program) -> int:
    return int(np.dtype(program.tensors[op.output].dtype).itemsize)


def select_transpose(op: Transpose, program: Program, target: Target) -> KernelCall:
    """A walk in the order of the output."""
    shape = program.tensors[op.output].shape
    strides = row_major(program.tensors[op.inputs[0]].shape)
    walk = _Walk(
        collapse(shape, [strides[axis] for axis in op.permutation], row_major(shape)),
        itemsize_of(op, program),
    )
    return KernelCall(_copy(*walk.form), (Input(0), Output(), *walk.sizes))


def select_slice(op: Slice, program: Program, target: Target) -> KernelCall:
    """A walk that starts at the first element taken."""
    shape, itemsize = program.tensors[op.output].shape, itemsize_of(op, program)
    strides = row_major(program.tensors[op.inputs[0]].shape)
    first = sum(start * stride for start, stride in zip(op.starts, strides, strict=True))
    steps = [step * stride for step, stride in zip(op.steps, strides, strict=True)]
    walk = _Walk(collapse(shape, steps, row_major(shape)), itemsize)
    return KernelCall(_copy(*walk.form), (Input(0, first * itemsize), Output(), *walk.sizes))


def select_expand(op: Expand, program: Program, target: Target) -> KernelCall:
    """A walk that stays where an axis is repeated."""
    shape = program.tensors[op.output].shape
    strides = broadcast_strides(program.tensors[op.inputs[0]].shape, shape)
    walk = _Walk(collapse(shape, strides, row_major(shape)), itemsize_of(op, program))
    return KernelCall(_copy(*walk.form), (Input(0), Output(), *walk.sizes))


# Pad


def select_pad(op: Pad, program: Program, target: Target) -> KernelCall:
    """The whole output is filled, then the input copied into its middle."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    itemsize, strides = itemsize_of(op, program), row_major(y.shape)
    first = sum(before * stride for (before, _), stride in zip(op.pads, strides, strict=True))
    walk = _Walk(collapse(x.shape, row_major(x.shape), strides), itemsize)
    value = int(np.array(op.value, y.dtype).view(element_type(itemsize)))
    arguments: list[Argument] = [Input(0), Output(first * itemsize), *walk.sizes, Output(), value, y.elements]
    return KernelCall(_pad(*walk.form, element_type(itemsize)), tuple(arguments))


@cache
def _pad(dtype: str, rank: int, runs: bool, element: str) -> TirFunction:
    name = f"pad_b{np.dtype(element).itemsize * 8}{_suffix(dtype, rank, runs)}"
    with Function(name, "Copy into the middle of a constant border.") as f:
        x, inner, *given, y, value, n = f.parameters(
            read("x", dtype), write("inner", dtype), *_walk_parameters(rank, runs),
            write("y", element), *scalars("value", "n"),
        )  # fmt: skip
        if element == "int8":
            f.call("irs_fill", address(y, 0), value, n)
        else:
            with f.loop("i", n) as i:
                f.store(y, i, value)
        _emit_walk(f, x, inner, given, rank, runs)
    return f.result


# Concat


def select_concat(op: Concat, program: Program, target: Target) -> KernelCall:
    """One run of each input after the other; int8 inputs of another scale go through their tables."""
    y, itemsize = program.tensors[op.output], itemsize_of(op, program)
    axis = op.axis % len(y.shape)
    rows = prod(y.shape[:axis])
    arguments: list[Argument] = [Output(), rows]
    for i, (name, table) in enumerate(zip(op.inputs, op.tables, strict=True)):
        arguments += [Input(i), program.tensors[name].elements // rows * itemsize]
        arguments += [] if table is None else [Constant(f"table{i}", byte_table(table))]
    return KernelCall(_concat(tuple(table is not None for table in op.tables)), tuple(arguments))


@cache
def _concat(tables: tuple[bool, ...]) -> TirFunction:
    """Sizes are bytes; the C name tells copies (c) from table look-ups (t)."""
    parameters: list[Parameter] = [write("y", "int8"), scalar("rows")]
    for i, table in enumerate(tables):
        parameters += [read(f"x{i}", "int8"), scalar(f"n{i}")]
        parameters += [constant(f"table{i}", "int8")] if table else []
    name = "concat_" + "".join("t" if table else "c" for table in tables)
    with Function(name, "Concatenation of rows.") as f:
        given = dict(zip([p.name for p in parameters], f.parameters(*parameters), strict=True))
        y, sizes = given["y"], [given[f"n{i}"] for i in range(len(tables))]
        total = f.bind("total", sum(sizes[1:], start=sizes[0]))
        with f.share("row", given["rows"]) as row:
            start: Any = row * total
            for i, table in enumerate(tables):
                x, n = given[f"x{i}"], sizes[i]
                at = f.bind(f"y{i}_at", start)
                _run(f, y, at, x, row * n, n, given[f"table{i}"] if table else None)
                start = at + n
    return f.result


def _run(f: Function, y: Buffer, at: Expr, x: Buffer, x_at: Expr, n: Expr, table: Buffer | None) -> None:
    if table is None:
        f.call("irs_copy", address(y, at), address(x, x_at), n)
        return
    with f.loop("i", n) as i:
        f.store(y, at + i, table[cast("int32", cast("uint8", x[x_at + i]))])

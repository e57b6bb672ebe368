"""Copies of arbitrary indices per axis: the tables of offsets lie in flash."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.axes import row_major
from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.movement import SHORTEST_RUN, element_type, itemsize_of
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    Parameter,
    TirFunction,
    address,
    constant,
    i32,
    read,
    scalar,
    write,
)
from irshrink.program.ops import Take
from irshrink.program.program import Program
from irshrink.target import Target


@dataclass(frozen=True)
class Loop:
    """One loop of the output: offsets into the input from a table, or at equal distances."""

    extent: int
    step: int
    table: tuple[int, ...] | None = None


def select_take(op: Take, program: Program, target: Target) -> KernelCall:
    """Loops over the output; an innermost axis that is taken whole moves as a run of bytes."""
    loops = _loops(op, program.tensors[op.inputs[0]].shape)
    itemsize = itemsize_of(op, program)
    last = loops[-1]
    runs = last.table is None and last.extent * itemsize >= SHORTEST_RUN
    unit = itemsize if runs else 1
    outer = loops[:-1] if runs else loops
    arguments: list[Argument] = [Input(0), Output()]
    for axis, loop in enumerate(outer):
        arguments.append(loop.extent)
        if loop.table is None:
            arguments.append(loop.step * unit)
        else:
            offsets = np.array(loop.table, np.int32) * np.int32(loop.step * unit)
            arguments.append(Constant(f"offsets{axis}", offsets))
    arguments += [last.extent * itemsize] if runs else []
    tables = tuple(loop.table is not None for loop in outer)
    return KernelCall(_take(tables, "int8" if runs else element_type(itemsize), runs), tuple(arguments))


def _loops(op: Take, shape: tuple[int, ...]) -> list[Loop]:
    """The axes of the output; neighbours that are taken whole are one loop."""
    loops: list[Loop] = []
    for size, step, indices in zip(shape, row_major(shape), op.indices, strict=True):
        if indices is not None:
            loops.append(Loop(len(indices), step, indices))
        elif loops and loops[-1].table is None:
            loops[-1] = Loop(loops[-1].extent * size, step)
        else:
            loops.append(Loop(size, step))
    return loops


@cache
def _take(tables: tuple[bool, ...], dtype: str, runs: bool) -> TirFunction:
    parameters: list[Parameter] = [read("x", dtype), write("y", dtype)]
    for axis, table in enumerate(tables):
        parameters += [
            scalar(f"n{axis}"),
            constant(f"offsets{axis}", "int32") if table else scalar(f"step{axis}"),
        ]
    parameters += [scalar("run")] if runs else []
    form = "".join("t" if table else "s" for table in tables)
    name = f"take_{form}_runs" if runs else f"take_{form}_b{np.dtype(dtype).itemsize * 8}"
    with Function(name, "Copy of any indices per axis.") as f, ExitStack() as stack:
        given = dict(zip([p.name for p in parameters], f.parameters(*parameters), strict=True))
        x_at: Expr = i32(0)
        y_at: Expr = i32(0)
        for axis, table in enumerate(tables):
            extent = given[f"n{axis}"]
            i = stack.enter_context(f.loop(f"i{axis}", extent))
            offset = given[f"offsets{axis}"][i] if table else i * given[f"step{axis}"]
            x_at = f.bind(f"x_at{axis}", x_at + offset)
            y_at = f.bind(f"y_at{axis}", y_at * extent + i)
        if runs:
            run = given["run"]
            f.call("irs_copy", address(given["y"], y_at * run), address(given["x"], x_at), run)
        else:
            f.store(given["y"], y_at, given["x"][x_at])
    return f.result

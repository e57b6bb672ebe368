"""Rows of a table that is stored in fewer bits, made float32 as they are picked."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Input, KernelCall, Output
from irshrink.backends.tvm.kernels.indexing import place_of
from irshrink.backends.tvm.kernels.stored import StoredForm, block_sizes, form_of, number_at, packed, real
from irshrink.backends.tvm.tir import Expr, Function, TirFunction, quotient, read, scalars, write
from irshrink.program.ops import GatherRows
from irshrink.program.program import Program
from irshrink.target import Target


def select_gather_rows(op: GatherRows, program: Program, target: Target) -> KernelCall:
    """One row an index, element by element."""
    rows, run = op.table.shape
    constants = packed(op.codes, _flat, _flat, 1)
    sizes = (program.tensors[op.inputs[0]].elements, rows, run, *block_sizes(op.codes))
    return KernelCall(_gather_rows(form_of(op.codes)), (Input(0), *constants, Output(), *sizes))


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array).reshape(-1)


@cache
def _gather_rows(form: StoredForm) -> TirFunction:
    with Function(f"gather_rows{form.suffix}", "Rows of a table at indices of run time.") as f:
        blocks = ("block_length", "blocks_in") if form.blocks else ()
        parameters = [
            read("indices", "int32"), *form.parameters(), write("y", "float32"),
            *scalars("count", "rows", "run", *blocks),
        ]  # fmt: skip
        given = dict(zip((p.name for p in parameters), f.parameters(*parameters), strict=True))
        with f.share("i", given["count"]) as i:
            row = f.bind("row", place_of(given["indices"][i], given["rows"]))
            with f.loop("j", given["run"]) as j:
                number = f.bind("number", number_at(form, given["weight"], row * given["run"] + j))
                f.store(given["y"], i * given["run"] + j, _real(form, given, row, j, number))
    return f.result


def _real(form: StoredForm, given: dict[str, Any], row: Expr, j: Expr, number: Expr) -> Expr:
    if form.kind == "levels":
        return given["levels"][row * (1 << form.bits) + number if form.tables else number]
    if form.bits == 16:
        return real(form, number, None, None)
    at = row * given["blocks_in"] + quotient(j, given["block_length"]) if form.blocks else row
    return real(form, number, given["scale"][at], given["zero"][at] if form.zero_points else None)

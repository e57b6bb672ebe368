"""Values by a table in flash: imputed columns, numbers by keys, categories as columns."""

from __future__ import annotations

from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    constant,
    f32,
    i32,
    read,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import Impute, Lookup, OneHot
from irshrink.program.program import Program
from irshrink.target import Target

_ZERO = i32(0)
_SHORT = {"float32": "f32", "int32": "s32"}


def select_impute(op: Impute, program: Program, target: Target) -> KernelCall:
    """Missing values by NaN or by number."""
    x = program.tensors[op.inputs[0]]
    columns = x.shape[-1]
    nan = bool(np.isnan(op.replaced))
    replaced = [] if nan else [int(op.replaced) if x.dtype == "int32" else float(np.float32(op.replaced))]
    values = Constant("values", np.ascontiguousarray(op.values))
    return KernelCall(
        _impute(x.dtype, nan),
        (Input(0), Output(), values, x.elements // columns, columns, *replaced),
        in_place=(0,),
    )


@cache
def _impute(dtype: str, nan: bool) -> TirFunction:
    with Function(f"impute_{_SHORT[dtype]}{'_nan' if nan else ''}", "Values in place of missing ones.") as f:
        x, y, values, rows, columns, *replaced = f.parameters(
            read("x", dtype),
            write("y", dtype),
            constant("values", dtype),
            *scalars("rows", "columns"),
            *([] if nan else [scalar("replaced", dtype)]),
        )
        with f.loop("row", rows) as row:
            at = f.bind("at", row * columns)
            with f.loop("k", columns) as k:
                value = f.bind("value", x[at + k])
                missing = value != value if nan else value == replaced[0]  # noqa: PLR0124 - of a NaN
                f.store(y, at + k, select(missing, values[k], value))
    return f.result


def select_lookup(op: Lookup, program: Program, target: Target) -> KernelCall:
    """Binary search over ascending keys; consecutive integers from a first one need none."""
    keys, values = np.ascontiguousarray(op.keys), np.ascontiguousarray(op.values)
    n = program.tensors[op.output].elements
    types = str(keys.dtype), str(values.dtype)
    default = int(op.default) if types[1] == "int32" else float(np.float32(op.default))
    if types[0] == "int32" and (np.diff(keys.astype(np.int64)) == 1).all():
        numbers = (keys.size, int(keys[0]), default, n)
        return KernelCall(_table(types[1]), (Input(0), Output(), Constant("values", values), *numbers))
    constants = Constant("keys", keys), Constant("values", values)
    return KernelCall(_search(*types), (Input(0), Output(), *constants, keys.size, default, n))


@cache
def _table(dtype: str) -> TirFunction:
    with Function(f"lookup_table_{_SHORT[dtype]}", "Values by their place.") as f:
        x, y, values, count, first, default, n = f.parameters(
            read("x", "int32"),
            write("y", dtype),
            constant("values", dtype),
            *scalars("count", "first"),
            scalar("otherwise", dtype),
            *scalars("n"),
        )
        with f.loop("k", n) as k:
            f.store(y, k, default)
            with f.when(_within(x[k], first, count)):
                f.store(y, k, values[x[k] - first])
    return f.result


def _within(value: Expr, first: Expr, count: Expr) -> Expr:
    from irshrink.backends.tvm.tir import all_of

    return all_of(value >= first, value < first + count)


@cache
def _search(key: str, dtype: str) -> TirFunction:
    with Function(f"lookup_{_SHORT[key]}_{_SHORT[dtype]}", "Values by their keys.") as f:
        x, y, keys, values, count, default, n = f.parameters(
            read("x", key),
            write("y", dtype),
            constant("keys", key),
            constant("values", dtype),
            *scalars("count"),
            scalar("otherwise", dtype),
            *scalars("n"),
        )
        low, high = f.local("low", "int32", 1), f.local("high", "int32", 1)
        with f.loop("k", n) as k:
            value = f.bind("value", x[k])
            f.store(low, 0, i32(0))
            f.store(high, 0, count)
            with f.repeat_while(low[_ZERO] < high[_ZERO]):  # the first key that is not below the value
                middle = f.bind("middle", (low[_ZERO] + high[_ZERO]) >> 1)
                below = f.bind("below", select(keys[middle] < value, i32(1), i32(0)))
                f.store(high, 0, select(below != 0, high[_ZERO], middle))
                f.store(low, 0, select(below != 0, middle + 1, low[_ZERO]))
            f.store(y, k, default)
            with f.when(low[_ZERO] < count), f.when(keys[low[_ZERO]] == value):
                f.store(y, k, values[low[_ZERO]])
            if key == "float32":
                last = f.bind("last", count - 1)
                both = value != value, keys[last] != keys[last]  # noqa: PLR0124 - of NaNs
                with f.when(both[0]), f.when(both[1]):
                    f.store(y, k, values[last])
    return f.result


def select_one_hot(op: OneHot, program: Program, target: Target) -> KernelCall:
    n = program.tensors[op.inputs[0]].elements
    categories = Constant("categories", np.ascontiguousarray(op.categories))
    return KernelCall(_one_hot(), (Input(0), Output(), categories, n, op.categories.size))


@cache
def _one_hot() -> TirFunction:
    with Function("one_hot_s32", "1 in the column of the category.") as f:
        x, y, categories, n, count = f.parameters(
            read("x", "int32"), write("y", "float32"), constant("categories", "int32"), *scalars("n", "count")
        )
        with f.loop("i", n) as i, f.loop("c", count) as c:
            f.store(y, i * count + c, select(x[i] == categories[c], f32(1.0), f32(0.0)))
    return f.result

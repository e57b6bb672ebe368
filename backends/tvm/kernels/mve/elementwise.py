"""int8 sums, products and tables, in lanes: eight elements at a time, in int32 where they are computed.

What is left of a row is loaded and stored in part, so that nothing outside of an operand is touched: it may
be a constant at the end of flash.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.axes import loops, nest_parameters
from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elements import Broadcast, broadcast, element_rows, inputs_like_output
from irshrink.backends.tvm.kernels.elementwise import byte_table, has_ties
from irshrink.backends.tvm.kernels.mve.epilogue import VectorEpilogue
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    address,
    cast,
    constant,
    inline,
    quotient,
    read,
    remainder,
    scalars,
    write,
)
from irshrink.program.ops import AddInt8, Addition, MulInt8, Requantization, TableInt8
from irshrink.program.program import Program

#: Elements of a vector; shorter rows are left to the general kernels.
LANES = 8


def select_add(op: AddInt8, program: Program) -> KernelCall | None:
    """Sum; None where rows are shorter than a vector."""
    shape, sizes = _broadcast(op, program)
    if sizes[0] < LANES:
        return None
    addition = op.addition
    (ma, mb), (za, zb) = addition.multipliers, addition.zero_points
    ties, epilogue = has_ties(addition), _bounds(addition)
    half = (1 << addition.shift) >> 1
    arguments: list[Argument] = [Input(0), Input(1), Output(), *sizes]
    arguments += [ma, mb, half - za * ma - zb * mb, addition.shift]
    arguments += [(1 << addition.shift) - 1] if ties else []
    arguments += [addition.zero_point, *_bound_arguments(addition, epilogue)]
    return _call(_add(shape, ties, epilogue), arguments, op, program)


def select_mul(op: MulInt8, program: Program) -> KernelCall | None:
    """Product; None where rows are shorter than a vector or the arithmetic is another."""
    shape, sizes = _broadcast(op, program)
    q = op.requantization
    if sizes[0] < LANES or not isinstance(q, Requantization):
        return None
    epilogue = _bounds(q)
    multiplier = np.float32(q.multiplier.reshape(-1)[0]).view(np.int32).item()
    arguments: list[Argument] = [Input(0), Input(1), Output(), *sizes, *op.zero_points, multiplier]
    arguments += [q.zero_point, *_bound_arguments(q, epilogue)]
    return _call(_mul(shape, epilogue), arguments, op, program)


def select_table(op: TableInt8, program: Program) -> KernelCall:
    """Any function of one value: sixteen bytes gathered at once."""
    table = Constant("table", byte_table(op.table))
    n = program.tensors[op.output].elements
    return _call(_table(), [Input(0), Output(), table, n], op, program)


def _call(
    function: TirFunction, arguments: list[Argument], op: AddInt8 | MulInt8 | TableInt8, program: Program
) -> KernelCall:
    return KernelCall(
        function,
        tuple(arguments),
        in_place=inputs_like_output(op, program),
        rows=element_rows(op, program),
    )


def _broadcast(op: AddInt8 | MulInt8, program: Program) -> tuple[Broadcast, list[int]]:
    a, b = (program.tensors[name].shape for name in op.inputs)
    return broadcast(a, b, program.tensors[op.output].shape)


def _bounds(q: Addition | Requantization) -> VectorEpilogue:
    return VectorEpilogue(clamp=(q.low, q.high) != (-128, 127))


def _bound_arguments(q: Addition | Requantization, epilogue: VectorEpilogue) -> list[Argument]:
    return [q.low, q.high] if epilogue.clamp else []


@cache
def _add(shape: Broadcast, ties: bool, epilogue: VectorEpilogue) -> TirFunction:
    suffix = f"{'_even' if ties else ''}{epilogue.suffix}"
    with Function(f"add_s8_mve{shape.suffix}{suffix}", "Sum of int8 tensors in fixed point.") as f:
        numbers = scalars("m_a", "m_b", "offset", "shift", *(["mask"] if ties else []))

        def combine(given: list[Expr], a: Expr, b: Expr) -> Expr:
            return inline("int32x4", f"irs_mve_weighted{'_even' if ties else ''}", a, b, *given)

        _body(f, shape, numbers, epilogue, combine)
    return f.result


@cache
def _mul(shape: Broadcast, epilogue: VectorEpilogue) -> TirFunction:
    with Function(f"mul_s8_mve{shape.suffix}{epilogue.suffix}", "Product of int8 tensors.") as f:
        numbers = scalars("zero_a", "zero_b", "multiplier")

        def combine(given: list[Expr], a: Expr, b: Expr) -> Expr:
            product = inline("int32x4", "irs_lanes_product", a, b, *given[:2])
            return inline("int32x4", "irs_mve_scale", product, inline("int32x4", "irs_lanes_same4", given[2]))

        _body(f, shape, numbers, epilogue, combine)
    return f.result


@cache
def _table() -> TirFunction:
    with Function("table_s8_mve", "Any function of one int8 value.") as f:
        x, y, table, n = f.parameters(
            read("x", "int8"), write("y", "int8"), constant("table", "int8"), *scalars("n")
        )
        f.call("irs_lanes_table", address(y, 0), address(x, 0), address(table, 0), n)
    return f.result


def _body(
    f: Function,
    shape: Broadcast,
    numbers: list[Parameter],
    epilogue: VectorEpilogue,
    combine: Callable[[list[Expr], Expr, Expr], Expr],
) -> None:
    """Loops over rows, and over the vectors of a row; ``combine`` takes four int32 lanes of each operand."""
    bounds = epilogue.parameters()
    a, b, y, n, *rest = f.parameters(
        read("a", "int8"),
        read("b", "int8"),
        write("y", "int8"),
        *scalars("n"),
        *nest_parameters(shape.outer, "a", "b", "y"),
        *numbers,
        *bounds,
    )
    split = len(rest) - len(numbers) - len(bounds)
    given, bound = rest[split : split + len(numbers)], epilogue.bind(rest[split + len(numbers) :])
    with loops(f, shape.outer, rest[:split], ("a", "b", "y")) as (a_at, b_at, y_at):

        def vector(k: Expr, left: Expr | None) -> None:
            lanes = [
                _lanes(f, name, buffer, at, moves, k, left)
                for name, buffer, at, moves in (
                    ("a_lanes", a, a_at, shape.a_moves),
                    ("b_lanes", b, b_at, shape.b_moves),
                )
            ]
            halves = [
                combine(given, *(inline("int32x4", f"irs_mve_{half}", v) for v in lanes))
                for half in ("even", "odd")
            ]
            bound.store8(f, halves[0], halves[1], y, y_at + k, left)

        with f.loop("i", quotient(n, LANES)) as i:
            vector(i * LANES, None)
        with f.when(remainder(n, LANES) != 0):
            vector(f.bind("k", n - remainder(n, LANES)), remainder(n, LANES))


def _lanes(f: Function, name: str, buffer: Buffer, at: Expr, moves: bool, k: Expr, left: Expr | None) -> Expr:
    if not moves:
        return f.bind(name, inline("int16x8", "irs_lanes_same", cast("int32", buffer[at])))
    if left is None:
        return f.bind(name, inline("int16x8", "irs_mve_widened", address(buffer, at + k)))
    return f.bind(name, inline("int16x8", "irs_lanes_part", address(buffer, at + k), left))

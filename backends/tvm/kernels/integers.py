"""Integers and truth values: arithmetic, comparisons, choices and conversions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from irshrink.backends.tvm.kernels.axes import (
    broadcast_strides,
    collapse,
    loops,
    nest_parameters,
    row_major,
)
from irshrink.backends.tvm.kernels.call import Argument, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elements import (
    Broadcast,
    Style,
    binary_body,
    broadcast,
    inputs_like_output,
    style_of,
    unary_kernel,
)
from irshrink.backends.tvm.kernels.movement import element_type, itemsize_of
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    cast,
    i32,
    inline,
    read,
    scalar,
    select,
    write,
)
from irshrink.program.ops import BinaryInteger, Cast, Compare, Where
from irshrink.program.program import Program
from irshrink.target import Target

_SHORT = {"float32": "f32", "int32": "s32", "int8": "s8", "uint8": "u8"}


def select_binary(op: BinaryInteger, program: Program, target: Target) -> KernelCall:
    """int32, or truth values in bytes."""
    a, b = (program.tensors[name] for name in op.inputs)
    shape, sizes = broadcast(a.shape, b.shape, program.tensors[op.output].shape)
    function = _binary(op.kind, a.dtype, shape, style_of(target))
    return KernelCall(
        function, (Input(0), Input(1), Output(), *sizes), in_place=inputs_like_output(op, program)
    )


def _called(name: str) -> Callable[[Expr, Expr], Expr]:
    return lambda a, b: inline("int32", name, a, b)


@cache
def _binary(kind: str, dtype: str, shape: Broadcast, style: Style) -> TirFunction:
    operations: dict[str, Callable[[Expr, Expr], Expr]] = {
        "min": _called("irs_min_i32"),
        "max": _called("irs_max_i32"),
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
    }
    compute = operations.get(kind) or _called(f"irs_int_{kind}")
    with Function(f"{kind}_{_SHORT[dtype]}{shape.suffix}", f"Elementwise {kind} of integers.") as f:
        if dtype == "int32":
            binary_body(f, shape, style, dtype, (), compute)
        else:
            binary_body(
                f, shape, style, dtype, (),
                lambda a, b: cast(dtype, compute(cast("int32", a), cast("int32", b))),
            )  # fmt: skip
    return f.result


def select_compare(op: Compare, program: Program, target: Target) -> KernelCall:
    """1 or 0 for each pair."""
    a, b = (program.tensors[name] for name in op.inputs)
    shape, sizes = broadcast(a.shape, b.shape, program.tensors[op.output].shape)
    return KernelCall(_compare(op.kind, a.dtype, shape), (Input(0), Input(1), Output(), *sizes))


@cache
def _compare(kind: str, dtype: str, shape: Broadcast) -> TirFunction:
    tests: dict[str, Callable[[Any, Any], Expr]] = {
        "equal": lambda a, b: a == b,
        "notequal": lambda a, b: a != b,
        "less": lambda a, b: a < b,
        "lessorequal": lambda a, b: a <= b,
        "greater": lambda a, b: a > b,
        "greaterorequal": lambda a, b: a >= b,
    }
    with Function(f"{kind}_{_SHORT[dtype]}{shape.suffix}", f"Elementwise comparison ({kind}).") as f:
        binary_body(
            f, shape, "plain", dtype, (),
            lambda a, b: cast("uint8", select(tests[kind](a, b), i32(1), i32(0))),
            result="uint8",
        )  # fmt: skip
    return f.result


def select_where(op: Where, program: Program, target: Target) -> KernelCall:
    """Bits of one operand or the other, whatever they mean."""
    shape = program.tensors[op.output].shape
    strides = [broadcast_strides(program.tensors[name].shape, shape) for name in op.inputs]
    nest = collapse(shape, *strides, row_major(shape))
    function = _where(element_type(itemsize_of(op, program)), nest.rank)
    return KernelCall(function, (Input(0), Input(1), Input(2), Output(), *nest.arguments()))


@cache
def _where(dtype: str, rank: int) -> TirFunction:
    arrays = ("condition", "a", "b", "y")
    with Function(
        f"where_{_SHORT[dtype]}_{rank}d", "Elements of a where the condition holds, else of b."
    ) as f:
        condition, a, b, y, *given = f.parameters(
            read("condition", "uint8"), read("a", dtype), read("b", dtype), write("y", dtype),
            *nest_parameters(rank, *arrays),
        )  # fmt: skip
        with loops(f, rank, given, arrays, shared=True) as (condition_at, a_at, b_at, y_at):
            f.store(y, y_at, select(condition[condition_at] != cast("uint8", i32(0)), a[a_at], b[b_at]))
    return f.result


def select_cast(op: Cast, program: Program, target: Target) -> KernelCall:
    """One conversion of every element; what a pair of types does not need is no parameter."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    arguments: list[Argument] = [Input(0), Output()]
    for name in _cast_parameters(x.dtype, y.dtype):
        arguments.append(int(getattr(op, name)))
    return KernelCall(_cast(x.dtype, y.dtype, style_of(target)), (*arguments, y.elements))


def _cast_parameters(source: str, wanted: str) -> tuple[str, ...]:
    given = ("input_zero_point",) if source == "int8" else ()
    bounds = ("low", "high") if wanted in ("int8", "int32") and source != "uint8" else ()
    return given + bounds + (("output_zero_point",) if wanted == "int8" else ())


@cache
def _cast(source: str, wanted: str, style: Style) -> TirFunction:
    names = _cast_parameters(source, wanted)

    def value(x: Expr, *constants: Expr) -> Expr:
        given = dict(zip(names, constants, strict=True))
        real = source == "float32"
        whole = x if real else cast("int32", x)
        if "input_zero_point" in given:
            whole = whole - given["input_zero_point"]
        if wanted == "float32":
            return cast("float32", whole)
        if wanted == "uint8":
            zero = cast("float32", i32(0)) if real else i32(0)
            return cast("uint8", select(whole != zero, i32(1), i32(0)))
        if "low" in given:
            name = "irs_int_from_float" if real else "irs_int_narrow"
            whole = inline("int32", name, whole, given["low"], given["high"])
        if wanted == "int8":
            return cast("int8", whole + given["output_zero_point"])
        return whole

    return unary_kernel(
        f"cast_{_SHORT[source]}_{_SHORT[wanted]}", f"{source} to {wanted}.", (source, wanted), style,
        [scalar(name) for name in names], value,
    )  # fmt: skip

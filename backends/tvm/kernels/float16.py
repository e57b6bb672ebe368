"""Elementwise kernels, pools and reductions of float16, and the borders to float32.

Buffers hold the bits of numbers as int16; functions of a support header compute with them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from math import inf

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elements import (
    Broadcast,
    Style,
    binary_body,
    broadcast,
    for_each,
    inputs_like_output,
    style_of,
    unary_kernel,
)
from irshrink.backends.tvm.kernels.elementwise_f32 import unary_parameters
from irshrink.backends.tvm.kernels.pooling import Counts, average_of_floats
from irshrink.backends.tvm.kernels.windows import (
    Block,
    Position,
    Sums,
    each_window,
    size_parameters,
)
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    address,
    f32,
    inline,
    read,
    scalar,
    scalars,
    write,
)
from irshrink.program.ops import AveragePoolF16, BinaryF16, RoundF16, UnaryF16, WidenF16
from irshrink.program.program import Program
from irshrink.target import Target


def bits_of(number: float) -> int:
    """The bits of a float16."""
    return int(np.array(number, np.float16).view(np.int16))


def widened(x: Expr) -> Expr:
    """float16 bits to float32."""
    return inline("float32", "irs_f16_widen", x)


def rounded(x: Expr) -> Expr:
    """float32 to float16 bits."""
    return inline("int16", "irs_f16_round", x)


def select_binary(op: BinaryF16, program: Program, target: Target) -> KernelCall:
    """float16 operation of two tensors, or of one and a constant."""
    operands: list[tuple[Argument, tuple[int, ...]]] = [
        (Input(i), program.tensors[name].shape) for i, name in enumerate(op.inputs)
    ]
    if op.constant is not None:
        operand = Constant("operand", np.ascontiguousarray(op.constant).view(np.int16))
        operands.insert(0 if op.constant_first else 1, (operand, op.constant.shape))
    (a, a_shape), (b, b_shape) = operands
    shape, sizes = broadcast(a_shape, b_shape, program.tensors[op.output].shape)
    function, in_place = _binary(op.kind, shape, style_of(target)), inputs_like_output(op, program)
    return KernelCall(function, (a, b, Output(), *sizes), in_place=in_place)


@cache
def _binary(kind: str, shape: Broadcast, style: Style) -> TirFunction:
    with Function(f"{kind}_f16{shape.suffix}", f"Elementwise {kind} of float16 tensors.") as f:
        binary_body(f, shape, style, "int16", (), partial(inline, "int16", f"irs_f16_{kind}"))
    return f.result


def select_unary(op: UnaryF16, program: Program, target: Target) -> KernelCall:
    """float16 function of one tensor, inside of it in float32."""
    n, style = program.tensors[op.output].elements, style_of(target)
    if op.kind == "clip":
        bounds = {"atleast": op.alpha, "atmost": op.beta}
        finite = {name: bits_of(bound) for name, bound in bounds.items() if bound not in (-inf, inf)}
        arguments: tuple[Argument, ...] = (Input(0), Output(), *finite.values(), n)
        return KernelCall(_clip(style, tuple(finite)), arguments, in_place=(0,))
    kind, values = unary_parameters(op)
    function = _unary(kind, style, tuple(values))
    return KernelCall(function, (Input(0), Output(), *values.values(), n), in_place=(0,))


@cache
def _clip(style: Style, bounds: tuple[str, ...]) -> TirFunction:
    def value(x: Expr, *given: Expr) -> Expr:
        for name, bound in zip(bounds, given, strict=True):
            x = inline("int16", f"irs_f16_{name}", x, bound)
        return x

    return unary_kernel(
        "clip_f16" + "".join(f"_{name}" for name in bounds), "Clip of float16.", ("int16", "int16"), style,
        scalars(*bounds), value,
    )  # fmt: skip


@cache
def _unary(kind: str, style: Style, names: tuple[str, ...]) -> TirFunction:
    return unary_kernel(
        f"{kind}_f16", f"Elementwise {kind} of float16.", ("int16", "int16"), style,
        [scalar(name, "float32") for name in names],
        lambda x, *constants: rounded(inline("float32", f"irs_math_{kind}", widened(x), *constants)),
    )  # fmt: skip


def select_round(op: RoundF16, program: Program, target: Target) -> KernelCall:
    """float32 to float16; what is written may begin where what is read does."""
    n = program.tensors[op.output].elements
    return KernelCall(_round(style_of(target)), (Input(0), Output(), n), distances=((0, 0),))


@cache
def _round(style: Style) -> TirFunction:
    return _border(
        "round_f16",
        "float32 to float16.",
        style,
        "int16",
        lambda x: rounded(inline("float32", "irs_f16_float_at", x)),
        4,
    )


def select_widen(op: WidenF16, program: Program, target: Target) -> KernelCall:
    """float16 to float32; what is read may lie in the second half of what is written."""
    n = program.tensors[op.output].elements
    return KernelCall(_widen(style_of(target)), (Input(0), Output(), n), distances=((0, 2 * n),))


@cache
def _widen(style: Style) -> TirFunction:
    return _border(
        "widen_f16",
        "float16 to float32.",
        style,
        "float32",
        lambda x: widened(inline("int16", "irs_f16_at", x)),
        2,
    )


def _border(
    name: str, doc: str, style: Style, result: str, value: Callable[[Expr], Expr], step: int
) -> TirFunction:
    """``y[k] = value(&x[k])`` for elements of ``step`` bytes.

    They are read as bytes: output and input may overlap, and compilers take it that other types never do.
    """
    with Function(name, doc) as f:
        x, y, n = f.parameters(read("x", "int8"), write("y", result), *scalars("n"))
        for_each(f, n, style, y, 0, lambda k: value(address(x, k * step)), shared=True)
    return f.result


def select_average_pool(op: AveragePoolF16, program: Program, target: Target) -> KernelCall:
    """float16 average pool, sums in float32."""
    return average_of_floats(op, program, target, "float16", _average_pool)


@cache
def _average_pool(block: Block, table: bool) -> TirFunction:
    name = f"average_pool_f16{block.suffix}{'_counts' if table else ''}"
    with Function(name, "Average pool of float16, sums in float32.") as f:
        sizes = size_parameters(block)
        x, y, *rest = f.parameters(read("x", "int16"), write("y", "int16"), *sizes, *Counts.parameters(table))
        size, given = rest[: len(sizes)], rest[len(sizes) :]
        sums = Sums(f, block, "float32", x, f32(0.0), lambda acc, v: acc + widened(v))

        def finish(p: Position) -> None:
            multiplier = Counts.emit(f, table, given, p.valid)
            sums.each(lambda j: f.store(y, p.at + j, rounded(sums.value(j) * multiplier)))

        each_window(f, block, size, sums, finish)
    return f.result

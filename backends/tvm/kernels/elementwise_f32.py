"""Elementwise operators on float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elements import (
    Broadcast,
    Style,
    binary_body,
    broadcast,
    inputs_like_output,
    style_of,
    unary_kernel,
)
from irshrink.backends.tvm.tir import Expr, Function, TirFunction, inline, scalar, select
from irshrink.program.ops import BinaryF32, UnaryF16, UnaryF32
from irshrink.program.program import Program
from irshrink.target import Target


def select_binary(op: BinaryF32, program: Program, target: Target) -> KernelCall:
    """float32 operation of two tensors, or of one and a constant."""
    operands: list[tuple[Argument, tuple[int, ...]]] = [
        (Input(i), program.tensors[name].shape) for i, name in enumerate(op.inputs)
    ]
    if op.constant is not None:
        operand = Constant("operand", np.ascontiguousarray(op.constant, np.float32))
        operands.insert(0 if op.constant_first else 1, (operand, op.constant.shape))
    (a, a_shape), (b, b_shape) = operands
    shape, sizes = broadcast(a_shape, b_shape, program.tensors[op.output].shape)
    function = _binary_f32(op.kind, shape, style_of(target))
    return KernelCall(function, (a, b, Output(), *sizes), in_place=inputs_like_output(op, program))


@cache
def _binary_f32(kind: str, shape: Broadcast, style: Style) -> TirFunction:
    operations: dict[str, Callable[[Expr, Expr], Expr]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: inline("float32", "irs_math_div", a, b),
        "min": lambda a, b: inline("float32", "irs_min_f32", a, b),
        "max": lambda a, b: inline("float32", "irs_max_f32", a, b),
        "pow": lambda a, b: inline("float32", "irs_math_pow", a, b),
        "prelu": lambda a, b: inline("float32", "irs_math_prelu", a, b),
    }
    with Function(f"{kind}_f32{shape.suffix}", f"Elementwise {kind} of float32 tensors.") as f:
        binary_body(f, shape, style, "float32", (), operations[kind])
    return f.result


#: Kinds that compute with ``alpha``, or with ``alpha`` and ``beta``, at run time.
_PARAMETERS = {
    **dict.fromkeys(("celu", "elu", "leakyrelu", "power", "thresholdedrelu"), ("alpha",)),
    **dict.fromkeys(("hardsigmoid", "selu", "shrink"), ("alpha", "beta")),
}


def select_unary(op: UnaryF32, program: Program, target: Target) -> KernelCall:
    """float32 function of one tensor; ``clip`` only against finite bounds."""
    n = program.tensors[op.output].elements
    style = style_of(target)
    if op.kind == "clip":
        low, high = float(np.float32(op.alpha)), float(np.float32(op.beta))
        return KernelCall(
            _clip(style, low != -inf, high != inf),
            (Input(0), Output(), *finite_bounds(low, high), n),
            in_place=(0,),
        )
    kind, values = unary_parameters(op)
    function = _unary(kind, style, tuple(values))
    return KernelCall(function, (Input(0), Output(), *values.values(), n), in_place=(0,))


def unary_parameters(op: UnaryF32 | UnaryF16) -> tuple[str, dict[str, float]]:
    """The function of the mathematics header, ``irs_math_<kind>``, and its run-time parameters."""
    kind = "gelu_tanh" if op.kind == "gelu" and op.alpha == 1 else op.kind
    values = {"alpha": float(np.float32(op.alpha)), "beta": float(np.float32(op.beta))}
    return kind, {name: values[name] for name in _PARAMETERS.get(kind, ())}


@cache
def _unary(kind: str, style: Style, names: tuple[str, ...]) -> TirFunction:
    """One function of the mathematics header, ``irs_math_<kind>``, over all elements."""
    return unary_kernel(
        f"{kind}_f32", f"Elementwise {kind} of float32.", ("float32", "float32"), style,
        [scalar(name, "float32") for name in names],
        lambda x, *constants: inline("float32", f"irs_math_{kind}", x, *constants),
    )  # fmt: skip


def finite_bounds(low: float, high: float) -> list[float]:
    """The run-time bounds of :func:`clipped`."""
    return [bound for bound in (low, high) if bound not in (-inf, inf)]


def clipped(value: Expr, low: Expr | None, high: Expr | None) -> Expr:
    """``low if value < low else high if value > high else value``, NaN passes; None for no bound."""
    if low is not None and high is not None:
        return inline("float32", "irs_clip_f32", value, low, high)
    if low is not None:
        return select(value < low, low, value)
    return select(value > high, high, value) if high is not None else value


@cache
def _clip(style: Style, low: bool, high: bool) -> TirFunction:
    names = ["low"] * low + ["high"] * high
    suffix = "".join(f"_{name}" for name in names)

    def value(x: Expr, *bounds: Expr) -> Expr:
        given = dict(zip(names, bounds, strict=True))
        return clipped(x, given.get("low"), given.get("high"))

    return unary_kernel(
        f"clip_f32{suffix}", "Clip of float32.", ("float32", "float32"), style,
        [scalar(name, "float32") for name in names], value,
    )  # fmt: skip

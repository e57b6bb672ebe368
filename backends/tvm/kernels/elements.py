"""Loops over elements that the elementwise families share.

One loop over contiguous elements inside as many as broadcasting needs: layers of equal shape and per-channel
or scalar operands need one or two after collapsing axes. Operands of the inner loop are contiguous or
constant (``v`` and ``s`` in the C name).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from irshrink.backends.tvm.kernels.axes import broadcast_strides, collapse, loops, nest_parameters, row_major
from irshrink.backends.tvm.kernels.call import RowCall
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    quotient,
    read,
    remainder,
    scalars,
    write,
)
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.program.stripes import Reach
from irshrink.target import Target

#: How the innermost loop is written: ``plain`` one element an iteration; ``unrolled`` four, for short bodies;
#: ``simd`` through a block that cannot alias an input, so that compilers vectorize it.
Style = Literal["plain", "unrolled", "simd"]
BLOCK = 16


def style_of(target: Target, otherwise: Style = "plain") -> Style:
    return "simd" if target.has("simd") else otherwise


def for_each(
    f: Function,
    n: Expr,
    style: Style,
    y: Buffer,
    y_at: Expr,
    value: Callable[[Any], Expr],
    *,
    shared: bool = False,
) -> None:
    """``y[y_at + k] = value(k)`` for k < n; element k is read before it is written (in place works).

    With ``shared``, threads may share the elements.
    """
    walk = f.share if shared else f.loop
    if style == "plain":
        with walk("k", n) as k:
            f.store(y, y_at + k, value(k))
        return
    step = BLOCK if style == "simd" else 4
    block = f.local("block", str(y.dtype), BLOCK) if style == "simd" else None
    with walk("i", quotient(n, step)) as i:
        if block is None:
            for j in range(step):
                f.store(y, y_at + (i * step + j), value(i * step + j))
        else:
            with f.loop("j", step) as j:
                f.store(block, j, value(i * step + j))
            with f.loop("j", step) as j:
                f.store(y, y_at + (i * step + j), block[j])
    with walk("rest", remainder(n, step)) as rest:
        k = f.bind("k", n - remainder(n, step) + rest)
        f.store(y, y_at + k, value(k))


@dataclass(frozen=True)
class Broadcast:
    """Loops around the inner one, and which operand the inner loop walks; an argument of generators."""

    outer: int
    a_moves: bool
    b_moves: bool

    @property
    def suffix(self) -> str:
        moves = "".join("v" if m else "s" for m in (self.a_moves, self.b_moves))
        return f"_{moves}" + (f"_{self.outer + 1}d" if self.outer else "")


def broadcast(a: Sequence[int], b: Sequence[int], y: Sequence[int]) -> tuple[Broadcast, list[int]]:
    """The form of a broadcast and its run-time sizes: ``n``, then the outer nest."""
    nest = collapse(y, broadcast_strides(a, y), broadcast_strides(b, y), row_major(y))
    outer, n, (a_step, b_step, _) = nest.split_last()
    return Broadcast(outer.rank, a_step != 0, b_step != 0), [n, *outer.arguments()]


def binary_body(
    f: Function,
    shape: Broadcast,
    style: Style,
    dtype: str,
    extra: Sequence[Parameter],
    value: Callable[..., Expr],
    result: str | None = None,
) -> None:
    """The body of a kernel of two operands; ``value(a, b, *extra)`` from values of type ``dtype``.

    The output has the type ``result``, that of the operands when it is not given.
    """
    a, b, y, n, *rest = f.parameters(
        read("a", dtype),
        read("b", dtype),
        write("y", result or dtype),
        *scalars("n"),
        *nest_parameters(shape.outer, "a", "b", "y"),
        *extra,
    )
    sizes = rest[: len(rest) - len(extra)]
    constants = rest[len(sizes) :]
    with loops(f, shape.outer, sizes, ("a", "b", "y"), shared=True) as (a_at, b_at, y_at):
        a_fixed = None if shape.a_moves else f.bind("a_value", a[a_at])
        b_fixed = None if shape.b_moves else f.bind("b_value", b[b_at])

        def element(k: Expr) -> Expr:
            left = a[a_at + k] if a_fixed is None else a_fixed
            right = b[b_at + k] if b_fixed is None else b_fixed
            return value(left, right, *constants)

        for_each(f, n, style, y, y_at, element, shared=shape.outer == 0)


def element_rows(op: Op, program: Program) -> RowCall | None:
    """Calls for some rows of an image, where all operands have the output's shape."""
    y = program.tensors[op.output].shape
    if len(y) != 4 or any(program.tensors[name].shape != y for name in op.inputs):
        return None
    return RowCall(tuple(Reach() for _ in op.inputs), elements="n")


def inputs_like_output(op: Op, program: Program) -> tuple[int, ...]:
    """Inputs that the output may overwrite: those that are walked exactly like it."""
    shape = program.tensors[op.output].shape
    return tuple(i for i, name in enumerate(op.inputs) if program.tensors[name].shape == shape)


def unary_kernel(
    name: str, doc: str, types: tuple[str, str], style: Style, extra: Sequence[Parameter], value: Any
) -> TirFunction:
    """A kernel ``y[k] = value(x[k], *extra)``; constants stand between ``y`` and ``n``."""
    with Function(name, doc) as f:
        x, y, *constants, n = f.parameters(read("x", types[0]), write("y", types[1]), *extra, *scalars("n"))
        for_each(f, n, style, y, 0, lambda k: value(x[k], *constants), shared=True)
    return f.result

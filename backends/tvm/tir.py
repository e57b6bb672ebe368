"""Writing TIR from Python: one function a kernel, flat buffers, run-time sizes as arguments.

A thin layer over TVM's IRBuilder that names everything, because the names end up in the user's C file.

    with Function("scale_f32", "y = 2 x") as f:
        x, y, n = f.parameters(read("x", "float32"), write("y", "float32"), scalar("n"))
        with f.loop("i", n) as i:
            f.store(y, i, x[i] * f32(2))
    f.result
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as build

#: Buffers behind pointers have no known extent: every size is a run-time argument.
_UNKNOWN_EXTENT = 0x7FFFFFFF

#: Calls that only the printer knows: how the iterations of a shared loop are split.
JOINED, FIRST = "share.joined", "share.first"

Expr = Any
Buffer = Any


@dataclass(frozen=True)
class Parameter:
    """One C parameter: a scalar, or a pointer that the kernel reads or writes."""

    name: str
    dtype: str
    pointer: bool
    const: bool = True
    restrict: bool = False


@dataclass(frozen=True)
class TirFunction:
    """A finished kernel: its C name, one line of documentation, its parameters and its TIR.

    ``shared`` says whether threads can share the work of one call (:meth:`Function.share`).
    """

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    body: Any
    shared: bool = False


class Function:
    """Builds one kernel; use as a context manager and take ``result`` afterwards."""

    def __init__(self, name: str, doc: str) -> None:
        self.name, self.doc = name, doc
        self.result: TirFunction
        self._parameters: list[Parameter] = []
        self._shared = False
        self._builder = IRBuilder()

    def __enter__(self) -> Function:
        self._builder.__enter__()
        self._frame = build.prim_func()
        self._frame.__enter__()
        build.func_name(self.name)
        return self

    def __exit__(self, *error: Any) -> None:
        self._frame.__exit__(*error)
        self._builder.__exit__(*error)
        if error[0] is None:
            body = clean(self.name, self._builder.get())
            self.result = TirFunction(self.name, self.doc, tuple(self._parameters), body, self._shared)

    def parameters(self, *parameters: Parameter) -> list[Any]:
        """Declare all C parameters, in order; a buffer for each pointer, a variable for each scalar."""
        self._parameters.extend(parameters)
        # TIR wants every argument before the first buffer over one of them
        variables = [build.arg(p.name, tirx.Var(p.name, _type(p))) for p in parameters]
        return [_buffer(p, v) if p.pointer else v for p, v in zip(parameters, variables, strict=True)]

    def local(self, name: str, dtype: str, elements: int) -> Buffer:
        """A small array in registers or on the stack."""
        buffer = build.alloc_buffer((elements,), dtype, scope="local")
        IRBuilder.name(name, buffer)
        return buffer

    @contextmanager
    def loop(self, name: str, extent: Expr) -> Iterator[Expr]:
        """``for (name = 0; name < extent; ++name)``."""
        with build.serial(0, extent) as variable:
            IRBuilder.name(name, variable)
            yield variable

    @contextmanager
    def share(self, name: str, extent: Expr, joined: Expr = 0) -> Iterator[Expr]:
        """A loop whose iterations threads may share: the plain loop in a build for one thread.

        In a build for several, every thread calls the kernel with its number, and the loop runs over that
        thread's part of ``range(extent)``. What a kernel must keep to, so that any number of threads gives
        the same bytes without a lock:

        - Every store to an output lies in a ``share`` loop, and each element is written by one iteration.
          All else (bindings, locals, stores to a workspace) is done by every thread for itself.
        - No iteration reads what another one writes, be it in this ``share`` loop or in another of the
          kernel: there is no barrier inside a kernel. In place is possible where every iteration reads just
          what it overwrites.
        - ``share`` may be inside plain loops, never inside another ``share``.
        - Tiles that overlap: where the last tile writes again what the one before wrote, give
          ``joined = last_overlaps(pixels, tile)``, and the last two iterations stay with one thread.
        - What must happen in a thread's first iteration asks :func:`first_of_share`.

        The workspace is each thread's own. Where a loop has few iterations (a dense layer of one row), share
        another one: which is a choice for the generator, by the sizes of the operator.
        """
        self._shared = True
        whole = isinstance(joined, int) and joined == 0
        iterations = extent if whole else inline("int32", JOINED, extent, joined)
        with build.parallel(0, iterations) as variable:
            IRBuilder.name(name, variable)
            yield variable

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """``if (condition)`` without an else."""
        with build.If(condition), build.Then():
            yield

    @contextmanager
    def repeat_while(self, condition: Expr) -> Iterator[None]:
        """``while (condition)``."""
        with build.While(condition):
            yield

    def bind(self, name: str, value: Expr) -> Expr:
        """Evaluate once and keep under a name."""
        variable = build.bind(value)
        IRBuilder.name(name, variable)
        return variable

    def store(self, buffer: Buffer, index: Expr, value: Expr) -> None:
        """``buffer[index] = value``."""
        build.buffer_store(buffer, value, [i32(index)])

    def call(self, name: str, *args: Expr) -> None:
        """Call a C function of the support header for its effect."""
        build.evaluate(tirx.call_extern("void", name, *[as_expr(a) for a in args]))


def filled_first(
    function: TirFunction, parameter: str, name: str, fill: str, extra: tuple[Parameter, ...]
) -> TirFunction:
    """``function`` with a call of ``fill(parameter, *extra)`` in front: the parameter is written, not given.

    Args:
        parameter: a pointer; memory of its size is what callers pass.
        name: the new function's.
        fill: a C function of a support header.
        extra: further parameters of the kernel, in C behind all others.
    """
    body = function.body
    at = next(i for i, p in enumerate(function.parameters) if p.name == parameter)
    variables = [tirx.Var(p.name, _type(p)) for p in extra]
    call = tirx.call_extern("void", fill, body.params[at], *variables)
    prim = tirx.PrimFunc(
        [*body.params, *variables], tirx.SeqStmt([tirx.Evaluate(call), body.body])
    ).with_attr("global_symbol", name)
    written = [
        replace(p, const=False, restrict=False) if i == at else p for i, p in enumerate(function.parameters)
    ]
    return TirFunction(name, function.doc, (*written, *extra), prim, function.shared)


def read(name: str, dtype: str) -> Parameter:
    """A ``const`` pointer to an activation."""
    return Parameter(name, dtype, pointer=True)


def constant(name: str, dtype: str) -> Parameter:
    """A ``const restrict`` pointer to weights: they never alias an output."""
    return Parameter(name, dtype, pointer=True, restrict=True)


def write(name: str, dtype: str) -> Parameter:
    """A pointer that the kernel writes (and may read)."""
    return Parameter(name, dtype, pointer=True, const=False)


def scalar(name: str, dtype: str = "int32") -> Parameter:
    """A run-time scalar."""
    return Parameter(name, dtype, pointer=False)


def scalars(*names: str) -> list[Parameter]:
    """Several int32 scalars, in order."""
    return [scalar(name) for name in names]


def i32(value: Expr) -> Expr:
    """An int32 constant; expressions pass through."""
    return tirx.IntImm("int32", value) if isinstance(value, int) else value


def f32(value: float) -> Expr:
    """A float32 constant, rounded once here."""
    return tirx.FloatImm("float32", float(np.float32(value)))


def as_expr(value: Expr) -> Expr:
    """Python numbers to constants; expressions pass through."""
    if isinstance(value, float):
        return f32(value)
    return i32(value)


def cast(dtype: str, value: Expr) -> Expr:
    return tirx.Cast(dtype, value)


def inline(dtype: str, name: str, *args: Expr) -> Expr:
    """Call a ``static inline`` function of the support header; it has no effect but its value."""
    return tirx.call_pure_extern(dtype, name, *[as_expr(a) for a in args])


def last_overlaps(n: Expr, tile: int) -> Expr:
    """What :meth:`Function.share` takes as ``joined`` when tiles of ``tile`` elements cover ``n``."""
    return 0 if tile == 1 else remainder(n, tile) != 0


def first_of_share(variable: Expr) -> Expr:
    """Whether the variable of a :meth:`Function.share` loop is at its first value for this thread."""
    return tirx.call_pure_extern("bool", FIRST, variable)


def address(buffer: Buffer, index: Expr) -> Expr:
    """``&buffer[index]``, to hand to :func:`inline` or :meth:`Function.call`."""
    return tirx.address_of(buffer[i32(index)])


def minimum(a: Expr, b: Expr) -> Expr:
    return tirx.Min(i32(a), i32(b))


def maximum(a: Expr, b: Expr) -> Expr:
    return tirx.Max(as_expr(a), as_expr(b))


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """``condition ? a : b``."""
    return tirx.Select(condition, as_expr(a), as_expr(b))


def all_of(first: Expr, *conditions: Expr) -> Expr:
    """``first && ...``."""
    for condition in conditions:
        first = tirx.And(first, condition)
    return first


def any_of(first: Expr, *conditions: Expr) -> Expr:
    """``first || ...``."""
    for condition in conditions:
        first = tirx.Or(first, condition)
    return first


def bits_and(a: Expr, b: Expr) -> Expr:
    """``a & b``."""
    return tirx.bitwise_and(a, i32(b))


def quotient(a: Expr, b: Expr) -> Expr:
    """Integer division of non-negative numbers (C's ``/``)."""
    return tirx.truncdiv(i32(a), i32(b))


def remainder(a: Expr, b: Expr) -> Expr:
    """Remainder of non-negative numbers (C's ``%``)."""
    return tirx.truncmod(i32(a), i32(b))


def _type(p: Parameter) -> Any:
    return tvm.ir.PointerType(tvm.ir.PrimType(p.dtype), "global") if p.pointer else p.dtype


def _buffer(p: Parameter, pointer: Any) -> Buffer:
    buffer = build.decl_buffer((_UNKNOWN_EXTENT,), p.dtype, data=pointer)
    IRBuilder.name(p.name, buffer)
    return buffer


def clean(name: str, function: Any) -> Any:
    """TVM's unrolling and dead code removal on one function.

    Not its simplifier: that substitutes every named value into its uses, and the C that a person would
    have to read is gone, while C compilers find the same code either way.
    """
    module = tvm.IRModule({name: function.with_attr("global_symbol", name)})
    passes = [tirx.transform.NarrowDataType(32), tirx.transform.UnrollLoop(), tirx.transform.RemoveNoOp()]
    return tvm.transform.Sequential(passes)(module)[name]

"""LSTM, GRU and RNN: one direction, all steps in one call.

The products with the state go block by block over rows of the recurrent weights, sums in registers; then the
gates of one sequence, which lie in the workspace, make its next state. The state lives in the last rows of
the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    cast,
    constant,
    f32,
    i32,
    inline,
    read,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import Activation, RecurrentF32
from irshrink.program.program import Program
from irshrink.target import Target

#: Activations that compute with ``alpha``, or with ``alpha`` and ``beta``.
_PARAMETERS = {
    "hardsigmoid": ("alpha", "beta"), "leakyrelu": ("alpha",), "elu": ("alpha",), "affine": ("alpha", "beta"),
    "scaledtanh": ("alpha", "beta"), "thresholdedrelu": ("alpha",),
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """Generator arguments.

    Attributes:
        width: rows of the recurrent weights in a block.
        vector: loops over the rows of a block, which compilers vectorize, instead of straight code.
        flags: ``peephole``, ``limit``, ``coupled`` (input and forget gate), ``linear`` (before reset), ``w8``
            (weights are int8, each times the scale of its row).
    """

    cell: str
    activations: tuple[str, ...]
    width: int
    vector: bool
    flags: frozenset[str]

    @property
    def name(self) -> str:
        style = f"{'simd' if self.vector else 'plain'}_{self.width}"
        return "_".join([self.cell, "f32", style, *self.activations, *sorted(self.flags)])

    def parameters(self) -> list[Parameter]:
        """Those behind the sizes: constants of the activations, and the limit."""
        names = [
            f"{name}{number}"
            for number, kind in enumerate(self.activations)
            for name in _PARAMETERS.get(kind, ())
        ]
        return [scalar(name, "float32") for name in names + ["limit"] * ("limit" in self.flags)]


def select_recurrent(op: RecurrentF32, program: Program, target: Target) -> KernelCall:
    """All steps of one direction."""
    steps, sequences, _ = program.tensors[op.inputs[0]].shape
    size, simd = op.recurrent.shape[1], target.has("simd")
    width = (16 if simd else 4) if size >= 4 else 1
    flags = {
        "peephole": op.peephole is not None,
        "limit": op.limit != inf,
        "coupled": op.input_forget,
        "linear": op.linear_before_reset,
        "w8": op.codes is not None,
    }
    chosen = frozenset(name for name, has in flags.items() if has)
    kinds = tuple(activation.kind for activation in op.activations)
    form = Form(op.cell, kinds, width, simd and width > 1, chosen)
    parts = _parts(op, op.recurrent if op.codes is None else op.codes.integers)
    arguments: list[Argument] = [Input(index) for index in range(len(op.inputs))]
    arguments += [Output(), Workspace()]
    arguments += [Constant(f"recurrent{i}", _pack(part, width)) for i, part in enumerate(parts)]
    if op.codes is not None:
        scales = _parts(op, op.codes.scale.reshape(-1, 1))
        arguments += [Constant(f"scale{i}", _pack(part, width)) for i, part in enumerate(scales)]
    if op.peephole is not None:
        arguments.append(Constant("peephole", np.ascontiguousarray(op.peephole, np.float32)))
    if op.linear_before_reset:
        arguments.append(Constant("recurrent_bias", np.ascontiguousarray(op.recurrent_bias, np.float32)))
    order = (steps - 1, -1) if op.reverse else (0, 1)
    arguments += [steps, sequences, size, *(-(-len(part) // width) for part in parts), *order]
    arguments += [value for activation in op.activations for value in _values(activation)]
    arguments += [float(np.float32(op.limit))] if op.limit != inf else []
    floats = sum(-(-len(part) // width) * width for part in parts) + size
    return KernelCall(_recurrent(form), tuple(arguments), workspace_bytes=floats * 4)


def _parts(op: RecurrentF32, rows: NDArray[Any]) -> list[NDArray[Any]]:
    """Rows of the weights that meet one state: of a GRU the last gate sees another one than the first two."""
    size = op.recurrent.shape[1]
    return [rows[: 2 * size], rows[2 * size :]] if op.cell == "gru" else [rows]


def _values(activation: Activation) -> list[float]:
    return [float(np.float32(getattr(activation, name))) for name in _PARAMETERS.get(activation.kind, ())]


def _pack(weight: NDArray[Any], width: int) -> NDArray[Any]:
    """[rows, K] as [block][k][row of the block], padded with zeros."""
    blocks = -(-len(weight) // width)
    padded = np.zeros((blocks * width, weight.shape[1]), weight.dtype)
    padded[: len(weight)] = weight
    return np.ascontiguousarray(padded.reshape(blocks, width, -1).transpose(0, 2, 1)).reshape(-1)


@cache
def _recurrent(form: Form) -> TirFunction:
    states = ("h", "c") if form.cell == "lstm" else ("h",)
    parts = ("recurrent0", "recurrent1") if form.cell == "gru" else ("recurrent0",)
    scales = [f"scale{i}" for i in range(len(parts))] if "w8" in form.flags else []
    extra = ["peephole"] * ("peephole" in form.flags) + ["recurrent_bias"] * ("linear" in form.flags)
    parameters = [
        *(read(name, "float32") for name in ("gates", *states)),
        *(write(name, "float32") for name in ("y", "sums")),
        *(constant(name, "int8" if scales else "float32") for name in parts),
        *(constant(name, "float32") for name in (*scales, *extra)),
        *scalars(
            "steps", "sequences", "size", *(f"blocks{i}" for i in range(len(parts))), "first", "direction"
        ),
        *form.parameters(),
    ]
    with Function(form.name, f"One direction of a recurrent layer ({form.cell}).") as f:
        values = f.parameters(*parameters)
        _Recurrent(f, form, {p.name: v for p, v in zip(parameters, values, strict=True)}).emit(states)
    return f.result


@dataclass
class _Recurrent:
    """The body of one kernel; ``given`` holds its parameters by name."""

    f: Function
    form: Form
    given: dict[str, Any]

    def emit(self, states: tuple[str, ...]) -> None:
        f, given = self.f, self.given
        y, sequences, size = given["y"], given["sequences"], given["size"]
        self.acc = f.local("acc", "float32", self.form.width)
        row = f.bind("row", sequences * size)
        self.state = f.bind("state", given["steps"] * row)
        for number, name in enumerate(states):
            with f.loop("i", row) as i:
                f.store(y, self.state + number * row + i, given[name][i])
        with f.loop("t", given["steps"]) as t, f.loop("n", sequences) as n:
            at = f.bind("at", (given["first"] + t * given["direction"]) * sequences + n)
            self.h_at = f.bind("h_at", self.state + n * size)
            self.c_at = f.bind("c_at", self.h_at + row) if len(states) == 2 else None
            getattr(self, f"_{self.form.cell}")(at)
            with f.loop("j", size) as j:
                f.store(y, at * size + j, y[self.h_at + j])

    def _lstm(self, at: Expr) -> None:
        f, given, flags = self.f, self.given, self.form.flags
        y, sums, size = given["y"], given["sums"], given["size"]
        self._copy_gates(at, 4, 0, 4, 0)
        self._accumulate(0, 0, y, self.h_at)
        with f.loop("j", size) as j:
            c = f.bind("old_c", y[self.c_at + j])
            i, o, forget, g = (sums[j + gate * size] for gate in range(4))
            if "peephole" in flags:
                i = i + given["peephole"][j] * c
                forget = forget + given["peephole"][j + 2 * size] * c
            i = f.bind("input", self._activated(0, i))
            kept = f32(1.0) - i if "coupled" in flags else self._activated(0, forget)
            new = f.bind("new_c", kept * c + i * self._activated(1, g))
            if "peephole" in flags:
                o = o + given["peephole"][j + size] * new
            f.store(y, self.c_at + j, new)
            f.store(y, self.h_at + j, self._activated(0, o) * self._activated(2, new, limited=False))

    def _gru(self, at: Expr) -> None:
        f, given, linear = self.f, self.given, "linear" in self.form.flags
        y, sums, size = given["y"], given["sums"], given["size"]
        self._copy_gates(at, 3, 0, 2, 0)
        self._accumulate(0, 0, y, self.h_at)
        with f.loop("j", size * 2) as j:
            f.store(sums, j, self._activated(0, sums[j]))
        last = f.bind("last", given["blocks0"] * self.form.width)
        reset = f.bind("reset", last + given["blocks1"] * self.form.width)
        if linear:
            with f.loop("j", size) as j:
                f.store(sums, last + j, given["recurrent_bias"][j])
            self._accumulate(1, last, y, self.h_at)
        else:
            with f.loop("j", size) as j:
                f.store(sums, reset + j, sums[size + j] * y[self.h_at + j])
            self._copy_gates(at, 3, 2, 1, last)
            self._accumulate(1, last, sums, reset)
        with f.loop("j", size) as j:
            total = sums[last + j]
            if linear:
                total = given["gates"][(at * 3 + 2) * size + j] + total * sums[size + j]
            z, n = f.bind("z", sums[j]), f.bind("new", self._activated(1, total))
            f.store(y, self.h_at + j, (f32(1.0) - z) * n + z * y[self.h_at + j])

    def _rnn(self, at: Expr) -> None:
        f, y, sums = self.f, self.given["y"], self.given["sums"]
        self._copy_gates(at, 1, 0, 1, 0)
        self._accumulate(0, 0, y, self.h_at)
        with f.loop("j", self.given["size"]) as j:
            f.store(y, self.h_at + j, self._activated(0, sums[j]))

    def _copy_gates(self, at: Expr, gates: int, first: int, count: int, to: Any) -> None:
        """``count`` of the gates of one sequence and step into the workspace."""
        size = self.given["size"]
        start = self.f.bind("gates_at", (at * gates + first) * size)
        with self.f.loop("j", size * count) as j:
            self.f.store(self.given["sums"], i32(to) + j, self.given["gates"][start + j])

    def _accumulate(self, part: int, sums_at: Any, state: Buffer, state_at: Expr) -> None:
        """Add the products of the state with one part of the weights to the sums in the workspace."""
        f, given, width, acc = self.f, self.given, self.form.width, self.acc
        weights, size = given[f"recurrent{part}"], given["size"]
        with f.loop("b", given[f"blocks{part}"]) as b:
            first = f.bind("block", b * width + i32(sums_at))
            self._each(lambda j: f.store(acc, j, given["sums"][first + j]))
            with f.loop("k", size) as k:
                value = f.bind("value", state[state_at + k])
                at = f.bind("weight_at", (b * size + k) * width)

                def weight(j: Any, at: Expr = at) -> Expr:
                    if "w8" not in self.form.flags:
                        return weights[at + j]
                    return cast("float32", weights[at + j]) * given[f"scale{part}"][b * width + j]

                self._each(lambda j: f.store(acc, j, acc[i32(j)] + value * weight(j)))
            self._each(lambda j: f.store(given["sums"], first + j, acc[i32(j)]))

    def _each(self, do: Any) -> None:
        if self.form.vector:
            with self.f.loop("j", self.form.width) as j:
                do(j)
            return
        for j in range(self.form.width):
            do(j)

    def _activated(self, number: int, x: Expr, *, limited: bool = True) -> Expr:
        kind = self.form.activations[number]
        values = [self.given[f"{name}{number}"] for name in _PARAMETERS.get(kind, ())]
        if limited and "limit" in self.form.flags:
            limit = self.given["limit"]
            x = inline("float32", "irs_clip_f32", x, f32(0.0) - limit, limit)
        if kind == "relu":
            x = self.f.bind("clipped", x)
            return select(x < 0, f32(0.0), x)
        if kind == "thresholdedrelu":
            x = self.f.bind("clipped", x)
            return select(x > values[0], x, f32(0.0))
        if kind == "affine":
            return values[0] * x + values[1]
        if kind == "scaledtanh":
            return values[0] * inline("float32", "irs_math_tanh", values[1] * x)
        return inline("float32", f"irs_math_{kind}", x, *values)

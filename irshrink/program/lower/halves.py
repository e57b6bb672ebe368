"""float16 arithmetic, on targets that have it: layers, and what lies between them (docs/element-types.md).

A step on finished operators: layouts, fused clamps and constants are those of the float32 program. Layers
with float16 numbers for weights begin; sums, pools, functions of one value and moves go on in float16 where
they read any; everything else reads float32 again, converted exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import (
    AveragePoolF16,
    AveragePoolF32,
    BinaryF16,
    BinaryF32,
    Concat,
    ConvF16,
    ConvF32,
    DenseF16,
    DenseF32,
    Expand,
    Float16,
    MatMulF16,
    MatMulF32,
    MaxPool,
    Op,
    Pad,
    ReduceF16,
    ReduceF32,
    Reshape,
    RoundF16,
    Slice,
    Take,
    Transpose,
    UnaryF16,
    UnaryF32,
    WeightHalves,
    WidenF16,
)
from irshrink.program.program import Program
from irshrink.target import Target

_LARGEST = float(np.finfo(np.float16).max)
_MOVES = (Concat, Expand, MaxPool, Pad, Reshape, Slice, Take, Transpose)
_BORDERS = (RoundF16, WidenF16)
#: Kinds of elementwise operations whose operands or results leave the range of float16 too easily.
_NOT_HERE = frozenset({"pow"})


def with_halves(program: Program, target: Target) -> Program:
    """The program with float16 arithmetic where the model wants it and the target has it; told in a note."""
    if program.float32_nodes is None:
        return program
    if not target.has("fp16"):
        note = (
            f"Arithmetic is float32: {target.name} computes no float16 (feature fp16). "
            "Weights are stored in 16 bits all the same."
        )
        return replace(program, notes=[*program.notes, note])
    return _Rewriting(program, program.float32_nodes).result()


class _Rewriting:
    """Operators so far, and in which forms each value is held."""

    def __init__(self, program: Program, kept: frozenset[str]) -> None:
        self.program, self.kept = program, kept
        self.tensors = dict(program.tensors)
        self.constants = dict(program.constants)
        self.ops: list[Op] = []
        self.ports = {port.tensor for port in program.outputs}
        self._computed: set[str] = set()  # values that come out in float16
        self._half: dict[str, str] = {}  # value -> the tensor that holds it in float16
        self._single: dict[str, str] = {}  # of those: the tensor in float32
        self._left: list[tuple[Op, str]] = []

    def result(self) -> Program:
        for op in self.program.ops:
            self._rewrite(op)
        for port in self.program.outputs:
            self._single_form(port.tensor)
        used = {name for op in self.ops for name in (*op.inputs, op.output)}
        used |= {port.tensor for port in self.program.inputs}
        return replace(
            self.program,
            tensors={name: tensor for name, tensor in self.tensors.items() if name in used},
            constants={name: array for name, array in self.constants.items() if name in used},
            ops=self.ops,
            notes=[*self.program.notes, *self._notes()],
            float32_nodes=None,  # it is done
        )

    def _rewrite(self, op: Op) -> None:
        made = self._kept_reason(op) or self._in_halves(op)
        if isinstance(made, Op):
            self.ops.append(replace(made, inputs=self._halves(op), output=self._output(op.output)))
            return
        if made is not None:
            self._left.append((op, made))
        self.ops.append(replace(op, inputs=tuple(self._single_form(name) for name in op.inputs)))

    def _kept_reason(self, op: Op) -> str | None:
        moves = isinstance(op, _MOVES) or not type(op).__name__.endswith("F32")
        return None if moves or not self.kept.intersection(op.origin) else "it is kept float32"

    def _in_halves(self, op: Op) -> Op | str | None:
        """The operator in float16; why it has no such form, or None where it need not have any."""
        if isinstance(op, ConvF32 | DenseF32):
            return _layer(op)
        if not self._computed.intersection(op.inputs):
            return None
        if isinstance(op, _MOVES):
            return _moved(op) if self.tensors[op.output].dtype == "float32" else None
        if isinstance(op, MatMulF32):
            return _as(MatMulF16, op)
        if isinstance(op, BinaryF32):
            return _binary(op)
        if isinstance(op, UnaryF32):
            return _unary(op)
        if isinstance(op, AveragePoolF32):
            return _as(AveragePoolF16, op, window=op.window, count_padding=op.count_padding)
        if isinstance(op, ReduceF32):
            return _as(ReduceF16, op, kind=op.kind, axes=op.axes)
        return f"{type(op).__name__} has no float16 form"

    def _halves(self, op: Op) -> tuple[str, ...]:
        return tuple(self._half_form(name) for name in op.inputs)

    def _output(self, name: str) -> str:
        """The tensor that a float16 result goes to; an output of the program has its own in float32."""
        self._half[name] = self._tensor(name, "float16") if name in self.ports else name
        tensor = self.tensors[name]
        if name not in self.ports:
            self.tensors[name] = replace(tensor, dtype="float16")
        self._computed.add(name)
        return self._half[name]

    def _half_form(self, name: str) -> str:
        """The tensor that holds a value in float16."""
        if name in self._half:
            return self._half[name]
        new = self._half[name] = self._tensor(name, "float16")
        if name in self.constants:
            self.constants[new] = to_half(self.constants[name])
        else:
            self.ops.append(RoundF16(name=f"round_{name}", origin=(), inputs=(name,), output=new))
        return new

    def _single_form(self, name: str) -> str:
        """The tensor that holds a value in float32, or as it is where that is no real number."""
        if name not in self._computed:
            return name
        if name not in self._single:
            new = self._single[name] = name if name in self.ports else self._tensor(name, "float32")
            self.ops.append(WidenF16(name=f"widen_{name}", origin=(), inputs=(self._half[name],), output=new))
        return self._single[name]

    def _tensor(self, name: str, dtype: str) -> str:
        """A new tensor for another form of a value."""
        new = f"{name}_{'f16' if dtype == 'float16' else 'f32'}"
        while new in self.tensors:
            new += "_"
        self.tensors[new] = replace(self.tensors[name], name=new, dtype=dtype)
        return new

    def _notes(self) -> list[str]:
        count = sum(type(op).__name__.endswith("F16") for op in self.ops if not isinstance(op, _BORDERS))
        computing = sum(not isinstance(op, _MOVES) for op in self.program.ops)
        notes = [f"Arithmetic is float16 in {count} of {computing} operators."]
        if self._left:
            named = "; ".join(f"{', '.join(op.origin) or op.name}: {why}" for op, why in self._left)
            notes.append(f"In float32 stay, with conversions around them: {named}.")
        return notes


def to_half(array: NDArray[Any]) -> Float16:
    """float32 numbers rounded to float16."""
    with np.errstate(over="ignore"):
        half: Float16 = np.asarray(array.astype(np.float16), order="C")
    return half


def _bound(value: float) -> float:
    return float(to_half(np.array(value, np.float32)))


def _fits(*arrays: NDArray[Any] | None) -> bool:
    return all(array is None or bool((np.abs(array) <= _LARGEST).all()) for array in arrays)


def _moved(op: Op) -> Op:
    return replace(op, value=_bound(op.value)) if isinstance(op, Pad) else op


def _as(operator: type[Op], op: Op, /, **fields: Any) -> Op:
    return operator(name=op.name, origin=op.origin, inputs=op.inputs, output=op.output, **fields)


def _layer(op: ConvF32 | DenseF32) -> Op | str:
    if op.codes is not None and not (isinstance(op.codes, WeightHalves) and op.codes.element == "float16"):
        return "its weights are stored in another form"
    if not _fits(op.weight, op.bias):
        return "its weights go beyond float16"
    bias = to_half(np.broadcast_to(op.bias, (len(op.weight),)) + np.float32(0))
    numbers = {"weight": to_half(op.weight), "bias": bias, "low": _bound(op.low), "high": _bound(op.high)}
    if isinstance(op, DenseF32):
        return _as(DenseF16, op, **numbers)
    return _as(ConvF16, op, **numbers, window=op.window, groups=op.groups)


def _binary(op: BinaryF32) -> Op | str:
    if op.kind in _NOT_HERE:
        return f"{op.kind} has no float16 form"
    if not _fits(op.constant):
        return "its constant goes beyond float16"
    constant = None if op.constant is None else to_half(op.constant)
    return _as(BinaryF16, op, kind=op.kind, constant=constant, constant_first=op.constant_first)


def _unary(op: UnaryF32) -> Op:
    clip = op.kind == "clip"
    alpha, beta = (_bound(x) if clip else x for x in (op.alpha, op.beta))
    return _as(UnaryF16, op, kind=op.kind, alpha=alpha, beta=beta)

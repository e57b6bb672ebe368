"""Weights in fewer bits, in flash and on their way to a multiplication.

A form says what a kernel loads: integers of 8, 4 or 2 bits and scales (a channel's, or a block's), indices
into tables, or numbers of 16 bits. Weights are packed in the kernel's own order; a run of ``unit``
numbers that are loaded together shares bytes by planes: with 4 bits, number i and number i + unit / 2 are the
low and the high half of byte i. What one plane holds is then a run of bytes, which compilers load as vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Constant
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    Parameter,
    as_expr,
    bits_and,
    cast,
    constant,
    i32,
    inline,
    quotient,
    remainder,
)
from irshrink.program.ops import StoredWeights, WeightCodes, WeightHalves, WeightLevels

#: Packs an array of the weights' shape, or of one number a channel, in a kernel's order, flat.
Pack = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class StoredForm:
    """Generator argument.

    Attributes:
        kind: ``codes``, ``levels``, ``float16`` or ``bfloat16``.
        bits: of a number in flash.
        zero_points: integers have zero points.
        blocks: scales are those of blocks.
        tables: each channel has levels of its own.
    """

    kind: str
    bits: int
    zero_points: bool = False
    blocks: bool = False
    tables: bool = False

    @property
    def suffix(self) -> str:
        """Of the kernel's name."""
        if self.kind in ("float16", "bfloat16"):
            return f"_{self.kind}"
        letter = "w" if self.kind == "codes" else "k"
        parts = (("_zero", self.zero_points), ("_blocks", self.blocks), ("_tables", self.tables))
        return f"_{letter}{self.bits}" + "".join(name for name, has in parts if has)

    @property
    def element(self) -> str:
        """What the packed weights are an array of."""
        if self.bits == 16:
            return "uint16"
        return "int8" if self.kind == "codes" and self.bits == 8 else "uint8"

    def parameters(self) -> list[Parameter]:
        """Those of the kernel that hold the weights."""
        if self.bits == 16:
            return [constant("weight", self.element)]
        if self.kind == "levels":
            return [constant("weight", self.element), constant("levels", "float32")]
        zero = [constant("zero", "int8")] if self.zero_points else []
        return [constant("weight", self.element), constant("scale", "float32"), *zero]


def form_of(codes: StoredWeights) -> StoredForm:
    if isinstance(codes, WeightHalves):
        return StoredForm(codes.element, 16)
    if isinstance(codes, WeightLevels):
        return StoredForm("levels", codes.bits, tables=codes.levels.ndim == 2)
    return StoredForm("codes", codes.bits, codes.zero_point is not None, codes.block > 0)


def packed(codes: StoredWeights, elements: Pack, channels: Pack, unit: int) -> list[Constant]:
    """The constants of :meth:`StoredForm.parameters`.

    Args:
        elements: puts an array of the weights' shape in the kernel's order.
        channels: the same for scales and tables, a number or a row of numbers each.
        unit: numbers that are loaded together, from a multiple of ``unit`` on.
    """
    if isinstance(codes, WeightHalves):
        return [Constant("weight", elements(codes.halves))]
    if isinstance(codes, WeightLevels):
        levels = codes.levels if codes.levels.ndim == 1 else channels(codes.levels)
        weight = _bytes(elements(codes.indices), codes.bits, unit)
        return [Constant("weight", weight), Constant("levels", np.ascontiguousarray(levels).reshape(-1))]
    integers = elements(codes.integers)
    if codes.bits < 8:
        integers = _bytes((integers + (1 << (codes.bits - 1))).astype(np.uint8), codes.bits, unit)
    zero = [] if codes.zero_point is None else [Constant("zero", channels(codes.zero_point))]
    return [Constant("weight", integers), Constant("scale", channels(codes.scale)), *zero]


def block_sizes(codes: StoredWeights | None) -> tuple[int, ...]:
    """How long a block of inputs is, and how many a position of the window has; nothing without blocks."""
    if not isinstance(codes, WeightCodes) or not codes.block:
        return ()
    return codes.block, codes.scale.shape[-1]


def _bytes(numbers: NDArray[np.uint8], bits: int, unit: int) -> NDArray[np.uint8]:
    """Planes of each unit in bytes; a last, shorter unit is filled up with zeros."""
    per = 8 // bits
    unit = _in_bytes(unit, per)
    padded = np.zeros(-(-numbers.size // unit) * unit, np.uint8)
    padded[: numbers.size] = numbers
    planes = padded.reshape(-1, per, unit // per)
    made = np.zeros((len(planes), unit // per), np.uint8)
    for plane in range(per):
        made |= planes[:, plane] << (plane * bits)
    return made.reshape(-1)


def _in_bytes(unit: int, per: int) -> int:
    """Numbers that share whole bytes: those of a unit, or as many as fill one byte."""
    return unit if unit % per == 0 else per


def number_at(form: StoredForm, weight: Any, index: Expr) -> Expr:
    """Number ``index`` of an array packed with ``unit`` 1, int32: codes of less than 8 bits not centred."""
    if form.bits >= 8:
        return cast("int32", weight[as_expr(index)])
    per = 8 // form.bits
    return _field(weight[quotient(index, per)], remainder(index, per) * form.bits, form.bits)


def _field(byte: Expr, shift: Expr, bits: int) -> Expr:
    """Bits of a byte; ``shift`` counts them from the lowest."""
    wide = cast("int32", byte)
    plain = isinstance(shift, int) and shift == 0
    return bits_and(wide if plain else wide >> shift, (1 << bits) - 1)


def real(form: StoredForm, number: Expr, scale: Expr, zero: Expr) -> Expr:
    """The weight that an integer or 16 bits stand for."""
    if form.bits == 16:
        return inline("float32", f"irs_half_{form.kind}", number)
    if form.bits < 8:
        number = number - (1 << (form.bits - 1))
    if form.zero_points:
        number = number - cast("int32", zero)
    return cast("float32", number) * scale


class Block:
    """The weights of a block of channels that a kernel computes together, made numbers in a local array.

    Attributes:
        f: the kernel.
        given: its parameters by name, those of :meth:`StoredForm.parameters` among them.
        channels: in the block.
        vector: loops, which compilers vectorize, instead of straight code.
    """

    def __init__(
        self, f: Function, form: StoredForm, given: Mapping[str, Any], channels: int, vector: bool
    ) -> None:
        self.f, self.form, self.given, self.channels, self.vector = f, form, given, channels, vector
        self._real = f.local("real", "float32", channels)
        if form.kind == "codes":
            self._scale = f.local("scales", "float32", channels)
        if form.zero_points:
            self._zero = f.local("zeros", "int32", channels)
        self._first: Expr = 0

    def start(self, first: Expr) -> None:
        """Load the scales of a block of channels, or of one of its blocks of inputs, from ``first`` on."""
        self._first = first
        f, given = self.f, self.given
        if self.form.kind != "codes":
            return
        self.each(self.channels, lambda j: f.store(self._scale, j, given["scale"][first + j]))
        if self.form.zero_points:
            self.each(
                self.channels, lambda j: f.store(self._zero, j, cast("int32", given["zero"][first + j]))
            )

    def load(self, at: Expr) -> Callable[[Any], Expr]:
        """Make numbers of the weights from ``at`` on; by channel."""
        form, weight = self.form, self.given["weight"]
        per = 8 // form.bits if form.bits < 8 else 1
        if self.channels % per:
            self.each(self.channels, lambda j: self._put(j, number_at(form, weight, at + j)))
            return lambda j: self._real[i32(j)]
        run = self.channels // per
        byte = self.f.bind("byte", quotient(at, per)) if per > 1 else at
        for plane in range(per):
            shift, first = plane * form.bits, plane * run
            self.each(
                run,
                lambda j, shift=shift, first=first: self._put(  # type: ignore[misc]
                    j + first,
                    _field(weight[byte + j], shift, form.bits)
                    if per > 1
                    else cast("int32", weight[byte + j]),
                ),
            )
        return lambda j: self._real[i32(j)]

    def _put(self, j: Any, number: Expr) -> None:
        f, form = self.f, self.form
        if form.kind == "levels":
            at = number
            if form.tables:
                at = self._first * (1 << form.bits) + number * self.channels + j
            f.store(self._real, j, self.given["levels"][at])
            return
        scale = self._scale[i32(j)] if form.kind == "codes" else None
        f.store(self._real, j, real(form, number, scale, self._zero[i32(j)] if form.zero_points else None))

    def each(self, count: int, do: Callable[[Any], None]) -> None:
        """``do(j)`` for j below ``count``."""
        if self.vector:
            with self.f.loop("j", count) as j:
                do(j)
            return
        for j in range(count):
            do(j)

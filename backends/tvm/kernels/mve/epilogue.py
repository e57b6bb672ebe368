"""From vectors of accumulators to int8: requantization, clipping, residual addition for eight channels.

The two vectors ``a`` and ``b`` of a block hold its even and its odd channels, because VQMOVNB and VQMOVNT
interleave what they narrow. What a block's sums are scaled with lies in one table: ``a`` and ``b`` of the
biases, of the multipliers (the bits of floats, or 31-bit fractions), and in fixed point of the shifts, those
to the right as negative numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Input
from irshrink.backends.tvm.kernels.elementwise import has_ties
from irshrink.backends.tvm.kernels.epilogue import SUFFIXES, Scaling, scaling_of
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    address,
    inline,
    read,
    scalars,
)
from irshrink.program.ops import Addition, FixedPoint, Requantization

#: Channels of a block.
BLOCK = 8
#: Rows of a block in the table.
ROWS: dict[Scaling, tuple[str, ...]] = {
    "float": ("bias", "multiplier"),
    "right": ("bias", "multiplier", "right"),
    "both": ("bias", "multiplier", "right", "left"),
}


@dataclass(frozen=True)
class VectorEpilogue:
    """What happens to finished accumulators; a hashable argument of kernel generators.

    ``partial`` says that the last block has fewer than its channels; ``ties`` that the residual sum can be
    halfway between two integers.
    """

    partial: bool = False
    clamp: bool = False
    residual: bool = False
    residual_clamp: bool = False
    ties: bool = False
    scaling: Scaling = "float"

    @staticmethod
    def of(
        requantization: Requantization | FixedPoint, residual: Addition | None = None, partial: bool = False
    ) -> VectorEpilogue:
        return VectorEpilogue(
            scaling=scaling_of(requantization),
            partial=partial,
            clamp=(requantization.low, requantization.high) != (-128, 127),
            residual=residual is not None,
            residual_clamp=residual is not None and (residual.low, residual.high) != (-128, 127),
            ties=residual is not None and has_ties(residual),
        )

    @property
    def suffix(self) -> str:
        parts = [("_part", self.partial), ("_clamp", self.clamp), ("_add", self.residual)]
        parts += [("_even", self.ties), ("_addclamp", self.residual_clamp)]
        return SUFFIXES[self.scaling] + "".join(name for name, present in parts if present)

    @property
    def rows(self) -> tuple[str, ...]:
        """What the table holds of a block, in order."""
        return ROWS[self.scaling]

    def parameters(self) -> list[Parameter]:
        """C parameters, in the order of :meth:`arguments`."""
        names = ["zero_point"] + (["low", "high"] if self.clamp else [])
        if self.residual:
            names += ["add_m_a", "add_m_b", "add_offset", "add_shift", "add_zero_point"]
        names += ["add_mask"] if self.ties else []
        names += ["add_low", "add_high"] if self.residual_clamp else []
        return [*([read("other", "int8")] if self.residual else []), *scalars(*names)]

    def arguments(
        self, requantization: Requantization | FixedPoint, residual: Addition | None = None
    ) -> list[Argument]:
        """What a kernel with this epilogue is called with."""
        arguments: list[Argument] = [] if residual is None else [Input(1)]
        arguments.append(requantization.zero_point)
        arguments += [requantization.low, requantization.high] if self.clamp else []
        if residual is None:
            return arguments
        (ma, mb), (za, zb) = residual.multipliers, residual.zero_points
        half = (1 << residual.shift) >> 1
        arguments += [ma, mb, half - za * ma - zb * mb, residual.shift, residual.zero_point]
        arguments += [(1 << residual.shift) - 1] if self.ties else []
        return arguments + ([residual.low, residual.high] if self.residual_clamp else [])

    def bind(self, given: Sequence[Any]) -> BoundEpilogue:
        """The epilogue with its C parameters as expressions."""
        return BoundEpilogue(self, dict(zip([p.name for p in self.parameters()], given, strict=True)))


@dataclass(frozen=True)
class BoundEpilogue:
    """An epilogue inside of a function that is being generated."""

    kind: VectorEpilogue
    values: dict[str, Any]

    def store8(self, f: Function, a: Expr, b: Expr, y: Buffer, at: Expr, left: Expr | None) -> None:
        """Eight bytes, ``left`` of them where that is given."""
        self._store(f, (a, b), y, at, left)

    def store4(self, f: Function, a: Expr, y: Buffer, at: Expr, left: Expr | None) -> None:
        """Four bytes, ``left`` of them where that is given."""
        self._store(f, (a,), y, at, left)

    def _store(self, f: Function, scaled: tuple[Expr, ...], y: Buffer, at: Expr, left: Expr | None) -> None:
        lanes = self._narrow(scaled, "zero_point")
        if self.kind.clamp:
            lanes = self._clamped(lanes, "low", "high")
        if self.kind.residual:
            lanes = self._added(f, lanes, len(scaled), at)
        part = ("",) if left is None else ("_part", left)
        f.call(f"irs_mve_store{4 * len(scaled)}{part[0]}", address(y, at), lanes, *part[1:])

    def _narrow(self, lanes: tuple[Expr, ...], zero_point: str) -> Expr:
        name = "irs_mve_narrow" if len(lanes) == 2 else "irs_mve_narrow4"
        return inline("int16x8", name, *lanes, self.values[zero_point])

    def _added(self, f: Function, lanes: Expr, vectors: int, at: Expr) -> Expr:
        """``lanes`` plus those of the residual operand."""
        lanes = f.bind("lanes", lanes if self.kind.clamp else self._clamped(lanes, -128, 127))
        load = "irs_mve_widened" if vectors == 2 else "irs_mve_widened4"
        other = f.bind("other_lanes", inline("int16x8", load, address(self.values["other"], at)))
        names = ["add_m_a", "add_m_b", "add_offset", "add_shift"] + (["add_mask"] if self.kind.ties else [])
        name = "irs_mve_weighted_even" if self.kind.ties else "irs_mve_weighted"
        sums = tuple(
            inline(
                "int32x4",
                name,
                inline("int32x4", f"irs_mve_{half}", lanes),
                inline("int32x4", f"irs_mve_{half}", other),
                *(self.values[n] for n in names),
            )
            for half in ("even", "odd")[:vectors]
        )
        total = self._narrow(sums, "add_zero_point")
        return self._clamped(total, "add_low", "add_high") if self.kind.residual_clamp else total

    def _clamped(self, lanes: Expr, low: str | int, high: str | int) -> Expr:
        bounds = [self.values[v] if isinstance(v, str) else v for v in (low, high)]
        return inline("int16x8", "irs_mve_clamp", lanes, *bounds)


def words(f: Function, name: str, table: Buffer, at: Expr) -> Expr:
    """Four words of the table, in a vector."""
    return f.bind(name, inline("int32x4", "irs_mve_words", address(table, at)))


def scaled(scaling: Scaling, acc: Expr, bias: Expr, multiplier: Expr, *shifts: Expr) -> Expr:
    """``acc`` plus four biases, times four multipliers, rounded; the rest of :data:`ROWS` in its order."""
    acc = inline("int32x4", "irs_mve_sum", acc, bias)
    if scaling == "float":
        return inline("int32x4", "irs_mve_scale", acc, multiplier)
    if scaling == "both":
        acc = inline("int32x4", "irs_mve_shifted", acc, shifts[1])
    return inline("int32x4", "irs_mve_scale_fixed", acc, multiplier, shifts[0])


def pack_table(
    bias: NDArray[np.int32],
    requantization: Requantization | FixedPoint,
    order: Sequence[int],
    groups: int = 1,
) -> NDArray[np.int32]:
    """:data:`ROWS` by blocks of ``len(order)`` channels, each in that order; zeros at the end.

    Args:
        bias: [C], channels of one group behind the other.
        order: a permutation of the channels of a block.
    """
    rows = np.stack([np.broadcast_to(row, bias.shape) for row in _rows(bias, requantization)])
    width, rows = len(order), rows.reshape(len(rows), groups, -1)
    padded = np.zeros((len(rows), groups, -(-rows.shape[2] // width) * width), np.int32)
    padded[:, :, : rows.shape[2]] = rows
    blocks = padded.reshape(len(rows), -1, width)[:, :, list(order)]
    return np.ascontiguousarray(blocks.transpose(1, 0, 2)).reshape(-1)


def _rows(bias: NDArray[np.int32], form: Requantization | FixedPoint) -> list[NDArray[np.int32]]:
    if isinstance(form, Requantization):
        return [bias, np.asarray(form.multiplier, np.float32).view(np.int32)]
    right, left = np.minimum(form.shift, 0), np.maximum(form.shift, 0)
    rows = {"bias": bias, "multiplier": form.multiplier, "right": right, "left": left}
    return [np.asarray(rows[name], np.int32) for name in ROWS[scaling_of(form)]]

"""Depthwise taps in vectors: the protocol, and SMULL, SMLAL, SADDW of 64-bit Arm.

Lanes are channels. Products are added in 16 bits as long as that is safe for every x: a *group* of taps with
``sum |w| <= 255`` in every channel. Groups are then widened and added to the accumulators in 32 bits. Which
taps share a group is found at compile time, first fit, the largest weights first: 9 taps of trained layers
take 4 or 5 groups, where pairs alone would take 5 and quantizers that keep weights small 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import numpy as np

from irshrink.backends.tvm.kernels.vector.micro import Int8, Int32
from irshrink.backends.tvm.kernels.vector.results import Int8Results, NeonResults
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, inline
from irshrink.program.ops import Window

#: Taps whose weights are kept in registers over a row.
_KEPT = 9
#: The largest sum of magnitudes of weights for which int16 holds the sum of products with any int8.
_SAFE = 255


class TapSums(Protocol):
    """Weights of one block of channels, ready."""

    def sums(self, x: Buffer, places: Sequence[Sequence[tuple[Any, Expr]]]) -> list[list[Expr]]:
        """For every pixel its finished sums; ``places``: for every pixel and tap a key and the place in x."""


class Taps(Protocol):
    """How one instruction set multiplies taps of channels side by side; a frozen dataclass."""

    @property
    def name(self) -> str: ...

    @property
    def header(self) -> str: ...

    def stored(self) -> int:
        """Bytes that the packed weights of one channel take."""

    def pack(self, weight: Int8) -> Int8:
        """Weights [block, channel, tap] in the order of use, flat."""

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        """What sums start from; ``weight`` [channel, ...]."""

    def tiles(self, pixels: int) -> range:
        """Numbers of neighbouring pixels whose sums stay in registers, at most ``pixels``."""

    def instructions(self, window: Window, pixels: int) -> float:
        """An estimate for so many neighbouring pixels, without the loop."""

    def begin(
        self, f: Function, weight: Buffer, w: Expr, bias: Buffer, channel: Expr, channels: int
    ) -> TapSums:
        """What the tiles of one block of channels share; its weights start at ``weight[w]``."""

    def results(self) -> type[Int8Results]:
        """How sums become bytes."""


def groups_of(weight: Int8) -> tuple[tuple[int, ...], ...]:
    """Taps [channel, tap] cut into groups whose products int16 can hold in every channel."""
    size = np.abs(weight.astype(np.int64))
    groups: list[list[int]] = []
    totals: list[Any] = []
    for tap in sorted(range(size.shape[1]), key=lambda t: (-int(size[:, t].max()), t)):
        fitting = (i for i, total in enumerate(totals) if (total + size[:, tap]).max() <= _SAFE)
        i = next(fitting, len(groups))
        if i == len(groups):
            groups.append([])
            totals.append(0)
        groups[i].append(tap)
        totals[i] = totals[i] + size[:, tap]
    return tuple(tuple(sorted(group)) for group in groups)


@dataclass(frozen=True)
class NeonTaps:
    """See :class:`Taps`; weights are in the order of the groups."""

    groups: tuple[tuple[int, ...], ...]
    header: str = "irs_neon"

    @property
    def name(self) -> str:
        text = "_".join(",".join(map(str, group)) for group in self.groups)
        return f"neon_g{len(self.groups)}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"

    def stored(self) -> int:
        return sum(map(len, self.groups))

    def pack(self, weight: Int8) -> Int8:
        order = [tap for group in self.groups for tap in group]
        return np.ascontiguousarray(weight[:, :, order].transpose(0, 2, 1)).reshape(-1)

    def bias(self, bias: Int32, weight: Int8) -> Int32:
        return bias

    def tiles(self, pixels: int) -> range:
        return range(1, min(pixels, 4) + 1)

    def instructions(self, window: Window, pixels: int) -> float:
        (kh, kw), stride = window.kernel, window.strides[1]
        taps = kh * kw
        loads = kh * (kw + (pixels - 1) * stride) + (taps if taps > _KEPT else 0)
        # three pixels spill
        return loads + pixels * (2 * taps + 4 * len(self.groups) + 21) if pixels <= 2 else inf

    def begin(
        self, f: Function, weight: Buffer, w: Expr, bias: Buffer, channel: Expr, channels: int
    ) -> NeonTapSums:
        dtype, load = ("int8x16", "irs_neon_load") if channels == 16 else ("int8x8", "irs_neon_load8")
        taps = self.stored()

        def tap(i: int) -> Expr:
            return f.bind(f"w{i}", inline(dtype, load, address(weight, w + channels * i)))

        kept = [tap(i) for i in range(taps)] if taps <= _KEPT else None
        start = [
            f.bind(f"b{v}", inline("int32x4", "irs_neon_load_i32", address(bias, channel + 4 * v)))
            for v in range(channels // 4)
        ]
        return NeonTapSums(f, self.groups, channels, lambda i: kept[i] if kept else tap(i), start)

    def results(self) -> type[NeonResults]:
        return NeonResults


@dataclass
class NeonTapSums:
    """See :class:`TapSums`."""

    f: Function
    groups: tuple[tuple[int, ...], ...]
    channels: int
    weight: Any
    start: list[Expr]

    def sums(self, x: Buffer, places: Sequence[Sequence[tuple[Any, Expr]]]) -> list[list[Expr]]:
        f, wide = self.f, self.channels == 16
        dtype, load = ("int8x16", "irs_neon_load") if wide else ("int8x8", "irs_neon_load8")
        totals = [list(self.start) for _ in places]
        loaded: dict[Any, Expr] = {}
        number = 0
        for group in self.groups:
            products: list[list[Expr]] = [[] for _ in places]
            for tap in group:
                w = self.weight(number)
                number += 1
                for p, taps in enumerate(places):
                    key, place = taps[tap]
                    if key not in loaded:
                        loaded[key] = f.bind("x", inline(dtype, load, address(x, place)))
                    products[p] = self._multiplied(products[p], loaded[key], w)
            for p in range(len(places)):
                totals[p] = self._added(totals[p], products[p])
        return totals

    def _multiplied(self, products: list[Expr], x: Expr, w: Expr) -> list[Expr]:
        """Eight products a vector: started, or added to."""
        parts = ("_low", "_high") if self.channels == 16 else ("8",)
        if not products:
            return [inline("int16x8", f"irs_neon_products{part}", x, w) for part in parts]
        return [
            inline("int16x8", f"irs_neon_more{part}", sum_, x, w)
            for part, sum_ in zip(parts, products, strict=True)
        ]

    def _added(self, totals: list[Expr], products: list[Expr]) -> list[Expr]:
        added = []
        for h, part in enumerate(products):
            kept = self.f.bind("products", part)
            for i, half in enumerate(("low", "high")):
                total = inline("int32x4", f"irs_neon_widen_{half}", totals[2 * h + i], kept)
                added.append(self.f.bind("total", total))
        return added

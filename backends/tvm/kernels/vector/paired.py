"""Two chunks at a time on Armv8.0-A: SMULL, SMLAL2, SMLAL, SMLAL2 and one SADALP for 32 products.

Four products share a lane of 16 bits where ``|w0| + |w1| + |w2| + |w3| <= 255`` in every lane of every
channel of a block. Chunks of 16 bytes may be added in any order, so which two go together is chosen for each
block of channels: a greedy matching on "this pair fits", chunks with the fewest partners first (a maximal
matching as in Karp and Sipser 1981). What finds no partner is added alone. The order stands in front of the
weights of its block: the number of pairs, then the offsets of the chunks in the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.vector.micro import Int8, VectorTile
from irshrink.backends.tvm.kernels.vector.neon import Neon, NeonSums
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, inline

#: The largest sum of magnitudes of weights for which int16 holds the sum of products with any int8.
_SAFE = 255
#: Fewer chunks that find a partner than this share do not pay for the order.
_WORTH = 0.4


def has_room(tile: VectorTile) -> bool:
    """Whether sums, two chunks of every pixel, two weights and a vector of products fit 32 registers."""
    return tile.pixels * (tile.channels + 2) + 3 <= 32


def paired(micro: Neon, tile: VectorTile, weight: Int8) -> Neon:
    """``micro``, or where that pays its form for pairs of chunks; ``weight`` [block, channel, 1, byte]."""
    chunks = weight.shape[3] // 16 + (weight.shape[3] % 16 > 8)
    if not micro.pairs or weight.shape[2] != 1 or chunks < 2 or not has_room(tile):
        return micro
    found = [len(_matching(block, chunks)[0]) for block in weight]
    if 2 * sum(found) < _WORTH * chunks * len(found):
        return micro
    begins: _Begin = "pair" if min(found) > 0 else "single" if 2 * max(found) < chunks else "zero"
    return NeonPaired(channels=tile.channels, chunks=chunks, begins=begins, singles=2 * min(found) < chunks)


def _matching(block: Int8, chunks: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs of chunks of a block [channel, 1, byte] that fit together, and the chunks left over."""
    lanes = _chunks(block, chunks).astype(np.int64)
    sums: Any = np.abs(lanes).reshape(len(block), chunks, 2, 8).sum(2).transpose(1, 0, 2).reshape(chunks, -1)
    fits = (sums[:, None] + sums[None]).max(2) <= _SAFE
    np.fill_diagonal(fits, False)
    free, pairs = np.ones(chunks, bool), list[tuple[int, int]]()
    while True:
        partners = np.where(free, (fits & free).sum(1), 0)
        if not partners.any():
            return pairs, [int(i) for i in np.flatnonzero(free)]
        i = int(np.argmin(np.where(partners > 0, partners, chunks)))
        j = int(np.argmin(np.where(fits[i] & free, partners, chunks + 1)))
        pairs.append((i, j))
        free[[i, j]] = False


def _chunks(block: Int8, chunks: int) -> NDArray[np.int8]:
    """[channel, 1, byte] as [channel, chunk, 16]; what is left of the run is not in it."""
    padded = np.zeros((len(block), 16 * chunks), np.int8)
    n = min(block.shape[2], 16 * chunks)
    padded[:, :n] = block[:, 0, :n]
    return padded.reshape(len(block), chunks, 16)


_Begin = Literal["pair", "single", "zero"]


@dataclass(frozen=True)
class NeonPaired(Neon):
    """:class:`Neon` for one run, whose chunks go in pairs.

    Attributes:
        channels: of a block.
        chunks: of 16 bytes; a rest of up to 8 bytes follows them.
        begins: what every block has at least one of, if anything; sums start with it.
        singles: whether some chunk of some block goes alone.
    """

    channels: int = 0
    chunks: int = 0
    begins: _Begin = "pair"
    singles: bool = True

    @property
    def name(self) -> str:
        return (
            f"neon_paired{self.chunks}{'' if self.begins == 'pair' else self.begins[0]}{'m' * self.singles}"
        )

    @property
    def table(self) -> int:
        """Bytes in front of the weights of a block, a multiple of its channels and of 16."""
        step = 16 * self.channels
        return -(-4 * (1 + self.chunks) // step) * step

    def stored(self, run: int) -> int:
        return super().stored(run) + self.table // self.channels

    def pack(self, weight: Int8) -> Int8:
        return np.concatenate([self._block(block) for block in weight])

    def _block(self, block: Int8) -> Int8:
        pairs, singles = _matching(block, self.chunks)
        order = [chunk for pair in pairs for chunk in pair] + singles
        table = np.zeros(self.table // 4, np.int32)
        table[0], table[1 : 1 + len(order)] = len(pairs), 16 * np.array(order)
        chunks = _chunks(block, self.chunks)
        parts = [chunks[:, pair].reshape(-1) for pair in pairs] + [chunks[:, s].reshape(-1) for s in singles]
        rest = np.zeros((self.channels, super().stored(block.shape[2]) - 16 * self.chunks), np.int8)
        rest[:, : max(block.shape[2] - 16 * self.chunks, 0)] = block[:, 0, 16 * self.chunks :]
        little = table.astype("<i4").view(np.int8)
        return np.concatenate([little, *parts, rest.reshape(-1)])

    def sums(self, f: Function, tile: VectorTile) -> NeonPairedSums:
        return NeonPairedSums(f, tile, self)


class NeonPairedSums(NeonSums):
    """See :class:`~irshrink.backends.tvm.kernels.vector.micro.Sums`."""

    def __init__(self, f: Function, tile: VectorTile, micro: NeonPaired) -> None:
        super().__init__(f, tile, True)
        self.micro = micro

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        super().start(bias, channel, self.micro.begins != "zero")

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        """The whole run: pairs, chunks that are alone, the rest."""
        f, micro = self.f, self.micro
        step = 16 * self.tile.channels
        data = w + micro.table

        def chunk(number: Any) -> Expr:
            place = address(weight, w + 4 + 4 * number)
            return f.bind("chunk", inline("int32", "irs_load32", place))

        def pair(q: Any, begins: bool) -> None:
            offsets = [chunk(2 * q), chunk(2 * q + 1)]
            self._pair(x, [[a + o for a in at] for o in offsets], weight, data + 2 * step * q, begins)

        def single(number: Any, begins: bool) -> None:
            offset = chunk(number)
            self._chunk(x, [a + offset for a in at], weight, data + step * number, begins)

        pairs = f.bind("pairs", inline("int32", "irs_load32", address(weight, w)))
        ahead = {"pair": 1, "single": 0, "zero": 0}[micro.begins]
        if micro.begins == "pair":
            pair(0, True)
        elif micro.begins == "single":
            single(2 * pairs, True)
        with f.loop("q", pairs - ahead) as q:
            pair(q + ahead, False)
        if micro.singles:
            alone = 1 if micro.begins == "single" else 0
            with f.loop("s", micro.chunks - alone - 2 * pairs) as s:
                single(2 * pairs + alone + s, False)
        if nbytes > 16 * micro.chunks:
            end = 16 * micro.chunks
            self._half(x, [a + end for a in at], weight, data + step * micro.chunks, False)

    def _pair(self, x: Buffer, at: Sequence[Sequence[Expr]], weight: Buffer, w: Expr, first: bool) -> None:
        f, load = self.f, "irs_neon_load"
        pixels = [
            [f.bind("x", inline("int8x16", load, address(x, a))) for a in starts]
            for starts in zip(*at, strict=True)
        ]
        for c in range(self.tile.channels):
            w0, w1 = (
                f.bind("w", inline("int8x16", load, address(weight, w + 32 * c + 16 * i))) for i in (0, 1)
            )
            for p, (x0, x1) in enumerate(pixels):
                products = inline("int16x8", "irs_neon_products", x0, w0)
                self._add(p, c, inline("int16x8", "irs_neon_more_products", products, x1, w1), first)

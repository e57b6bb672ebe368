"""Dot products of contiguous bytes, sixteen products an instruction: pixels x eight channels at a time.

VMLADAVA adds into a general register with an even number, of which six are to be had. So the eight channels
of a block are computed in *runs* of few channels over the whole depth, and what a run has summed up moves
into lanes of the vectors that the epilogue takes: VMOV puts two registers into lanes 0 and 2, or 1 and 3.

| tile | run | instructions for 64 products |
|---|---|---|
| 2 pixels | 2 channels | 4 loads, 4 VMLADAVA |
| 1 pixel  | 4 channels | 5 loads, 4 VMLADAVA |

Weights are packed ``[group][block][run][step][channel of the run][16]``: a block reads them once, forward.

Two channels of a run share bytes ``16 * A + B`` where weights have 4 bits (:func:`~irshrink.backends.tvm.
kernels.packed.in_bytes`). VSHL by 4 leaves ``16 * B``: as many instructions as with bytes of their own, and
one for two sums at the end; results are scaled by a sixteenth of their multipliers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.mve.epilogue import BLOCK, BoundEpilogue, pack_table, scaled, words
from irshrink.backends.tvm.kernels.packed import Form, in_bytes
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline, quotient
from irshrink.program.ops import ConvInt8, DenseInt8, Requantization

#: Bytes of a vector.
VECTOR = 16
#: Multipliers from here on can be divided by 16 and stay normal.
_SMALLEST = 2.0**-122
#: Channels of a block as runs sum them up: lanes 0, 2, 1, 3 of the even ones and of the odd.
ORDER = (0, 4, 2, 6, 1, 5, 3, 7)
#: Channels of a block in the order of the epilogue's table: lanes of the even ones, then of the odd.
TABLE_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class DotTile:
    """``pixels`` (1 or 2) x eight channels; a hashable argument of kernel generators.

    ``unroll`` steps of 16 bytes are written out in the inner loop; with ``whole`` they are the whole depth,
    and there is no inner loop.
    """

    pixels: int
    unroll: int = 1
    whole: bool = False
    specialized: bool = False

    @property
    def run(self) -> int:
        """Channels of a run."""
        return 4 // self.pixels

    @property
    def suffix(self) -> str:
        return f"{self.pixels}x{BLOCK}{'x' if self.whole else 'u'}{self.unroll}"


def steps_of(depth: int) -> int:
    """Vectors over ``depth`` bytes; the last may read past them, against zero weights."""
    return -(-depth // VECTOR)


def overread(depth: int) -> int:
    """Bytes read past the end of a pixel."""
    return steps_of(depth) * VECTOR - depth


def choose_tile(pixels: int, depth: int, specialized: bool = False) -> DotTile:
    """The tile for ``pixels`` pixels of ``depth`` products a channel."""
    steps, rows = steps_of(depth), min(2, pixels)
    if steps <= 3 + rows:  # longer bodies are scheduled so that they spill
        return DotTile(rows, steps, whole=True, specialized=specialized)
    return DotTile(rows, next(u for u in (4, 3, 2, 1) if steps % u == 0), specialized=specialized)


def tile_candidates(pixels: int, depth: int) -> list[DotTile]:
    """Every tile there is."""
    steps = steps_of(depth)
    unrolls = [(u, False) for u in range(1, 7) if steps % u == 0 and steps > u]
    unrolls += [(steps, True)] if steps <= 6 else []
    rows = range(1, min(2, pixels) + 1)
    return [DotTile(p, u, whole, s) for s in (False, True) for p in rows for u, whole in unrolls]


def pack_weights(weights: NDArray[np.int8], tile: DotTile) -> NDArray[np.int32]:
    """Weights [group, channel, depth] in the order of the inner loop, zeros where there is no weight."""
    groups, channels, depth = weights.shape
    blocks, steps = -(-channels // BLOCK), steps_of(depth)
    padded = np.zeros((groups, blocks * BLOCK, steps * VECTOR), np.int8)
    padded[:, :channels, :depth] = weights
    ordered = padded.reshape(groups, blocks, BLOCK, steps, VECTOR)[:, :, list(ORDER)]
    runs = ordered.reshape(groups, blocks, BLOCK // tile.run, tile.run, steps, VECTOR)
    return np.ascontiguousarray(runs.transpose(0, 1, 2, 4, 3, 5)).reshape(-1).view(np.int32)


@dataclass(frozen=True)
class Stored:
    """What a kernel is called with: weights, how they lie in bytes, and the table for the sums of those."""

    weight: NDArray[np.int32]
    table: NDArray[np.int32]
    form: Form = "bytes"


def stored(op: ConvInt8 | DenseInt8, tile: DotTile) -> Stored:
    """Weights and table of a layer; two channels of 4 bits share bytes where their sums allow it."""
    groups = op.groups if isinstance(op, ConvInt8) else 1
    weights = op.weight.reshape(groups, len(op.weight) // groups, -1)
    packed, form = pack_weights(weights, tile), op.requantization
    if op.weight_bits == 8 or not isinstance(form, Requantization) or not _exact(op, form):
        return Stored(packed, pack_table(op.bias, form, TABLE_ORDER, groups))
    both, kind = in_bytes(packed.view(np.int8).reshape(-1, 2, VECTOR).transpose(0, 2, 1).reshape(-1))
    scaled_form = replace(form, multiplier=form.multiplier / np.float32(16))
    table = pack_table((op.bias * 16).astype(np.int32), scaled_form, TABLE_ORDER, groups)
    return Stored(both.view(np.int32), table, kind)


def _exact(op: ConvInt8 | DenseInt8, form: Requantization) -> bool:
    """Whether every sum and multiplier stands a factor of 16, and int32 holds ``16 * a + b``."""
    sizes = np.abs(op.weight.astype(np.int64)).reshape(len(op.weight), -1).sum(axis=1)
    reach = 128 * sizes + np.abs(op.bias.astype(np.int64))
    smallest = form.multiplier[form.multiplier != 0].min(initial=1.0)
    return bool(17 * reach.max(initial=0) < 1 << 31 and smallest >= _SMALLEST)


@dataclass
class Sums:
    """The sums of one tile: code that computes them, block after block."""

    f: Function
    tile: DotTile
    weight: Buffer
    steps: Expr
    form: Form
    lanes: Buffer = field(init=False)
    count: Expr = field(init=False)

    def __post_init__(self) -> None:
        self.lanes = self.f.local("sums", "int32x4", 2 * self.tile.pixels)
        if not self.tile.whole:
            count = inline("int32", "irs_mve_count", quotient(self.steps, self.tile.unroll))
            self.count = self.f.bind("count", count)

    @property
    def _vectors(self) -> int:
        """Vectors of weights of a run and step."""
        return self.tile.run if self.form == "bytes" else self.tile.run // 2

    def block(self, x: Buffer, at: Sequence[Expr], block: Expr) -> None:
        """All runs of one block: pixel p reads from byte ``at[p]``."""
        words = self.steps * (self._vectors * VECTOR // 4)
        held = self._load(x, at, 0) if self.tile.whole and self.tile.unroll == 1 else None
        for run in range(BLOCK // self.tile.run):
            start = self.f.bind("w", (block * (BLOCK // self.tile.run) + run) * words)
            self._run(x, at, start, run, held)

    def store(
        self,
        epilogue: BoundEpilogue,
        table: Buffer,
        block: Expr,
        y: Buffer,
        at: Sequence[Expr],
        left: Expr | None,
    ) -> None:
        """Results of the block: those of pixel p from ``y[at[p]]`` on, ``left`` channels of them."""
        f, kind = self.f, epilogue.kind
        t = f.bind("t", block * (len(kind.rows) * BLOCK))
        row = [
            [words(f, f"{name}_{half}", table, t + (i * BLOCK + j * 4)) for i, name in enumerate(kind.rows)]
            for j, half in enumerate(("even", "odd"))
        ]
        for p, place in enumerate(at):
            a, b = (
                f.bind(name, scaled(kind.scaling, self.lanes[i32(2 * p + half)], *row[half]))
                for half, name in enumerate(("even", "odd"))
            )
            epilogue.store8(f, a, b, y, place, left)

    def _load(self, x: Buffer, at: Sequence[Expr], step: Any) -> list[Expr]:
        """One vector of every pixel."""
        return [
            self.f.bind(f"x{p}", inline("int8x16", "irs_mve_load", address(x, place + step * VECTOR)))
            for p, place in enumerate(at)
        ]

    def _run(self, x: Buffer, at: Sequence[Expr], start: Expr, run: int, held: Sequence[Expr] | None) -> None:
        f, tile = self.f, self.tile
        acc = f.local("acc", "int32", tile.pixels * tile.run)
        if held is None:
            f.call("irs_fence")  # what the run before loaded would not stay in registers
        if tile.whole:
            for step in range(tile.unroll):
                self._step(acc, held or self._load(x, at, step), start, step)
        else:
            for i in range(tile.pixels * tile.run):
                f.store(acc, i, i32(0))
            with f.loop("k", self.count) as k:
                for step in range(tile.unroll):
                    place = k * tile.unroll + step
                    self._step(acc, self._load(x, at, place), start, place)
        if self.form == "sums":
            self._part(acc)
        for p in range(tile.pixels):
            for pair in range(tile.run // 2):
                place = run * tile.run // 2 + pair  # of the four pairs of a block
                first = p * tile.run + pair * 2
                self._lanes(2 * p + place // 2, place % 2 == 1, acc[i32(first)], acc[i32(first + 1)])

    def _step(self, acc: Buffer, xs: Sequence[Expr], start: Expr, step: Any) -> None:
        f, tile = self.f, self.tile
        begins = tile.whole and step == 0
        name = "irs_mve_dot_first" if begins else "irs_mve_dot"
        for c, w in enumerate(self._weights(start, step)):
            for p, vector in enumerate(xs):
                i = p * tile.run + c
                before = () if begins else (acc[i32(i)],)
                f.store(acc, i, inline("int32", name, *before, vector, w))

    def _weights(self, start: Expr, step: Any) -> Iterator[Expr]:
        """The vectors of all channels of a run for one step, each loaded when it is asked for."""
        f = self.f
        for c in range(self._vectors):
            word = start + (step * self._vectors + c) * (VECTOR // 4)
            w = f.bind(f"w{c}", inline("int8x16", "irs_mve_weights", address(self.weight, word)))
            if self.form == "fields":
                yield f.bind(f"w{c}_high", inline("int8x16", "irs_mve_high_nibbles", w))
            else:
                yield w
            if self.form != "bytes":
                yield f.bind(f"w{c}_low", inline("int8x16", "irs_mve_low_nibbles", w))

    def _part(self, acc: Buffer) -> None:
        """Sums ``16 * a + b`` and ``16 * b`` as 16 * a and 16 * b; the table divides them."""
        for i in range(0, self.tile.pixels * self.tile.run, 2):
            self.f.store(acc, i, acc[i32(i)] - (acc[i32(i + 1)] >> 4))

    def _lanes(self, vector: int, odd: bool, a: Expr, b: Expr) -> None:
        if odd:
            value = inline("int32x4", "irs_mve_odd_lanes", self.lanes[i32(vector)], a, b)
        else:
            value = inline("int32x4", "irs_mve_even_lanes", a, b)
        self.f.store(self.lanes, vector, value)

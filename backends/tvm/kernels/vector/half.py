"""float16 layers of 64-bit Arm: FMLA by lane on eight numbers, sums in pieces, and which layers have it.

As :class:`~irshrink.backends.tvm.kernels.vector.fma.NeonFma`: a vector of eight numbers of a pixel is loaded
at once, each meets the weights of its step, packed ``[block][run][k][channel]``. Where sums are cut
(:class:`~irshrink.program.ops.float16.Pieces`) each has a total beside it, in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irshrink.backends.tvm.kernels import float16_layers as general
from irshrink.backends.tvm.kernels.call import KernelCall, Schedule
from irshrink.backends.tvm.kernels.vector import depthwise_floating, winograd
from irshrink.backends.tvm.kernels.vector.floating import kernel, layer_of
from irshrink.backends.tvm.kernels.vector.fma import Fma, FmaSums
from irshrink.backends.tvm.kernels.vector.layer import tiles_of
from irshrink.backends.tvm.kernels.vector.micro import VectorTile
from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, i32, inline
from irshrink.program.ops import ConvF16, DenseF16
from irshrink.program.ops.float16 import PIECE
from irshrink.program.program import Program
from irshrink.target import Target

#: Numbers that a vector of a pixel holds, and how many such vectors are written out. More become a loop: in
#: straight code compilers keep more of them waiting than fit the 16 registers that FMLA takes lanes of.
_STEP, _WRITTEN_OUT = 8, 1
#: Pixels of a tile: for the same reason.
_MOST_PIXELS = 9


def select_convolution(
    op: ConvF16, program: Program, target: Target, schedule: Schedule | None = None
) -> KernelCall:
    """The kernel for a float16 convolution."""
    if op.winograd:
        tile = schedule if isinstance(schedule, winograd.WinogradTile) else None
        return winograd.select(op, program, _transformed(op), target.threads, tile)
    return _select(op, program, target, schedule) or general.select_convolution(op, program, target)


def select_dense(
    op: DenseF16, program: Program, target: Target, schedule: Schedule | None = None
) -> KernelCall:
    """The kernel for a float16 dense layer."""
    return _select(op, program, target, schedule) or general.select_dense(op, program, target)


def candidates(op: ConvF16 | DenseF16, program: Program, target: Target) -> list[Schedule]:
    """The schedules of a float16 layer; the general kernels have none."""
    if isinstance(op, ConvF16) and op.winograd:
        return [*winograd.candidates(winograd.layer_of(op, program), _transformed(op), target.threads)]
    micro, layer = _micro(op, target), layer_of(op, program, 2)
    if micro is None or layer is None or layer.group_out < micro.lanes:
        return []
    return [*tiles_of(micro, layer)]


def _transformed(op: ConvF16) -> NeonHalf:
    """The micro-kernel for tiles of 2x2: input and output channels are vectors there."""
    return NeonHalf(lanes=8 if min(len(op.weight), op.weight.shape[3]) >= 8 else 4)


def _micro(op: ConvF16 | DenseF16, target: Target) -> NeonHalf | None:
    """The micro-kernel for an operator; None where the general kernels have it."""
    if not target.triple.startswith("aarch64-") or not target.has("neon") or not target.has("fp16"):
        return None
    groups = op.groups if isinstance(op, ConvF16) else 1
    depthwise = groups == len(op.weight) and op.weight.shape[-1] == 1
    per_group = len(op.weight) // (1 if depthwise else groups)
    if per_group < 4:
        return None
    return NeonHalf(lanes=8 if per_group >= 8 else 4, several=op.pieces.several)


def _select(
    op: ConvF16 | DenseF16, program: Program, target: Target, schedule: Schedule | None
) -> KernelCall | None:
    micro, layer = _micro(op, target), layer_of(op, program, 2)
    if micro is None or layer is None:
        return None
    if isinstance(op, ConvF16) and op.groups == len(op.weight) > 1:
        return None if micro.several else depthwise_floating.select(op, program, micro)
    return kernel(op, micro, layer, schedule if isinstance(schedule, VectorTile) else None)


@dataclass(frozen=True)
class NeonHalf(Fma):
    """FMLA by lane: eight numbers of a pixel are loaded at once, each meets the weights of its step.

    Attributes:
        several: sums are cut into pieces.
    """

    lanes: int = 8
    header: str = "irs_neon"
    element: str = "f16"
    several: bool = False

    @property
    def functions(self) -> str:
        return "irs_halves"

    def tiles(self, pixels: int, channels: int) -> list[VectorTile]:
        return super().tiles(min(pixels, _MOST_PIXELS), channels)

    def registers(self, pixels: int, vectors: int) -> int:
        return pixels * (vectors + 1) + 2

    def instructions(self, tile: VectorTile, runs: int, run: int) -> float:
        steps, vectors = run // 2, tile.channels // self.lanes
        loop = 0.0 if steps // _STEP <= _WRITTEN_OUT else steps * 0.375
        each = steps * vectors * (tile.pixels + 0.5) + -(-steps // _STEP) * tile.pixels + loop
        ends = max(1, steps // PIECE) * 4 * tile.pixels * vectors if self.several else 0
        return runs * (each + ends) + tile.pixels * vectors

    def sums(self, f: Function, tile: VectorTile) -> NeonHalfSums:
        return NeonHalfSums(f, tile, self)


class NeonHalfSums(FmaSums):
    """Steps of eight numbers, and what is left; pieces."""

    def __init__(self, f: Function, tile: VectorTile, micro: NeonHalf) -> None:
        super().__init__(f, tile, micro)
        self.several = micro.several
        self.total = f.local("total", self.dtype, tile.pixels * self.vectors) if self.several else self.acc

    def start(self, bias: Buffer, channel: Expr, fed_first: bool) -> None:
        super().start(bias, channel, fed_first)
        if self.several:
            self.f.call("irs_halves_in_memory", address(self.total, 0))
            for place in range(self.tile.pixels * self.vectors):
                self.f.store(self.total, place, self.acc[i32(place)])
            self.start_at_zero()

    def end_row(self) -> None:
        """A piece ends with every row."""
        if self.several:
            self._end_piece()

    def values(self, pixel: int) -> list[Expr]:
        return [self.total[i32(self.at(pixel, v))] for v in range(self.vectors)]

    def run(
        self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, nbytes: int, first: bool = False
    ) -> None:
        n, step = nbytes // 2, 2 * PIECE * self.tile.channels
        pieces = (n - 1) // PIECE if self.several else 0
        if pieces:
            with self.f.loop("piece", pieces) as i:
                self._chain(x, [a + i * (2 * PIECE) for a in at], weight, w + i * step, PIECE)
                self._end_piece()
        rest = n - pieces * PIECE
        self._chain(x, [a + 2 * PIECE * pieces for a in at], weight, w + step * pieces, rest)

    def _end_piece(self) -> None:
        for place in range(self.tile.pixels * self.vectors):
            both = self.total[i32(place)], self.acc[i32(place)]
            self.f.store(self.total, place, inline(self.dtype, f"irs_halves_plus_{self.micro.form}", *both))
        self.start_at_zero()

    def _chain(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, n: int) -> None:
        """``n`` products one after the other."""
        whole, step = n // _STEP, 2 * _STEP * self.tile.channels
        if whole <= _WRITTEN_OUT:
            for k in range(whole):
                self._steps(x, [a + 16 * k for a in at], weight, w + step * k, _STEP)
        else:
            with self.f.loop("k", whole) as k:
                self._steps(x, [a + k * 16 for a in at], weight, w + k * step, _STEP)
        if n % _STEP:
            self._steps(x, [a + 16 * whole for a in at], weight, w + step * whole, n % _STEP)

    def _steps(self, x: Buffer, at: Sequence[Expr], weight: Buffer, w: Expr, steps: int) -> None:
        f, lanes = self.f, self.micro.lanes
        load = "irs_halves_floats8"
        pixels = [f.bind(f"x{p}", inline("float16x8", load, address(x, a))) for p, a in enumerate(at)]
        for lane in range(steps):
            f.call("irs_fence")  # loading further weights early would spill sums
            for v in range(self.vectors):
                weights = f.bind("w", self._floats(weight, w + 2 * (self.tile.channels * lane + lanes * v)))
                for p, pixel in enumerate(pixels):
                    here = self.at(p, v)
                    name, acc = f"irs_halves_fma_lane{lanes}", self.acc[i32(here)]
                    f.store(self.acc, here, inline(self.dtype, name, acc, weights, pixel, lane))

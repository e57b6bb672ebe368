"""Which micro-kernel a target has."""

from __future__ import annotations

from collections.abc import Sequence

from irshrink.backends.tvm.kernels.vector.avx2 import Avx2, Avx2Columns
from irshrink.backends.tvm.kernels.vector.columns import VnniColumns
from irshrink.backends.tvm.kernels.vector.dot_columns import CHANNELS, DotColumns
from irshrink.backends.tvm.kernels.vector.dotprod import DotProduct
from irshrink.backends.tvm.kernels.vector.i8mm import I8mm
from irshrink.backends.tvm.kernels.vector.micro import Int8, MicroKernel, VectorTile
from irshrink.backends.tvm.kernels.vector.neon import Neon
from irshrink.backends.tvm.kernels.vector.paired import has_room, paired
from irshrink.backends.tvm.kernels.vector.taps import NeonTaps, Taps, groups_of
from irshrink.backends.tvm.kernels.vector.vnni import Vnni
from irshrink.target import Target


def micro_kernel(target: Target, weight: Int8, groups: int = 1) -> MicroKernel | None:
    """The best micro-kernel that ``target`` has for these weights [channel, ...]; None: no vectors for it."""
    if target.has("vnni"):
        return Vnni(16 if len(weight) // groups >= 16 else 8)
    if target.has("avx2"):
        return Avx2()
    if not target.triple.startswith("aarch64-") or not target.has("neon"):
        return None
    if target.has("dotprod"):
        return I8mm() if target.has("i8mm") else DotProduct()
    return Neon.of(weight)


def leaner(micro: MicroKernel, tiles: Sequence[VectorTile]) -> list[VectorTile]:
    """Those of ``tiles`` that leave room for a fitted form."""
    return [tile for tile in tiles if has_room(tile)] if isinstance(micro, Neon) else []


def fitted(micro: MicroKernel, tile: VectorTile, weight: Int8) -> MicroKernel:
    """``micro`` or its form for this tile that these weights [block, channel, run, byte] allow."""
    if isinstance(micro, I8mm):
        return micro.for_tile(tile)
    return paired(micro, tile, weight) if isinstance(micro, Neon) else micro


def taps_kernel(target: Target, weight: Int8, channels: int) -> Taps | None:
    """The same for depthwise layers, ``channels`` at a time; ``weight`` [channel, kh, kw, 1]."""
    if target.has("vnni"):
        _, rows, columns, _ = weight.shape
        return VnniColumns(rows, columns, channels)
    if target.has("avx2"):
        return Avx2Columns(*weight.shape[1:3]) if channels == 8 else None
    if not target.triple.startswith("aarch64-") or not target.has("neon"):
        return None
    if target.has("dotprod") and channels == CHANNELS:
        _, rows, columns, _ = weight.shape
        return DotColumns(rows, columns)
    return NeonTaps(groups_of(weight.reshape(len(weight), -1)))

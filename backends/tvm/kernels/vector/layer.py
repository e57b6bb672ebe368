"""A layer as the vector generators see it, and which of their tiles suits it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from irshrink.backends.tvm.kernels.overlap import tiles_distance
from irshrink.backends.tvm.kernels.vector.geometry import Rows
from irshrink.backends.tvm.kernels.vector.micro import Source, TileKernel, VectorTile
from irshrink.program.ops import ConvInt8, DenseInt8, Window
from irshrink.program.program import Program

#: What threads share: rows, tiles of the only row, or blocks of channels.
Share = Literal["rows", "tiles", "blocks"]


@dataclass(frozen=True)
class Layer:
    """A convolution of one image as the generator needs it; a dense layer is one row of pixels.

    ``element``: bytes of an element of the output; ``x`` has the channels of the input in bytes.
    """

    window: Window
    x: tuple[int, int, int, int]
    out: tuple[int, int, int]
    groups: int
    pad_value: int
    element: int = 1

    @staticmethod
    def of(op: ConvInt8 | DenseInt8, program: Program) -> Layer:
        x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
        if isinstance(op, DenseInt8):
            channels, depth = op.weight.shape
            pixels = y.elements // channels
            return Layer(Window(kernel=(1, 1)), (1, 1, pixels, depth), (1, pixels, channels), 1, 0)
        images, height, width, ci = x.shape
        _, out_h, out_w, co = y.shape
        window = op.window
        if window.kernel == (1, 1) and window.strides == (1, 1) and not any(window.pads):
            height, width, out_h, out_w = 1, height * width, 1, out_h * out_w
        return Layer(window, (images, height, width, ci), (out_h, out_w, co), op.groups, op.input_zero_point)

    @property
    def group_in(self) -> int:
        return self.x[3] // self.groups

    @property
    def group_out(self) -> int:
        return self.out[2] // self.groups

    def runs(self, source: Source) -> tuple[int, int, int]:
        """Rows, runs in a row, and bytes of a run."""
        kh, kw = self.window.kernel
        whole = self.groups == 1 and (self.window.dilations[1] == 1 or kw == 1)
        columns, run = (1, kw * self.group_in) if whole else (kw, self.group_in)
        return (1, 1, kh * columns * run) if source == "patch" else (kh, columns, run)


def tiles_of(micro: TileKernel, layer: Layer) -> list[VectorTile]:
    """All tiles of a layer."""
    sizes = micro.tiles(layer.out[1], layer.group_out)
    sources: list[Source] = ["rows"]
    if layer.window.kernel != (1, 1) and layer.runs("rows")[2] < 16 and micro.copies_short_runs:
        sources.append("patch")
    return [replace(tile, source=source) for tile in sizes for source in sources]


def best_tile(micro: TileKernel, layer: Layer) -> VectorTile:
    """The tile of fewest instructions, by estimate."""
    return min(tiles_of(micro, layer), key=lambda t: instructions(micro, layer, t))


def distances(rows: Rows, layer: Layer, tile: VectorTile, residual: bool) -> tuple[tuple[int, int], ...]:
    """How far before its inputs the output has to begin, in bytes (decision 19)."""
    out_h, out_w, channels = layer.out
    y = (layer.x[0], out_h, out_w, channels * layer.element)
    if rows.padded:
        first = rows.distance(layer.window, layer.x, y)
    else:
        # a tile that is all there is of its pixels has read everything when it writes
        whole = layer.groups == 1 and (tile.source == "patch" or tile.channels >= channels)
        first = tiles_distance(layer.window, layer.x, y, tile.pixels, reads_first=whole, by_rows=True)
    if not residual:
        return ((0, first),)
    other = tiles_distance(Window(kernel=(1, 1)), y, y, tile.pixels, reads_first=False, by_rows=True)
    return ((0, first), (1, other))


def shared_by(layer: Layer, tile: VectorTile) -> Share:
    """What threads share of a layer."""
    out_h, out_w, _ = layer.out
    return "rows" if out_h > 1 else "tiles" if out_w > 4 * tile.pixels else "blocks"


def instructions(micro: TileKernel, layer: Layer, tile: VectorTile) -> float:
    """An estimate for the whole layer."""
    out_h, out_w, _ = layer.out
    rows, columns, run = layer.runs(tile.source)
    blocks = layer.groups * -(-layer.group_out // tile.channels)
    tiles = out_h * -(-out_w // tile.pixels)
    sixteens, eights, fours = tile.channels // 16, tile.channels % 16 // 8, tile.channels % 8 // 4
    results = tile.pixels * (18 * sixteens + 11 * eights + 8 * fours)
    per_tile = 6.0
    if tile.source == "patch":
        kh, parts, width = layer.runs("rows")
        per_tile += tile.pixels * kh * parts * (1 + 2 * -(-width // 16))
    inner = micro.instructions(tile, rows * columns, run) + results + 10
    return tiles * (per_tile + blocks * inner)

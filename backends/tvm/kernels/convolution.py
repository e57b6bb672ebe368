"""int8 convolution as dot products of contiguous bytes.

A pointwise layer reads its pixels where they are (*direct*). For every other layer the window of each pixel
of the tile is copied into a *patch* of ``kh * kw * Ci`` contiguous bytes first, padding included: one loop,
no border cases, any stride, dilation and group, and the copy is shared by all output channels. Pixels are
counted through the whole image, so that no row ends in a half-filled tile; the last tile overlaps the one
before, and so does the last block of channels.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

from irshrink.backends.tvm.kernels.call import (
    Argument,
    Constant,
    Input,
    KernelCall,
    Output,
    RowCall,
    Workspace,
)
from irshrink.backends.tvm.kernels.depthwise import (
    DepthwiseTile,
    depthwise_candidates,
    select_depthwise,
)
from irshrink.backends.tvm.kernels.epilogue import Epilogue, epilogue_arguments
from irshrink.backends.tvm.kernels.overlap import tiles_distance
from irshrink.backends.tvm.kernels.packed import SUFFIXES, Form
from irshrink.backends.tvm.kernels.sharing import shares_blocks
from irshrink.backends.tvm.kernels.tiles import (
    Accumulators,
    Tile,
    choose_tile,
    stored_weights,
    tile_candidates,
)
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    last_overlaps,
    minimum,
    quotient,
    read,
    scalars,
    write,
)
from irshrink.program.ops import ConvInt8
from irshrink.program.program import Program
from irshrink.program.stripes import Reach
from irshrink.target import Target

#: Word copies may write this far past the end of a patch, and read as far past the end of the input.
SLACK = 3

WINDOW = (
    "out_w", "stride_h", "stride_w", "pad_top", "pad_left", "rows", "columns", "dilation_h", "dilation_w",
    "in_h", "in_w", "in_channels", "pad_value", "groups", "group_in",
)  # fmt: skip


def candidates(op: ConvInt8, program: Program, target: Target) -> list[Tile] | list[DepthwiseTile]:
    """The tiles a convolution can be computed with."""
    if op.depthwise:
        return depthwise_candidates(op, program, target)
    channels, y = len(op.weight), program.tensors[op.output]
    pixels = y.elements // y.shape[0] // channels
    return tile_candidates(target, pixels, channels // op.groups, op.weight[0].size)


def select_convolution(
    op: ConvInt8, program: Program, target: Target, schedule: Tile | DepthwiseTile | None = None
) -> KernelCall:
    """The kernel for one image of a convolution; depthwise layers have a family of their own."""
    if op.depthwise:
        assert not isinstance(schedule, Tile)
        return select_depthwise(op, program, target, schedule)
    assert not isinstance(schedule, DepthwiseTile)
    y = program.tensors[op.output]
    channels, depth = len(op.weight), op.weight[0].size
    pixels, group_out = y.elements // y.shape[0] // channels, channels // op.groups
    tile = schedule or choose_tile(target, pixels, group_out, depth, op.weight_bits)
    direct = op.window.kernel == (1, 1) and op.window.strides == (1, 1) and not any(op.window.pads)
    patch = not direct or op.groups > 1
    in_order = patch or tile.style != "simd"
    by_blocks = shares_blocks(target, -(-pixels // tile.pixels), -(-group_out // tile.channels))
    epilogue = Epilogue.of(op.requantization, op.residual)
    weights = op.weight.reshape(op.groups, group_out, depth)
    packed, form = stored_weights(weights, tile, op.weight_bits)
    arguments: list[Argument] = [
        Input(0),
        Constant("weight", packed, 8 if form == "bytes" else 4),
        Constant("bias", op.bias),
        *epilogue_arguments(op.requantization, channels, op.residual),
        Output(),
        *(pixels, channels, group_out, tile.steps(depth), pitch_of(depth) if patch else depth),
    ]
    if patch:
        arguments += window_arguments(op, program)
    overlaps = pixels % tile.pixels != 0 or group_out % tile.channels != 0
    return KernelCall(
        function=convolution(tile, patch, epilogue, in_order, by_blocks, form),
        arguments=tuple(arguments),
        workspace_bytes=tile.pixels * pitch_of(depth) + SLACK if patch else 0,
        overread_bytes=SLACK if patch else tile.overread(depth),
        # a value that was added to already would be added to again where tiles overlap
        in_place=(1,) if op.residual is not None and not overlaps else (),
        distances=image_distances(op, program, tile, patch) if in_order else (),
        rows=row_calls(op, y.shape[2], tile, patch) if in_order else None,
        schedule=tile,
    )


def window_arguments(op: ConvInt8, program: Program) -> list[Argument]:
    """What a kernel that copies windows into its workspace is told: :data:`WINDOW`."""
    (_, in_h, in_w, in_channels), y = program.tensors[op.inputs[0]].shape, program.tensors[op.output]
    window = op.window
    return [
        *(Workspace(), y.shape[2], *window.strides, *window.pads[:2], *window.kernel, *window.dilations),
        *(in_h, in_w, in_channels, op.input_zero_point, op.groups, in_channels // op.groups),
    ]


def image_distances(op: ConvInt8, program: Program, tile: Tile, patch: bool) -> tuple[tuple[int, int], ...]:
    """How far before its inputs the output has to begin, when pixels are computed in order."""
    x, y = program.tensors[op.inputs[0]].shape, program.tensors[op.output].shape
    first = tiles_distance(op.window, x, y, tile.pixels, reads_first=patch and op.groups == 1)
    residual = [(1, tile.pixels * y[3])] if op.residual is not None else []
    return ((0, first), *residual)


def row_calls(op: ConvInt8, out_w: int, tile: Tile, patch: bool) -> RowCall | None:
    """Calls for some rows; there have to be enough pixels in one for a tile."""
    if tile.pixels > out_w:
        return None
    window = op.window
    reach = Reach(window.extent()[0], window.strides[0], window.pads[0])
    reaches = (reach, Reach()) if op.residual is not None else (reach,)
    if not patch:
        return RowCall(reaches, pixels="pixels", tile=tile.pixels)
    return RowCall(reaches, pixels="pixels", in_rows="in_h", pad_top="pad_top", tile=tile.pixels)


def pitch_of(depth: int) -> int:
    """Bytes from one patch to the next: whole words."""
    return -(-depth // 4) * 4


@dataclass
class _Layer:
    """What the parts of the generated function share."""

    f: Function
    sums: Accumulators
    epilogue: Epilogue
    given: list[Any]
    weight: Buffer
    bias: Buffer
    y: Buffer
    channels: Expr
    steps: Expr
    pitch: Expr
    by_blocks: bool

    def tiles(self, tiles: Expr, pixels: Expr) -> AbstractContextManager[Expr]:
        """The loop over tiles of pixels."""
        if self.by_blocks:
            return self.f.loop("t", tiles)
        return self.f.share("t", tiles, last_overlaps(pixels, self.sums.tile.pixels))

    def blocks(self, blocks: Expr, channels: Expr) -> AbstractContextManager[Expr]:
        """The loop over blocks of channels."""
        if not self.by_blocks:
            return self.f.loop("b", blocks)
        return self.f.share("b", blocks, last_overlaps(channels, self.sums.tile.channels))

    def tile(self, source: Buffer, start: Expr, block: Expr, pixel: Expr, channel: Expr) -> None:
        """One tile: pixels at ``source[start]``, weights of block ``block``, results stored."""
        tile = self.sums.tile
        self.sums.start(self.bias, channel)
        at = [start + self.pitch * p for p in range(tile.pixels)]
        self.sums.run(source, at, self.weight, block * (self.steps * self.sums.width), self.steps)
        for p in range(tile.pixels):
            for c in range(tile.channels):
                out = (pixel + p) * self.channels + channel + c
                acc = self.sums.value(p, c)
                self.epilogue.emit(self.f, self.given, acc, channel + c, self.y, out)


@cache
def convolution(
    tile: Tile,
    patch: bool,
    epilogue: Epilogue,
    in_order: bool = False,
    by_blocks: bool = False,
    form: Form = "bytes",
) -> TirFunction:
    """The C function for one tile, geometry, epilogue and form of weights; sizes are run-time arguments.

    With ``in_order`` every pixel is finished before the next: the output may overwrite the input behind it.
    Threads share tiles of pixels, with ``by_blocks`` blocks of channels.
    """
    kind = "_patch" if patch else "_ordered" if in_order else ""
    kind += f"{'_blocks' if by_blocks else ''}{epilogue.suffix}{SUFFIXES[form]}"
    name = f"conv_s8_{tile.suffix}{kind}"
    extra = epilogue.parameters()
    with Function(name, "Convolution of int8: dot products of contiguous bytes.") as f:
        x, weight, bias, *rest = f.parameters(
            read("x", "int8"),
            constant("weight", tile.weight_dtype),
            constant("bias", "int32"),
            *extra,
            write("y", "int8"),
            *scalars("pixels", "channels", "group_out", "steps", "pitch"),
            *([write("patch", "int8"), *scalars(*WINDOW)] if patch else []),
        )
        given, rest = rest[: len(extra)], rest[len(extra) :]
        y, pixels, channels, group_out, steps, pitch, *window = rest
        sums = Accumulators.allocate(f, tile, form)
        layer = _Layer(f, sums, epilogue, given, weight, bias, y, channels, steps, pitch, by_blocks)
        tiles = f.bind("tiles", quotient(pixels + (tile.pixels - 1), tile.pixels))
        blocks = f.bind("blocks", quotient(group_out + (tile.channels - 1), tile.channels))
        if patch:
            _patch_loops(layer, x, window, pixels, group_out, tiles, blocks)
        elif in_order:
            _ordered_loops(layer, x, pixels, group_out, tiles, blocks)
        else:
            _direct_loops(layer, x, pixels, group_out, tiles, blocks)
    return f.result


def _direct_loops(layer: _Layer, x: Buffer, pixels: Expr, group_out: Expr, tiles: Expr, blocks: Expr) -> None:
    """Blocks of channels outside, so that their bias and multipliers are loaded once."""
    f, tile = layer.f, layer.sums.tile
    with layer.blocks(blocks, group_out) as b:
        channel = f.bind("channel", minimum(b * tile.channels, group_out - tile.channels))
        with layer.tiles(tiles, pixels) as t:
            pixel = f.bind("pixel", minimum(t * tile.pixels, pixels - tile.pixels))
            layer.tile(x, f.bind("start", pixel * layer.pitch), b, pixel, channel)


def _ordered_loops(
    layer: _Layer, x: Buffer, pixels: Expr, group_out: Expr, tiles: Expr, blocks: Expr
) -> None:
    """Pixels outside, in order: no pixel is read again once the tiles behind it are written."""
    f, tile = layer.f, layer.sums.tile
    with layer.tiles(tiles, pixels) as t:
        pixel = f.bind("pixel", minimum(t * tile.pixels, pixels - tile.pixels))
        start = f.bind("start", pixel * layer.pitch)
        with layer.blocks(blocks, group_out) as b:
            channel = f.bind("channel", minimum(b * tile.channels, group_out - tile.channels))
            layer.tile(x, start, b, pixel, channel)


def _patch_loops(
    layer: _Layer, x: Buffer, window: list[Any], pixels: Expr, group_out: Expr, tiles: Expr, blocks: Expr
) -> None:
    """Pixels outside: a patch is copied once and serves all channels of its group."""
    f, tile = layer.f, layer.sums.tile
    patch, w = window[0], dict(zip(WINDOW, window[1:], strict=True))
    with layer.tiles(tiles, pixels) as t:
        pixel = f.bind("pixel", minimum(t * tile.pixels, pixels - tile.pixels))
        with f.loop("g", w["groups"]) as g:
            for p in range(tile.pixels):
                out_y = f.bind("out_y", quotient(pixel + p, w["out_w"]))
                out_x = f.bind("out_x", (pixel + p) - out_y * w["out_w"])
                f.call(
                    "irs_patch", address(patch, layer.pitch * p), address(x, g * w["group_in"]),
                    out_y * w["stride_h"] - w["pad_top"], out_x * w["stride_w"] - w["pad_left"],
                    *(w[k] for k in ("rows", "columns", "dilation_h", "dilation_w", "in_h", "in_w")),
                    *(w[k] for k in ("in_channels", "group_in", "pad_value")),
                )  # fmt: skip
            with layer.blocks(blocks, group_out) as b:
                inside = minimum(b * tile.channels, group_out - tile.channels)
                channel = f.bind("channel", g * group_out + inside)
                layer.tile(patch, 0, g * blocks + b, pixel, channel)

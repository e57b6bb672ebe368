"""int8 convolution and dense layers by dot products: a tile of pixels, all its channels, the next tile.

| geometry | where a pixel's bytes are | for |
|---|---|---|
| direct  | one pixel behind the other | 1x1 without stride, dense layers |
| strided | computed for each pixel | 1x1 with a stride |
| patch   | copied from the window, padding included | windows whose rows are contiguous bytes |
| apart   | the same, column by column | dilated columns, groups |

Pixels are finished in order, so that the output may overwrite the input behind them. The last tile overlaps
the one before; the last block of channels is stored in part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output, RowCall, Workspace
from irshrink.backends.tvm.kernels.mve.dot import (
    VECTOR,
    DotTile,
    Sums,
    choose_tile,
    overread,
    steps_of,
    stored,
    tile_candidates,
)
from irshrink.backends.tvm.kernels.mve.epilogue import BLOCK, VectorEpilogue
from irshrink.backends.tvm.kernels.overlap import tiles_distance
from irshrink.backends.tvm.kernels.packed import SUFFIXES, Form
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    address,
    constant,
    minimum,
    quotient,
    read,
    scalars,
    write,
)
from irshrink.program.ops import ConvInt8, DenseInt8
from irshrink.program.program import Program
from irshrink.program.stripes import Reach

Geometry = Literal["direct", "strided", "patch", "apart"]

_PATCH = (
    "out_w", "stride_h", "stride_w", "pad_top", "pad_left", "rows", "columns", "dilation_h", "in_h", "in_w",
    "pad_value",
)  # fmt: skip
_EXTRA: dict[Geometry, tuple[str, ...]] = {
    "direct": (),
    "strided": ("out_w", "stride_h", "stride_w", "in_w"),
    "patch": (*_PATCH, "in_channels"),
    "apart": (*_PATCH, "dilation_w", "in_channels", "groups", "group_in"),
}


def convolution_candidates(op: ConvInt8, program: Program) -> list[DotTile]:
    """The tiles of one image."""
    y = program.tensors[op.output].shape
    return tile_candidates(y[1] * y[2], op.weight[0].size)


def select_convolution(op: ConvInt8, program: Program, schedule: DotTile | None = None) -> KernelCall:
    """The kernel for one image of a convolution."""
    x, y = program.tensors[op.inputs[0]].shape, program.tensors[op.output].shape
    channels, depth, pixels = len(op.weight), op.weight[0].size, y[1] * y[2]
    geometry, window = _geometry(op), op.window
    copied = geometry in ("patch", "apart")
    tile = schedule or choose_tile(pixels, depth)
    group_out, pitch = channels // op.groups, steps_of(depth) * VECTOR
    requantization = op.requantization
    epilogue = VectorEpilogue.of(requantization, op.residual, group_out % BLOCK != 0)
    values = {
        "out_w": y[2], "stride_h": window.strides[0], "stride_w": window.strides[1],
        "pad_top": window.pads[0], "pad_left": window.pads[1],
        "rows": window.kernel[0], "columns": window.kernel[1],
        "dilation_h": window.dilations[0], "dilation_w": window.dilations[1], "in_h": x[1], "in_w": x[2],
        "pad_value": op.input_zero_point, "in_channels": x[3], "groups": op.groups,
        "group_in": x[3] // op.groups,
    }  # fmt: skip
    weights = stored(op, tile)
    overlaps = pixels % tile.pixels != 0
    first = tiles_distance(window, x, y, tile.pixels, reads_first=geometry == "patch")
    residual = [(1, tile.pixels * y[3])] if op.residual is not None else []
    return KernelCall(
        function=convolution(tile, geometry, epilogue, weights.form),
        arguments=(
            Input(0),
            Constant("weight", weights.weight, 8 if weights.form == "bytes" else 4),
            Constant("table", weights.table),
            *epilogue.arguments(requantization, op.residual),
            Output(),
            *(pixels, channels, group_out, steps_of(depth), pitch if copied else depth),
            *([Workspace()] if copied else []),
            *(values[name] for name in _EXTRA[geometry]),
        ),
        workspace_bytes=tile.pixels * pitch + VECTOR if copied else 0,
        overread_bytes=VECTOR - 1 if copied else overread(depth),
        # a value that was added to already would be added to again where tiles overlap
        in_place=(1,) if op.residual is not None and not overlaps else (),
        distances=((0, first), *residual),
        rows=_rows(op, y[2], tile, copied),
        specialized=tile.specialized,
        schedule=tile,
    )


def _rows(op: ConvInt8, out_w: int, tile: DotTile, copied: bool) -> RowCall | None:
    """Calls for some rows; there have to be enough pixels in one for a tile."""
    if tile.pixels > out_w:
        return None
    reach = Reach(op.window.extent()[0], op.window.strides[0], op.window.pads[0])
    reaches = (reach, Reach()) if op.residual is not None else (reach,)
    if not copied:
        return RowCall(reaches, pixels="pixels", tile=tile.pixels)
    return RowCall(reaches, pixels="pixels", in_rows="in_h", pad_top="pad_top", tile=tile.pixels)


def dense_candidates(op: DenseInt8, program: Program) -> list[DotTile]:
    """The tiles of a dense layer."""
    channels, depth = op.weight.shape
    return tile_candidates(program.tensors[op.output].elements // channels, depth)


def select_dense(op: DenseInt8, program: Program, schedule: DotTile | None = None) -> KernelCall:
    """The direct kernel on one row of pixels."""
    channels, depth = op.weight.shape
    pixels = program.tensors[op.output].elements // channels
    tile = schedule or choose_tile(pixels, depth)
    epilogue = VectorEpilogue.of(op.requantization, None, channels % BLOCK != 0)
    weights = stored(op, tile)
    return KernelCall(
        function=convolution(tile, "direct", epilogue, weights.form),
        arguments=(
            Input(0),
            Constant("weight", weights.weight, 8 if weights.form == "bytes" else 4),
            Constant("table", weights.table),
            *epilogue.arguments(op.requantization),
            Output(),
            *(pixels, channels, channels, steps_of(depth), depth),
        ),
        overread_bytes=overread(depth),
        specialized=tile.specialized,
        schedule=tile,
    )


def _geometry(op: ConvInt8) -> Geometry:
    window = op.window
    if op.groups > 1 or window.dilations[1] > 1:
        return "apart"
    if window.kernel != (1, 1) or any(window.pads):
        return "patch"
    return "direct" if window.strides == (1, 1) else "strided"


@cache
def convolution(
    tile: DotTile, geometry: Geometry, epilogue: VectorEpilogue, form: Form = "bytes"
) -> TirFunction:
    """The C function for one tile, geometry, epilogue and form of weights; all sizes are arguments."""
    kind = "" if geometry == "direct" else f"_{geometry}"
    extra = epilogue.parameters()
    name = f"conv_s8_mve_{tile.suffix}{kind}{epilogue.suffix}{SUFFIXES[form]}"
    with Function(name, "Convolution of int8: dot products of contiguous bytes.") as f:
        x, weight, table, *rest = f.parameters(
            read("x", "int8"),
            constant("weight", "int32"),
            constant("table", "int32"),
            *extra,
            write("y", "int8"),
            *scalars("pixels", "channels", "group_out", "steps", "pitch"),
            *([write("patch", "int8")] if geometry in ("patch", "apart") else []),
            *scalars(*_EXTRA[geometry]),
        )
        given, rest = rest[: len(extra)], rest[len(extra) :]
        y, pixels, channels, group_out, steps, pitch, *window = rest
        patch = window.pop(0) if geometry in ("patch", "apart") else None
        sizes = dict(zip(_EXTRA[geometry], window, strict=True))
        sums = Sums(f, tile, weight, steps, form)
        layer = _Layer(f, tile, x, y, channels, group_out, pitch, sizes)
        layer.blocks = f.bind("blocks", quotient(group_out + (BLOCK - 1), BLOCK))
        bound = epilogue.bind(given)

        def finish(source: Buffer, at: list[Expr], pixel: Expr, group: Expr) -> None:
            with f.loop("b", layer.blocks) as b:
                block = b + group * layer.blocks
                sums.block(source, at, block)
                channel = f.bind("channel", b * BLOCK + group * group_out)
                out = [(pixel + p) * channels + channel for p in range(tile.pixels)]
                left = group_out - b * BLOCK if epilogue.partial else None
                sums.store(bound, table, block, y, out, left)

        with f.loop("t", quotient(pixels + (tile.pixels - 1), tile.pixels)) as t:
            pixel = f.bind("pixel", minimum(t * tile.pixels, pixels - tile.pixels))
            if patch is None:
                finish(x, layer.places(geometry, pixel), pixel, 0)
            elif geometry == "patch":
                layer.copy(patch, pixel, 0)
                finish(patch, [pitch * p for p in range(tile.pixels)], pixel, 0)
            else:
                with f.loop("g", sizes["groups"]) as g:
                    layer.copy(patch, pixel, g)
                    finish(patch, [pitch * p for p in range(tile.pixels)], pixel, g)
    return f.result


@dataclass
class _Layer:
    """Where the pixels of a tile are read."""

    f: Function
    tile: DotTile
    x: Buffer
    y: Buffer
    channels: Expr
    group_out: Expr
    pitch: Expr
    sizes: dict[str, Any]
    blocks: Expr = 0

    def places(self, geometry: Geometry, pixel: Expr) -> list[Expr]:
        """First byte of every pixel in ``x``."""
        if geometry == "direct":
            start = self.f.bind("start", pixel * self.pitch)
            return [start + self.pitch * p for p in range(self.tile.pixels)]
        size = self.sizes
        places = []
        for p in range(self.tile.pixels):
            row, column = self._position(pixel + p)
            source = row * size["stride_h"] * size["in_w"] + column * size["stride_w"]
            places.append(self.f.bind("start", source * self.pitch))
        return places

    def copy(self, patch: Buffer, pixel: Expr, group: Expr) -> None:
        """The windows of the tile's pixels, one behind the other; those of one group."""
        size, apart = self.sizes, "groups" in self.sizes
        names = ["rows", "columns", "dilation_h", "in_h", "in_w", "pad_value"]
        more = ["dilation_w", "in_channels", "group_in"] if apart else ["in_channels"]
        with self.f.loop("p", self.tile.pixels) as p:
            row, column = self._position(pixel + p)
            self.f.call(
                "irs_helium_window_apart" if apart else "irs_helium_window",
                address(patch, self.pitch * p),
                address(self.x, group * size["group_in"] if apart else 0),
                row * size["stride_h"] - size["pad_top"],
                column * size["stride_w"] - size["pad_left"],
                *(size[name] for name in names),
                self.pitch,
                *(size[name] for name in more),
            )

    def _position(self, pixel: Expr) -> tuple[Expr, Expr]:
        row = self.f.bind("out_y", quotient(pixel, self.sizes["out_w"]))
        return row, self.f.bind("out_x", pixel - row * self.sizes["out_w"])

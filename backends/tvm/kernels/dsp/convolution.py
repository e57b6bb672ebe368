"""int8 convolution, three pixels by two channels at a time, on widened patches.

The windows of three pixels are copied into a *patch* of int16 pairs, which all output channels read. It comes
from the input in one of three ways:

| source | for |
|---|---|
| direct | pointwise layers: a window is a pixel |
| window | whole words of channels at every position; rows at once where no border is in the way |
| bytes  | few channels: contiguous bytes first (``irs_patch``), then widened |

Pixels left over at the end are computed one at a time, by a tile whose three pixels are the same one: nothing
is read after it was written, so that a pointwise layer may overwrite its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from irshrink.backends.tvm.kernels.call import (
    Argument,
    Constant,
    Input,
    KernelCall,
    Output,
    RowCall,
    Workspace,
)
from irshrink.backends.tvm.kernels.dsp.pairs import STEP, Streams, steps_of, streams
from irshrink.backends.tvm.kernels.dsp.residual import Residual
from irshrink.backends.tvm.kernels.overlap import Shape, tiles_distance
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    address,
    constant,
    minimum,
    quotient,
    read,
    scalars,
    select,
    write,
)
from irshrink.program.ops import ConvInt8, Requantization, Window
from irshrink.program.program import Program
from irshrink.program.stripes import Reach
from irshrink.target import Target

Source = Literal["direct", "window", "bytes"]

#: Pixels of a tile.
PIXELS = 3
#: Word copies may write this far past the end of a patch, and read as far past the end of the input.
_SLACK = 3

_BYTES = (
    "out_w", "stride_h", "stride_w", "pad_top", "pad_left", "rows", "columns", "dilation_h", "dilation_w",
    "in_h", "in_w", "in_channels", "pad_value",
)  # fmt: skip


@dataclass(frozen=True)
class PairTile:
    """The kernel of pairs of channels, and how its patches are made; an argument of the generator."""

    source: Source


def choose_pairs(op: ConvInt8, program: Program, target: Target) -> PairTile | None:
    """The tile for a convolution that is not depthwise, None where another kernel has to do it."""
    _, height, width, _ = program.tensors[op.output].shape
    if not target.has("dsp") or not target.has("fpu") or height * width < PIXELS or _streams(op) is None:
        return None
    if op.window == Window(kernel=(1, 1)) and op.groups == 1:
        return PairTile("direct")
    return PairTile("window" if op.weight.shape[3] % STEP == 0 else "bytes")


def _streams(op: ConvInt8) -> Streams | None:
    return streams(op.weight.reshape(op.groups, len(op.weight) // op.groups, -1), op.bias, op.requantization)


def select_pairs(op: ConvInt8, program: Program, tile: PairTile) -> KernelCall:
    """The kernel call for one image."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    channels, packed = len(op.weight), _streams(op)
    assert packed is not None
    assert isinstance(op.requantization, Requantization)
    patch_bytes = PIXELS * 2 * STEP * steps_of(op.weight[0].size)
    geometry = _Geometry(op, x.shape, y.shape)
    residual = Residual.of(op.residual)
    sums_bytes = -(-PIXELS * channels // 4) * 4 if residual.present else 0
    arguments: list[Argument] = [
        Input(0),
        Constant("stream", packed.words),
        Constant("runs", packed.runs),
        Output(),
        Workspace(),
        *(y.shape[1] * y.shape[2], channels, packed.runs.shape[1], patch_bytes),
        *(op.requantization.zero_point, op.groups),
        *geometry.arguments(tile.source, patch_bytes + sums_bytes),
    ]
    workspace = patch_bytes + sums_bytes + (geometry.byte_patch if tile.source == "bytes" else 0)
    if op.residual is not None:
        arguments += [Input(1), *residual.arguments(op.residual)]
    return KernelCall(
        function=pair_convolution(tile, residual),
        arguments=tuple(arguments),
        workspace_bytes=workspace,
        overread_bytes=_SLACK,
        in_place=_in_place(op, tile, x.shape[3], channels),
        distances=_distances(op, x.shape, y.shape),
        rows=_rows(op, tile),
        schedule=tile,
    )


def _in_place(op: ConvInt8, tile: PairTile, in_channels: int, channels: int) -> tuple[int, ...]:
    """A pixel's results may replace it once it is in the patch; what is added is read before its place."""
    if op.residual is not None:
        return (1,)
    return (0,) if tile.source == "direct" and channels <= in_channels else ()


def _distances(op: ConvInt8, x: Shape, y: Shape) -> tuple[tuple[int, int], ...]:
    """How far before its inputs the output has to begin: tiles follow each other in the image."""
    first = tiles_distance(op.window, x, y, PIXELS, reads_first=op.groups == 1, singles=True)
    return ((0, first), (1, 0)) if op.residual is not None else ((0, first),)


def _rows(op: ConvInt8, tile: PairTile) -> RowCall:
    """Calls for some rows."""
    window = op.window
    reach = Reach(window.extent()[0], window.strides[0], window.pads[0])
    reaches = (reach, Reach()) if op.residual is not None else (reach,)
    if tile.source == "direct":
        return RowCall(reaches, pixels="pixels", tile=PIXELS, singles=True)
    return RowCall(reaches, pixels="pixels", in_rows="in_h", pad_top="pad_top", tile=PIXELS, singles=True)


@dataclass(frozen=True)
class _Geometry:
    """Where windows lie, as the arguments of a source."""

    op: ConvInt8
    x: Shape
    y: Shape

    @property
    def pitch(self) -> int:
        """Bytes of one window, in whole words."""
        return -(-int(self.op.weight[0].size) // STEP) * STEP

    @property
    def byte_patch(self) -> int:
        return PIXELS * self.pitch + _SLACK

    def arguments(self, source: Source, bytes_at: int) -> list[Argument]:
        """Values of :meth:`parameters`; contiguous bytes come from ``bytes_at`` on in the workspace."""
        op, window, (_, in_h, in_w, in_channels) = self.op, self.op.window, self.x
        group_in = op.weight.shape[3]
        if source == "direct":
            return [in_channels, -(-in_channels // STEP)]
        if source == "window":
            outside = np.full(group_in, op.input_zero_point, np.int8)
            sizes = [self.y[2], in_w, in_channels, *window.strides, window.pads[1], *window.kernel]
            table = np.array([*sizes, *window.dilations], np.int32)
            return [Constant("window", table), Constant("outside", outside),
                    window.pads[0], in_h, group_in, group_in // STEP]  # fmt: skip
        sizes = [self.y[2], *window.strides, *window.pads[:2], *window.kernel, *window.dilations]
        return [*sizes, in_h, in_w, in_channels, op.input_zero_point, group_in, self.pitch, bytes_at]

    @staticmethod
    def parameters(source: Source) -> list[Parameter]:
        if source == "direct":
            return scalars("in_channels", "steps")
        if source == "window":
            arrays = [constant("window", "int32"), constant("outside", "int8")]
            return [*arrays, *scalars("pad_top", "in_h", "group_in", "steps")]
        return scalars(*_BYTES, "group_in", "pitch", "bytes_at")


@cache
def pair_convolution(tile: PairTile, residual: Residual) -> TirFunction:
    """The C function for one source and one kind of residual; all sizes are run-time arguments."""
    geometry, extra = _Geometry.parameters(tile.source), residual.parameters()
    names = ["pixels", "channels", "runs_each", "patch_bytes", "zero_point", "groups"]
    name = f"conv_s8_pairs_{tile.source}{residual.suffix}"
    with Function(name, "Convolution of int8, three pixels by two channels at a time.") as f:
        x, weights, runs, y, patch, *rest = f.parameters(
            read("x", "int8"),
            constant("stream", "int32"),
            constant("runs", "int32"),
            write("y", "int8"),
            write("patch", "int8"),
            *scalars(*names),
            *geometry,
            *extra,
        )
        n = dict(zip(names, rest, strict=False))
        place = dict(zip([p.name for p in geometry], rest[len(names) :], strict=False))
        given = rest[len(names) + len(geometry) :]
        full = f.bind("full", quotient(n["pixels"], PIXELS))
        single = f.bind("single", n["pixels"] - full * PIXELS)
        with f.loop("t", full + single) as t:
            more = f.bind("next", select(t < full, 1, 0))
            pixel = f.bind("pixel", minimum(t, full) * (PIXELS - 1) + t)
            kernel = _Body(f, tile, x, weights, runs, y, patch, n, place)
            kernel.tile(pixel, more, residual, given)
    return f.result


@dataclass
class _Body:
    """The inside of the loop over tiles."""

    f: Function
    kind: PairTile
    x: Buffer
    stream: Buffer
    runs: Buffer
    y: Buffer
    patch: Buffer
    n: dict[str, Expr]
    place: dict[str, Expr]

    def tile(self, pixel: Expr, more: Expr, residual: Residual, given: list[Expr]) -> None:
        """Three pixels, or (``more`` 0) one three times."""
        f, channels = self.f, self.n["channels"]
        first = f.bind("first", pixel * channels)
        out, at = (self.patch, self.n["patch_bytes"]) if residual.present else (self.y, first)
        if self.kind.source == "direct":
            self._direct(pixel, more)
            self._multiply(0, out, at, more)
        else:
            with f.loop("g", self.n["groups"]) as g:
                self._window(pixel, more, g)
                self._multiply(g, out, at, more)
        if residual.present:
            count = f.bind("count", channels + more * ((PIXELS - 1) * channels))
            residual.emit(f, given, (out, at), (self.y, first), count)

    def _direct(self, pixel: Expr, more: Expr) -> None:
        f, depth = self.f, self.place["in_channels"]
        at = f.bind("at", pixel * depth)
        step = f.bind("step", more * depth)
        froms = [address(self.x, at + step * p) for p in range(PIXELS)]
        f.call("irs_dsp_widen", address(self.patch, 0), *froms, self.place["steps"])

    def _window(self, pixel: Expr, more: Expr, group: Expr) -> None:
        f, place, patch = self.f, self.place, self.patch
        x = address(self.x, group * place["group_in"])
        if self.kind.source == "window":
            f.call("irs_dsp_windows", address(patch, 0), x, address(place["outside"], 0),
                   address(place["window"], 0), pixel, more,
                   place["pad_top"], place["in_h"], place["steps"])  # fmt: skip
            return
        pitch, bytes_at = place["pitch"], place["bytes_at"]
        for p in range(PIXELS):
            at = f.bind("window", pixel + more * p)
            out_y = f.bind("out_y", quotient(at, place["out_w"]))
            out_x = f.bind("out_x", at - out_y * place["out_w"])
            f.call(
                "irs_patch", address(patch, bytes_at + pitch * p), x,
                out_y * place["stride_h"] - place["pad_top"], out_x * place["stride_w"] - place["pad_left"],
                *(place[k] for k in ("rows", "columns", "dilation_h", "dilation_w", "in_h", "in_w")),
                *(place[k] for k in ("in_channels", "group_in", "pad_value")),
            )  # fmt: skip
        froms = [address(patch, bytes_at + pitch * p) for p in range(PIXELS)]
        f.call("irs_dsp_widen", address(patch, 0), *froms, quotient(pitch, STEP))

    def _multiply(self, group: Any, out: Buffer, at: Expr, more: Expr) -> None:
        """All channels of a group from the patch."""
        f, n = self.f, self.n
        stride = f.bind("stride", more * n["channels"])
        with f.loop("r", n["runs_each"]) as r:
            run = f.bind("run", (r if self.kind.source == "direct" else group * n["runs_each"] + r) * 3)
            words = address(self.stream, self.runs[run + 2])
            f.call("irs_dsp_tile", address(self.patch, 0), words, address(out, at + self.runs[run]),
                   n["patch_bytes"], stride, self.runs[run + 1], n["zero_point"])  # fmt: skip

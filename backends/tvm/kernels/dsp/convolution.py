"""int8 convolution, three pixels by two channels at a time, on widened patches.

The windows of three pixels are copied into a *patch* of int16 pairs, which all output channels read. It comes
from the input in one of three ways:

| source | for |
|---|---|
| direct | pointwise layers: a window is a pixel |
| window | whole words of channels at every position |
| rows   | few channels: whole words of each row of the window, then the bytes left over of all rows |

Pixels left over at the end are computed one at a time, by a tile whose three pixels are the same one: nothing
is read after it was written, so that a pointwise layer may overwrite its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import (
    Argument,
    Constant,
    Input,
    KernelCall,
    Output,
    RowCall,
    Workspace,
)
from irshrink.backends.tvm.kernels.dsp.nibbles import NIBBLES
from irshrink.backends.tvm.kernels.dsp.pairs import (
    BYTES,
    STEP,
    PairForm,
    channels_computed,
    patch_bytes,
    streams,
)
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

Source = Literal["direct", "window", "rows"]

#: Pixels of a tile.
PIXELS = 3
#: Word copies may write this far past the end of a patch, and read as far past the end of the input.
_SLACK = 3


@dataclass(frozen=True)
class PairTile:
    """The kernel of pairs of channels, and how its patches are made; an argument of the generator."""

    source: Source


def choose_pairs(op: ConvInt8, program: Program, target: Target) -> PairTile | None:
    """The tile for a convolution that is not depthwise, None where another kernel has to do it."""
    _, height, width, _ = program.tensors[op.output].shape
    if not target.has("dsp") or not target.has("fpu") or height * width < PIXELS:
        return None
    tile = PairTile("window" if op.weight.shape[3] % STEP == 0 else "rows")
    if op.window == Window(kernel=(1, 1)) and op.groups == 1:
        tile = PairTile("direct")
    return tile if _stream(op, tile) is not None else None


@lru_cache(maxsize=4)  # choosing and selecting ask one after the other
def _stream(op: ConvInt8, tile: PairTile) -> NDArray[np.int32] | None:
    """The weights in the order of the patch."""
    groups, (channels, rows, columns, group_in) = op.groups, op.weight.shape
    runs = op.weight.reshape(groups, channels // groups, rows, columns * group_in)
    words = columns * group_in // STEP * STEP if tile.source == "rows" else columns * group_in
    parts = [part.reshape(*runs.shape[:2], -1) for part in (runs[..., :words], runs[..., words:])]
    return streams(np.concatenate(parts, axis=2), op.bias, op.requantization, _form(op))


def _form(op: ConvInt8) -> PairForm:
    """How the weights are stored; those of 2 bits take 4."""
    return BYTES if op.weight_bits == 8 else NIBBLES


def select_pairs(op: ConvInt8, program: Program, tile: PairTile) -> KernelCall:
    """The kernel call for one image."""
    x, y = program.tensors[op.inputs[0]].shape, program.tensors[op.output].shape
    packed, residual = _stream(op, tile), Residual.of(op.residual)
    assert packed is not None
    assert isinstance(op.requantization, Requantization)
    sums_bytes = -(-PIXELS * y[3] // 4) * 4 if residual.present else 0
    patch = patch_bytes(op.weight[0].size)
    arguments: list[Argument] = [
        Input(0),
        Constant("stream", packed, _form(op).bits),
        Output(),
        Workspace(),
        *(y[1] * y[2], y[3], op.requantization.zero_point),
        *_place(op, tile, x, y, sums_bytes),
    ]
    if op.residual is not None:
        arguments += [Input(1), *residual.arguments(op.residual)]
    return KernelCall(
        function=pair_convolution(tile, residual, _form(op).bits),
        arguments=tuple(arguments),
        workspace_bytes=patch + sums_bytes + (_border_bytes(op) if tile.source == "rows" else 0),
        overread_bytes=_SLACK,
        in_place=_in_place(op, tile, x[3], y[3]),
        distances=_distances(op, x, y),
        rows=_row_call(op, tile),
        schedule=tile,
        assembly=True,
        computed=channels_computed(packed),
    )


def _place(op: ConvInt8, tile: PairTile, x: Shape, y: Shape, sums_bytes: int) -> list[Argument]:
    """Where windows lie: values of :func:`_place_parameters`."""
    window, group_in = op.window, op.weight.shape[3]
    if tile.source == "direct":
        return [x[3]]
    sizes = [y[2], x[2], x[3], *window.strides, window.pads[1], *window.kernel, *window.dilations]
    table = np.array([*sizes, group_in, op.input_zero_point], np.int32)
    places: list[Argument] = [Constant("window", table), op.groups, op.weight[0].size, window.pads[0], x[1]]
    if tile.source == "rows":
        return [*places, sums_bytes]
    return [*places, Constant("outside", np.full(group_in, op.input_zero_point, np.int8))]


def _place_parameters(source: Source) -> list[Parameter]:
    if source == "direct":
        return scalars("in_channels")
    places = [constant("window", "int32"), *scalars("groups", "depth", "pad_top", "in_h")]
    return [*places, *([constant("outside", "int8")] if source == "window" else scalars("sums_bytes"))]


def _border_bytes(op: ConvInt8) -> int:
    """What ``irs_dsp_rows`` takes besides the patch."""
    rows, run = op.window.kernel[0], op.window.kernel[1] * int(op.weight.shape[3])
    rest, border = (-(-n // STEP) * STEP for n in (rows * (run % STEP), rows * run))
    return PIXELS * (rest + border) + _SLACK


def _in_place(op: ConvInt8, tile: PairTile, in_channels: int, channels: int) -> tuple[int, ...]:
    """A pixel's results may replace it once it is in the patch; what is added is read before its place."""
    if op.residual is not None:
        return (1,)
    return (0,) if tile.source == "direct" and channels <= in_channels else ()


def _distances(op: ConvInt8, x: Shape, y: Shape) -> tuple[tuple[int, int], ...]:
    """How far before its inputs the output has to begin: tiles follow each other in the image."""
    first = tiles_distance(op.window, x, y, PIXELS, reads_first=op.groups == 1, singles=True)
    return ((0, first), (1, 0)) if op.residual is not None else ((0, first),)


def _row_call(op: ConvInt8, tile: PairTile) -> RowCall:
    """Calls for some rows."""
    window = op.window
    reach = Reach(window.extent()[0], window.strides[0], window.pads[0])
    reaches = (reach, Reach()) if op.residual is not None else (reach,)
    if tile.source == "direct":
        return RowCall(reaches, pixels="pixels", tile=PIXELS, singles=True)
    return RowCall(reaches, pixels="pixels", in_rows="in_h", pad_top="pad_top", tile=PIXELS, singles=True)


@cache
def pair_convolution(tile: PairTile, residual: Residual, bits: int = 8) -> TirFunction:
    """The C function for a source, a kind of residual and a width of weights; sizes are run-time."""
    place, extra = _place_parameters(tile.source), residual.parameters()
    names = ["pixels", "channels", "zero_point"]
    name = f"conv_s8_pairs_{tile.source}{residual.suffix}{'' if bits == 8 else f'_w{bits}'}"
    with Function(name, "Convolution of int8, three pixels by two channels at a time.") as f:
        x, stream, y, patch, *rest = f.parameters(
            read("x", "int8"),
            constant("stream", "int32"),
            write("y", "int8"),
            write("patch", "int8"),
            *scalars(*names),
            *place,
            *extra,
        )
        given = dict(zip([*names, *(p.name for p in place)], rest, strict=False))
        n = {**given, **_sizes(f, tile, given)}
        full = f.bind("full", quotient(n["pixels"], PIXELS))
        single = f.bind("single", n["pixels"] - full * PIXELS)
        with f.share("t", full + single) as t:
            more = f.bind("next", select(t < full, 1, 0))
            pixel = f.bind("pixel", minimum(t, full) * (PIXELS - 1) + t)
            _Body(f, tile, bits, x, stream, y, patch, n).tile(pixel, more, residual, rest[len(given) :])
    return f.result


def _sizes(f: Function, tile: PairTile, given: dict[str, Expr]) -> dict[str, Expr]:
    """Steps of a window, and bytes of a patch with whole loop bodies."""
    depth = given["in_channels" if tile.source == "direct" else "depth"]
    steps = f.bind("steps", quotient(depth + (STEP - 1), STEP))
    return {"steps": steps, "patch_bytes": f.bind("patch_bytes", quotient(steps + 1, 2) * patch_bytes(STEP))}


@dataclass
class _Body:
    """The inside of the loop over tiles."""

    f: Function
    kind: PairTile
    bits: int
    x: Buffer
    stream: Buffer
    y: Buffer
    patch: Buffer
    n: dict[str, Expr]

    def tile(self, pixel: Expr, more: Expr, residual: Residual, given: list[Expr]) -> None:
        """Three pixels, or (``more`` 0) one three times."""
        f, channels = self.f, self.n["channels"]
        first = f.bind("first", pixel * channels)
        out, at = (self.patch, self.n["patch_bytes"]) if residual.present else (self.y, first)
        stride = f.bind("stride", more * channels)
        if self.kind.source == "direct":
            self._direct(pixel, more)
            self._constants(out, at, stride)
            self._multiply(0, out, at, stride)
        else:
            with f.loop("g", self.n["groups"]) as g:
                self._window(pixel, more, g)
                with f.when(g == 0):
                    self._constants(out, at, stride)
                self._multiply(g, out, at, stride)
        if residual.present:
            count = f.bind("count", channels + more * ((PIXELS - 1) * channels))
            residual.emit(f, given, (out, at), (self.y, first), count)

    @property
    def _family(self) -> str:
        """Prefix of the C functions that know how weights are stored, and patches for them."""
        return "irs_dsp" if self.bits == 8 else "irs_nibble"

    def _direct(self, pixel: Expr, more: Expr) -> None:
        f, depth = self.f, self.n["in_channels"]
        at = f.bind("at", pixel * depth)
        step = f.bind("step", more * depth)
        froms = [address(self.x, at + step * p) for p in range(PIXELS)]
        f.call(f"{self._family}_widen", address(self.patch, 0), *froms, self.n["steps"], 1, 0)

    def _window(self, pixel: Expr, more: Expr, group: Expr) -> None:
        f, n, window = self.f, self.n, self.n["window"]
        by_rows = self.kind.source == "rows"
        extra = (
            address(self.patch, n["patch_bytes"] + n["sums_bytes"]) if by_rows else address(n["outside"], 0)
        )
        f.call(
            f"{self._family}_rows" if by_rows else f"{self._family}_windows",
            *(address(self.patch, 0), address(self.x, group * window[GROUP_IN]), extra, address(window, 0)),
            *(pixel, more, n["pad_top"], n["in_h"]),
        )

    def _constants(self, out: Buffer, at: Expr, stride: Expr) -> None:
        """Channels that no run gives."""
        f, stream = self.f, self.stream
        with f.when(stream[1] != 0), f.loop("p", PIXELS) as p:
            f.call(
                "irs_dsp_fill", address(out, at + p * stride), address(stream, stream[1]), self.n["channels"]
            )

    def _multiply(self, group: Any, out: Buffer, at: Expr, stride: Expr) -> None:
        """All channels of a group from the patch; runs of pairs stand at the head of the stream."""
        f, n, stream = self.f, self.n, self.stream
        runs = f.bind("runs", stream[0])
        with f.loop("r", runs) as r:
            run = f.bind("run", (r if self.kind.source == "direct" else group * runs + r) * 3 + 2)
            f.call(
                f"{self._family}_tile",
                *(address(self.patch, 0), address(stream, stream[run + 2]), address(out, at + stream[run])),
                *(n["patch_bytes"], stride, stream[run + 1], n["zero_point"]),
            )


#: Where the header keeps the channels of a group in its table of a window.
GROUP_IN = 10

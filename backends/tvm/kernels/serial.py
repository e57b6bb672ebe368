"""int8 layers that read their weights one after the other, channel by channel: sparse ones and coded ones.

A tile of pixels shares what is read of a weight. A :class:`Reader` says how the next weight, and the input
that it belongs to, come out of flash; tiles, windows and epilogues are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.convolution import (
    SLACK,
    WINDOW,
    image_distances,
    pitch_of,
    row_calls,
    window_arguments,
)
from irshrink.backends.tvm.kernels.epilogue import Epilogue, epilogue_arguments
from irshrink.backends.tvm.kernels.tiles import Tile
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    address,
    cast,
    constant,
    i32,
    last_overlaps,
    minimum,
    quotient,
    read,
    scalars,
    write,
)
from irshrink.program.ops import ConvInt8, DenseInt8
from irshrink.program.program import Program
from irshrink.target import Target

#: ``multiply(place, weight)``: all sums of a tile take the product with the input at this place.
Multiply = Callable[[Expr, Expr], None]


class Reader(Protocol):
    """How weights are read; a hashable argument of the generator."""

    def __hash__(self) -> int: ...

    @property
    def name(self) -> str:
        """Of the C function, in front of its tile."""
        ...

    @property
    def doc(self) -> str: ...

    @property
    def state(self) -> int:
        """How many int32 it remembers; element 0 begins as 0 with every tile."""
        ...

    def parameters(self) -> Sequence[Parameter]:
        """The constants that it reads."""
        ...

    def sizes(self) -> Sequence[str]:
        """Names of its int32 arguments."""
        ...

    def begin(self, f: Function, given: Sequence[Any], state: Buffer) -> None:
        """Store the state of the first channel's first weight.

        Args:
            given: what :meth:`parameters` and :meth:`sizes` name, in that order.
        """
        ...

    def channel(
        self, f: Function, given: Sequence[Any], state: Buffer, channel: Expr, start: Expr, multiply: Multiply
    ) -> None:
        """Read all weights of a channel, whose inputs begin at ``start``."""
        ...


def dense_call(
    op: DenseInt8, program: Program, reader: Reader, constants: Sequence[Constant], sizes: Sequence[int]
) -> KernelCall:
    """The call for a layer whose constants and sizes are what the reader names."""
    channels, depth = op.weight.shape
    rows = program.tensors[op.output].elements // channels
    return KernelCall(
        function=serial(reader, dense_tile(rows), False, Epilogue.of(op.requantization)),
        arguments=(
            Input(0),
            *constants,
            Constant("bias", op.bias),
            *epilogue_arguments(op.requantization, channels),
            Output(),
            *(rows, channels, channels, depth),
            *sizes,
        ),
    )


def dense_tile(rows: int) -> int:
    """Rows that are computed together."""
    return 4 if rows >= 4 else 1


def convolution_call(
    op: ConvInt8,
    program: Program,
    target: Target,
    reader: Reader,
    constants: Sequence[Constant],
    sizes: Sequence[int],
) -> KernelCall:
    """The same of a convolution."""
    y = program.tensors[op.output]
    channels, depth = len(op.weight), op.weight[0].size
    pixels, group_out = y.elements // y.shape[0] // channels, channels // op.groups
    together = convolution_tile(pixels, target)
    tile = Tile("plain", together, 1)
    direct = op.window.kernel == (1, 1) and op.window.strides == (1, 1) and not any(op.window.pads)
    patch = not direct or op.groups > 1
    arguments: list[Argument] = [
        Input(0),
        *constants,
        Constant("bias", op.bias),
        *epilogue_arguments(op.requantization, channels, op.residual),
        Output(),
        *(pixels, channels, group_out, pitch_of(depth) if patch else depth),
        *sizes,
    ]
    if patch:
        arguments += window_arguments(op, program)
    overlaps = pixels % together != 0
    return KernelCall(
        function=serial(reader, together, patch, Epilogue.of(op.requantization, op.residual)),
        arguments=tuple(arguments),
        workspace_bytes=together * pitch_of(depth) + SLACK if patch else 0,
        overread_bytes=SLACK if patch else 0,
        in_place=(1,) if op.residual is not None and not overlaps else (),
        distances=image_distances(op, program, tile, patch),
        rows=row_calls(op, y.shape[2], tile, patch),
    )


def convolution_tile(pixels: int, target: Target) -> int:
    """Pixels that are computed together."""
    return min(pixels, 2 if target.has("thumb1") else 4)


@cache
def serial(reader: Reader, together: int, patch: bool, epilogue: Epilogue) -> TirFunction:
    """The C function for tiles of so many pixels; sizes are run-time arguments.

    Every pixel is finished before the next: the output may overwrite the input behind it.
    """
    kind = f"{'_patch' if patch else ''}{epilogue.suffix}"
    own, extra, sizes = reader.parameters(), epilogue.parameters(), reader.sizes()
    with Function(f"{reader.name}_{together}{kind}", reader.doc) as f:
        x, *rest = f.parameters(
            read("x", "int8"),
            *own,
            constant("bias", "int32"),
            *extra,
            write("y", "int8"),
            *scalars("pixels", "channels", "group_out", "pitch", *sizes),
            *([write("patch", "int8"), *scalars(*WINDOW)] if patch else []),
        )
        tables, (bias, *rest) = rest[: len(own)], rest[len(own) :]
        given, rest = rest[: len(extra)], rest[len(extra) :]
        y, pixels, channels, group_out, pitch, *rest = rest
        numbers, window = [*tables, *rest[: len(sizes)]], rest[len(sizes) :]
        sums = f.local("acc", "int32", together)
        state = f.local("at", "int32", reader.state)

        def channel_of(source: Buffer, start: Expr, pixel: Expr, channel: Expr) -> None:
            def multiply(place: Expr, weight: Expr) -> None:
                w = f.bind("w", weight)
                for p in range(together):
                    f.store(sums, p, sums[i32(p)] + w * cast("int32", source[place + pitch * p]))

            for p in range(together):
                f.store(sums, p, bias[channel])
            reader.channel(f, numbers, state, channel, start, multiply)
            for p in range(together):
                epilogue.emit(f, given, sums[i32(p)], channel, y, (pixel + p) * channels + channel)

        tiles = f.bind("tiles", quotient(pixels + (together - 1), together))
        with f.share("t", tiles, last_overlaps(pixels, together)) as t:
            pixel = f.bind("pixel", minimum(t * together, pixels - together))
            reader.begin(f, numbers, state)
            if not patch:
                with f.loop("c", channels) as c:
                    channel_of(x, pixel * pitch, pixel, c)
            else:
                w = dict(zip(WINDOW, window[1:], strict=True))
                with f.loop("g", w["groups"]) as g:
                    _copy(f, x, window[0], w, pixel, g, pitch, together)
                    with f.loop("c", group_out) as c:
                        channel_of(window[0], i32(0), pixel, f.bind("channel", g * group_out + c))
    return f.result


def _copy(f: Function, x: Buffer, patch: Buffer, w: dict[str, Any], pixel: Expr, g: Expr, pitch: Expr,
          together: int) -> None:  # fmt: skip
    """The windows of the pixels of a tile."""
    for p in range(together):
        out_y = f.bind("out_y", quotient(pixel + p, w["out_w"]))
        out_x = f.bind("out_x", (pixel + p) - out_y * w["out_w"])
        f.call(
            "irs_patch", address(patch, pitch * p), address(x, g * w["group_in"]),
            out_y * w["stride_h"] - w["pad_top"], out_x * w["stride_w"] - w["pad_left"],
            *(w[k] for k in ("rows", "columns", "dilation_h", "dilation_w", "in_h", "in_w")),
            *(w[k] for k in ("in_channels", "group_in", "pad_value")),
        )  # fmt: skip

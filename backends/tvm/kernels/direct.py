"""Direct convolution: the loops that kernels of several number formats share.

A register tile is some pixels of a row times a block of output channels. Weights are packed
[group][block][ky][kx][ci][channel of the block]; channels that do not fill a block are padded with zeros,
computed and dropped. A dense layer is a convolution over one row of pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    all_of,
    i32,
    last_overlaps,
    minimum,
    quotient,
    remainder,
)
from irshrink.program.ops import Op, Window
from irshrink.program.program import Program

#: Run-time sizes of a kernel, in the order of :func:`image_sizes`; then groups and channels of one.
SIZES = (
    "images", "out_h", "out_w", "height", "width", "channels", "kernel_h", "kernel_w", "stride_h", "stride_w",
    "dilation_h", "dilation_w", "top", "left", "groups", "group_in", "group_out",
)  # fmt: skip

#: Loops of the kernel: rows of the output, tiles of pixels in one, blocks of channels.
Shared = Literal["lines", "tiles", "blocks"]


def image_sizes(op: Op, window: Window, program: Program) -> list[int]:
    """Of a convolution; pointwise layers see the image as one row of pixels."""
    images, height, width, channels = program.tensors[op.inputs[0]].shape
    _, out_h, out_w, _ = program.tensors[op.output].shape
    if window.kernel == (1, 1) and window.strides == (1, 1) and not any(window.pads):
        images, height, width, out_h, out_w = 1, 1, images * height * width, 1, images * out_h * out_w
    sizes = [images, out_h, out_w, height, width, channels, *window.kernel, *window.strides]
    return [*sizes, *window.dilations, *window.pads[:2]]


def row_sizes(pixels: int, depth: int) -> list[int]:
    """Of a dense layer: its rows are the pixels."""
    return [1, 1, pixels, 1, pixels, depth, 1, 1, 1, 1, 1, 1, 0, 0]


def pack(weight: NDArray[Any], groups: int, width: int) -> NDArray[Any]:
    """[Co, kh, kw, Ci] as [group][block][ky][kx][ci][channel], blocks padded with zeros."""
    split = weight.reshape(groups, -1, *weight.shape[1:])
    blocks = -(-split.shape[1] // width)
    padded = np.zeros((groups, blocks * width, *weight.shape[1:]), weight.dtype)
    padded[:, : split.shape[1]] = split
    parts = padded.reshape(groups, blocks, width, *weight.shape[1:]).transpose(0, 1, 3, 4, 5, 2)
    return np.ascontiguousarray(parts).reshape(-1)


@dataclass(frozen=True, kw_only=True)
class Direct:
    """Generator arguments that all formats have.

    Attributes:
        pixels, channels: the register tile.
        vector: loops over the channels of a tile, which compilers vectorize, instead of straight code.
        depthwise: a block spans groups of one channel each, instead of the channels of one group.
        padded: windows may lie partly outside the input.
        shared: which loop threads share.
    """

    pixels: int
    channels: int
    vector: bool
    depthwise: bool
    padded: bool
    shared: Shared = "lines"

    def each(self, f: Function, do: Callable[[int, Any], None]) -> None:
        """``do(pixel, channel)`` for every element of the tile."""
        for p in range(self.pixels):
            if self.vector:
                with f.loop("j", self.channels) as j:
                    do(p, j)
                continue
            for c in range(self.channels):
                do(p, c)


@dataclass
class DirectKernel(ABC):
    """The body of one kernel; what depends on the format is left to its class.

    Attributes:
        given: the function's parameters by name, the sizes and ``x`` and ``y`` among them.
        acc_type: of the sums.
    """

    f: Function
    tile: Direct
    given: dict[str, Any]
    acc_type: str

    def emit(self) -> None:
        f, tile, given = self.f, self.tile, self.given
        self.x: Buffer = given["x"]
        y: Buffer = given["y"]
        self.acc = f.local("acc", self.acc_type, tile.pixels * tile.channels)
        done = f.local("done", str(y.dtype), tile.pixels * tile.channels)
        self.begin()
        blocks = f.bind("blocks", quotient(given["group_out"] + (tile.channels - 1), tile.channels))
        step = f.bind("block_step", given["kernel_h"] * given["kernel_w"] * self.depth() * tile.channels)
        with (
            self._loop("lines", "line", given["images"] * given["out_h"]) as line,
            self._loop("blocks", "b", given["groups"] * blocks) as b,
        ):
            image, oy = quotient(line, given["out_h"]), remainder(line, given["out_h"])
            channel = f.bind("channel", remainder(b, blocks) * tile.channels)
            group = f.bind("group", quotient(b, blocks))
            tiles = quotient(given["out_w"] + (tile.pixels - 1), tile.pixels)
            with self._loop("tiles", "t", tiles, last_overlaps(given["out_w"], tile.pixels)) as t:
                column = f.bind("column", minimum(t * tile.pixels, given["out_w"] - tile.pixels))
                self.start(b * tile.channels)
                first = channel if tile.depthwise else group * given["group_in"]
                self._window(f.bind("image", image), f.bind("y", oy), column, first, (b, step))
                # sums are indexed by constants only, so that they stay in registers; the copy is not
                tile.each(f, lambda p, j: f.store(done, self.at(p, j), self.result(p, j, b * tile.channels)))
                self._store(y, done, line * given["out_w"] + column, group, channel)

    @abstractmethod
    def begin(self) -> None:
        """Declare what the kernel needs before its loops."""

    def depth(self) -> Expr:
        """Weights of a channel at a position of the window."""
        depth: Expr = self.given["group_in"]
        return depth

    @abstractmethod
    def start(self, first: Expr) -> None:
        """Begin the sums of the block whose channels are ``first`` and following."""

    @abstractmethod
    def position(self, at: list[Expr], inside: list[Expr], w: Expr, number: Expr) -> None:
        """Add one position of the window.

        Args:
            at: of each pixel of the tile, where in ``x`` the first channel is.
            inside: of each pixel, whether that lies in the image; empty where all do.
            w: where the weights begin.
            number: of the block and the position, counted through.
        """

    @abstractmethod
    def result(self, pixel: int, j: Any, first: Expr) -> Expr:
        """The output of channel ``first + j`` from its finished sum."""

    def at(self, pixel: int, j: Any) -> Expr:
        """Where in the tile a sum is."""
        return i32(j + pixel * self.tile.channels)

    def _loop(self, what: Shared, name: str, n: Expr, joined: Expr = 0) -> AbstractContextManager[Expr]:
        return self.f.share(name, n, joined) if self.tile.shared == what else self.f.loop(name, n)

    def _window(self, image: Expr, oy: Expr, column: Expr, first: Expr, block: tuple[Expr, Expr]) -> None:
        """Every position of the window, for all pixels of a tile; ``block``: its number, its length."""
        f, tile, size = self.f, self.tile, self.given
        b, step = block
        with f.loop("ky", size["kernel_h"]) as ky:
            y = f.bind("in_y", oy * size["stride_h"] - size["top"] + ky * size["dilation_h"])
            row = f.bind("row", (image * size["height"] + y) * size["width"])
            with f.loop("kx", size["kernel_w"]) as kx:
                xs = [
                    f.bind(
                        f"in_x{p}", (column + p) * size["stride_w"] - size["left"] + kx * size["dilation_w"]
                    )
                    for p in range(tile.pixels)
                ]
                at = [f.bind(f"at{p}", (row + x) * size["channels"] + first) for p, x in enumerate(xs)]
                inside = [f.bind(f"inside{p}", self._inside(y, x)) for p, x in enumerate(xs) if tile.padded]
                w = f.bind("w", b * step + (ky * size["kernel_w"] + kx) * self.depth() * tile.channels)
                self.position(at, inside, w, (b * size["kernel_h"] + ky) * size["kernel_w"] + kx)

    def _inside(self, y: Expr, x: Expr) -> Expr:
        height, width = self.given["height"], self.given["width"]
        return all_of(y >= 0, y < height, x >= 0, x < width)

    def _store(self, y: Buffer, done: Buffer, pixel: Expr, group: Expr, channel: Expr) -> None:
        """Write the channels that exist."""
        f, tile, size = self.f, self.tile, self.given
        count = f.bind("count", minimum(size["group_out"] - channel, tile.channels))
        first = f.bind("first", group * size["group_out"] + channel)
        for p in range(tile.pixels):
            at = f.bind("y_at", (pixel + p) * size["groups"] * size["group_out"] + first)
            with f.loop("j", count) as j:
                f.store(y, at + j, done[self.at(p, j)])

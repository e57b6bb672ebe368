"""Random programs of int8 layers over images that feed each other, for tests of memory plans and stripes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import AddInt8, Addition, ConvInt8, MaxPool, Op, Requantization, Window
from irshrink.program.program import Port, Program, Tensor

_SAME = (1, 1, 1, 1)


class Chains:
    """A program that grows layer by layer; every method returns the name of the tensor that it made."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.program = Program({}, [], [], [])
        self.values: list[NDArray[np.int8]] = []

    def source(self, height: int, width: int, channels: int) -> str:
        """An input of the program."""
        tensor = self._tensor((1, height, width, channels))
        self.program.inputs.append(Port(tensor.name, tensor.name, tensor.shape))
        self.values.append(self.rng.integers(-128, 128, tensor.shape).astype(np.int8))
        return tensor.name

    def sink(self, name: str) -> None:
        """An output of the program."""
        self.program.outputs.append(Port(name, name, self.program.tensors[name].shape))

    def conv(
        self, x: str, channels: int, window: Window, groups: int = 1, residual: str | None = None
    ) -> str:
        """A convolution; ``residual`` is added to it."""
        _, height, width, depth = self.program.tensors[x].shape
        y = self._tensor((1, *window.output(height, width), channels))
        count = window.kernel[0] * window.kernel[1] * depth // groups
        weight = self.rng.integers(-127, 128, (channels, *window.kernel, depth // groups)).astype(np.int8)
        spread = self.rng.uniform(0.5, 2, channels) * 40 / (74 * 74 * count**0.5)
        self._add(
            ConvInt8(
                name=f"op{len(self.program.ops)}", origin=(), output=y.name,
                inputs=(x,) if residual is None else (x, residual), weight=weight,
                bias=self.rng.integers(-3000, 3000, channels).astype(np.int32), window=window, groups=groups,
                input_zero_point=int(self.rng.integers(-128, 128)),
                requantization=Requantization(
                    multiplier=spread.astype(np.float32), zero_point=int(self.rng.integers(-30, 30))
                ),
                residual=None if residual is None else self._addition(),
            )
        )  # fmt: skip
        return y.name

    def pool(self, x: str, window: Window) -> str:
        """A max pool."""
        _, height, width, channels = self.program.tensors[x].shape
        y = self._tensor((1, *window.output(height, width), channels))
        self._add(
            MaxPool(name=f"op{len(self.program.ops)}", origin=(), inputs=(x,), output=y.name, window=window)
        )
        return y.name

    def add(self, a: str, b: str) -> str:
        """A sum of two tensors of one shape."""
        y = self._tensor(self.program.tensors[a].shape)
        self._add(
            AddInt8(
                name=f"op{len(self.program.ops)}", origin=(), inputs=(a, b), output=y.name,
                addition=self._addition(),
            )
        )  # fmt: skip
        return y.name

    def grow(self, x: str, layers: int) -> str:
        """Random layers after ``x``, with residuals where shapes allow."""
        earlier = [x]
        for _ in range(layers):
            x = self._random(x, earlier)
            earlier.append(x)
        return x

    def _random(self, x: str, earlier: list[str]) -> str:
        _, height, width, depth = self.program.tensors[x].shape
        kind, window = self.rng.integers(0, 6), self._window(height, width)
        if kind == 0:
            return self.conv(x, int(self.rng.integers(1, 13)), Window(kernel=(1, 1)))
        if kind == 1 and depth > 1:
            return self.conv(x, depth, window, groups=depth)
        if kind == 2:
            return self.pool(x, window)
        same = [e for e in earlier if self.program.tensors[e].shape == (1, height, width, depth)]
        if kind in (3, 4) and same:
            other = str(self.rng.choice(same))
            if kind == 3 and other != x:
                return self.add(x, other)
            return self.conv(x, depth, Window(kernel=(3, 3), pads=_SAME), residual=other)
        groups = 2 if depth % 2 == 0 and self.rng.random() < 0.3 else 1
        return self.conv(x, groups * int(self.rng.integers(1, 7)), window, groups=groups)

    def _window(self, height: int, width: int) -> Window:
        """Small windows that leave a few rows and columns."""
        while True:
            rows, columns, stride, dilation = (int(n) for n in self.rng.integers(1, (5, 4, 3, 3)))
            pads = tuple(int(p) for p in self.rng.integers(0, 3, 4))
            strides = (stride, int(self.rng.integers(1, 3)))
            window = Window(
                kernel=(rows, columns), strides=strides, pads=(pads[0], pads[1], pads[2], pads[3]),
                dilations=(dilation, int(self.rng.integers(1, 3))),
            )  # fmt: skip
            out = window.output(height, width)
            if out[0] >= min(5, height) and out[1] >= min(3, width) and max(pads) < rows * columns:
                return window
            if min(height, width) < 3:
                return Window(kernel=(3, 3), pads=_SAME)

    def _addition(self) -> Addition:
        ma, mb = (int(m) for m in self.rng.integers(1 << 18, 1 << 20, 2))
        return Addition(multipliers=(ma, mb), shift=20, zero_points=(3, -9), zero_point=-5)

    def _tensor(self, shape: tuple[int, ...]) -> Tensor:
        tensor = Tensor(f"t{len(self.program.tensors)}", shape)
        self.program.tensors[tensor.name] = tensor
        return tensor

    def _add(self, op: Op) -> None:
        self.program.ops.append(op)

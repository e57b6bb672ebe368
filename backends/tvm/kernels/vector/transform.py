"""Fourier transforms of radix 2 in place, in vectors of channels: [value][real and imaginary][channel]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from irshrink.backends.tvm.tir import Buffer, Expr, Function, address, inline

#: Real and imaginary part.
Complex = tuple[Expr, Expr]


@dataclass(frozen=True)
class Transform:
    """Code for transforms in ``work``, which bytes count; ``twiddle`` holds those of both directions."""

    f: Function
    header: str
    lanes: int
    work: Buffer
    twiddle: Buffer

    def forward(self, length: int, channels: int, to: Expr, source: tuple[Expr, int, int]) -> None:
        """By decimation in frequency; the first stages read real parts from ``source`` (first value, bytes
        from value to value, bytes from real to imaginary part)."""
        halves = [length >> k for k in range(1, length.bit_length())]
        size = _Size(length, channels)
        groups = [halves[:1], *_twos(halves[1:])] if len(halves) % 2 else _twos(halves)
        for number, group in enumerate(groups):
            self._stages(size, group, to, source if number == 0 else None, back=False)

    def back(self, length: int, channels: int, at: Expr) -> None:
        """By decimation in time, in place."""
        halves = [1 << k for k in range(length.bit_length() - 1)]
        size = _Size(length, channels)
        groups = [*_twos(halves[: len(halves) // 2 * 2]), *([halves[-1:]] if len(halves) % 2 else [])]
        for group in groups:
            self._stages(size, group, at, None, back=True)

    def _stages(
        self, size: _Size, halves: list[int], at: Expr, source: tuple[Expr, int, int] | None, back: bool
    ) -> None:
        """One or two stages: ``points`` values that are ``apart`` depend on nothing else."""
        f, apart, points = self.f, min(halves), 2 ** len(halves)
        with f.loop("j", apart) as j:
            turns = self._turns(size, halves, j, apart, back)
            with (
                f.loop("g", size.length // (points * apart)) as g,
                f.loop("c", size.channels // self.lanes) as c,
            ):
                n = f.bind("n", g * (points * apart) + j)
                offset = c * (self.lanes * 4)
                places = [f.bind("z", at + (n + i * apart) * size.value + offset) for i in range(points)]
                if source is None:
                    z = [self._load(p, p + size.part) for p in places]
                else:
                    start, pitch, other = source
                    reals = [f.bind("x", start + (n + i * apart) * pitch + offset) for i in range(points)]
                    z = [self._load(r, r + other) for r in reals]
                for half in halves:
                    z = self._stage(z, half // apart, turns[half], back)
                for place, value in zip(places, z, strict=True):
                    for part in range(2):
                        self._keep(place + size.part * part, value[part])

    def _turns(self, size: _Size, halves: list[int], j: Expr, apart: int, back: bool) -> dict[int, list[Any]]:
        """Of every stage, the twiddles of its butterflies among the points of one ``j``."""
        found: dict[int, list[Any]] = {}
        for half in halves:
            stride, first = size.length // (2 * half), size.length // 2 if back else 0
            found[half] = []
            for i in range(half // apart):
                if half == 1:
                    found[half].append(None)  # a twiddle of 1 is no product
                    continue
                place = ((j + i * apart) * stride + first) * 2
                found[half].append(tuple(self._spread(place + part) for part in range(2)))
        return found

    def _stage(self, z: list[Complex], half: int, turns: list[Any], back: bool) -> list[Complex]:
        """Butterflies between points that are ``half`` places apart."""
        out = list(z)
        for i in range(len(z)):
            if i // half % 2:
                continue
            a, b, turn = z[i], z[i + half], turns[i % half]
            if back and turn is not None:
                b = self._times(b, turn)
            difference = tuple(self._two("minus_f32x", p, q) for p, q in zip(a, b, strict=True))
            out[i] = (self._two("plus_f32x", a[0], b[0]), self._two("plus_f32x", a[1], b[1]))
            out[i + half] = (difference[0], difference[1])
            if not back and turn is not None:
                out[i + half] = self._times(out[i + half], turn)
        return out

    def _times(self, d: Complex, w: Complex) -> Complex:
        re, im = self._two("times_f32x", d[0], w[0]), self._two("times_f32x", d[0], w[1])
        return self._three("fms", re, d[1], w[1]), self._three("fma", im, d[1], w[0])

    def _two(self, what: str, a: Expr, b: Expr) -> Expr:
        return self.f.bind("v", inline(self._dtype, f"{self.header}_{what}{self.lanes}", a, b))

    def _three(self, what: str, acc: Expr, a: Expr, b: Expr) -> Expr:
        return self.f.bind("v", inline(self._dtype, f"{self.header}_{what}{self.lanes}", acc, a, b))

    def _load(self, re: Expr, im: Expr) -> Complex:
        name = f"{self.header}_floats{self.lanes}"
        first, second = (
            self.f.bind("v", inline(self._dtype, name, address(self.work, at))) for at in (re, im)
        )
        return first, second

    def _keep(self, at: Expr, value: Expr) -> None:
        self.f.call(f"{self.header}_store_f32x{self.lanes}", address(self.work, at), value)

    def _spread(self, at: Expr) -> Expr:
        name = f"{self.header}_splat_f32x{self.lanes}"
        return self.f.bind("w", inline(self._dtype, name, address(self.twiddle, at)))

    @property
    def _dtype(self) -> str:
        return f"float32x{self.lanes}"


@dataclass(frozen=True)
class _Size:
    """A signal of ``length`` complex values of so many channels."""

    length: int
    channels: int

    @property
    def part(self) -> int:
        """Bytes from a real part to its imaginary one."""
        return self.channels * 4

    @property
    def value(self) -> int:
        """Bytes from value to value."""
        return 2 * self.part


def _twos(halves: list[int]) -> list[list[int]]:
    return [halves[i : i + 2] for i in range(0, len(halves), 2)]

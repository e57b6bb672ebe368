"""Axes of plots: where a value lies and which ones have a tick.

Where values spread over more than an order of magnitude an axis bends: it is linear up to about ``bend`` and
logarithmic beyond, ``asinh(value / bend)``. What matters, near a budget, has room, and what destroys a net is
on the plot all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import asinh, ceil, floor, log10, sinh

#: Part of an axis that stays free at its ends.
_MARGIN = 0.06


@dataclass(frozen=True)
class Axis:
    """Attributes:
    low, high: ends.
    title: at the axis.
    show: a value at a tick.
    base: ticks are at 1, 2 or 5 times a power of ten of it.
    bend: see above; None for a linear axis.
    budget, budget_title: a line, and what it is called.
    """

    low: float
    high: float
    title: str
    show: Callable[[float], str]
    base: float = 1.0
    bend: float | None = None
    budget: float | None = None
    budget_title: str = ""

    def share(self, value: float) -> float:
        """0 at the lower end, 1 at the upper."""
        low, high, at = (_bent(one, self.bend) for one in (self.low, self.high, value))
        return min(max((at - low) / (high - low), 0.0), 1.0)

    def ticks(self, most: int = 4) -> list[float]:
        """Round values, about evenly spread."""
        return self._linear(most) if self.bend is None else self._logarithmic(most)

    def limit(self) -> float | None:
        """The budget, where it is within the ends."""
        return self.budget if self.budget is not None and self.low <= self.budget <= self.high else None

    def _linear(self, most: int) -> list[float]:
        step = _step((self.high - self.low) / self.base, most) * self.base
        first = ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, floor(self.high / step + 1e-9) + 1)]

    def _logarithmic(self, most: int) -> list[float]:
        """Powers of ten come before five times one, these before twice one."""
        exponents = range(-6, 10)
        wanted = [0.0] + [s * f * 10.0**e for f in (1, 5, 2) for e in exponents for s in (1, -1)]
        chosen: list[float] = []
        for value in (one * self.base for one in wanted):
            room = all(abs(self.share(value) - self.share(other)) >= 0.5 / most for other in chosen)
            if self.low <= value <= self.high and room:
                chosen.append(value)
        return sorted(chosen)


def fitted(
    values: Sequence[float], *, from_zero: bool = False, bend: float | None = None
) -> tuple[float, float]:
    """Ends of an axis that hold the values with a margin.

    Args:
        from_zero: 0 is on the axis.
        bend: as of the axis.
    """
    low, high = (_bent(one, bend) for one in (min(values), max(values)))
    low = min(0.0, low) if from_zero else low
    margin = (high - low) * _MARGIN or abs(high) * _MARGIN or 1.0
    return _straight(low - margin, bend), _straight(high + margin, bend)


def _bent(value: float, bend: float | None) -> float:
    return value if bend is None else asinh(value / bend)


def _straight(value: float, bend: float | None) -> float:
    return value if bend is None else sinh(value) * bend


def _step(length: float, most: int) -> float:
    """1, 2 or 5 times a power of ten, of which at most ``most`` lie in ``length``."""
    power = 10.0 ** floor(log10(length / most))
    return next(step * power for step in (1, 2, 5, 10, 20) if length / (step * power) <= most)

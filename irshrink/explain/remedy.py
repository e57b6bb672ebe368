"""What can be changed about a layer: as a recipe says it, and on the quantized model, to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irshrink.calibration.observers import Range
from irshrink.explain.counterparts import float_constants
from irshrink.explain.findings import Facts, Recipe, Remedy
from irshrink.explain.points import Point
from irshrink.explain.stored import Stored
from irshrink.explain.tally import Tally
from irshrink.explain.weave import Change
from irshrink.graph.quantized import Affine

Array = np.ndarray[Any, np.dtype[Any]]

#: Ends that a search for a range tries on each side.
_TRIES = 48


def keep_float(facts: Facts, point: Point) -> Remedy:
    """The value is not rounded: neither the layer that computes it nor those that read it run in integers."""
    readers = facts.subject.rounded.readers(point)
    layers = [p for p in (point, *readers) if p.node is not None]
    names = list(dict.fromkeys(p.name for p in layers))
    constants = {s: a for p in layers for s, a in floats_of(facts, p).items()}
    what = f"keep {_listed(names)} in float"
    return Remedy(what, Recipe(keep_float=tuple(names)), Change(drop=frozenset({point}), constants=constants))


def other_range(point: Point, found: Range, what: str, **options: Any) -> Remedy:
    """The value is rounded to a grid over another range.

    Args:
        options: of ``quantize-int8`` that choose such a range.
    """
    assert point.grid is not None, "only what is rounded has a range"
    return Remedy(what, Recipe(options=options), Change(grids={point: grid_over(found, point.grid)}))


def floats_of(facts: Facts, point: Point) -> dict[Stored, Array]:
    """The float model's constants of a layer, as far as they are known."""
    return float_constants(point, facts.subject.known)


def grid_over(found: Range, like: Affine) -> Affine:
    """The grid of the same type over another range, which is extended to hold 0."""
    limits = np.iinfo(like.dtype)
    low, high = min(found.min, 0.0), max(found.max, 0.0)
    if like.zero_point == 0 and limits.min < 0 and like.range[0] < 0:
        scale = max(-low, high) / int(limits.max)
        return Affine(float(np.float32(scale)) or like.scale, 0, like.dtype)
    scale = float(np.float32((high - low) / (int(limits.max) - int(limits.min)))) or like.scale
    zero = int(np.clip(np.rint(int(limits.min) - low / scale), limits.min, limits.max))
    return Affine(scale, zero, like.dtype)


def best_range(tally: Tally) -> Range:
    """The range whose grid has the least squared error: step^2 / 12 a value inside, what is cut off outside.

    Both ends are sought in turn, among fractions of what is seen.
    """
    seen, grid = tally.seen, tally.grid
    assert grid is not None, "only what is rounded has a range"
    limits = np.iinfo(grid.dtype)
    levels = int(limits.max) - int(limits.min)
    middles, counts = tally.magnitudes.ordered
    low, high = min(seen.min, 0.0), max(seen.max, 0.0)
    inside = float(counts[middles != 0].sum())

    def error(a: float, b: float) -> float:
        outside = np.maximum(a - middles, 0) + np.maximum(middles - b, 0)
        return float(counts @ np.square(outside)) + inside * ((b - a) / levels) ** 2 / 12

    fractions = np.geomspace(1e-4, 1.0, _TRIES)
    for _ in range(2):
        high = float(min((f * max(seen.max, 0.0) for f in fractions), key=lambda b: error(low, b)))
        low = float(min((f * min(seen.min, 0.0) for f in fractions), key=lambda a: error(a, high)))
    return Range(low, high)


def per_channel(stored: Stored, real: Array, most: int | None = None) -> Array:
    """Float weights rounded symmetrically with one scale per output channel, as real numbers.

    Args:
        real: in the layout of the codes.
        most: the largest code; that of the stored type when not given.
    """
    others = tuple(i for i in range(real.ndim) if i != stored.output_axis)
    most = most or (stored.high - stored.low) // 2
    largest = np.abs(real).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / most, 1).astype(np.float32)
    return np.asarray(np.clip(np.rint(real / scale), -most, most) * scale, np.float32)


def _listed(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"

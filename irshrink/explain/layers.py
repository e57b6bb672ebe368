"""Figures of one point that follow from its sums and its constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.explain.points import Point
from irshrink.explain.stored import Stored
from irshrink.explain.tally import Tally, decibels
from irshrink.graph.edit import attribute_int, is_op

Array = np.ndarray[Any, np.dtype[Any]]

#: The share of the values that is meant by *nearly all*.
NEARLY_ALL = 0.999
#: A channel is an outlier when its largest magnitude is so many times the median channel's.
OUTLIER = 8.0
#: Operators whose result has the same range whatever the data: a grid may well be wider than what is seen.
FIXED = ("Sigmoid", "Softmax", "Tanh", "HardSigmoid", "LogSoftmax")


@dataclass(frozen=True)
class Channels:
    """What the channels of a point are like, in float.

    Attributes:
        largest: magnitude that each reaches, [channels].
        median: of those that are not always 0.
        outliers: channels that reach :data:`OUTLIER` times the median, the largest first.
        noise: mean over channels of the layer's noise, relative to the channel's own energy, at most 1 each.
        constant: channels that never change, on no sample.
        vanished: channels that do change, but all of whose values round to one number.
    """

    largest: Array
    median: float
    noise: float
    outliers: tuple[int, ...]
    constant: tuple[int, ...]
    vanished: tuple[int, ...]


def channels(tally: Tally) -> Channels | None:
    """None for values without channels."""
    low, high = tally.channel_low, tally.channel_high
    if low is None or high is None or len(low) < 2:
        return None
    largest = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    alive = largest[largest > 0]
    median = float(np.median(alive)) if alive.size else 0.0
    order = np.argsort(-largest, kind="stable")
    outliers = tuple(int(c) for c in order if median and largest[c] > OUTLIER * median)
    constant = np.flatnonzero(high == low)
    vanished: Array = np.zeros(0, np.int64)
    if tally.grid is not None:
        codes = [np.rint(ends / np.float32(tally.grid.scale)) for ends in (low, high)]
        vanished = np.flatnonzero((codes[0] == codes[1]) & (high > low))
    noise, power = tally.channel_noise, tally.channel_power
    assert noise is not None
    assert power is not None
    ratios = np.minimum(noise[power > 0] / power[power > 0], 1.0)
    mean = float(ratios.mean()) if ratios.size else 0.0
    return Channels(
        largest, median, mean, outliers, tuple(int(c) for c in constant), tuple(int(c) for c in vanished)
    )


@dataclass(frozen=True)
class Levels:
    """How much of a grid is used: levels that occur, of how many, and those that nearly all values share."""

    used: int
    of: int
    bulk: int


def levels(tally: Tally) -> Levels | None:
    """None for values that stay float."""
    if tally.codes is None or not tally.codes.any():
        return None
    total = np.cumsum(tally.codes)
    tail = (1 - NEARLY_ALL) / 2 * total[-1]
    first = int(np.searchsorted(total, tail, side="right"))
    last = int(np.searchsorted(total, total[-1] - tail, side="left"))
    return Levels(int((tally.codes > 0).sum()), int(tally.codes.size), last - first + 1)


def bulk(tally: Tally) -> tuple[float, float]:
    """The range of nearly all values, extended to hold 0."""
    low, high = tally.magnitudes.quantiles((1 - NEARLY_ALL) / 2, (1 + NEARLY_ALL) / 2)
    seen = tally.seen
    return min(max(low, seen.min), 0.0), max(min(high, seen.max), 0.0)


def width(ends: tuple[float, float]) -> float:
    return max(ends[1], 0.0) - min(ends[0], 0.0)


@dataclass(frozen=True)
class Weights:
    """What rounded weights are like.

    Attributes:
        ratio: of the largest magnitude of a channel to the median channel's.
        coarsest: levels on one side of zero that the median channel has, at most 127 for 8 bits.
        zero: channels all of whose weights are 0.
        expected_db: signal-to-noise ratio of the weights if each was off by a uniform half step.
    """

    dtype: str
    per_channel: bool
    ratio: float
    coarsest: int
    zero: tuple[int, ...]
    expected_db: float


def weights(stored: Stored) -> Weights:
    real = stored.real.astype(np.float64)
    axis = stored.output_axis
    rows = real.reshape(1, -1) if axis is None else np.moveaxis(real, axis, 0).reshape(real.shape[axis], -1)
    largest = np.abs(rows).max(axis=1, initial=0)
    alive = largest[largest > 0]
    steps = np.broadcast_to(stored.steps, stored.codes.shape).astype(np.float64)
    noise = float(np.square(steps).sum() / 12)
    per_step = np.abs(real / np.where(steps > 0, steps, 1))
    by_row = (
        per_step.reshape(1, -1) if axis is None else np.moveaxis(per_step, axis, 0).reshape(len(rows), -1)
    )
    return Weights(
        dtype=stored.dtype,
        per_channel=stored.per_channel,
        ratio=float(alive.max() / np.median(alive)) if alive.size else 1.0,
        coarsest=int(np.rint(np.median(by_row.max(axis=1, initial=0)))),
        zero=tuple(int(c) for c in np.flatnonzero(largest == 0)),
        expected_db=decibels(float(np.square(real).sum()), noise),
    )


@dataclass(frozen=True)
class Bias:
    """What a rounded bias is like.

    Attributes:
        saturated: channels that hold the largest or the smallest number of the type.
        scale_off: the largest relative difference of its scale from that of the products it is added to; None
            where these scales are not known.
    """

    dtype: str
    saturated: tuple[int, ...]
    scale_off: float | None


def bias(point: Point) -> Bias | None:
    stored = point.bias
    if stored is None:
        return None
    codes = stored.codes.reshape(-1)
    at_end = (codes <= stored.low + (stored.low < 0)) | (codes >= stored.high)
    return Bias(stored.dtype, tuple(int(c) for c in np.flatnonzero(at_end)), _scale_off(point, stored))


def _scale_off(point: Point, stored: Stored) -> float | None:
    weight, grid = point.weight, input_grid(point)
    if weight is None or grid is None or weight.block or weight.scale.size not in (1, stored.codes.size):
        return None
    products = weight.scale.reshape(-1).astype(np.float64) * grid
    off = np.abs(stored.scale.reshape(-1) / np.maximum(products, 1e-300) - 1)
    return float(off.max())


def input_grid(point: Point) -> float | None:
    """The scale of what the layer itself reads."""
    if point.node is None:
        return None
    read = point.node.inputs[0] if point.node.inputs else None
    for source in point.sources:
        if read in source.real and source.grid is not None:
            return source.grid.scale
    return None


def is_depthwise(point: Point) -> bool:
    node, weight = point.node, point.weight
    if node is None or weight is None or not is_op(node, "Conv"):
        return False
    return attribute_int(node, "group", 1) > 1 and weight.codes.shape[1] == 1


def figures(point: Point, tally: Tally, matched: bool) -> dict[str, Any]:
    """One layer of the result; see ``schema.json``."""
    seen, lv, ch = tally.seen, levels(tally), channels(tally)
    low, high = bulk(tally)
    return {
        "name": point.name,
        "op": point.op_type,
        "value": str(point.value.name),
        "compared_with": "float model" if matched else "itself in float",
        "snr_alone_db": _rounded(tally.snr(tally.alone)),
        "snr_channels_db": None if ch is None else _rounded(decibels(1.0, ch.noise)),
        "snr_weights_db": _rounded(tally.snr(tally.weights)) if matched else None,
        "snr_rounding_db": _rounded(tally.snr(tally.rounding)) if point.grid else None,
        "snr_whole_db": _rounded(tally.snr(tally.whole)),
        "grid": _grid(point),
        "seen": {"low": seen.min, "high": seen.max, "bulk_low": low, "bulk_high": high},
        "clipped": _clipped(tally),
        "levels": None if lv is None else {"used": lv.used, "of": lv.of, "bulk": lv.bulk},
        "channels": None if ch is None else _channel_figures(ch),
        "weights": None if point.weight is None else _weight_figures(weights(point.weight)),
        "bias": _bias_figures(bias(point)),
    }


def _rounded(db: float) -> float:
    return round(db, 2)


def _grid(point: Point) -> Mapping[str, Any] | None:
    grid = point.grid
    if grid is None:
        return None
    low, high = grid.range
    return {
        "dtype": grid.dtype,
        "scale": grid.scale,
        "zero_point": grid.zero_point,
        "low": low,
        "high": high,
    }


def _clipped(tally: Tally) -> Mapping[str, float] | None:
    if tally.grid is None or not tally.count:
        return None
    return {"low": tally.clipped[0] / tally.count, "high": tally.clipped[1] / tally.count}


def _channel_figures(ch: Channels) -> Mapping[str, Any]:
    return {
        "count": len(ch.largest),
        "largest": float(ch.largest.max()),
        "median": ch.median,
        "outliers": list(ch.outliers[:16]),
        "constant": len(ch.constant),
        "vanished": list(ch.vanished[:16]),
    }


def _weight_figures(w: Weights) -> Mapping[str, Any]:
    return {
        "dtype": w.dtype,
        "per_channel": w.per_channel,
        "channel_ratio": w.ratio,
        "median_channel_levels": w.coarsest,
        "zero_channels": list(w.zero[:16]),
        "expected_snr_db": _rounded(w.expected_db),
    }


def _bias_figures(b: Bias | None) -> Mapping[str, Any] | None:
    if b is None:
        return None
    return {"dtype": b.dtype, "saturated": list(b.saturated[:16]), "scale_off": b.scale_off}

"""Causes in activations: ranges too wide or too narrow, and channels that rounding makes disappear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from irshrink.calibration.observers import Range
from irshrink.explain.findings import Facts, Finding, Recipe, Remedy
from irshrink.explain.layers import FIXED, Channels, bulk, channels, levels, width
from irshrink.explain.points import Point
from irshrink.explain.remedy import best_range, grid_over, keep_float, other_range
from irshrink.explain.tally import Tally
from irshrink.explain.weave import Change
from irshrink.graph.edit import is_op

#: A grid so many times as wide as nearly all values need is an outlier's.
_TOO_WIDE = 6.0
#: With so many levels left a wide grid is no matter.
_ENOUGH = 128
#: A grid so many times as wide as what samples reach was made from other data.
_UNREACHED = 3.0
#: Clipping is worth a word from this signal-to-noise ratio on, and when it is this share of all rounding
#: noise.
_CLIPPING_DB, _CLIPPING_SHARE = 35.0, 0.5
#: Channels that vanish are a cause when so much of the noise is theirs.
_LOST_SHARE = 0.25
#: One sample sets a range alone when it reaches so many times as far as the next one,
_ALONE = 2.5
#: and it is the calibration data's fault when that is so for this share of the ranges.
_MANY = 0.3


def activation_outlier(facts: Facts) -> Iterator[Finding]:
    """A grid over a range that hardly any value needs, or one channel alone: the others get few levels."""
    for point, tally in _rounded(facts):
        used, found = levels(tally), channels(tally)
        grid = tally.grid
        assert grid is not None
        ends, wide = bulk(tally), width(grid.range)
        by_channel = found is not None and found.outliers and _half_of_them(tally) * _TOO_WIDE < wide
        by_value = used is not None and used.bulk <= _ENOUGH and 0 < width(ends) * _TOO_WIDE < wide
        if used is None or not (by_channel or by_value):
            continue
        evidence = {
            "grid_width": wide,
            "bulk_width": width(ends),
            "seen_low": tally.seen.min,
            "seen_high": tally.seen.max,
            "bulk_levels": used.bulk,
            "snr_rounding_db": tally.snr(tally.rounding),
        }
        why, more = _why_wide(facts, point, tally)
        rounded = f"{_what(point)} is rounded in steps of {grid.scale:.4g}, over {_range(grid.range)}"
        few = f"99.9 % of its values lie in {_range(ends)}: {used.bulk} of {used.of} levels are left for them"
        if not by_value:
            needed = _half_of_them(tally) / grid.scale
            few = f"half of its channels have to do with {needed:.0f} of {used.of} levels or less"
        noise = max(_noise(tally), found.noise if found is not None and by_channel else 0.0)
        yield Finding(
            "activation-outlier",
            point,
            noise,
            f"{rounded}, but {few}. {why}",
            evidence | more,
            _narrower(facts, point, tally),
        )


def _half_of_them(tally: Tally) -> float:
    """The width that half of the channels get by with, of those that are not always 0."""
    assert tally.channel_low is not None
    assert tally.channel_high is not None
    widths = np.maximum(tally.channel_high, 0) - np.minimum(tally.channel_low, 0)
    alive = widths[widths > 0]
    return float(np.median(alive)) if alive.size else 0.0


def saturated_activation(facts: Facts) -> Iterator[Finding]:
    """A grid over a range that values leave."""
    for point, tally in _rounded(facts):
        below, above = (n / tally.count for n in tally.clipped)
        ratio = tally.snr(tally.clip)
        if ratio > _CLIPPING_DB or tally.clip < _CLIPPING_SHARE * tally.rounding:
            continue
        grid = tally.grid
        assert grid is not None
        sentence = (
            f"{_what(point)} is clipped: its grid holds {_range(grid.range)}, the samples reach "
            f"{_range((tally.seen.min, tally.seen.max))}. {100 * below:.3g} % of the values lie below, "
            f"{100 * above:.3g} % above; clipping alone leaves {ratio:.1f} dB."
        )
        evidence = {"clipped_low": below, "clipped_high": above, "snr_clipping_db": ratio}
        remedies = [
            other_range(point, tally.seen, "widen its range to what the samples reach", method="minmax"),
            keep_float(facts, point),
        ]
        yield Finding("saturated-activation", point, tally.clip / tally.signal, sentence, evidence, remedies)


def dead_channel(facts: Facts) -> Iterator[Finding]:
    """Channels that carry something in float, all of whose values round to one number."""
    for point, tally in _rounded(facts):
        found = channels(tally)
        if found is None or not found.vanished or tally.channel_noise is None:
            continue
        lost = float(tally.channel_noise[list(found.vanished)].sum())
        if lost < _LOST_SHARE * float(tally.channel_noise.sum()):
            continue
        grid = tally.grid
        assert grid is not None
        sentence = (
            f"{_what(point)}: {len(found.vanished)} of {len(found.largest)} channels are dead behind "
            f"rounding ({_first(found.vanished)}): what they vary by is less than the step of "
            f"{grid.scale:.4g}, which the widest channel asks for (it reaches {found.largest.max():.4g}, the "
            f"median channel {found.median:.4g})."
        )
        evidence = {"channels": list(found.vanished[:16]), "count": len(found.vanished), "step": grid.scale}
        yield Finding(
            "dead-channel", point, lost / tally.power, sentence, evidence, [keep_float(facts, point)]
        )


def calibration_sample(facts: Facts) -> Iterator[Finding]:
    """Ranges that one sample sets, or that no sample comes near, in much of the model."""
    grids = dict(_rounded(facts))
    if len(grids) < 2:
        return
    by_sample: dict[int, list[Point]] = {}
    for point, tally in grids.items():
        number = _alone_at_the_end(tally)
        if number is not None:
            by_sample.setdefault(number, []).append(point)
    if by_sample:
        number, points = max(by_sample.items(), key=lambda item: len(item[1]))
        if len(points) >= max(2, _MANY * len(grids)) or any(p.node is None for p in points):
            yield _one_sample(facts, number, points)
            return
    unreached = [p for p, t in grids.items() if _reach(t) >= _UNREACHED]
    if len(unreached) >= max(3, len(grids) / 2):
        yield _other_data(facts, unreached)


def sensitive_layer(facts: Facts) -> Iterator[Finding]:
    """Layers whose rounding makes the most noise, with nothing odd about them."""
    worst = sorted(
        ((p, t) for p, t in facts.measurement.tallies.items() if t.alone > 0 and t.signal > 0),
        key=lambda pair: -_noise(pair[1]),
    )
    for point, tally in worst[:3]:
        ratio = tally.snr(tally.alone)
        sentence = (
            f"{_what(point)} loses the most by itself, {ratio:.1f} dB signal to noise, and nothing about its "
            "range stands out."
        )
        yield Finding(
            "sensitive-layer",
            point,
            _noise(tally),
            sentence,
            {"snr_alone_db": ratio},
            [keep_float(facts, point)],
        )


def _rounded(facts: Facts) -> Iterator[tuple[Point, Tally]]:
    """Points whose grid follows the data."""
    for point, tally in facts.measurement.tallies.items():
        if tally.grid is not None and tally.count and tally.signal > 0 and not is_op(point.node, *FIXED):
            yield point, tally


def _noise(tally: Tally) -> float:
    return tally.alone / tally.signal if tally.signal > 0 else 0.0


def _what(point: Point) -> str:
    return f"input '{point.name}'" if point.node is None else f"the result of {point.op_type} '{point.name}'"


def _range(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def _first(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 6} more" if len(numbers) > 6 else ""
    return f"{', '.join(map(str, numbers[:6]))}{more}"


def _reach(tally: Tally) -> float:
    """How many times as wide as what samples reach a grid is."""
    assert tally.grid is not None
    seen = width((tally.seen.min, tally.seen.max))
    return width(tally.grid.range) / seen if seen > 0 else 0.0


def _why_wide(facts: Facts, point: Point, tally: Tally) -> tuple[str, dict[str, object]]:
    """Who makes a range wide: nobody among the samples, one channel, one sample, or single values."""
    found = channels(tally)
    shared = next((source for source in point.sources if source.grid == point.grid), None)
    if _reach(tally) >= _UNREACHED and shared is not None:
        return f"It was given the grid of what it reads, '{shared.name}', which reaches further.", {
            "grid_of": shared.name
        }
    if _reach(tally) >= _UNREACHED:
        times = f"{_reach(tally):.3g} times"
        return f"No sample comes near its ends: the grid is {times} as wide as all that is seen.", {
            "times_seen": _reach(tally)
        }
    if found is not None and found.outliers:
        return _channel(found), {"outlier_channels": list(found.outliers[:16])}
    number = _alone_at_the_end(tally)
    if number is not None:
        return f"Only {facts.sample(number)} reaches so far.", {"sample": number}
    return "Single values reach so far, in all channels.", {}


def _channel(found: Channels) -> str:
    first = found.outliers[0]
    others = f", and {len(found.outliers) - 1} more stand out" if len(found.outliers) > 1 else ""
    return (
        f"Channel {first} reaches {found.largest[first]:.4g}, the median of {len(found.largest)} channels "
        f"{found.median:.4g}{others}."
    )


def _narrower(facts: Facts, point: Point, tally: Tally) -> list[Remedy]:
    narrow = best_range(tally)
    unreached = _reach(tally) >= _UNREACHED
    found = tally.seen if unreached else narrow
    what = (
        "calibrate its range on these samples"
        if unreached
        else "clip its range where the squared error is least"
    )
    option = "minmax" if unreached else "mse"
    ends = f"{what}: {_range((min(found.min, 0.0), max(found.max, 0.0)))}"
    return [other_range(point, found, ends, method=option), keep_float(facts, point)]


def _alone_at_the_end(tally: Tally) -> int | None:
    """The sample that alone reaches the far end of a grid."""
    if len(tally.ends) < 4 or tally.grid is None:
        return None
    low, high = tally.grid.range
    reach = [max(b, 0.0) if high >= -low else max(-a, 0.0) for a, b in tally.ends]
    first, second = sorted(range(len(reach)), key=lambda k: -reach[k])[:2]
    end = max(high, -low)
    if reach[second] <= 0 or reach[first] < _ALONE * reach[second] or end < _ALONE / 2 * reach[second]:
        return None
    return first


def _one_sample(facts: Facts, number: int, points: Sequence[Point]) -> Finding:
    others: dict[Point, Range] = {}
    times: list[float] = []
    for point in points:
        tally = facts.tally(point)
        rest = [e for k, e in enumerate(tally.ends) if k != number]
        others[point] = Range(min(a for a, _ in rest), max(b for _, b in rest))
        own = tally.ends[number]
        times.append(width(own) / max(width((others[point].min, others[point].max)), 1e-30))
    name, typical = facts.sample(number), sorted(times)[len(times) // 2]
    sentence = (
        f"{name} sets the range of {len(points)} of {len(facts.points)} values alone: it reaches "
        f"{typical:.3g} times as far as any other sample, so all others have so much fewer levels. Is it "
        "damaged, or prepared differently?"
    )
    grids = {p: grid_over(r, p.grid) for p, r in others.items() if p.grid is not None}
    remedy = Remedy(f"take {name} out of the calibration data", None, Change(grids=grids))
    evidence = {"sample": number, "name": name, "values": len(points), "times": typical}
    noise = sum(_noise(facts.tally(p)) for p in points)
    return Finding("calibration-sample", None, noise, sentence, evidence, [remedy], covers=frozenset(points))


def _other_data(facts: Facts, points: Sequence[Point]) -> Finding:
    times = sorted(_reach(facts.tally(p)) for p in points)
    typical = times[len(times) // 2]
    sentence = (
        f"the grids of {len(points)} of {len(facts.points)} values are {typical:.3g} times as wide as what "
        "any sample reaches: the calibration data held something that these samples do not, a damaged sample "
        "or other preprocessing."
    )
    grids = {p: grid_over(facts.tally(p).seen, p.grid) for p in points if p.grid is not None}
    remedy = Remedy(
        "calibrate again, on samples like these", Recipe(options={"method": "minmax"}), Change(grids=grids)
    )
    noise = sum(_noise(facts.tally(p)) for p in points)
    evidence = {"sample": None, "values": len(points), "times": typical}
    return Finding("calibration-sample", None, noise, sentence, evidence, [remedy], covers=frozenset(points))

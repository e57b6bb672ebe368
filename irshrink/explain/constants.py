"""Causes in rounded constants: biases that do not fit, scales that fit one channel only, too few bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from irshrink.explain.findings import Facts, Finding, Recipe, Remedy
from irshrink.explain.layers import Bias, bias, is_depthwise, weights
from irshrink.explain.points import Point
from irshrink.explain.remedy import Array, floats_of, keep_float, per_channel
from irshrink.explain.stored import Stored
from irshrink.explain.weave import Change

#: Channels of one scale whose largest is so many times the median one are badly served.
_UNEVEN = 8.0
#: Less will do where the float weights are known, and so what it costs is measured.
_UNEVEN_AND_KNOWN = 2.5
#: A bias is off when it misses more than so many steps of its own, and this share of the largest float bias;
#: one channel by itself, this share of its own.
_STEPS, _MISSED, _MISSED_ALONE = 4.0, 0.02, 0.25
#: Codes that are clipped differ by no more than this from the largest one.
_SAME_CODE = 0.005
#: Weights below this signal-to-noise ratio are too coarse.
_COARSE_DB = 30.0


def _no_float(facts: Facts) -> str:
    """Why what float weights are needed for cannot be measured."""
    if facts.subject.floats is None:
        return "the float weights are not known: give the float model with --float"
    return "the float weights were not found in the float model"


def bias_overflow(facts: Facts) -> Iterator[Finding]:
    """A bias that was clipped to what its integers hold."""
    for point in facts.points:
        found, missing = bias(point), _missing(facts, point)
        if found is not None and (found.saturated or missing is not None):
            yield _bias_finding(facts, point, found, missing)


def _bias_finding(facts: Facts, point: Point, found: Bias, missing: Array | None) -> Finding:
    tally, stored = facts.tally(point), point.bias
    assert stored is not None
    short = () if missing is None else tuple(np.flatnonzero(missing).tolist())
    clipped = found.saturated or short
    worst = clipped[0] if missing is None else int(np.argmax(np.abs(missing)))
    end = "at the end of" if found.saturated else "short in"
    real = stored.real.reshape(-1)
    sentence = (
        f"the bias of {point.op_type} '{point.name}' is {end} its {found.dtype} in {len(clipped)} of "
        f"{stored.codes.size} channels: channel {worst} adds {real[worst]:.4g}"
        f"{_instead(missing, real, worst)}."
    )
    shift = 0.0 if missing is None else float(np.square(missing).mean()) * tally.count
    evidence = {
        "saturated": list(found.saturated[:16]),
        "missing": [] if missing is None else [float(m) for m in missing[list(clipped[:16])]],
        "channels": [int(c) for c in clipped[:16]],
        "scale_off": found.scale_off,
    }
    return Finding(
        "bias-overflow",
        point,
        shift / tally.power if tally.power > 0 else 0.0,
        sentence,
        evidence,
        _bias_remedies(facts, point),
        certain=bool(found.saturated),
    )


def _instead(missing: Array | None, real: Array, channel: int) -> str:
    return "" if missing is None else f" instead of {real[channel] + missing[channel]:.4g}"


def _bias_remedies(facts: Facts, point: Point) -> list[Remedy]:
    known, stored = floats_of(facts, point), point.bias
    what = (
        f"give '{point.name}' weight scales that are large enough for its bias to fit int32; quantize-int8 "
        "does so by itself"
    )
    if stored not in known or stored is None:
        return [Remedy(what, Recipe(options={}), None, why_not=_no_float(facts))]
    change = Change(constants={stored: known[stored]})
    return [Remedy(what, Recipe(options={}), change), keep_float(facts, point)]


def _missing(facts: Facts, point: Point) -> Array | None:
    """What the bias of each channel lacks of the float model's; None where that is no clipping, or not known.

    A quantizer may have corrected the bias for the mean error of its weights. What was clipped lies at the
    same code in all the channels that are short, and no other channel has a larger one; what was lost is all
    0.
    """
    stored, known = point.bias, floats_of(facts, point)
    if stored is None or stored not in known:
        return None
    real, wanted = stored.real.reshape(-1).astype(np.float64), known[stored].reshape(-1).astype(np.float64)
    codes = np.abs(stored.codes.reshape(-1))
    steps = np.broadcast_to(stored.steps, stored.codes.shape).reshape(-1)
    lacks = wanted - real
    short = (np.abs(lacks) > _STEPS * steps) & (np.abs(lacks) > _MISSED * np.abs(wanted).max(initial=0))
    short &= (codes >= (1 - _SAME_CODE) * codes.max(initial=0)) & (real * wanted >= 0)
    short &= np.abs(real) < np.abs(wanted)
    if short.sum() == 1:  # the largest of all, and corrected for rounded weights?
        short &= np.abs(lacks) > _MISSED_ALONE * np.abs(wanted)
    return np.where(short, lacks, 0.0) if short.any() else None


def per_tensor_weights(facts: Facts) -> Iterator[Finding]:
    """One weight scale for channels of very different size; depthwise layers have no other."""
    for point in facts.points:
        stored = point.weight
        if stored is None or stored.per_channel or stored.output_axis is None or stored.codes.size < 2:
            continue
        found = weights(stored)
        if found.ratio < (_UNEVEN_AND_KNOWN if stored in floats_of(facts, point) else _UNEVEN):
            continue
        kind = "depthwise layer" if is_depthwise(point) else "layer"
        sentence = (
            f"the {kind} {point.op_type} '{point.name}' has one weight scale for "
            f"{stored.codes.shape[stored.output_axis]} channels, the largest of which has weights "
            f"{found.ratio:.3g} times as large as the median one: that uses {found.coarsest} of "
            f"{stored.high} levels"
            + (f", and {len(found.zero)} channels are 0 altogether." if found.zero else ".")
        )
        evidence = {
            "channel_ratio": found.ratio,
            "median_channel_levels": found.coarsest,
            "zero_channels": list(found.zero[:16]),
            "depthwise": is_depthwise(point),
        }
        severity = _weight_noise(facts, point, found.expected_db)
        yield Finding("per-tensor-weights", point, severity, sentence, evidence, _per_channel(facts, point))


def _per_channel(facts: Facts, point: Point) -> list[Remedy]:
    stored = point.weight
    assert stored is not None
    known = floats_of(facts, point)
    what = f"give every output channel of '{point.name}' a scale of its own"
    if stored not in known:
        return [Remedy(what, Recipe(options={"per_channel": True}), None, why_not=_no_float(facts))]
    constants = known | {stored: per_channel(stored, known[stored])}
    evened = Remedy(
        "where one scale is all that the target has, even the channels out first",
        Recipe(options={"per_channel": False}, before=("equalize",)),
        why_not="it changes the float model: quantize that again, and explain what comes out",
    )
    return [Remedy(what, Recipe(options={"per_channel": True}), Change(constants=constants)), evened]


def coarse_weights(facts: Facts) -> Iterator[Finding]:
    """Weights with too few levels for what they do."""
    for point in facts.points:
        stored = point.weight
        if stored is None:
            continue
        found, tally = weights(stored), facts.tally(point)
        known = point in facts.subject.matched
        noise = tally.weights - tally.shift
        ratio = tally.snr(noise) if known else found.expected_db
        if ratio > _COARSE_DB or (known and noise < tally.rounding):
            continue
        how = "measured" if known else "expected of such steps"
        sentence = (
            f"the {found.dtype} weights of {point.op_type} '{point.name}' are coarse: {ratio:.1f} dB signal "
            f"to noise, {how}."
        )
        evidence = {"snr_weights_db": ratio, "dtype": found.dtype, "measured": known}
        severity = 10 ** (-ratio / 10)
        yield Finding("coarse-weights", point, severity, sentence, evidence, _more_bits(facts, point))


def _more_bits(facts: Facts, point: Point) -> list[Remedy]:
    stored = point.weight
    assert stored is not None
    known = floats_of(facts, point)
    few = stored.high - stored.low < 255
    what = f"give the weights of '{point.name}' 8 bits" if few else f"keep '{point.name}' in float"
    recipe = (
        Recipe(options={"weight_bits": _bits(stored), "layer_bits": {point.name: 8}})
        if few
        else Recipe(keep_float=(point.name,))
    )
    if stored not in known:
        return [Remedy(what, recipe, None, why_not=_no_float(facts))]
    finer = per_channel(stored, known[stored], most=127) if few else known[stored]
    return [Remedy(what, recipe, Change(constants=known | {stored: finer}))]


def _bits(stored: Stored) -> int:
    return (stored.high - stored.low).bit_length()


def _weight_noise(facts: Facts, point: Point, expected_db: float) -> float:
    tally = facts.tally(point)
    if point in facts.subject.matched and tally.signal > 0:
        return tally.weights / tally.signal
    return float(10 ** (-expected_db / 10))

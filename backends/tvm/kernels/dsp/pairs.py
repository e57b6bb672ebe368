"""Weights of two channels in one word, for one SMLAD each with half the sign extensions.

The word for inputs k0 and k2 of channels A and B has the int16 halves ``256 * B[k0] + A[k0]`` and
``256 * B[k2] + A[k2]``. Multiplied as it is, it sums ``256 * b + a``; its sign-extended low bytes sum ``a``.
The difference is ``256 * b``, and the multiplier of channel B is divided by 256, which is exact:

    float32(256 * b) * (m / 256) == float32(b) * m        (powers of two scale without rounding)

It holds while ``|b| < 2^23`` for every input and every half fits in int16. A half does not where B is -128
and A negative. There the signs of B and its multiplier are both turned, unless B is -128 beside a positive A,
too: such channels are no pair. A *run* of pairs ends with the first of them beside zeros, and the next run
begins with the second, over the result of the zeros.

Some channels give the same for every input: without weights, or too small or large to make a difference.
They count as without weights. Runs leave them out where that pays, and all channels of a tile are first
filled from one row of such constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import FixedPoint, Requantization

#: Bytes of the input that one step of a micro-kernel takes, and steps that its loop body holds.
STEP, STEPS = 4, 2
#: Sums below this come back from a product by 256 in int32.
_LARGEST = 1 << 23
#: Multipliers from here on can be divided by 256 and stay normal.
_SMALLEST = 2.0**-118

Sign = Literal[-1, 0, 1]


@dataclass(frozen=True)
class Pair:
    """Channels ``first`` and ``first + 1``; ``sign`` of the second, 0 for zeros in its place."""

    first: int
    sign: Sign
    #: Whether zeros stand in the place of the first channel.
    second_only: bool = False


@dataclass(frozen=True)
class PairForm:
    """How pairs of channels go into words.

    Attributes:
        bits: of a weight.
        words: that hold one step of a pair.
        exact: whether weights [channel, depth], biases and multipliers may go into such words.
        pair: the stream of one pair of those.
    """

    bits: int
    words: int
    exact: Callable[[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]], bool]
    pair: Callable[[Pair, NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]], NDArray[np.int32]]


def steps_of(depth: int) -> int:
    """Steps over ``depth`` bytes, a whole number of loop bodies."""
    return -(-depth // (STEP * STEPS)) * STEPS


def patch_bytes(depth: int) -> int:
    """Bytes of three pixels, widened."""
    return 3 * 2 * STEP * steps_of(depth)


def streams(
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    requantization: Requantization | FixedPoint,
    form: PairForm | None = None,
) -> NDArray[np.int32] | None:
    """What micro-kernels read, for weights [group, channel, depth]; None where its channels make no pairs.

    Args:
        form: :data:`BYTES` by default.

    Returns:
        int32: the number of runs of each group; where the constants of all channels are, 0 for none; for each
        run its first channel in the layer, its number of pairs and where their words are; for each pair
        ``bias a, 256 * bias b + bias a, words [step][even, odd], multiplier a, multiplier b / 256``,
        multipliers by their bits (what other forms say of a pair); the constants, as bytes.
    """
    form = form or BYTES
    groups, channels, depth = weights.shape
    if not requantizes(requantization) or channels < 2:
        return None
    assert isinstance(requantization, Requantization)
    flat, biases, multiplier = settled(weights.reshape(groups * channels, -1), bias, requantization)
    weights = flat.reshape(weights.shape)
    if not form.exact(flat, biases, multiplier):
        return None
    plans = [plan_runs(w) for w in weights]
    if any(plan is None for plan in plans):
        return None
    fewer = [plan_runs(w, leave_out=True) or plan for w, plan in zip(weights, plans, strict=True)]
    saved = 4 * (form.words * steps_of(depth) + 4) * (_pairs(plans) - _pairs(fewer))
    constants = np.zeros(0, np.int8)
    if saved > groups * channels:
        plans = fewer
        constants = np.where(flat.any(axis=1), 0, biases + requantization.zero_point).astype(np.int8)
    packed = [
        [[form.pair(p, w, b, m) for p in run] for run in plan or ()]
        for plan, w, b, m in zip(
            plans, weights, biases.reshape(groups, -1), multiplier.reshape(groups, -1), strict=True
        )
    ]
    return _laid_out(plans, packed, channels, constants)


def fours(
    weights: NDArray[np.int8], bias: NDArray[np.int32], requantization: Requantization | FixedPoint
) -> NDArray[np.int32] | None:
    """What the loop over four channels of one row reads, for weights [channel, depth]; None where none fits.

    Returns:
        int32: for each four, the last of which overlaps, the streams of two pairs, word by word.
    """
    if not requantizes(requantization) or len(weights) < 4:
        return None
    assert isinstance(requantization, Requantization)
    weights, bias, multiplier = settled(weights, bias, requantization)
    firsts = [min(c, len(weights) - 4) for c in range(0, len(weights), 4)]
    signs = {c: _sign(weights[c], weights[c + 1]) for first in firsts for c in (first, first + 2)}
    if not _exact(weights, bias, multiplier) or 0 in signs.values():
        return None
    pairs = [
        [_pair(Pair(c, signs[c]), weights, bias, multiplier) for c in (first, first + 2)] for first in firsts
    ]
    words = np.array(pairs).reshape(len(firsts), 2, -1, 2)  # two words of a pair, then two of the other
    head, body, tail = words[:, :, :1], words[:, :, 1:-1], words[:, :, -1:]
    by_step = body.transpose(0, 2, 3, 1)  # [four][step][even, odd][pair]
    return np.concatenate([part.reshape(len(firsts), -1) for part in (head, by_step, tail)], axis=1).reshape(
        -1
    )


def requantizes(form: Requantization | FixedPoint) -> bool:
    """Whether results are scaled by float32 and clipped to int8 only."""
    return isinstance(form, Requantization) and (form.low, form.high) == (-128, 127)


def _laid_out(
    plans: Sequence[Sequence[Sequence[Pair]] | None],
    packed: Sequence[Sequence[Sequence[NDArray[np.int32]]]],
    channels: int,
    constants: NDArray[np.int8],
) -> NDArray[np.int32]:
    """Head, words of all pairs, constants."""
    longest = max(len(plan or ()) for plan in plans)
    at = 2 + 3 * longest * len(plans)
    table: list[int] = []
    for g, (plan, words) in enumerate(zip(plans, packed, strict=True)):
        rows: list[list[int]] = []
        for run, pairs in zip(plan or (), words, strict=True):
            rows.append([g * channels + run[0].first, len(run), at])
            at += sum(pair.size for pair in pairs)
        rows += rows[-1:] * (longest - len(rows))  # a run twice gives the same again
        table += [value for row in rows for value in row]
    head = np.array([longest, at if constants.size else 0, *table], np.int32)
    filler = np.zeros(-constants.size % 4, np.int8)
    tail = np.concatenate([constants, filler]).view(np.int32)
    return np.concatenate([head, *(w for group in packed for run in group for w in run), tail])


def channels_computed(stream: NDArray[np.int32]) -> int:
    """Channels of all pairs in what :func:`streams` gave; runs that stand there twice count twice."""
    first_words = int(stream[4])  # where the head ends
    return 2 * int(stream[3:first_words:3].sum())


def _pairs(plans: Sequence[Sequence[Sequence[Pair]] | None]) -> int:
    return sum(len(run) for plan in plans for run in plan or ())


def settled(
    weights: NDArray[np.int8], bias: NDArray[np.int32], form: Requantization
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
    """Weights [channel, depth], biases and multipliers; where every input gives the same, that is the bias.

    Requantization rises with the sum, so the smallest and the largest sum decide.
    """
    multiplier = np.broadcast_to(form.multiplier, bias.shape).astype(np.float32)
    w = weights.astype(np.int64)
    ends = [bias + np.where(w > 0, w * up, w * (-1 - up)).sum(axis=1) for up in (-128, 127)]
    low, high = -128 - form.zero_point, 127 - form.zero_point
    results = [np.clip(np.rint(end.astype(np.float32) * multiplier), low, high) for end in ends]
    constant = results[0] == results[1]
    return (
        np.where(constant[:, None], 0, weights).astype(np.int8),
        np.where(constant, results[0], bias).astype(np.int32),
        np.where(constant, np.float32(1), multiplier),
    )


def _exact(weights: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32]) -> bool:
    """Whether every sum and multiplier stands the factor of 256."""
    reach = 128 * np.abs(weights.astype(np.int64)).sum(axis=1) + np.abs(bias.astype(np.int64))
    smallest = multiplier[multiplier != 0].min(initial=1.0)
    return bool(reach.max(initial=0) < _LARGEST and smallest >= _SMALLEST)


def plan_runs(weights: NDArray[np.int8], leave_out: bool = False) -> list[list[Pair]] | None:
    """Runs of pairs that give every channel of ``weights`` [channel, depth], in their order.

    None where there are none; with ``leave_out`` channels without weights may be missing.
    """
    return _runs_from(weights, False, leave_out) or _runs_from(weights, True, leave_out) or None


def _runs_from(weights: NDArray[np.int8], split: bool, leave_out: bool) -> list[list[Pair]] | None:
    """The same with the first two channels apart, if ``split``, and the last one before all others."""
    channels, c = len(weights), 0
    left_out = np.logical_and(leave_out, ~weights.any(axis=1))
    runs: list[list[Pair]] = [[]]
    while c < channels - 1:
        if left_out[c]:
            runs.append([])
            c += 1
            continue
        sign = _sign(weights[c], weights[c + 1])
        apart = sign == 0 or (split and c == 0 and not left_out[c + 1])
        runs[-1].append(Pair(c, 0 if apart else sign))
        c += 1 if apart else 2
        if apart:
            runs.append([])
    if c == channels - 1 and not left_out[c]:
        sign = _sign(weights[c - 1], weights[c])
        if sign == 0 and (not runs[-1] or runs[-1][-1].sign == 0):
            return None  # what stands before it would be written last
        if sign == 0:
            runs.insert(0, [Pair(c - 1, 1, second_only=True)])
        else:
            runs.append([Pair(c - 1, sign)])
    return [run for run in runs if run]


def _sign(first: NDArray[np.int8], second: NDArray[np.int8]) -> Sign:
    """The sign with which ``second`` may stand above ``first``; 0 if neither will do."""
    beside = first[second == -128]
    if (beside >= 0).all():
        return 1
    return -1 if (beside < 0).all() else 0


def _pair(
    pair: Pair, weights: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> NDArray[np.int32]:
    """The stream of one pair."""
    c, depth = pair.first, weights.shape[1]
    steps = steps_of(depth)
    halves = np.zeros(steps * STEP, np.int64)
    sign, own = pair.sign, 0 if pair.second_only else 1
    halves[:depth] = 256 * sign * weights[c + 1].astype(np.int64) + own * weights[c].astype(np.int64)
    quads = halves.reshape(steps, STEP) & 0xFFFF
    words = np.stack([quads[:, 0] | quads[:, 2] << 16, quads[:, 1] | quads[:, 3] << 16], -1).reshape(-1)
    a = own * int(bias[c])
    ends: Sequence[int] = [a, 256 * sign * int(bias[c + 1]) + a]
    head = np.array([v & 0xFFFFFFFF for v in ends], np.int64)
    scale = np.array([multiplier[c], sign * multiplier[c + 1] / np.float32(256)], np.float32)
    bits = scale.view(np.int32)
    return np.concatenate([np.concatenate([head, words]).astype(np.uint32).view(np.int32), bits])


#: The form of weights of 8 bits, as above.
BYTES = PairForm(8, 2, _exact, _pair)

"""Weights of 4 bits, eight to a word, whose fields are multiplied where they lie.

A field holds ``w`` in two's complement or ``w + 8``, unsigned; a mask or a sign extension of bytes makes a
pair of int16 of some fields of each half, one instruction for each operand of SMLAD. What ``w + 8`` adds to
a sum is ``8 * sum(x)``, the same for all channels of a pixel: kernels sum the inputs of a tile once.

*Pairs* (convolutions, :data:`NIBBLES`). A word is one step: inputs k0..k3 of channels A and B. The even
inputs' weights are the upper bytes of the halves, ``16 * B + A + 8``, the odd inputs' the lower bytes, and
odd inputs count 256 times in the patch, so that both sum at one scale:

| operand | even inputs, k0 and k2 | odd inputs, k1 and k3, times 256 |
|---|---|---|
| 256 * (16 * B + A + 8) | mask FF00FF00 | SXTB16 |
| 256 * (A + 8) | mask 0F000F00 | mask 000F000F |

The difference of the sums is ``4096 * b``. That is four instructions for 24 products, where bytes take two.

*Fours* (dense layers, :func:`nibble_fours`). A word is two inputs, k0 and k2 or k1 and k3, of channels A to
D; its halves are ``4096 * D + 256 * (C + 8) + 16 * (B + 8) + (A + 8)``. Operands are the word, its lower
bytes (UXTB16), and of every byte the lower field, as it is and its lower bytes.

Sums are modulo 2^32. ``4096 * b`` is exact while every sum, from that of the smallest inputs to that of the
largest, is below 2^19, which the weights decide; and so are products with a multiplier divided by 4096.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.dsp.pairs import STEP, Pair, PairForm, requantizes, settled, steps_of
from irshrink.program.ops import FixedPoint, Requantization

#: Sums below this come back from a product by 4096 in int32; multipliers from here on stay normal.
_LARGEST, _SMALLEST = 1 << 19, 2.0**-114
#: Fields of a half, lowest first, as multiples of its lowest bit.
_FIELDS = (1, 16, 256, 4096)


def exact(weights: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32]) -> bool:
    """Whether every sum and multiplier stands the factor of 4096; ``weights`` [channel, depth]."""
    w = weights.astype(np.int64)
    ends = [bias + np.where(w > 0, w * up, w * (-1 - up)).sum(axis=1) for up in (-128, 127)]
    reach = max((int(np.abs(end).max(initial=0)) for end in ends), default=0)
    return reach < _LARGEST and bool(multiplier[multiplier != 0].min(initial=1.0) >= _SMALLEST)


def _pair(
    pair: Pair, weights: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> NDArray[np.int32]:
    """``256 * bias a, 4096 * bias b + 256 * bias a, words, multiplier a / 256, multiplier b / 4096``."""
    c, steps = pair.first, steps_of(weights.shape[1])
    first, second = int(not pair.second_only), int(pair.sign != 0)
    both = np.zeros((2, steps * STEP), np.int64)
    both[:, : weights.shape[1]] = weights[c : c + 2]
    quads = (16 * second * both[1] + first * both[0] + 8 & 0xFF).reshape(steps, STEP)
    words = quads[:, 1] | quads[:, 0] << 8 | quads[:, 3] << 16 | quads[:, 2] << 24
    a = 256 * first * int(bias[c])
    scale = multiplier[c : c + 2] / np.array([256, 4096], np.float32)
    return _joined([a, 4096 * second * int(bias[c + 1]) + a], words, scale)


#: The form of weights of 4 bits, for :func:`irshrink.backends.tvm.kernels.dsp.pairs.streams`.
NIBBLES = PairForm(4, 1, exact, _pair)


def nibble_fours(
    weights: NDArray[np.int8], bias: NDArray[np.int32], requantization: Requantization | FixedPoint
) -> NDArray[np.int32] | None:
    """What the loop over four channels of one row reads, for weights [channel, depth]; None where none fits.

    Returns:
        int32: for each four, the last of which overlaps, what four sums start from (of A, of A and B, of A
        and C, of all), words [step][even, odd], four multipliers by their bits.
    """
    if not requantizes(requantization) or len(weights) < 4:
        return None
    assert isinstance(requantization, Requantization)
    weights, bias, multiplier = settled(weights, bias, requantization)
    if not exact(weights, bias, multiplier):
        return None
    firsts = [min(c, len(weights) - 4) for c in range(0, len(weights), 4)]
    return np.concatenate([_four(weights[c : c + 4], bias[c : c + 4], multiplier[c : c + 4]) for c in firsts])


def _four(
    weights: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> NDArray[np.int32]:
    depth = weights.shape[1]
    steps, fields = steps_of(depth), np.array(_FIELDS, np.int64)
    padded = np.zeros((4, steps * STEP), np.int64)
    padded[:, :depth] = weights
    padded[:3] += 8
    quads = ((padded * fields[:, None]).sum(axis=0) & 0xFFFF).reshape(steps, STEP)
    words = np.stack([quads[:, 0] | quads[:, 2] << 16, quads[:, 1] | quads[:, 3] << 16], -1).reshape(-1)
    a, b, c, d = (int(v) for v in bias.astype(np.int64) * fields)
    return _joined([a, a + b, a + c, a + b + c + d], words, multiplier / fields.astype(np.float32))


def _joined(starts: list[int], words: NDArray[np.int64], scale: NDArray[Any]) -> NDArray[np.int32]:
    head = np.array([start & 0xFFFFFFFF for start in starts], np.int64)
    body = np.concatenate([head, words]).astype(np.uint32).view(np.int32)
    return np.concatenate([body, np.ascontiguousarray(scale, np.float32).view(np.int32)])

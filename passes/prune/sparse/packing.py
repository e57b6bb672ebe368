"""An array without its zeros, and the standard operators that put them back.

Two forms, whichever is smaller. Both hold the numbers that are not 0, in the order of the array; where they
are is said by

- *a bitmap*, one bit a place, the lowest bit of a byte first:
  ``places = NonZero(Cast(BitwiseAnd(bytes, [1, 2, 4, ..., 128])))``
- *gaps*, the distance of each to the one before, in 4 or 8 bits: ``places = CumSum(gaps)``. Where one is too
  long a 0 is stored on the way (Han et al., *Deep compression*, ICLR 2016, section 2).

Then ``ScatterND(zeros, places, numbers)`` is the array, flat. Every runtime has these operators, and computes
them when it loads the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Bitmap:
    """Attributes:
    bits: uint8 [places / 8, 1].
    numbers: those that are not 0, the type of the array.
    """

    bits: Array
    numbers: Array


@dataclass(frozen=True)
class Gaps:
    """Attributes:
    gaps: [numbers], of uint4 or uint8; the first counts from place 0.
    numbers: the type of the array, zeros on the way among them.
    """

    gaps: Array
    numbers: Array


Packed = Bitmap | Gaps


def packed(array: Array, bits: int) -> Packed:
    """The smallest form of an array, of ``bits`` bits a number."""
    flat = array.reshape(-1)
    places = np.flatnonzero(flat.astype(np.float32) != 0)
    forms: list[Packed] = [_bitmap(flat, places), *(_gaps(flat, places, width) for width in (4, 8))]
    return min(forms, key=lambda form: packed_bytes(form, bits))


def packed_bytes(form: Packed, bits: int) -> int:
    """Bytes of a form, of ``bits`` bits a number."""
    numbers = -(-len(form.numbers) * bits // 8)
    if isinstance(form, Bitmap):
        return int(form.bits.size + numbers)
    width = 4 if form.gaps.dtype == ml_dtypes.uint4 else 8
    return int(-(-len(form.gaps) * width // 8) + numbers)


def unpacked(form: Packed, size: int) -> Array:
    """The array, flat: what the operators compute."""
    flat = np.zeros(size, form.numbers.dtype)
    if isinstance(form, Bitmap):
        places = np.flatnonzero(np.unpackbits(form.bits.reshape(-1), bitorder="little"))
    else:
        places = np.cumsum(form.gaps.astype(np.int64))
    flat[places] = form.numbers
    return flat


def _bitmap(flat: Array, places: Array) -> Bitmap:
    there = np.zeros(len(flat), bool)
    there[places] = True
    return Bitmap(np.packbits(there, bitorder="little").reshape(-1, 1), flat[places])


def _gaps(flat: Array, places: Array, width: int) -> Gaps:
    longest = (1 << width) - 1
    distances = np.diff(places, prepend=0)
    extra = np.maximum(0, -(-distances // longest) - 1)  # zeros in front of each number
    ends = np.cumsum(extra + 1) - 1
    gaps = np.full(int((extra + 1).sum()), longest, np.int64)
    gaps[ends] = distances - extra * longest
    numbers = np.zeros(len(gaps), flat.dtype)
    numbers[ends] = flat[places]
    kind: Any = ml_dtypes.uint4 if width == 4 else np.uint8
    return Gaps(gaps.astype(kind), numbers)

"""How far before its input an output has to begin so that kernels read every byte before they overwrite it.

Kernels go through the output from its first byte to its last, in steps: a tile of pixels, a row. After step t
the output is written up to ``end(t)``; the steps behind it read the input from ``low(t + 1)`` on. An output
that begins at the input's address less ``max(end(t) - low(t + 1))`` overwrites nothing that is still to be
read (Blacker, Bridges and Hadfield 2020, arXiv:2010.01668).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Window

Shape = Sequence[int]


def tiles_distance(
    window: Window,
    x: Shape,
    y: Shape,
    pixels: int,
    reads_first: bool,
    singles: bool = False,
    by_rows: bool = False,
) -> int:
    """Distance in elements for steps of ``pixels`` output pixels.

    Args:
        x, y: [N,H,W,Ci] and [N,Ho,Wo,Co].
        reads_first: whether a step reads all of its input before it writes.
        singles: whether the pixels left over are steps of their own; else the last step overlaps the one
            before.
        by_rows: whether steps end with the rows of the output, the last one of each overlapping.
    """
    lowest = _lowest_reads(window, x, y)
    count = len(lowest)
    row = y[2] if by_rows else count
    starts = np.minimum(np.arange(0, row, pixels), max(row - pixels, 0))
    starts = (np.arange(0, count, row)[:, None] + starts).reshape(-1)
    if singles:
        whole = count - count % pixels
        starts = np.append(np.arange(0, whole, pixels), np.arange(whole, count))
    ends = np.append(starts[1:], count) if singles else np.minimum(starts + pixels, count)
    later = np.append(np.minimum.accumulate(lowest[::-1])[::-1], _all_read(x, y))
    following = np.append(starts[1:], count) if reads_first else starts
    distance = int(np.max(ends * y[3] - later[following]))
    return _of_images(distance, x, y)


def rows_distance(x: Shape, y: Shape, read: Sequence[int]) -> int:
    """Distance in elements where output row r is written once the first ``read[r]`` input rows are read."""
    row_in, row_out = x[2] * x[3], y[2] * y[3]
    low = [rows * row_in if rows < x[1] else _all_read(x, y) for rows in read]
    distance = max((r + 1) * row_out - low[r] for r in range(y[1]))
    return _of_images(distance, x, y)


def _of_images(distance: int, x: Shape, y: Shape) -> int:
    """The distance for one image after the other."""
    return distance + max((x[0] - 1) * (_bytes(y) - _bytes(x)), 0)


def _all_read(x: Shape, y: Shape) -> int:
    """Where an image that is read ends: so far away that its output may go on behind it.

    Of several images it may not: behind one lies the next.
    """
    return _bytes(x) + (_bytes(y) if x[0] == 1 else 0)


def _bytes(shape: Shape) -> int:
    return shape[1] * shape[2] * shape[3]


def _lowest_reads(window: Window, x: Shape, y: Shape) -> NDArray[np.int64]:
    """First byte of the image that each output pixel reads; :func:`_all_read` where it reads none."""
    rows, columns = (_first_inside(window, axis, x[1 + axis], y[1 + axis]) for axis in (0, 1))
    first = (rows[:, None] * x[2] + columns[None, :]) * x[3]
    outside = (rows[:, None] >= x[1]) | (columns[None, :] >= x[2])
    return np.where(outside, _all_read(x, y), first).reshape(-1)


def _first_inside(window: Window, axis: int, extent: int, count: int) -> NDArray[np.int64]:
    """First row (column) inside the image of every window along an axis; ``extent`` if there is none."""
    origin = np.arange(count, dtype=np.int64) * window.strides[axis] - window.pads[axis]
    dilation = window.dilations[axis]
    first = origin + -(np.minimum(origin, 0) // dilation) * dilation
    reached = origin + (window.kernel[axis] - 1) * dilation
    return np.where((first > reached) | (first >= extent), extent, first)

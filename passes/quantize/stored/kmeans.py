"""k-means of numbers on a line: sorted once, every step is then a search and a difference of prefix sums.

Lloyd's iteration from centres at even distance between the smallest and the largest number, which Han et al.
(*Deep Compression*, ICLR 2016, arXiv:1510.00149, section 3.2) found to keep the few large weights best. With
an importance h of each number it minimizes ``sum h (w - centre)^2``. No randomness: equal input, equal bytes.
"""

from __future__ import annotations

import numpy as np

from irshrink.graph.edit import Array


def kmeans(numbers: Array, importance: Array, count: int, iterations: int) -> Array:
    """Ascending centres, float64 [count].

    Args:
        numbers: [n], finite.
        importance: [n], above 0.
        iterations: at most; 0 leaves the centres where they start.
    """
    order = np.argsort(numbers, kind="stable")
    x, h = numbers[order].astype(np.float64), importance[order].astype(np.float64)
    mass = np.concatenate([[0.0], np.cumsum(h)])
    moment = np.concatenate([[0.0], np.cumsum(h * x)])
    centres = np.linspace(x[0], x[-1], count)
    for _ in range(iterations):
        cuts = np.searchsorted(x, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([[0], cuts, [len(x)]])
        total = np.diff(mass[ends])
        moved = np.where(total > 0, np.diff(moment[ends]) / np.where(total > 0, total, 1.0), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.sort(centres)

"""Convolutions of 3x3 windows by Winograd's minimal filtering F(2x2, 3x3): transforms that all share.

A tile of 4 x 4 input pixels gives 2 x 2 output pixels by 16 products a channel instead of 36
(Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.1):

    y = A' ((G g G') * (B' d B)) A

    B' = | 1  0 -1  0 |    G = |  1    0    0  |    A' = | 1  1  1  0 |
         | 0  1  1  0 |        | 1/2  1/2  1/2 |         | 0  1 -1 -1 |
         | 0 -1  1  0 |        | 1/2 -1/2  1/2 |
         | 0  1  0 -1 |        |  0    0    1  |

docs/integer-semantics.md says in which order everything is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
#: float32 or float16.
Numbers = NDArray[Any]

#: Rows and columns of a tile of the input, and of the results that it gives.
TILE, STEP = 4, 2
#: The position whose sums start at the bias: it counts once in each of a tile's results.
BIAS_AT = 5


def transformed_weights(weight: Numbers) -> Numbers:
    """[Co, 3, 3, Ci] as G g G', [16, Co, Ci]: computed in float64, first down the columns, rounded once."""
    g = weight.astype(np.float64)
    down = _filter([g[:, ky] for ky in range(3)])
    across = [u for row in down for u in _filter([row[:, kx] for kx in range(3)])]
    return np.stack(across).astype(weight.dtype)


def transformed_input(d: Sequence[T], minus: Callable[[T, T], T], plus: Callable[[T, T], T]) -> list[T]:
    """B' d of four values."""
    return [minus(d[0], d[2]), plus(d[1], d[2]), minus(d[2], d[1]), minus(d[1], d[3])]


def transformed_output(m: Sequence[T], minus: Callable[[T, T], T], plus: Callable[[T, T], T]) -> list[T]:
    """A' m of four sums."""
    return [plus(plus(m[0], m[1]), m[2]), minus(minus(m[1], m[2]), m[3])]


def _filter(g: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [g[0], (g[0] + g[1] + g[2]) * 0.5, (g[0] - g[1] + g[2]) * 0.5, g[2]]

"""Convolutions of 3x3 windows in tiles of 2x2 results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irshrink.program.ops import ConvF16, ConvF32
from irshrink.program.reference.dispatch import Array
from irshrink.program.reference.fused import FusedSums, blocks
from irshrink.program.winograd import (
    BIAS_AT,
    STEP,
    TILE,
    transformed_input,
    transformed_output,
    transformed_weights,
)

#: The sums over the input channels of all positions, [16, N, rows, tiles across, Co], of transformed tiles
#: [16, N, rows, tiles across, Ci], transformed weights [16, Co, Ci] and what they start from.
Products = Callable[[Array, Array, Array], Array]


def winograd(op: ConvF32 | ConvF16, x: Array, products: Products) -> Array:
    """The results [N, Ho, Wo, Co] before the clip, in the type of ``x``."""
    images, height, width, _ = x.shape
    out_h, out_w = op.window.output(height, width)
    tiles = -(-out_h // STEP), -(-out_w // STEP)
    weight = transformed_weights(op.weight).astype(np.float64)
    seen = _seen(op, x, tiles)
    y = np.empty((images, STEP * tiles[0], STEP * tiles[1], len(op.bias)), x.dtype)
    for rows in blocks(tiles[0], TILE * TILE * images * tiles[1] * len(op.bias)):
        part = seen[:, :, rows]
        start = np.zeros((*part.shape[:-1], len(op.bias)), x.dtype)
        start[BIAS_AT] = op.bias
        sums = products(part.astype(np.float64), weight, start)
        down = [
            transformed_output([sums[TILE * i + j] for i in range(TILE)], np.subtract, np.add)
            for j in range(TILE)
        ]
        for i in range(STEP):
            across = transformed_output([down[j][i] for j in range(TILE)], np.subtract, np.add)
            for j in range(STEP):
                lines = slice(STEP * rows.start + i, STEP * rows.stop + i, STEP)
                y[:, lines, j::STEP] = across[j] + x.dtype.type(0)
    return y[:, :out_h, :out_w]


def _seen(op: ConvF32 | ConvF16, x: Array, tiles: tuple[int, int]) -> Array:
    """B' d B of every tile, [16, N, tiles down, tiles across, Ci]."""
    _, height, width, _ = x.shape
    top, left, _, _ = op.window.pads
    # what a tile holds beyond its results never reaches them, so it may be cut off or 0
    needed = [STEP * n + TILE - STEP for n in tiles]
    rows, columns = (
        (before, max(n - before - size, 0))
        for before, n, size in ((top, needed[0], height), (left, needed[1], width))
    )
    padded = np.pad(x, ((0, 0), rows, columns, (0, 0)))
    d = [
        [padded[:, i : i + STEP * tiles[0] : STEP, j : j + STEP * tiles[1] : STEP] for j in range(TILE)]
        for i in range(TILE)
    ]
    down = [transformed_input([d[i][j] for i in range(TILE)], np.subtract, np.add) for j in range(TILE)]
    across = [transformed_input([down[j][i] for j in range(TILE)], np.subtract, np.add) for i in range(TILE)]
    return np.stack([v for row in across for v in row])


def fused_products(seen: Array, weight: Array, start: Array) -> Array:
    """:data:`Products` of float32."""
    sums = FusedSums(start)
    for ci in range(seen.shape[-1]):
        sums.add(seen[..., ci, None], weight[:, None, None, None, :, ci])
    return sums.rounded

"""Bits that are so many in the mean: the least loss that a share of the bytes allows.

A budget in bits of a weight needs no search over the accuracy that comes out, and means the same for models
of any size; plans try some (docs/planning.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from irshrink.passes.quantize.mixed.assignment import Candidate, assign, smallest, total_loss
from irshrink.passes.quantize.mixed.layers import Layer
from irshrink.passes.quantize.mixed.sensitivity import Losses

#: Bits that integers have at least where zeros are left out; 3 are stored as 4.
_FEWEST_SPARSE = 3


def at_mean(layers: Sequence[Layer], losses: Sequence[Losses], mean: float) -> tuple[tuple[int, ...], float]:
    """Bits of each layer, at most ``mean`` over all weights, and the sum of what they lose.

    Weights that are 0 do not count, unless all are: pruned, they are stored as nothing, whatever their bits.
    A layer that was pruned keeps 3 bits, which are stored as 4, the fewest in which zeros are left out
    (:mod:`irshrink.passes.prune.sparse.store_sparse`), even where that is more than the mean.
    """
    counts = [layer.nonzeros or layer.elements for layer in layers]
    candidates = [
        [Candidate(bits, bits * count, lost[bits]) for bits in _widths(layer)]
        for layer, lost, count in zip(layers, losses, counts, strict=True)
    ]
    choice = assign(candidates, max(int(mean * sum(counts)), smallest(candidates)))
    assert choice is not None, "the limit is at least the smallest"
    return tuple(candidate.bits for candidate in choice), total_loss(choice)


def _widths(layer: Layer) -> list[int]:
    pruned = 2 * layer.nonzeros < layer.elements
    enough = [bits for bits in layer.stored if bits >= _FEWEST_SPARSE or not pruned]
    return enough or list(layer.stored)

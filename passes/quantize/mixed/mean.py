"""Bits that are so many in the mean: the least loss that a share of the bytes allows.

A budget in bits of a weight needs no search over the accuracy that comes out, and means the same for models
of any size; plans try some (docs/planning.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from irshrink.passes.quantize.mixed.assignment import Candidate, assign, total_loss
from irshrink.passes.quantize.mixed.layers import Layer
from irshrink.passes.quantize.mixed.sensitivity import Losses


def at_mean(layers: Sequence[Layer], losses: Sequence[Losses], mean: float) -> tuple[tuple[int, ...], float]:
    """Bits of each layer, at most ``mean`` over all weights, and the sum of what they lose.

    Weights that are 0 do not count, unless all are: pruned, they are stored as nothing, whatever their bits.

    Args:
        mean: at least the fewest bits that a layer has.
    """
    counts = [layer.nonzeros or layer.elements for layer in layers]
    candidates = [
        [Candidate(bits, bits * count, lost[bits]) for bits in layer.stored]
        for layer, lost, count in zip(layers, losses, counts, strict=True)
    ]
    choice = assign(candidates, int(mean * sum(counts)))
    assert choice is not None, "the pass refuses means below the fewest bits"
    return tuple(candidate.bits for candidate in choice), total_loss(choice)

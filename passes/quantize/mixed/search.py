"""From sensitivities to bits: the least loss that a size allows, or the smallest size that a loss allows.

Sizes are those of the model's file. A loss is first predicted, as the sum of the layers'; for a budget of
accuracy the mixtures on the frontier of size and predicted loss are built and run on samples that took no
part in choosing, and the smallest that keeps the budget is found by bisection over the size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from irshrink.errors import BudgetError
from irshrink.module import Module
from irshrink.passes.quantize.mixed.assignment import (
    Candidate,
    Choice,
    assign,
    smallest,
    total_bytes,
    total_loss,
)
from irshrink.passes.quantize.mixed.judge import Judge
from irshrink.passes.quantize.mixed.layers import Layer, compose
from irshrink.passes.quantize.mixed.sensitivity import Losses

#: Bisection ends when the sizes differ by less than this part.
_FINE = 1 / 400


@dataclass(frozen=True)
class Mixture:
    """One number of bits a layer.

    Attributes:
        nbytes: of the model's file.
        predicted: sum of the layers' losses.
        drop: accuracy lost, as a fraction, where that was judged.
    """

    choice: Choice
    nbytes: int
    predicted: float
    drop: float | None = None

    @property
    def bits(self) -> tuple[int, ...]:
        return tuple(candidate.bits for candidate in self.choice)


@dataclass
class Search:
    """Attributes:
    base: the model quantized at the fewest bits everywhere.
    losses: by bits, of each layer.
    judge: what measures a mixture.
    """

    base: Module
    layers: Sequence[Layer]
    losses: Sequence[Losses]
    judge: Judge
    progress: Callable[[str], None]
    _known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._candidates = [
            [Candidate(bits, one.nbytes, losses[bits]) for bits, one in layer.stored.items()]
            for layer, losses in zip(self.layers, self.losses, strict=True)
        ]
        fewest = sum(layer.stored[min(layer.stored)].nbytes for layer in self.layers)
        self._others = file_bytes(self.base) - fewest

    def within_size(self, limit: int) -> Mixture:
        """The least loss in a file of at most ``limit`` bytes.

        Raises:
            BudgetError: even the smallest mixture is larger.
        """
        found = self._at(limit)
        if found is None:
            least = smallest(self._candidates) + self._others
            raise BudgetError(
                f"size: with the fewest bits everywhere the model takes {least:,} bytes, "
                f"{least - limit:,} more than the {limit:,} allowed. Allow fewer bits, or a larger file."
            )
        return self._judged(found)

    def within_drop(self, limit: float) -> Mixture:
        """The smallest file that loses at most ``limit``, a fraction, on the samples that judge.

        Raises:
            BudgetError: even the largest mixture loses more.
        """
        low = smallest(self._candidates) + self._others
        high = sum(max(c.nbytes for c in row) for row in self._candidates) + self._others
        first, best = self.within_size(low), self.within_size(high)
        if _drop(first) <= limit:
            return first
        if _drop(best) > limit:
            raise BudgetError(
                "accuracy: with the most bits everywhere the model is expected to lose "
                f"{_drop(best) * 100:.2f} {self.judge.points}; {limit * 100:.2f} are allowed. Keep the "
                "layers that lose most in float, or choose activation ranges by another method."
            )
        while high - low > high * _FINE:
            middle = (low + high) // 2
            found = self.within_size(middle)
            if _drop(found) <= limit:
                best, high = found, min(middle, found.nbytes)
            else:
                low = middle
        return best

    def drop_of(self, bits: Sequence[int]) -> float:
        """Accuracy lost with these bits on the samples that judge."""
        key = tuple(bits)
        if key not in self._known:
            self.progress(f"judging mixture {len(self._known) + 1}")
            mixed = compose(self.base, self.layers, bits)
            self._known[key] = self.judge.drop(mixed)
        return self._known[key]

    def _at(self, limit: int) -> Mixture | None:
        choice = assign(self._candidates, limit - self._others)
        if choice is None:
            return None
        return Mixture(choice, total_bytes(choice) + self._others, total_loss(choice))

    def _judged(self, mixture: Mixture) -> Mixture:
        return Mixture(mixture.choice, mixture.nbytes, mixture.predicted, self.drop_of(mixture.bits))


def file_bytes(module: Module) -> int:
    """Size of the model as a file, weights included."""
    with tempfile.TemporaryDirectory(prefix="irshrink-") as folder:
        module.save(Path(folder, "model.onnx"))
        return sum(file.stat().st_size for file in Path(folder).iterdir())


def _drop(mixture: Mixture) -> float:
    assert mixture.drop is not None, "within_size judges what it finds"
    return mixture.drop

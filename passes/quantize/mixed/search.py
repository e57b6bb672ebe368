"""From sensitivities to bits: the least loss that a size allows, or the smallest size that a loss allows.

Sizes are those of the model's file. A loss is first predicted, as the sum of the layers'; for a budget of
accuracy the mixtures on the frontier of size and predicted loss are built and run on samples that took no
part in choosing, and the smallest that keeps the budget is found by bisection over the size.

Where layers make up for what layers before them do wrong, a mixture is more than its parts: a composed one
loses more than one that is quantized as such. The latter is what counts; the bisection then aims at the drop
that, by the ratio of the two so far, makes it keep the budget.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from irshrink.errors import BudgetError
from irshrink.judge import Judge
from irshrink.module import Module
from irshrink.passes.quantize.mixed.assignment import (
    Candidate,
    Choice,
    assign,
    smallest,
    total_bytes,
    total_loss,
)
from irshrink.passes.quantize.mixed.layers import Layer, compose, length_bytes
from irshrink.passes.quantize.mixed.sensitivity import Losses

#: Bisection ends when the sizes differ by less than this part.
_FINE = 1 / 400
#: How often a mixture is quantized as such, and which part of the budget is used well enough.
_TRIALS, _ENOUGH = 5, 0.8


@dataclass(frozen=True)
class Mixture:
    """One number of bits a layer.

    Attributes:
        nbytes: of the model's file.
        predicted: sum of the layers' losses.
        drop: accuracy lost, as a fraction, on the samples that judge.
    """

    choice: Choice
    nbytes: int
    predicted: float
    drop: float

    @property
    def bits(self) -> tuple[int, ...]:
        return tuple(candidate.bits for candidate in self.choice)


@dataclass
class Search:
    """Attributes:
    base: the model quantized at the fewest bits everywhere.
    losses: by bits, of each layer.
    judge: what measures a mixture.
    real: quantizes the model with these bits; None where that is what composing gives.
    """

    base: Module
    layers: Sequence[Layer]
    losses: Sequence[Losses]
    judge: Judge
    progress: Callable[[str], None]
    real: Callable[[Sequence[int]], Module] | None = None
    _known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._candidates = [
            [Candidate(bits, one.nbytes, losses[bits]) for bits, one in layer.stored.items()]
            for layer, losses in zip(self.layers, self.losses, strict=True)
        ]
        fewest = sum(layer.stored[min(layer.stored)].nbytes for layer in self.layers)
        size = file_bytes(self.base)
        self._others = size - fewest - length_bytes(size)
        largest = sum(max(c.nbytes for c in row) for row in self._candidates)
        self._sizes = (self._file(smallest(self._candidates)), self._file(largest))

    def within_size(self, limit: int) -> Mixture:
        """The least loss in a file of at most ``limit`` bytes.

        Raises:
            BudgetError: even the smallest mixture is larger.
        """
        least = self._sizes[0]
        if least > limit:
            raise BudgetError(
                f"size: with the fewest bits everywhere the model takes {least:,} bytes, "
                f"{least - limit:,} more than the {limit:,} allowed. Allow fewer bits, or a larger file.",
                least_over=least - limit,
            )
        return self._as_such(self._at(limit))

    def within_drop(self, limit: float) -> Mixture:
        """The smallest file that loses at most ``limit``, a fraction, on the samples that judge.

        Raises:
            BudgetError: even the largest mixture loses more.
        """
        if self.real is None:
            return self._required(self._composed(limit), limit)
        aim, kept = limit, None
        for _ in range(_TRIALS):
            composed = self._composed(aim)
            found = self._as_such(composed)
            drop = found.drop
            if drop <= limit and (kept is None or found.nbytes < kept.nbytes):
                kept = found
            if _ENOUGH * limit <= drop <= limit or (drop > limit and composed.nbytes == self._sizes[1]):
                break
            if drop <= limit and composed.nbytes == self._sizes[0]:
                break
            aim = max(composed.drop, 1e-6) * 0.5 * (1 + _ENOUGH) * limit / max(drop, 1e-6)
        return kept if kept is not None else self._required(self._as_such(self._composed(0.0)), limit)

    def _composed(self, limit: float) -> Mixture:
        """The smallest composed mixture within a drop, or the largest one if none is."""
        low, high = self._sizes
        first, best = self._at(low), self._at(high)
        if first.drop <= limit:
            return first
        if best.drop > limit:
            return best
        while high - low > high * _FINE:
            middle = (low + high) // 2
            found = self._at(middle)
            if found.drop <= limit:
                best, high = found, min(middle, found.nbytes)
            else:
                low = middle
        return best

    def _required(self, found: Mixture, limit: float) -> Mixture:
        if found.drop <= limit:
            return found
        raise BudgetError(
            "accuracy: with the most bits everywhere the model is expected to lose "
            f"{found.drop * 100:.2f} {self.judge.points}; {limit * 100:.2f} are allowed. Keep the "
            "layers that lose most in float, or choose activation ranges by another method."
        )

    def _at(self, limit: int) -> Mixture:
        """The least predicted loss within a size that is not below the smallest, composed and judged."""
        room = limit - self._others - length_bytes(limit)
        choice = assign(self._candidates, max(room, smallest(self._candidates)))
        assert choice is not None, "the limit is at least the smallest size"
        bits = tuple(candidate.bits for candidate in choice)
        if bits not in self._known:
            self.progress(f"judging mixture {len(self._known) + 1}")
            self._known[bits] = self.judge.drop(compose(self.base, self.layers, bits))
        return Mixture(choice, self._file(total_bytes(choice)), total_loss(choice), self._known[bits])

    def _file(self, layers: int) -> int:
        """Size of the file in which layers take so many bytes; a graph is stored behind its length."""
        size = layers + self._others
        return size + length_bytes(size)

    def _as_such(self, mixture: Mixture) -> Mixture:
        """The mixture with the drop of a model that is quantized with its bits."""
        if self.real is None:
            return mixture
        return replace(mixture, drop=self.judge.drop(self.real(mixture.bits)))


def file_bytes(module: Module) -> int:
    """Size of the model as a file, weights included."""
    with tempfile.TemporaryDirectory(prefix="irshrink-") as folder:
        module.save(Path(folder, "model.onnx"))
        return sum(file.stat().st_size for file in Path(folder).iterdir())

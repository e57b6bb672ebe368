"""Which weights stay: single ones, N of every M, or whole blocks, those with the largest scores.

A layer is rows of weights ``[g, o, n]``: groups, outputs of a group, inputs of an output in the order in
which kernels read them. A pattern turns scores of that shape, how much each weight is worth, into a mask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Blocks:
    """Blocks of ``outputs`` by ``inputs`` weights stay or go together; the last ones may be smaller.

    A block is worth the mean score of its weights.
    """

    outputs: int = 1
    inputs: int = 1

    def total(self, shape: tuple[int, ...]) -> int:
        """Blocks that weights of this shape [g, o, n] have."""
        return shape[0] * -(-shape[1] // self.outputs) * -(-shape[2] // self.inputs)

    def worth(self, scores: Array) -> Array:
        """The score of every block, [g, blocks of outputs, blocks of inputs]."""
        sums = _reduced(_reduced(scores, self.outputs, 1), self.inputs, 2)
        ones = np.ones((1, *scores.shape[1:]))
        return np.asarray(sums / _reduced(_reduced(ones, self.outputs, 1), self.inputs, 2))

    def spread(self, blocks: Array, shape: tuple[int, ...]) -> Array:
        """What is said of every block, said of every weight."""
        wide = np.repeat(np.repeat(blocks, self.outputs, axis=1), self.inputs, axis=2)
        return wide[:, : shape[1], : shape[2]]

    def keep(self, scores: Array, removed: int, each: bool = False) -> Array:
        """A mask of the weights that stay.

        Args:
            removed: how many blocks go, those of the smallest worth; of equal ones the first.
            each: so many of each block of outputs, not of the whole layer.
        """
        worth = self.worth(scores)
        flat = worth.reshape(-1, worth.shape[2]) if each else worth.reshape(1, -1)
        order = np.argsort(flat, axis=1, kind="stable")
        stays = np.ones(flat.shape, bool)
        np.put_along_axis(stays, order[:, :removed], False, axis=1)
        return self.spread(stays.reshape(worth.shape), scores.shape)


@dataclass(frozen=True)
class SomeOf:
    """At most ``most`` of every ``of`` neighbouring inputs of an output stay: those worth most."""

    most: int
    of: int

    def keep(self, scores: Array) -> Array:
        """A mask of the weights that stay; a last, shorter run keeps as many as there are up to ``most``."""
        groups, outputs, inputs = scores.shape
        padded = np.full((groups, outputs, -(-inputs // self.of) * self.of), -np.inf)
        padded[:, :, :inputs] = scores
        runs = padded.reshape(groups, outputs, -1, self.of)
        order = np.argsort(-runs, axis=3, kind="stable")
        stays = np.zeros(runs.shape, bool)
        np.put_along_axis(stays, order[..., : self.most], True, axis=3)
        return np.asarray(stays.reshape(padded.shape)[:, :, :inputs])

    @property
    def sparsity(self) -> float:
        return 1 - self.most / self.of


Pattern = Blocks | SomeOf


def parse_pattern(text: str) -> Pattern:
    """``1x1`` single weights, ``4x2`` blocks of 4 outputs by 2 inputs, ``2:4`` two of every four inputs.

    Raises:
        ValueError: written differently, or a pattern that keeps all or nothing.
    """
    match = re.fullmatch(r"(\d{1,4})(x|:)(\d{1,4})", text)
    first, second = (int(match[1]), int(match[3])) if match else (0, 0)
    if match is None or not first or not second:
        raise ValueError(
            f"pattern is '{text}'; write 1x1 for single weights, 4x2 for blocks of 4 outputs by 2 inputs, or "
            "2:4 for two of every four inputs."
        )
    if match[2] == "x":
        return Blocks(first, second)
    if first >= second:
        raise ValueError(f"pattern is '{text}', which keeps all weights; write fewer of more, such as 2:4.")
    return SomeOf(first, second)


def _reduced(array: Array, size: int, axis: int) -> Array:
    return np.add.reduceat(array, np.arange(0, array.shape[axis], size), axis=axis)

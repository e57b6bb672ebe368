"""Labels that are written as text: class indices, names of classes, or the numbers of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irshrink.errors import SamplesError, nearest
from irshrink.samples.records import is_integer, is_number, shown
from irshrink.samples.source import Array

#: Names that a message lists.
_LISTED = 24


@dataclass(frozen=True)
class Classes:
    """Names of classes in the order of the model's scores; none where nothing is known.

    Names that are integers are names all the same: a model of the classes 3 and 7 calls the second one 7.

    Attributes:
        declared: by the user, so that labels can be nothing else; the model's own may be left unused.
    """

    names: tuple[str, ...] = ()
    declared: bool = False

    @classmethod
    def of(cls, path: Path, declared: Sequence[str], own: Sequence[str]) -> Classes:
        """What the user declares, else what the model has.

        Raises:
            SamplesError: two declared classes have the same name.
        """
        for i, name in enumerate(declared):
            if name in declared[:i]:
                raise SamplesError(f"{path}: classes names '{name}' twice. Give each class its own name.")
        return cls(tuple(declared) or tuple(own), bool(declared))

    def indices(self, labels: Sequence[str]) -> list[int] | None:
        """Class indices of labels, which are names where all of them are, else integers; None for others."""
        index = {name: i for i, name in enumerate(self.names)}
        if index and all(label in index for label in labels):
            return [index[label] for label in labels]
        if self.declared or any(map(is_integer, self.names)) or not all(map(is_integer, labels)):
            return None
        return [int(label) for label in labels]

    def first_wrong(self, labels: Sequence[str]) -> int:
        """Where :meth:`indices` found none."""
        right = self.names.__contains__ if self.names else _is_finite
        return next(i for i, label in enumerate(labels) if not right(label))

    def complaint(self, labels: Sequence[str]) -> str:
        """What is wrong with the first wrong label, and what to do about it."""
        label = labels[self.first_wrong(labels)]
        if self.names:
            return f"{shown(label)} is no class.{nearest(label, self.names)}"
        if any(map(is_number, labels)):
            return f"{shown(label)} is neither a class index nor a finite number, as others are."
        found = sorted(set(labels))
        listed = ",".join(found[:_LISTED]) + (",..." if found[_LISTED:] else "")
        return (
            f"which class {shown(label)} is, is not declared. Give all names in the order of the model's "
            f"scores: classes = {listed}"
        )


def targets(columns: Sequence[Sequence[str]]) -> Array | None:
    """Numbers of a regression, float64 [n] or, of several columns, [n, columns]; None if a cell is none."""
    if not all(_is_finite(cell) for column in columns for cell in column):
        return None
    table = np.array([[float(cell) for cell in column] for column in columns], np.float64).T
    return table[:, 0].copy() if table.shape[1] == 1 else np.ascontiguousarray(table)


def _is_finite(text: str) -> bool:
    return is_number(text) and bool(np.isfinite(float(text)))

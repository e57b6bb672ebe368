"""What calibration found, by the names of values: for variants of a model that share their scales."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from irshrink.calibration.observers import ChannelExtremes, Range
from irshrink.errors import ModelError

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


@dataclass
class Measured:
    """Ranges by method and value, means of channels by value, extremes by pass and value; a later measurement
    replaces an earlier one. ``steps`` are what passes that search settled on, by their names."""

    ranges: dict[tuple[Hashable, str], Range] = field(default_factory=dict)
    means: dict[str, Array] = field(default_factory=dict)
    extremes: dict[tuple[str, str], ChannelExtremes] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_ranges(self, method: Hashable, ranges: Mapping[str, Range]) -> None:
        self.ranges.update({(method, name): found for name, found in ranges.items()})

    def ranges_of(self, method: Hashable, values: Sequence[str]) -> dict[str, Range]:
        """
        Raises:
            ModelError: a value was not measured.
        """
        return {name: _found(self.ranges, (method, name), name) for name in values}

    def means_of(self, values: Sequence[str]) -> dict[str, Array]:
        """
        Raises:
            ModelError: a value was not measured.
        """
        return {name: _found(self.means, name, name) for name in values}

    def extremes_of(self, step: str, values: Sequence[str]) -> dict[str, ChannelExtremes]:
        """
        Raises:
            ModelError: a value was not measured.
        """
        return {name: _found(self.extremes, (step, name), name) for name in values}

    def step_of(self, name: str) -> dict[str, Any]:
        """
        Raises:
            ModelError: the pass settled on nothing.
        """
        return _found(self.steps, name, name)


def _found(measured: Mapping[Any, T], key: object, name: str) -> T:
    if key not in measured:
        raise ModelError(
            f"on other input shapes the model computes a value '{name}' that it does not have on those of "
            "the calibration data, so its scale is not known. Compile these variants one by one."
        )
    return measured[key]

"""A form is a way to write one layer as several: which, how large they are, and how they are found."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from irshrink.passes.lowrank.layers import Layer
from irshrink.passes.lowrank.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]
#: One number for forms with one rank; more where there are more.
Ranks = tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """One of the layers that a layer becomes.

    Attributes:
        shape: of its weights: [outputs, channels / group, *kernel]; [outputs, channels] of a matrix.
        size: how often it applies them: batch and size of what it computes; of a matrix product the rows.
        attributes: of a Conv, besides ``kernel_shape``: what differs from the operator's defaults.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    attributes: dict[str, Any]

    @property
    def parameters(self) -> int:
        return prod(self.shape)

    @property
    def macs(self) -> int:
        return self.parameters * prod(self.size)


@dataclass(frozen=True)
class Factors:
    """Weights of the stages, each in the shape that its stage says, and the one matrix that they multiply to.

    Attributes:
        matrix: float64 [outputs, n], in the order of :attr:`Layer.rows`.
    """

    weights: tuple[Array, ...]
    matrix: Array


class Form(Protocol):
    """A decomposition of a layer."""

    @property
    def name(self) -> str: ...

    def why_not(self, layer: Layer) -> str | None:
        """Half a sentence where the layer has no such form, else None."""

    def ranks(self, layer: Layer, multiple: int) -> list[Ranks]:
        """Those to choose from, the full one last; numbers are multiples of ``multiple`` but for that."""

    def stages(self, layer: Layer, ranks: Ranks) -> list[Stage]:
        """The layers that it becomes, in order."""

    def errors(self, layer: Layer, problem: Problem, ranks: list[Ranks]) -> list[float]:
        """Relative squared output error of each."""

    def factor(self, layer: Layer, problem: Problem, ranks: Ranks) -> Factors:
        """Weights that keep the outputs."""


def steps(full: int, multiple: int) -> list[int]:
    """Multiples below ``full``, and ``full``."""
    return [*range(multiple, full, multiple), full]


def conv_attributes(layer: Layer, axes: tuple[int, ...]) -> dict[str, Any]:
    """Strides, pads and dilations of a stage whose kernel covers ``axes`` alone of the layer's."""
    count = len(layer.kernel)
    strides, dilations, pads = layer.strides(), layer.dilations(), layer.pads()
    found: dict[str, Any] = {
        "strides": [strides[a] if a in axes else 1 for a in range(count)],
        "dilations": [dilations[a] if a in axes else 1 for a in range(count)],
    }
    if layer.auto_pad() not in ("NOTSET", ""):
        found["auto_pad"] = layer.auto_pad()
    else:
        found["pads"] = [pads[a + end] if a in axes else 0 for end in (0, count) for a in range(count)]
    return found


def kernel_on(layer: Layer, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size if a in axes else 1 for a, size in enumerate(layer.kernel))


def size_after(layer: Layer, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Batch and size once ``axes`` have been gone over: there the output's size, else the input's."""
    read, written = layer.positions()
    return read[0], *(written[a + 1] if a in axes else read[a + 1] for a in range(len(layer.kernel)))

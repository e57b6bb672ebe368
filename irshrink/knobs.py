"""What a pass lets a plan decide: its knobs.

A plan is a list of recipe steps, found by trying settings of knobs (:mod:`irshrink.planning`). A pass takes
part by having a class method ``knobs``, :class:`Adjustable`; nothing else has to know it, so that a plug-in's
pass is searched like ours. A knob that is off leaves its pass out.

Levels go from least to most: what a level loses, and what it saves, must not fall on the way. Between levels
that were tried a plan interpolates over :attr:`Level.amount`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from irshrink.module import Module
from irshrink.target import Target

__all__ = ["PLACES", "Adjustable", "Effect", "Knob", "Level", "Place", "Step", "Wishes"]

#: A step of a recipe: ``{"pass": name, option: value...}``.
Step = Mapping[str, Any]
#: Where in a recipe a knob's steps stand: what changes the graph before what changes weights, numbers last.
Place = Literal["resolution", "blocks", "channels", "rank", "weights", "numbers"]
PLACES: tuple[Place, ...] = get_args(Place)
#: What a knob can make smaller: bytes of weights, the arena, what an inference executes.
Effect = Literal["size", "ram", "cost"]


@dataclass(frozen=True)
class Level:
    """One setting of a knob.

    Attributes:
        label: for people, ``30 % of the bytes``.
        amount: how much of it; rises from level to level, 0 is off.
        steps: what the recipe says at the knob's place.
        behind: what it says behind all others, such as how zeros are stored.
    """

    label: str
    amount: float
    steps: tuple[Step, ...]
    behind: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Knob:
    """One decision about a whole model; the pass shares it out among layers by its own analyses.

    Attributes:
        name: unique among knobs; that of the pass, where it has one knob.
        title: for people, ``channels removed``.
        place: where its steps stand.
        helps: what it can make smaller; a plan that needs none of it leaves the knob off.
        levels: at least one, from least to most.
        inferences: what trying a level takes, in runs of the model for each sample that is fitted to.
        products: and in linear algebra, in products of every layer's weights with the second moments of what
            it reads. Estimates of time are made of both.
        obligatory: one of the levels is in every plan: the first, where nothing else is decided.
    """

    name: str
    title: str
    place: Place
    helps: frozenset[Effect]
    levels: tuple[Level, ...]
    inferences: float = 10.0
    products: float = 0.0
    obligatory: bool = False

    def __post_init__(self) -> None:
        amounts = [level.amount for level in self.levels]
        if not amounts or amounts != sorted(set(amounts)):
            raise ValueError(f"knob '{self.name}' needs levels whose amounts rise: {amounts}")


@dataclass(frozen=True)
class Wishes:
    """What a plan is for, as far as passes have to know.

    Attributes:
        effects: what must, or should, become smaller.
        exact_costs: whether ``Context.costs`` can say what layers take on the target, the same each time.
        samples: how many samples passes may fit to.
        target: what plans are compiled for.
        cost_matters: whether the cost has a limit or is what should become smaller; what only takes time
            is free otherwise.
    """

    effects: frozenset[Effect]
    exact_costs: bool
    samples: int
    target: Target
    cost_matters: bool


@runtime_checkable
class Adjustable(Protocol):
    """A pass that plans may use."""

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> Sequence[Knob]:
        """The knobs that it has on this model, cleaned up and in float; none where it could do nothing.

        Args:
            module: not to be changed.
        """
        ...

"""The knobs of a model: what passes offer, less what plans have no use for and what the user decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from irshrink.errors import RecipeError, nearest
from irshrink.knobs import PLACES, Adjustable, Knob, Level, Place, Step, Wishes
from irshrink.module import Module
from irshrink.recipe import Recipe
from irshrink.registry import pass_class, pass_table
from irshrink.shorthands import (
    SHORTHANDS,
    StepTable,
    low_rank_steps,
    pruning_steps,
    sparse_steps,
    with_kept_float,
)

__all__ = ["knobs_of"]


def knobs_of(module: Module, wishes: Wishes, recipe: Recipe) -> tuple[Knob, ...]:
    """Every knob that a plan for this model has, in the order in which their steps stand.

    What the recipe says by ``quantize``, ``prune``, ``low_rank`` or ``sparsity`` is in every plan: one level,
    obligatory, with the steps that the key stands for. ``keep_float`` goes to passes that have such an
    option.

    Args:
        module: cleaned up and in float; it is not changed.

    Raises:
        RecipeError: the recipe names a knob that there is not, or two passes have one of the same name.
    """
    decided = dict(_decided(recipe))
    by_name: dict[str, tuple[str, Knob]] = {}
    for source, knob in _offered(module, wishes, decided):
        if knob.name in by_name:
            raise RecipeError(f"two passes have a knob '{knob.name}': {by_name[knob.name][0]}, {source}.")
        by_name[knob.name] = source, knob
    found = [knob for _, knob in by_name.values()]
    if recipe.quantize is not None:
        found = [knob for knob in found if knob.place != "numbers" or knob in decided.values()]
    found = _allowed(found, recipe.knobs)
    wanted = [knob for knob in found if knob.obligatory or knob.helps & wishes.effects]
    ordered = sorted(wanted, key=lambda knob: (PLACES.index(knob.place), knob.name))
    return tuple(_with_kept_float(knob, recipe.keep_float) for knob in ordered)


def _offered(module: Module, wishes: Wishes, decided: Mapping[str, Knob]) -> Iterator[tuple[str, Knob]]:
    """All knobs, each with the pass that offers it; what was decided stands in place of a pass's own."""
    for name in sorted(pass_table()):
        cls: Any = pass_class(name)
        if name in decided:
            yield name, decided[name]
        elif isinstance(cls, Adjustable):
            for knob in cls.knobs(module, wishes):
                yield name, knob


def _allowed(knobs: Sequence[Knob], names: tuple[str, ...]) -> list[Knob]:
    """Of all knobs those that the recipe names; what is in every plan stays as it is without a search."""
    known = [knob.name for knob in knobs]
    for name in names:
        if name not in known:
            raise RecipeError(f"knobs: this model has no knob '{name}'.{nearest(name, known)}")
    if not names:
        return list(knobs)
    fixed = [k for k in knobs if k.obligatory and k.name not in names]
    first = {k.name: dataclasses.replace(k, levels=k.levels[:1]) for k in fixed}
    return [first.get(k.name, k) for k in knobs if k.name in (*names, *first)]


def _decided(recipe: Recipe) -> Iterator[tuple[str, Knob]]:
    """What the recipe says, by the pass whose knobs it takes the place of."""
    if recipe.prune is not None:
        label = f"{recipe.prune * 100:g} % of the multiplications"
        yield "prune-channels", _fixed("channels removed", "channels", label, pruning_steps(recipe))
    if recipe.low_rank is not None:
        label = "auto" if recipe.low_rank == "auto" else f"error of {recipe.low_rank * 100:g} %"
        yield "low-rank", _fixed("rank of layers", "rank", label, low_rank_steps(recipe))
    if recipe.sparsity is not None:
        label = f"{recipe.sparsity * 100:g} % of the weights are 0"
        steps, behind = sparse_steps(recipe)
        yield "prune-weights", _fixed("single weights removed", "weights", label, steps, behind)
    if recipe.quantize is not None:
        shorthand = SHORTHANDS[recipe.quantize]
        yield "quantize-mixed", _fixed("numbers", "numbers", shorthand.title, shorthand.steps(recipe))


def _fixed(
    title: str, place: Place, label: str, steps: tuple[StepTable, ...], behind: tuple[StepTable, ...] = ()
) -> Knob:
    """A knob that nobody may turn; it bears the name of its place."""
    level = Level(label, 1.0, steps, behind)
    return Knob(place, title, place, frozenset(), (level,), obligatory=True)


def _with_kept_float(knob: Knob, patterns: tuple[str, ...]) -> Knob:
    if not patterns:
        return knob

    def kept(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(with_kept_float(step, patterns) for step in steps)

    levels = (
        dataclasses.replace(level, steps=kept(level.steps), behind=kept(level.behind))
        for level in knob.levels
    )
    return dataclasses.replace(knob, levels=tuple(levels))

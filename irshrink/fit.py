"""Mixed precision for a flash: what code takes is known when it is built, so build, look, and try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from irshrink.errors import BudgetError
from irshrink.recipe import Recipe

T = TypeVar("T")
#: Kernels for fewer bits take some more code, so that the second build may miss by a little.
_BUILDS = 5


def within_flash(build: Callable[[Recipe], T], recipe: Recipe) -> T:
    """Build a recipe; where ``mixed`` has a flash limit and no other budget, with as many bits as fit.

    The first build is int8. What it takes too much, the weights have to give: a byte of them in the model's
    file is a byte in flash.

    Raises:
        BudgetError: the fewest bits are still too many; besides that what ``build`` raises.
    """
    others = (recipe.max_drop, recipe.max_size)
    if recipe.quantize != "mixed" or recipe.flash is None or others != (None, None):
        return build(recipe)
    attempt = msgspec.structs.replace(recipe, quantize="int8")
    for _ in range(_BUILDS):
        try:
            return build(attempt)
        except BudgetError as e:
            if e.least_over is not None:
                raise BudgetError(_too_small(recipe.flash, e.least_over)) from e
            if e.over is None or e.model_bytes is None:
                raise
            limit = max(1, e.model_bytes - e.over)
            attempt = msgspec.structs.replace(recipe, max_size=limit)
    return build(attempt)


def _too_small(flash: int, over: int) -> str:
    return (
        f"flash: with the fewest bits everywhere the build takes about {flash + over:,} bytes, {over:,} more "
        f"than the {flash:,} allowed. Give it more flash, or a smaller model."
    )

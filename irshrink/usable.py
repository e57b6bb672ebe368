"""The backend that compiles for a target, ready to: it is there, and knows what to choose kernels by."""

from __future__ import annotations

from irshrink.backend import Backend
from irshrink.errors import RecipeError, ToolError
from irshrink.recipe import Recipe
from irshrink.registry import backend_for
from irshrink.target import Target
from irshrink.tuning.database import Schedules
from irshrink.tuning.tunable import Tunable


def usable_backend(target: Target) -> Backend:
    """The backend of a target.

    Raises:
        ToolError: it cannot compile for it, or not here.
    """
    backend = backend_for(target)
    if not backend.supports(target):
        raise ToolError(f"backend '{backend.name}' cannot compile for target '{target.name}'.")
    reason = backend.available(target)
    if reason is not None:
        raise ToolError(reason)
    return backend


def backend_going_by(schedules: Schedules, target: Target, recipe: Recipe) -> Backend:
    """The same with the schedules that it is to choose kernels by.

    Raises:
        ToolError: see :func:`usable_backend`.
        RecipeError: a database is given for a backend that chooses none.
    """
    backend = usable_backend(target)
    if isinstance(backend, Tunable):
        return backend.with_schedules(schedules)
    if recipe.schedules is not None:
        raise RecipeError(f"backend '{backend.name}' chooses no schedules. Leave --schedules out.")
    return backend

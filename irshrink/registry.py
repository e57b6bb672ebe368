"""Passes and backends by name: two explicit lazy tables plus entry points.

A plug-in package declares ``[project.entry-points."irshrink.passes"]`` or ``"irshrink.backends"``. A name
that is taken is an error, whoever took it first.
"""

from __future__ import annotations

import dataclasses
import importlib
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from irshrink.errors import RecipeError, nearest

if TYPE_CHECKING:
    from irshrink.backend import Backend
    from irshrink.pipeline import Pass
    from irshrink.target import Target


@cache
def pass_table() -> dict[str, str]:
    """``{name: "module:Class"}`` of every pass, built-in or plugged in; nothing is imported."""
    from irshrink.passes import BUILTIN_PASSES

    return _with_plugins(BUILTIN_PASSES, "irshrink.passes")


@cache
def backend_table() -> dict[str, str]:
    """``{name: "module:Class"}`` of every backend."""
    from irshrink.backends import BUILTIN_BACKENDS

    return _with_plugins(BUILTIN_BACKENDS, "irshrink.backends")


def pass_class(name: str) -> type[Pass]:
    """The class registered under ``name``.

    Raises:
        RecipeError: there is no such pass; the message names the nearest one.
    """
    table = pass_table()
    if name not in table:
        raise RecipeError(f"unknown pass '{name}'.{nearest(name, table)}")
    return cast("type[Pass]", _load(table[name]))


def make_pass(name: str, options: dict[str, Any] | None = None) -> Pass:
    """An instance of a pass; options are checked and converted by their declared types.

    Raises:
        RecipeError: unknown pass, unknown option (names the nearest), or a value of the wrong type.
    """
    import msgspec

    from irshrink.validation import complaint

    cls = pass_class(name)
    fields = {f.name: f for f in dataclasses.fields(cast(Any, cls))}
    given = {key.replace("-", "_"): value for key, value in (options or {}).items()}
    for key in given:
        if key not in fields:
            known = [f.replace("_", "-") for f in fields]
            raise RecipeError(f"pass '{name}' has no option '{key}'.{nearest(key.replace('_', '-'), known)}")
    try:
        return msgspec.convert(given, cls, strict=True)
    except msgspec.ValidationError as e:
        raise RecipeError(f"pass '{name}': {complaint(e, cls)}") from e
    except ValueError as e:
        raise RecipeError(f"pass '{name}': {e}") from e


def backend_for(target: Target) -> Backend:
    """The backend that a target names.

    Raises:
        RecipeError: the target names a backend that is not installed.
    """
    table = backend_table()
    if target.backend not in table:
        raise RecipeError(
            f"target '{target.name}': no backend '{target.backend}'.{nearest(target.backend, table)}"
        )
    return cast("Backend", _load(table[target.backend])())


def _with_plugins(builtin: dict[str, str], group: str) -> dict[str, str]:
    table = dict(builtin)
    for entry in sorted(entry_points(group=group), key=lambda e: (e.name, e.value)):
        if entry.name in table:
            raise RecipeError(
                f"'{entry.name}' of {group} is registered twice: {table[entry.name]}, {entry.value}."
            )
        table[entry.name] = entry.value
    return table


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)

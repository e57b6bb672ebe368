"""``--frontend KEY=VALUE``: what a format needs to be told, as text by key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from irshrink.errors import RecipeError
from irshrink.frontends.frontend import COMMON_OPTIONS
from irshrink.frontends.table import FRONTENDS


def parse_option(text: str) -> tuple[str, str]:
    """``"weights=net.caffemodel"`` as key and value.

    Raises:
        RecipeError: written differently.
    """
    key, sign, value = (part.strip() for part in text.partition("="))
    if not sign or not key or not value:
        raise RecipeError(f"--frontend '{text}' cannot be read. Write key=value, such as seconds=600.")
    return key.replace("-", "_"), value


def beside(options: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Options out of a recipe in ``folder``: its relative paths start there."""
    return {key: str(folder / value) if key in _paths() else value for key, value in options.items()}


def seen_from(options: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Options for a recipe in ``folder``: :func:`beside` makes of them what they are."""
    return {
        key: Path(os.path.relpath(value, folder)).as_posix() if key in _paths() else value
        for key, value in options.items()
    }


def reproducible_options(options: Mapping[str, str]) -> dict[str, str]:
    """Those that decide what comes out, for a lock: no paths, and not where or how long a converter runs."""
    return {k: v for k, v in sorted(options.items()) if k not in _paths() and k not in COMMON_OPTIONS}


def _paths() -> set[str]:
    return {"python", *(name for frontend in FRONTENDS for name in frontend.path_options)}

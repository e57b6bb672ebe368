"""The templates of pages and how they show values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from irshrink.console import plural, similarity
from irshrink.report.summary import measured

HERE = Path(__file__).parent
_OPTION = re.compile(r"--[a-z][a-z-]*")


@cache
def template(name: str) -> jinja2.Template:
    """A page of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "n": number,
        "plural": plural,
        "similarity": similarity,
        "measured": measured,
        "original": lambda plan: measured(plan, plan["original"]),
        "value": _value,
        "percent": lambda value: "–" if value is None else f"{value * 100:.2f} %",
        "change": _change,
        "error": lambda value: value if isinstance(value, str) else f"{value:.3g}",
        "shape": lambda dims: " × ".join(str(d) for d in dims) or "scalar",
        "unbroken": _unbroken,
        "share": lambda value, most: f"{100 * (value or 0) / most:.1f}" if most else "0",
    }
    return environment.get_template(name)


def number(value: float | None) -> str:
    """Digits in groups of three; a dash for what was not measured."""
    return "–" if value is None else f"{value:,}"


def _unbroken(text: str) -> Markup:
    """Options of commands stay on one line."""
    return Markup(_OPTION.sub(r'<span class="option">\g<0></span>', str(escape(text))))


def _change(pair: Sequence[int | None]) -> str:
    """``1,200 → 900``; one number where nothing changed."""
    before, after = pair
    if before == after:
        return number(after)
    return f"{number(before)} → {number(after)}"


def _value(value: Any) -> str:
    """An option of a recipe or a pass as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value) or "none"
    return "none" if value is None else str(value)

"""The result of explain as one static page: no network, no script, readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from irshrink.console import percent, plural
from irshrink.explain.chart import noise_by_layer
from irshrink.explain.text import decibel, effect, ends, headline, nothing_found, share
from irshrink.files import write_text
from irshrink.report.render import HERE as REPORT

HERE = Path(__file__).parent


def render_page(result: Mapping[str, Any]) -> str:
    """The page of a result that fits ``schema.json``."""
    return _template().render(
        r=result,
        headline=headline(result),
        picture=noise_by_layer(result["layers"]),
        nothing=nothing_found(),
    )


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """
    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, render_page(result))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, REPORT]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "db": decibel,
        "ends": lambda grid: ends(grid["low"], grid["high"]),
        "percent": percent,
        "plural": plural,
        "share": share,
    }
    environment.globals["effect"] = effect
    return environment.get_template("explain.html.j2")

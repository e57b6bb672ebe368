"""Options that every command has which reads samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

#: Their values go to :func:`irshrink.declared.parse_declared` by these names.
DATA_OPTIONS = (
    click.option(
        "--image",
        "images",
        multiple=True,
        metavar="KEY=VALUE",
        help="Preprocessing of a folder of images: mean=127, std=128; scale, resize, shorter-side, channels, "
        "layout, labels (docs/data.md). Repeatable.",
    ),
    click.option(
        "--csv",
        "csv",
        multiple=True,
        metavar="KEY=VALUE",
        help="Columns of a CSV file: label, classes, columns, ignore, input, separator (docs/data.md). "
        "Repeatable.",
    ),
    click.option(
        "--audio",
        "audio",
        multiple=True,
        metavar="KEY=VALUE",
        help="Preprocessing of a folder of .wav files: rate=16000; resample, channels, cut, pad, samples, "
        "seconds, scale, layout, labels, classes (docs/data.md). Repeatable.",
    ),
)


def data_options(function: F) -> F:
    """Give a command the parameters ``images``, ``csv`` and ``audio``, each a tuple of texts."""
    for option in reversed(DATA_OPTIONS):
        function = option(function)
    return function

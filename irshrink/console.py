"""What commands share when they talk to a person: progress on stderr, sizes, plain tables.

Everything here is cheap to import; rich is loaded only where a terminal shows progress.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

#: Called with what is being done now.
Progress = Callable[[str], None]


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A spinner on stderr with the current step; silent where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def warn(sentence: str) -> None:
    click.echo(f"warning: {sentence}", err=True)


def table(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None) -> str:
    """Left-aligned columns, two spaces apart."""
    lines = [header, *rows] if header else list(rows)
    if not lines:
        return ""
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    texts = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in lines]
    if header:
        texts.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(texts)


def size(nbytes: int | None) -> str:
    """``"47,532 B"``, or a dash."""
    return "-" if nbytes is None else f"{nbytes:,} B"


def count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def percent(fraction: float | None) -> str:
    """``"93.12 %"``, or a dash."""
    return "-" if fraction is None else f"{fraction * 100:.2f} %"

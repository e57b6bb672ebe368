"""What commands share when they talk to a person: progress on stderr, sizes, plain tables.

Everything here is cheap to import; rich is loaded only where a terminal shows progress.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import floor
from threading import Timer
from typing import Any

import click

#: Called with what is being done now.
Progress = Callable[[str], None]

#: What is quicker than this needs no progress.
_PATIENCE_SECONDS = 2.0


class Line(str):
    """A step that takes so long that a log, too, should have a line of it."""


class Milestone(Line):
    """What a terminal, too, should keep on a line of its own."""


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A spinner on stderr with the current step, after two seconds.

    Where stderr is no terminal only a :class:`Line` is told.
    """
    if not sys.stderr.isatty():
        yield lambda step: echo(f"{title}: {step}", err=True) if isinstance(step, Line) else None
        return
    from rich.console import Console
    from rich.text import Text

    status = Console(stderr=True).status(title)
    timer = Timer(_PATIENCE_SECONDS, status.start)
    timer.daemon = True
    timer.start()

    def say(step: str) -> None:
        text = Text(f"{title}: {step}")  # Text: names may hold rich's markup
        status.update(text)
        if isinstance(step, Milestone):
            status.console.print(text)

    try:
        yield say
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def counted(say: Progress, what: str) -> Callable[[int, int], None]:
    """Tell ``say`` how many are done: ``inference 12 of 64``."""
    return lambda done, total: say(f"{what} {done:,} of {total:,}")


def plural(number: int, noun: str) -> str:
    """``"1 input"``, ``"1,200 inputs"``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def echo(text: str, *, err: bool = False) -> None:
    """Print text that may hold names out of a model: what would drive the terminal is shown, not sent."""
    click.echo(_DRIVES.sub(lambda found: f"\\x{ord(found[0]):02x}", text), err=err)


#: Control characters but for line breaks and tabs, and those that turn the direction of writing.
_DRIVES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def warn(sentence: str) -> None:
    echo(f"warning: {sentence}", err=True)


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


def similarity(value: float) -> str:
    """``"0.999998"``; rounded down, so that only what is equal reads as 1."""
    return f"{floor(value * 1e6) / 1e6:.6f}"


def percent(fraction: float | None) -> str:
    """``"93.12 %"``, or a dash."""
    return "-" if fraction is None else f"{fraction * 100:.2f} %"

"""Drawings of the report as inline SVG. Colours are CSS classes: the page decides on light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from irshrink.console import plural

WIDTH, HEIGHT = 960, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 36
#: Widths of characters of the labels relative to their size, in the widest of the usual fonts.
_WIDE, _NARROW, _OTHER = 0.98, 0.36, 0.64
#: Size of labels in units of the drawing, and where a name is too short to be worth cutting.
_LABEL = 11.5
_LEAST = 8


def arena_over_time(arena: Sequence[Mapping[str, Any]], layers: int, nbytes: int) -> Markup:
    """Rectangles over time (one column a layer) and address (0 at the bottom).

    Args:
        arena: slots with ``name``, ``offset``, ``bytes``, ``first``, ``last``.
        layers: number of columns.
        nbytes: size of the arena.
    """
    if not arena or nbytes == 0 or layers == 0:
        return Markup("")
    column = (WIDTH - LEFT - RIGHT) / layers
    unit = (HEIGHT - TOP - BOTTOM) / nbytes
    parts = [*_address_axis(nbytes, unit), *layer_axis(layers, column)]
    ordered = sorted(arena, key=lambda slot: (slot["first"], slot["offset"]))
    parts += [
        _slot(slot, number, column, unit, min(uncovered(slot, ordered), layers - slot["first"]))
        for number, slot in enumerate(ordered)
    ]
    description = (
        f"Arena of {nbytes:,} bytes over {layers} layers; each rectangle is a tensor or workspace, "
        "as wide as it is in use and as high as it is large. The table below holds the same figures."
    )
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def split_bar(parts: Sequence[tuple[str, int]], whole: int) -> Markup:
    """One horizontal bar: named byte counts as shares of ``whole``; what is left stays empty.

    Args:
        parts: (CSS class, bytes).
    """
    x, drawn = 0.0, []
    for css, nbytes in parts:
        width = WIDTH * nbytes / whole if whole else 0.0
        if width > 0:
            drawn.append(f'<rect class="{css}" x="{x:.1f}" y="0" width="{width:.1f}" height="20"/>')
        x += width
    return Markup(
        f'<svg class="split" viewBox="0 0 {WIDTH} 20" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rest" x="0" y="0" width="{WIDTH}" height="20"/>{"".join(drawn)}</svg>'
    )


def nice_step(length: int, about: int) -> int:
    """1, 2 or 5 times a power of ten (in KiB from 4 KiB on): at most ``about`` of it in ``length``."""
    base = 1024 if length >= 4096 else 1
    for power in (1, 10, 100, 1000, 10_000, 100_000):
        for step in (1, 2, 5):
            if length / (step * power * base) <= about:
                return step * power * base
    return length


def uncovered(slot: Mapping[str, Any], slots: Sequence[Mapping[str, Any]]) -> int:
    """Columns of a slot that no later one covers: a layer may write its output over an input of its own."""
    ends = [
        other["first"]
        for other in slots
        if slot["first"] < other["first"] <= slot["last"]
        and other["offset"] < slot["offset"] + slot["bytes"]
        and slot["offset"] < other["offset"] + other["bytes"]
    ]
    return int(min([*ends, slot["last"] + 1]) - slot["first"])


def text_width(text: str, size: float) -> float:
    """About how wide a text is, rather too wide than too narrow."""
    shares = (_WIDE if c in "mwMWG@%→…" else _NARROW if c in "ijlft.,:;'|I()/[]" else _OTHER for c in text)
    return size * sum(shares)


def shortened(name: str, room: float, size: float) -> str:
    """The end of a name, which tells layers apart, as far as it is not wider than ``room``."""
    if text_width(name, size) <= room:
        return name
    for start in range(1, len(name)):
        if text_width(f"…{name[start:]}", size) <= room:
            return f"…{name[start:]}"
    return ""


def _slot(slot: Mapping[str, Any], number: int, column: float, unit: float, free: int) -> str:
    x = LEFT + slot["first"] * column
    right = min(LEFT + (slot["last"] + 1) * column, WIDTH - RIGHT)  # outputs outlive the last layer
    width = max(right - x - 1.5, 1.0)
    height = max(slot["bytes"] * unit - 1.5, 1.0)
    y = HEIGHT - BOTTOM - (slot["offset"] + slot["bytes"]) * unit
    name = str(slot["name"])
    css = "work" if name.endswith(".workspace") else f"tensor{number % 3}"
    kept = f" (last {plural(slot['rows'], 'row')})" if slot["rows"] is not None else ""
    where = f"{slot['bytes']:,} B at {slot['offset']:,}, layers {slot['first']} to {slot['last']}"
    title = f"{name}{kept}: {where}"
    rect = f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>'
    return f"<g><title>{escape(title)}</title>{rect}{_label(name, x, y, free * column, height)}</g>"


def _label(name: str, x: float, y: float, width: float, height: float) -> str:
    short = shortened(name, width - 8, _LABEL)
    if height < 15 or len(short) < min(len(name), _LEAST):
        return ""
    return f'<text class="label" x="{x + 5:.1f}" y="{y + height / 2 + 4:.1f}">{escape(short)}</text>'


def _address_axis(nbytes: int, unit: float) -> list[str]:
    step = nice_step(nbytes, 5)
    lines = []
    for value in range(0, nbytes + 1, step):
        y = HEIGHT - BOTTOM - value * unit
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = f"{value // 1024} KiB" if step >= 1024 else f"{value:,} B"
        lines.append(f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{text}</text>')
    return lines


def layer_axis(layers: int, column: float) -> list[str]:
    """Numbers of layers below the columns, and what they are."""
    step = max(1, nice_step(layers, 16))
    ticks = [
        f'<text class="tick middle" x="{LEFT + (i + 0.5) * column:.1f}" y="{HEIGHT - BOTTOM + 16}">{i}</text>'
        for i in range(0, layers, step)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*ticks, f'<text class="tick middle" x="{middle}" y="{HEIGHT - 4}">layer</text>']

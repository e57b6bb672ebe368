"""Draws docs/plots/*.svg from measured.toml: bars of what irshrink and others take on the same nets.

    python benchmarks/plots.py

The same figures give the same bytes. Nothing is measured here: commands that measure are in measured.toml.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from irshrink.files import write_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "plots"
WIDTH, LEFT, RIGHT = 760, 170, 80
TOP, BAR, GAP = 84, 13, 12
#: Ours first; legible on white and on black, and apart from each other in grey.
COLOURS = ("#d9534f", "#e8a29f", "#7d8fa9", "#b6c0cf")
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 15px; font-weight: 600 }
.soft { fill: #57606a } .end { text-anchor: end } line { stroke: #8c959f; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .soft { fill: #9198a1 } }"""


def main() -> None:
    for name, figure in figures().items():
        write_text(OUT / f"{name}.svg", drawn(figure))
        print(OUT / f"{name}.svg")


def figures() -> dict[str, dict[str, Any]]:
    """By the name of the file: title, unit, command, ``by`` whom, and a list of figures a group."""
    found: dict[str, dict[str, Any]] = tomllib.loads((HERE / "measured.toml").read_text("utf-8"))
    return found


def drawn(figure: dict[str, Any]) -> str:
    """One SVG: a bar for each of a group, the largest of the group as long as there is room."""
    groups: dict[str, list[float]] = figure["groups"]
    colours = COLOURS if len(figure["by"]) > 3 else (COLOURS[0], *COLOURS[2:])
    height = TOP + sum(len(values) * BAR + GAP for values in groups.values()) + 4
    parts = [
        f'<text class="title" x="12" y="24">{escape(figure["title"])}</text>',
        f'<text class="soft" x="12" y="42">{escape(figure["unit"])}; shorter is better, '
        "each group has its own scale</text>",
        *_legend(figure["by"], colours),
    ]
    y = TOP
    for name, values in groups.items():
        parts += _group(name, values, figure, colours, y)
        y += len(values) * BAR + GAP
    parts.append(f'<line x1="{LEFT}" x2="{LEFT}" y1="{TOP - 4}" y2="{y - GAP + 4}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'aria-label="{escape(figure["title"])}">\n<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(names: Sequence[str], colours: Sequence[str]) -> Iterator[str]:
    x = 12.0
    for name, colour in zip(names, colours, strict=False):
        yield f'<rect x="{x:.0f}" y="54" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 17:.0f}" y="64">{escape(name)}</text>'
        x += 40 + 6.6 * len(name)


def _group(
    name: str, values: Sequence[float], figure: dict[str, Any], colours: Sequence[str], top: int
) -> Iterator[str]:
    room, largest, unit = WIDTH - LEFT - RIGHT, max(values), figure["unit"]
    middle = top + len(values) * BAR / 2 + 4
    yield f'<text class="end" x="{LEFT - 10}" y="{middle:.1f}">{escape(name)}</text>'
    for number, (by, value) in enumerate(zip(figure["by"], values, strict=True)):
        y, width = top + number * BAR, room * value / largest
        label = f"{value:,}" if value >= 100 else f"{value:#.3g}"
        title = escape(f"{name}, {by}: {label} {unit}")
        yield (
            f"<g><title>{title}</title>"
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colours[number]}"/></g>'
        )
        yield f'<text class="soft" x="{LEFT + width + 6:.1f}" y="{y + BAR - 3}">{label}</text>'


if __name__ == "__main__":
    main()

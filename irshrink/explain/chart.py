"""Signal-to-noise ratio over the layers of a model, as inline SVG; colours are CSS classes of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from irshrink.console import plural
from irshrink.explain.text import decibel
from irshrink.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, layer_axis

#: What stands higher is drawn at this height: nobody needs to see by how much.
_CEILING, _FLOOR = 60.0, 0.0


def noise_by_layer(layers: Sequence[Mapping[str, Any]]) -> Markup:
    """A bar a layer for its noise alone, and a line for that of the whole model up to there.

    Args:
        layers: of the result, in the order of the graph.
    """
    if not layers:
        return Markup("")
    column = (WIDTH - LEFT - RIGHT) / len(layers)
    parts = [*_axis(), *layer_axis(len(layers), column)]
    parts += [_bar(layer, number, column) for number, layer in enumerate(layers)]
    places = " ".join(
        f"{LEFT + (number + 0.5) * column:.1f},{_height(layer['snr_whole_db']):.1f}"
        for number, layer in enumerate(layers)
    )
    parts.append(f'<polyline class="whole" points="{places}"/>')
    worst = min(layers, key=lambda layer: float(layer["snr_alone_db"]))
    description = (
        f"Signal-to-noise ratio of {plural(len(layers), 'layer')} in dB. The worst alone is {worst['name']} "
        f"with {decibel(worst['snr_alone_db'])}. The table below holds the same figures."
    )
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def _height(ratio: float) -> float:
    inside = min(max(ratio, _FLOOR), _CEILING)
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (inside - _FLOOR) / (_CEILING - _FLOOR))


def _bar(layer: Mapping[str, Any], number: int, column: float) -> str:
    top = _height(layer["snr_alone_db"])
    x, width = LEFT + number * column, max(column - 1.5, 1.0)
    css = "work" if layer["snr_alone_db"] < 20 else "tensor1"
    title = (
        f"{number}: {layer['op']} {layer['name']}, alone {decibel(layer['snr_alone_db'])}, so far "
        f"{decibel(layer['snr_whole_db'])}"
    )
    height = max(HEIGHT - BOTTOM - top, 1.0)
    rect = f'<rect class="{css}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    return f"<g><title>{escape(title)}</title>{rect}</g>"


def _axis() -> list[str]:
    lines = []
    for value in range(int(_FLOOR), int(_CEILING) + 1, 20):
        y = _height(value)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{value} dB</text>')
    return lines

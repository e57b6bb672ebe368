"""The graph of a model before and after, as inline SVG: a box a layer, from top to bottom.

Layers stand on the level that their longest way from the input gives them (networkx's topological
generations). Edges that pass levels run in lanes beside the boxes, so that no line crosses a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from irshrink.console import plural
from irshrink.report.svg import shortened, text_width

#: What is larger is no picture that anybody can read: it is listed.
MOST_LAYERS, MOST_COLUMNS = 60, 3

_BOX, _HEIGHT = 292, 68
_ACROSS, _DOWN, _LANE, _EDGE = 16, 26, 10, 8
#: Sizes of letters: of names, which are bold and so a little wider than their size says, and of the rest.
_BOLD, _PLAIN = 13.2, 11.5

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Place:
    level: int
    x: float
    y: float

    @property
    def middle(self) -> float:
        return self.x + _BOX / 2


def too_large(rows: Sequence[Row]) -> str | None:
    """Why a graph is listed and not drawn; None where it is drawn."""
    if len(rows) > MOST_LAYERS:
        return f"{len(rows)} layers are more than can be drawn readably"
    widest = max((len(level) for level in _levels(rows)), default=0)
    return f"{widest} layers stand side by side, which is too wide to read" if widest > MOST_COLUMNS else None


def draw_graph(rows: Sequence[Row]) -> Markup:
    """
    Args:
        rows: ``graph`` of a report, not :func:`too_large`.
    """
    if not rows:
        return Markup("")
    levels = _levels(rows)
    columns = max(len(level) for level in levels)
    places = _places(levels)
    lanes = _lanes(rows, places)
    right = _EDGE + columns * (_BOX + _ACROSS)
    width = right + _LANE * (max(lanes.values(), default=-1) + 1) + _EDGE
    height = _EDGE * 2 + len(levels) * (_HEIGHT + _DOWN) - _DOWN
    edges = [
        _edge(places[source], places[index], lanes.get((source, index)), right)
        for index, row in enumerate(rows)
        for source in row["inputs"]
    ]
    boxes = [_box(row, places[index]) for index, row in enumerate(rows)]
    text = f"{plural(len(rows), 'layer')} from the input down to the output, each with what became of it."
    return Markup(
        f'<svg class="graph" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(text)} The table below holds the same.">{"".join([*edges, *boxes])}</svg>'
    )


def state(row: Row) -> str:
    """What became of a layer: ``gone``, ``joined`` (another one computes it), ``changed`` or ``kept``."""
    if not row["operators"]:
        return "gone" if "block" in row["kinds"] else "joined"
    return "changed" if row["kinds"] else "kept"


def change_lines(row: Row) -> tuple[str, str]:
    """What was done to a layer, and what it weighs before and after."""
    became = state(row)
    if became == "gone":
        done = "taken away"
    elif became == "joined":
        done = f"computed by {row['within']}" if row["within"] else "nothing left to compute"
    else:
        bits = f"{row['bits']:g} bits" if row["bits"] is not None else ""
        done = "; ".join([*row["details"], *([bits] if bits else [])]) or "kept"
    before, after = row["bytes"]
    weighs = f"{before:,} → {after:,} B" if before or after else ""
    return done, weighs


def _levels(rows: Sequence[Row]) -> list[list[int]]:
    import networkx as nx

    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(range(len(rows)))
    flow.add_edges_from((source, index) for index, row in enumerate(rows) for source in row["inputs"])
    return [sorted(level) for level in nx.topological_generations(flow)]


def _places(levels: Sequence[Sequence[int]]) -> dict[int, _Place]:
    return {
        index: _Place(depth, _EDGE + column * (_BOX + _ACROSS), _EDGE + depth * (_HEIGHT + _DOWN))
        for depth, level in enumerate(levels)
        for column, index in enumerate(level)
    }


def _lanes(rows: Sequence[Row], places: Mapping[int, _Place]) -> dict[tuple[int, int], int]:
    """A lane for each edge that passes a level; edges that pass different ones share lanes."""
    long = [
        (places[source].level, places[index].level, source, index)
        for index, row in enumerate(rows)
        for source in row["inputs"]
        if places[index].level - places[source].level > 1
    ]
    ends: list[int] = []
    found = {}
    for first, last, source, index in sorted(long):
        lane = next((i for i, end in enumerate(ends) if end <= first), len(ends))
        if lane == len(ends):
            ends.append(last)
        ends[lane] = last
        found[source, index] = lane
    return found


def _edge(source: _Place, target: _Place, lane: int | None, right: float) -> str:
    start, end = source.y + _HEIGHT, target.y
    if lane is None:
        if source.middle == target.middle:
            way = f"M{source.middle} {start}V{end}"
        else:
            way = f"M{source.middle} {start}V{start + _DOWN / 2}H{target.middle}V{end}"
    else:
        x, shift = right + lane * _LANE, 30
        leave, arrive = source.middle + shift, target.middle + shift
        way = f"M{leave} {start}v{_DOWN / 4:.1f}H{x}V{end - _DOWN / 4:.1f}H{arrive}V{end}"
    return f'<path class="edge" d="{way}"/>'


def _box(row: Row, place: _Place) -> str:
    became = state(row)
    done, weighs = change_lines(row)
    ops = _cut("+".join(row["op_types"]), _BOX - 40 - text_width(weighs, _PLAIN))
    room = _BOX - 24
    x, y = place.x, place.y
    title = f"{row['name']} ({'+'.join(row['op_types'])}): {done}{f', {weighs}' if weighs else ''}"
    lines = [
        ("node", 14, 19, shortened(row["name"], room, _BOLD)),
        ("plain", 14, 38, ops),
        ("plain end", _BOX - 10, 38, weighs),
        ("plain done", 14, 56, _cut(done, room)),
    ]
    texts = [
        f'<text class="{css}" x="{x + dx}" y="{y + dy}">{escape(text)}</text>'
        for css, dx, dy, text in lines
        if text
    ]
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect class="box {became}" x="{x}" y="{y}" width="{_BOX}" height="{_HEIGHT}" rx="5"/>'
        f'<rect class="stripe {became}" x="{x}" y="{y + 6}" width="4" height="{_HEIGHT - 12}"/>'
        f"{''.join(texts)}</g>"
    )


def _cut(text: str, room: float) -> str:
    """The beginning of a text."""
    if text_width(text, _PLAIN) <= room:
        return text
    end = next(i for i in range(len(text), -1, -1) if text_width(f"{text[:i]}…", _PLAIN) <= room)
    return f"{text[:end]}…"

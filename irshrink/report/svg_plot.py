"""Scatter plots of plans as inline SVG: what was lost against what it takes, predicted against measured.

A mark's shape tells what a plan is, its colour only repeats it. Labels stand where nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from markupsafe import Markup

from irshrink.report.svg_axis import Axis

WIDTH, HEIGHT = 340, 290
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 38, 44
#: Average width and height of a character of the labels.
_CHARACTER, _LINE = 6.9, 13
#: Space that a mark takes, from its middle.
_MARK = 7.0

#: ``kept``: keeps all budgets; ``frontier``: and is beaten by none; ``over``: misses one.
Shape = Literal["chosen", "baseline", "frontier", "kept", "over"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """Attributes:
    text: what the mark is, for people; number: of the plan.
    """

    x: float
    y: float
    shape: Shape
    text: str
    number: int


@dataclass
class Plot:
    """A drawing of points.

    Attributes:
        line: drawn under the points, in values.
        description: for who cannot see it.
    """

    x: Axis
    y: Axis
    points: Sequence[Point]
    description: str
    line: Sequence[tuple[float, float]] = ()
    line_class: str = "front"
    _taken: list[Box] = field(default_factory=list)

    def draw(self) -> Markup:
        places = [self._place(point) for point in self.points]
        self._taken = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in places]
        parts = [*self._x_axis(), *self._y_axis(), *self._line()]
        order = sorted(range(len(places)), key=lambda i: self.points[i].shape in ("chosen", "baseline"))
        parts += [self._mark(self.points[i], *places[i]) for i in order]
        parts += [self._label(one, *at) for one, at in zip(self.points, places, strict=True)]
        return Markup(
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self.description)}">{"".join(parts)}</svg>'
        )

    def _place(self, point: Point) -> tuple[float, float]:
        return self._at_x(point.x), self._at_y(point.y)

    def _at_x(self, value: float) -> float:
        return LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)

    def _at_y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)

    def _x_axis(self) -> list[str]:
        bottom, parts, end = HEIGHT - BOTTOM, [], 0.0
        for value in self.x.ticks():
            at, text = self._at_x(value), self.x.show(value)
            left, right = at - len(text) * _CHARACTER / 2, at + len(text) * _CHARACTER / 2
            parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
            if left > end and right <= WIDTH:
                end = right + 6
                parts.append(_text(text, "tick middle", at, bottom + 16))
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(_text(self.x.title, "tick middle", middle, HEIGHT - 6))
        limit = self.x.limit()
        if limit is not None:
            at, room = self._at_x(limit), len(self.x.budget_title) * _CHARACTER / 2
            parts.append(f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
            inside = min(max(at, LEFT + room), WIDTH - room - 2)
            parts.append(_text(self.x.budget_title, "budget middle", inside, TOP - 6))
        return parts

    def _y_axis(self) -> list[str]:
        parts, limit = [], self.y.limit()
        line = None if limit is None else self._at_y(limit)
        for value in self.y.ticks():
            at = self._at_y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            if line is None or abs(line - at) > _LINE:
                parts.append(_text(self.y.show(value), "tick end", LEFT - 7, at + 4))
        parts.append(_text(self.y.title, "tick", 2, 12))
        if line is not None and limit is not None:
            parts.append(
                f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{line:.1f}" y2="{line:.1f}"/>'
            )
            parts.append(_text(self.y.show(limit), "budget end", LEFT - 7, line + 4))
        return parts

    def _line(self) -> list[str]:
        if len(self.line) < 2:
            return []
        places = " ".join(f"{self._at_x(x):.1f},{self._at_y(y):.1f}" for x, y in self.line)
        return [f'<polyline class="{self.line_class}" points="{places}"/>']

    def _mark(self, point: Point, x: float, y: float) -> str:
        shape = glyph(point.shape, x, y)
        return f"<g><title>{escape(point.text)}</title>{shape}</g>"

    def _label(self, point: Point, x: float, y: float) -> str:
        """The number of a plan that is pointed out, where there is room for it."""
        if point.shape not in ("chosen", "baseline"):
            return ""
        text = str(point.number)
        width = len(text) * _CHARACTER
        for dx, dy in ((11, 4), (-11 - width, 4), (-width / 2, -11), (-width / 2, 21), (9, -8), (9, 17)):
            box = (x + dx, y + dy - _LINE + 3, x + dx + width, y + dy + 2)
            inside = box[0] > LEFT and box[2] < WIDTH - RIGHT and box[1] > TOP and box[3] < HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in self._taken):
                self._taken.append(box)
                return _text(text, "number", x + dx, y + dy)
        return ""


def glyph(shape: Shape, x: float, y: float) -> str:
    """The mark of a point."""
    if shape == "over":
        arms = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        return f'<path class="mark over" d="{arms}"/>'
    if shape == "chosen":
        return f'<path class="mark chosen" d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"/>'
    if shape == "baseline":
        return f'<rect class="mark baseline" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
    return f'<circle class="mark {shape}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def line_sign(css: Literal["front", "limit", "same"]) -> Markup:
    """A line for the key of a plot."""
    inside = f'<line class="{css}" x1="0" x2="22" y1="10" y2="10"/>'
    return Markup(f'<svg class="sign" viewBox="0 0 22 20" aria-hidden="true">{inside}</svg>')


def sign(shape: Shape) -> Markup:
    """A mark for the key of a plot."""
    inside = glyph(shape, 10, 10)
    return Markup(f'<svg class="sign" viewBox="0 0 20 20" aria-hidden="true">{inside}</svg>')


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(text: str, css: str, x: float, y: float) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'

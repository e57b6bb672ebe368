"""The plots of a plan: what its alternatives lose against what they take, and what was expected of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from irshrink.console import plural
from irshrink.report import words
from irshrink.report.forecast import pairs
from irshrink.report.svg_plot import Axis, Plot, Point, Shape, beyond_sign, ends, line_sign, sign

Plan = Mapping[str, Any]

_BYTE_STEPS = ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B"))
_COST_STEPS = ((1e12, "trillions"), (1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1.0, ""))

#: How far beyond the budget, or the plan, accuracy is drawn: the rest would squeeze what matters.
_ROOM = 2.5


def pareto_plots(plan: Plan) -> dict[str, Any] | None:
    """Accuracy lost against each thing that plans take, with a key; None where nothing was measured."""
    if not words.tried(plan):
        return None
    names = ["flash_bytes", "ram_bytes", "cost"]
    names += ["file_bytes"] if any(one["quantity"] == "file_bytes" for one in plan["budgets"]) else []
    return {
        "figures": [_pareto(plan, name) for name in names],
        "key": _key(plan),
        "beyond": sum(_drop(plan, i) > _end(plan) for i in words.tried(plan)),
        "refused": sum(one["figures"] is None for one in plan["evaluations"]),
    }


def forecast_plots(plan: Plan) -> list[dict[str, Any]]:
    """Predicted against measured, of plans that were proposed; none where there are fewer than two."""
    if len(pairs(plan, "drop")) < 2:
        return []
    return [_forecast(plan, name) for name in ("drop", "flash_bytes", "cost")]


def forecast_key(plan: Plan) -> list[tuple[Any, str]]:
    """Marks of those plots, and what they are."""
    shapes = {_shape(plan, i, False) for i in _foreseen(plan)}
    beyond = any(_drop(plan, i) > _end(plan) for i in _foreseen(plan))
    named: tuple[tuple[Shape, str], ...] = (
        ("chosen", "the plan" if plan["met"] else "the nearest plan"),
        ("kept", "keeps all budgets"),
        ("over", "over a budget"),
    )
    key = [(line_sign("same"), "equal"), *((sign(shape), text) for shape, text in named if shape in shapes)]
    return [*key, (beyond_sign(), "loses more than is drawn")] if beyond else key


def staircase(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other one beats in both values, joined by steps."""
    steps: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not steps:
            steps.append((x, y))
        elif y < steps[-1][1]:
            steps += [(x, steps[-1][1]), (x, y)]
    return steps


def _pareto(plan: Plan, name: str) -> dict[str, Any]:
    title = words.quantity(plan, name)
    shown = words.tried(plan)
    values = [(_taken(plan, i, name), _drop(plan, i)) for i in shown]
    front = staircase([pair for pair in values if pair[1] <= _end(plan)])
    corners = {pair for pair in front if pair in values}
    points = [
        Point(x, y, _shape(plan, i, (x, y) in corners), _told(plan, i, name), i)
        for i, (x, y) in zip(shown, values, strict=True)
    ]
    budget = _budget(plan, name)
    near = [budget["limit"]] if budget is not None and _near(budget, values) else []
    low, high = ends([x for x, _ in values] + near)
    base, letter = _scale(name, high)
    x = Axis(
        low,
        high,
        f"{title}, {letter}" if letter else title,
        _ticks(base),
        base,
        budget["limit"] if budget else None,
        f"{budget['option']} {words.digits(plan, name, budget['limit'])}" if budget else "",
    )
    text = (
        f"Accuracy lost against {title}, {plural(len(points), 'plan')}; lower left is better. This "
        f"one takes {words.shown(plan, name, _taken(plan, plan['chosen'], name))}. The table below holds all."
    )
    picture = Plot(x, _drop_axis(plan), points, text, front).draw()
    return {"title": f"Accuracy lost against {title}", "picture": picture}


def _forecast(plan: Plan, name: str) -> dict[str, Any]:
    end = _end(plan)
    points = [
        Point(float(one["expected"][name]), float(one["figures"][name]), _shape(plan, i, False), "", i)
        for i in _foreseen(plan)
        for one in (plan["evaluations"][i],)
    ]
    points = [
        Point(p.x, p.y, p.shape, f"plan {p.number}: {_expected(plan, p, name)}", p.number) for p in points
    ]
    inside = [v for p in points for v in (p.x, p.y) if name != "drop" or v <= end]
    low, high = ends(inside or [0.0, end], floor_at=0.0 if name == "drop" else None)
    base, unit = (0.01, words.unit(plan, name)) if name == "drop" else _scale(name, high)
    show = _drop_scale(plan) if name == "drop" else _ticks(base)
    suffix = f", {unit}" if unit else ""
    title = words.quantity(plan, name)
    text = f"Predicted against measured {title} of {plural(len(points), 'plan')}; on the line they are equal."
    x, y = (Axis(low, high, f"{side}{suffix}", show, base) for side in ("predicted", "measured"))
    picture = Plot(x, y, points, text, ((low, low), (high, high)), "same").draw()
    return {"title": title[0].upper() + title[1:], "picture": picture}


def _foreseen(plan: Plan) -> list[int]:
    """Plans that were tried after something was expected of them."""
    return [i for i in words.tried(plan) if plan["evaluations"][i]["expected"]]


def _drop_axis(plan: Plan) -> Axis:
    drops = [drop for i in words.tried(plan) if (drop := _drop(plan, i)) <= _end(plan)]
    budget = _budget(plan, "drop")
    low, high = ends(drops + ([budget["limit"]] if budget else []), floor_at=0.0)
    unit = words.unit(plan, "drop")
    title = f"lost, {unit}" if unit else "lost"
    limit = budget["limit"] if budget else None
    return Axis(low, high, title, _drop_scale(plan), 0.01, limit)


def _end(plan: Plan) -> float:
    """The largest drop that is drawn to scale."""
    budget = _budget(plan, "drop")
    mine = max(_drop(plan, plan["chosen"]), 0.0)
    least = max(budget["limit"] if budget else 0.0, mine) * _ROOM
    drops = [_drop(plan, i) for i in words.tried(plan)]
    return max(drops) if least <= 0 or max(drops) <= least else least


def _near(budget: Mapping[str, Any], values: Sequence[tuple[float, float]]) -> bool:
    """Whether a budget is near enough to the plans to be drawn."""
    taken = [x for x, _ in values]
    return bool(0.6 * min(taken) <= budget["limit"] <= 1.6 * max(taken))


def _budget(plan: Plan, name: str) -> Mapping[str, Any] | None:
    return next((one for one in plan["budgets"] if one["quantity"] == name), None)


def _shape(plan: Plan, index: int, best: bool) -> Shape:
    one = plan["evaluations"][index]
    if index == plan["chosen"]:
        return "chosen"
    if one["purpose"] == "baseline":
        return "baseline"
    if words.over(plan, one):
        return "over"
    return "frontier" if best else "kept"


def _key(plan: Plan) -> list[tuple[Any, str]]:
    found = {_shape(plan, i, True) for i in words.tried(plan)}
    named: tuple[tuple[Shape, str], ...] = (
        ("chosen", "the plan" if plan["met"] else "the nearest plan"),
        ("baseline", "the baseline"),
        ("frontier", "beaten by none in these two"),
        ("kept", "beaten by another"),
        ("over", "over a budget"),
    )
    key: list[tuple[Any, str]] = [
        (sign(shape), text) for shape, text in named if shape in found or shape == "kept"
    ]
    key.append((line_sign("front"), "frontier"))
    return [*key, (line_sign("limit"), "budget")] if plan["budgets"] else key


def _told(plan: Plan, index: int, name: str) -> str:
    one = plan["evaluations"][index]
    lost = words.shown(plan, "drop", one["figures"]["drop"])
    taken = words.shown(plan, name, one["figures"][name])
    return f"plan {index}, {words.described(plan, one['levels'])}: {lost} lost, {taken}"


def _expected(plan: Plan, point: Point, name: str) -> str:
    return f"{words.shown(plan, name, point.x)} predicted, {words.shown(plan, name, point.y)} measured"


def _drop(plan: Plan, index: int) -> float:
    figures = plan["evaluations"][index]["figures"]
    return float(figures["drop"]) if figures else 0.0


def _taken(plan: Plan, index: int, name: str) -> float:
    return float(plan["evaluations"][index]["figures"][name])


def _drop_scale(plan: Plan) -> Callable[[float], str]:
    return lambda value: f"{100 * value:.4g}" if plan["share"] or plan["relative_drop"] else f"{value:.4g}"


def _scale(name: str, high: float) -> tuple[float, str]:
    """What ticks are multiples of, and what that is called."""
    steps = _COST_STEPS if name == "cost" else _BYTE_STEPS
    return next((step for step in steps if high >= 2 * step[0]), steps[-1])


def _ticks(base: float) -> Callable[[float], str]:
    return lambda value: f"{value / base:.4g}"

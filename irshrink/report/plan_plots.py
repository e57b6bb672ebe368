"""The plots of a plan: what its alternatives lose against what they take, and what was expected of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from irshrink.console import plural
from irshrink.report import words
from irshrink.report.forecast import pairs
from irshrink.report.svg_axis import Axis, fitted
from irshrink.report.svg_plot import Plot, Point, Shape, line_sign, sign

Plan = Mapping[str, Any]

_BYTE_STEPS = ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B"))
_COST_STEPS = ((1e12, "trillions"), (1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1.0, ""))

#: An axis whose values spread by more than this bends.
_SPREAD = 6.0
#: What matters of a metric that is a fraction, where nothing else says so.
_POINT = 0.01


def pareto_plots(plan: Plan) -> dict[str, Any] | None:
    """Accuracy lost against each thing that plans take, with a key; None where nothing was measured."""
    if not words.tried(plan):
        return None
    names = ["flash_bytes", "ram_bytes", "cost"]
    names += ["file_bytes"] if any(one["quantity"] == "file_bytes" for one in plan["budgets"]) else []
    return {
        "figures": [_pareto(plan, name) for name in names],
        "key": _key(plan),
        "bent": _bend(plan) is not None,
    }


def forecast_plots(plan: Plan) -> list[dict[str, Any]]:
    """Predicted against measured, of plans that were proposed; none where there are fewer than two."""
    if len(pairs(plan, "drop")) < 2:
        return []
    return [_forecast(plan, name) for name in ("drop", "flash_bytes", "cost")]


def forecast_key(plan: Plan) -> list[tuple[Any, str]]:
    """Marks of those plots, and what they are."""
    shapes = {_shape(plan, i, False) for i in _foreseen(plan)}
    named: tuple[tuple[Shape, str], ...] = (
        ("chosen", "the plan" if plan["met"] else "the nearest plan"),
        ("kept", "keeps all budgets"),
        ("over", "over a budget"),
    )
    return [(line_sign("same"), "equal"), *((sign(shape), text) for shape, text in named if shape in shapes)]


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
    front = staircase(values)
    corners = {pair for pair in front if pair in values}
    points = [
        Point(x, y, _shape(plan, i, (x, y) in corners), _told(plan, i, name), i)
        for i, (x, y) in zip(shown, values, strict=True)
    ]
    budget = _budget(plan, name)
    near = [budget["limit"]] if budget is not None and _near(budget, values) else []
    x = _amount_axis(plan, name, [x for x, _ in values] + near, title)
    if budget is not None:
        called = f"{budget['option']} {words.digits(plan, name, budget['limit'])}"
        x = dataclasses.replace(x, budget=budget["limit"], budget_title=called)
    text = (
        f"Accuracy lost against {title}, {plural(len(points), 'plan')}; lower left is better. This "
        f"one takes {words.shown(plan, name, _taken(plan, plan['chosen'], name))}. The table below holds all."
    )
    picture = Plot(x, _drop_axis(plan), points, text, front).draw()
    return {"title": f"Accuracy lost against {title}", "picture": picture}


def _forecast(plan: Plan, name: str) -> dict[str, Any]:
    points = [
        Point(float(one["expected"][name]), float(one["figures"][name]), _shape(plan, i, False), "", i)
        for i in _foreseen(plan)
        for one in (plan["evaluations"][i],)
    ]
    points = [
        Point(p.x, p.y, p.shape, f"plan {p.number}: {_expected(plan, p, name)}", p.number) for p in points
    ]
    title = words.quantity(plan, name)
    text = f"Predicted against measured {title} of {plural(len(points), 'plan')}; on the line they are equal."
    both = [value for point in points for value in (point.x, point.y)]
    x, y = (
        _loss_axis(plan, both, side) if name == "drop" else _amount_axis(plan, name, both, side)
        for side in ("predicted", "measured")
    )
    picture = Plot(x, y, points, text, ((x.low, x.low), (x.high, x.high)), "same").draw()
    return {"title": title[0].upper() + title[1:], "picture": picture}


def _foreseen(plan: Plan) -> list[int]:
    """Plans that were tried after something was expected of them."""
    return [i for i in words.tried(plan) if plan["evaluations"][i]["expected"]]


def _drop_axis(plan: Plan) -> Axis:
    budget = _budget(plan, "drop")
    limits = [budget["limit"]] if budget else []
    axis = _loss_axis(plan, [_drop(plan, i) for i in words.tried(plan)] + limits, "lost")
    return dataclasses.replace(axis, budget=budget["limit"]) if budget else axis


def _loss_axis(plan: Plan, drops: Sequence[float], title: str) -> Axis:
    bend, unit = _bend(plan), words.unit(plan, "drop")
    low, high = fitted(drops, from_zero=True, bend=bend)
    return Axis(low, high, f"{title}, {unit}" if unit else title, _drop_scale(plan), 0.01, bend)


def _amount_axis(plan: Plan, name: str, amounts: Sequence[float], title: str) -> Axis:
    """Of bytes or cost."""
    least, most = min(amounts), max(amounts)
    bend = least / 2 if least > 0 and most > _SPREAD * least else None
    low, high = fitted(amounts, bend=bend)
    base, letter = _scale(name, high)
    return Axis(low, high, f"{title}, {letter}" if letter else title, _ticks(base), base, bend)


def _bend(plan: Plan) -> float | None:
    """Where the axis of accuracy bends: at the budget, or what the plan loses, if others lose far more."""
    budget = _budget(plan, "drop")
    near = max(budget["limit"] if budget else 0.0, _drop(plan, plan["chosen"]))
    worst = max((_drop(plan, i) for i in words.tried(plan)), default=0.0)
    if near < _POINT / 100 and (plan["share"] or plan["relative_drop"]):
        near = _POINT
    return near / 2 if near > 0 and worst > _SPREAD * near else None


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

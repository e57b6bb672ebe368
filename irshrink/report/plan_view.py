"""The section of the page about a plan: tables and sentences, each number with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irshrink.report import words
from irshrink.report.forecast import pairs, rank_correlation, worst_error
from irshrink.report.plan_plots import forecast_key, forecast_plots, pareto_plots

Row = Mapping[str, Any]

#: Rows of the table of figures.
_FIGURES = ("drop", "file_bytes", "weights_bytes", "flash_bytes", "arena_bytes", "ram_bytes", "cost", "macs")


def plan_view(plan: Row, report: Row | None = None) -> dict[str, Any]:
    """What the template needs.

    Args:
        report: of the build that was made from the plan, if one was.
    """
    header, rows = figure_table(plan, report)
    decisions = [_decision(plan, knob) for knob in plan["knobs"]]
    return {
        "asked": words.asked(plan),
        "outcome": words.outcome(plan),
        "columns": header,
        "figures": rows,
        "options": {_heading(plan, one["quantity"]): one["option"] for one in plan["budgets"]},
        "decisions": decisions,
        "quantities": _headings(plan),
        "hidden": sum(not row["near"] for one in decisions for row in one["rows"]),
        "pareto": pareto_plots(plan),
        "forecast": forecast_plots(plan),
        "forecast_key": forecast_key(plan),
        "quality": _quality(plan),
        "tried": [_tried(plan, i) for i in range(len(plan["evaluations"]))],
        "with_file": "file_bytes" in _quantities(plan),
        "relaxations": [words.relaxation(plan, one) for one in plan["relaxations"]],
        "steps": _steps(words.chosen(plan)["steps"]),
    }


def _quantities(plan: Row) -> list[str]:
    """What tables of plans show: files only where somebody asked about them."""
    names = ["drop", "flash_bytes", "ram_bytes", "cost"]
    asked = any(one["quantity"] == "file_bytes" for one in plan["budgets"])
    return [*names, "file_bytes"] if asked else names


def _headings(plan: Row) -> list[str]:
    return [_heading(plan, name) for name in _quantities(plan)]


def _heading(plan: Row, name: str) -> str:
    title, unit = words.quantity(plan, name), words.unit(plan, name)
    return f"{title[0].upper()}{title[1:]}{f', {unit}' if unit else ''}"


def figure_table(plan: Row, report: Row | None) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the figures: the plan's, what was allowed, what was built, and what it is beside.

    Args:
        report: of the build that was made from the plan, if one was.
    """
    columns = _columns(plan, report)
    rows = [[_heading(plan, name), *(column.get(name, "–") for _, column in columns)] for name in _FIGURES]
    return ["", *(title for title, _ in columns)], rows


def _columns(plan: Row, report: Row | None) -> list[tuple[str, dict[str, str]]]:
    """Title and cells by quantity; what matters most comes first, as phones show few columns."""
    one, start = words.chosen(plan), _baseline(plan)
    measured = _digits(plan, one["figures"])
    if one["spread"]:
        measured["drop"] += f" ± {words.digits(plan, 'drop', one['spread'])}"
    found = [("Plan", measured)]
    if plan["budgets"]:
        limits = {budget["quantity"]: budget["limit"] for budget in plan["budgets"]}
        found.append(("Budget", dict.fromkeys(_FIGURES, "") | _digits(plan, limits)))
    found += [("Built", _digits(plan, _built(plan, report)))] if report else []
    found += [("Predicted", _digits(plan, one["expected"]))] if one["expected"] else []
    return [*found, ("Baseline", _digits(plan, start["figures"]))] if start is not None else found


def _digits(plan: Row, figures: Mapping[str, float | None]) -> dict[str, str]:
    return {
        name: words.digits(plan, name, value) for name in _FIGURES if (value := figures.get(name)) is not None
    }


def _baseline(plan: Row) -> Row | None:
    found = (one for one in plan["evaluations"] if one["purpose"] == "baseline" and one["figures"])
    return next(found, None)


def _built(plan: Row, report: Row) -> dict[str, float | None]:
    """The same quantities of what was compiled."""
    size, model = report["size"], report["model"]
    counted = plan["cost_unit"] == "instructions"
    return {
        "file_bytes": model["compressed_bytes"],
        "weights_bytes": size["weights_bytes"],
        "flash_bytes": size["flash_bytes"],
        "arena_bytes": size["arena_bytes"],
        "ram_bytes": size["ram_bytes"] + (size["stack_bytes"] or 0),
        "cost": report["emulation"]["instructions"] if counted else model["macs"],
        "macs": model["macs"],
        "drop": _drop(plan, report["accuracy"]),
    }


def _drop(plan: Row, accuracy: Row) -> float | None:
    """What the build lost on the data that judges it; of a metric that is no share nobody knows which way."""
    if accuracy["metric"] != plan["metric"] or not plan["share"]:
        return None
    lost = float(accuracy["original"]) - float(accuracy["compiled"])
    if not plan["relative_drop"]:
        return lost
    return lost / float(accuracy["original"]) if accuracy["original"] else None


def _decision(plan: Row, knob: Row) -> dict[str, Any]:
    names = _quantities(plan)
    rows = [
        {
            "label": words.label(knob, one["level"]),
            "chosen": one["level"] == knob["chosen"],
            "cells": [words.digits(plan, name, one[name]) for name in names],
            "source": "measured" if one["measured"] else "predicted",
            "near": words.telling(knob["alternatives"], knob["chosen"], one),
        }
        for one in knob["alternatives"]
    ]
    return {"title": knob["title"], "knob": knob["knob"], "rows": rows}


def _tried(plan: Row, index: int) -> dict[str, Any]:
    one = plan["evaluations"][index]
    names = _quantities(plan)
    figures, expected = one["figures"], one["expected"]
    cells = [words.digits(plan, name, figures[name]) if figures else "–" for name in names]
    if one["purpose"] == "extreme":
        cells[0] = "–"
    elif figures and one["spread"]:
        cells[0] += f" ± {words.digits(plan, 'drop', one['spread'])}"
    return {
        "number": index,
        "what": words.described(plan, one["levels"]),
        "purpose": words.purpose(one),
        "cells": cells,
        "expected": [words.digits(plan, name, expected[name]) if expected else "" for name in names],
        "verdict": words.verdict(plan, index),
        "chosen": index == plan["chosen"],
    }


def _quality(plan: Row) -> dict[str, Any] | None:
    """How good predictions were, in figures."""
    drops, costs = pairs(plan, "drop"), pairs(plan, "cost")
    rank, error = rank_correlation(drops), worst_error(costs)
    if error is None:
        return None
    return {
        "plans": len(drops),
        "rank": None if rank is None else f"{rank:.2f}",
        "error": f"{100 * error:.1f}",
    }


def _steps(steps: Sequence[Row]) -> str:
    """What a recipe says, to be edited and compiled again."""
    import tomli_w

    return tomli_w.dumps({"steps": [dict(step) for step in steps]}, multiline_strings=False).strip()

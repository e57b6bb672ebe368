"""The decisions of a build for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from irshrink.console import count, plural, table
from irshrink.explain.decisions import changed_layers
from irshrink.explain.text import shortened
from irshrink.report import words

_COLUMNS = 110

Row = Mapping[str, Any]


def render_decisions(result: Row, plan: Row | None, most: int) -> str:
    """Knob by knob, then layer by layer.

    Args:
        plan: of the report, for the units of its figures.
        most: layers that are listed.
    """
    lines = [f"{result['model']['name']} for {result['target']}", ""]
    if plan is None:
        lines += _recipe(result)
    else:
        lines += [_filled(f"asked: {result['asked']}"), _filled(f"chosen: {result['chosen']}"), ""]
        for decision in result["decisions"]:
            lines += [*_decision(plan, decision), ""]
    return "\n".join([*lines, *_layers(result, most)]).rstrip()


def _recipe(result: Row) -> list[str]:
    """What a build without a plan was told to do."""
    steps = [step.get("pass", step.get("quantize")) for step in result["steps"]]
    told = f"The recipe says {', '.join(steps)}" if steps else "The recipe has no step that changes numbers"
    return [_filled(f"Nothing was searched. {told}: no alternatives were tried."), ""]


def _decision(plan: Row, decision: Row) -> list[str]:
    names = ["drop", "flash_bytes", "ram_bytes", "cost"]
    header = ("", "", *(words.quantity(plan, name) for name in names), "")
    rows = [
        (
            "  *" if one["level"] == decision["level"] else "",
            one["label"],
            *(words.shown(plan, name, one[name]) for name in names[:1]),
            *(words.digits(plan, name, one[name]) for name in names[1:]),
            "measured" if one["measured"] else "predicted",
        )
        for one in decision["alternatives"]
        if words.telling(decision["alternatives"], decision["level"], one)
    ]
    hidden = len(decision["alternatives"]) - len(rows)
    more = [f"  and {plural(hidden, 'other level')}, see --json"] if hidden else []
    why = [_filled(f"  {sentence}", "  ") for sentence in decision["why"]]
    return [
        f"{decision['title']} ({decision['knob']}): {decision['label']}",
        table(rows, header),
        *more,
        *why,
    ]


def _layers(result: Row, most: int) -> list[str]:
    rows = changed_layers(result)
    if not rows:
        return ["No layer was changed on purpose."] if result["layers"] else []
    lines = [table([_row(row) for row in rows[:most]], ("layer", "what was done", "bytes", "instructions"))]
    lines += (
        [f"and {plural(len(rows) - most, 'other layer')}; --layers N shows more"] if len(rows) > most else []
    )
    reasons = [_filled(f"{row['name']}: {why}") for row in rows[:most] for why in row["why"]]
    return [*lines, *(["", "why:", *(f"  {reason}" for reason in reasons)] if reasons else [])]


def _row(row: Row) -> tuple[str, ...]:
    return (shortened(row["name"]), row["done"], _pair(row["bytes"]), _pair(row["instructions"]))


def _pair(pair: list[int | None]) -> str:
    before, after = pair
    if before is None or before == after:
        return count(after)
    return f"{before:,} -> {count(after)}"


def _filled(text: str, later: str = "    ") -> str:
    return textwrap.fill(
        text, _COLUMNS, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )

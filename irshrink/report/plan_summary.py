"""A plan on the terminal: what was asked, what was chosen and what it takes, in a few lines."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from irshrink.console import plural, table
from irshrink.report import words
from irshrink.report.forecast import pairs, rank_correlation
from irshrink.report.plan_view import figure_table

_COLUMNS = 110


def plan_summary(plan: Mapping[str, Any], report: Mapping[str, Any] | None = None) -> str:
    """The choice, its figures beside what was expected and allowed, and what was tried.

    Args:
        plan: ``plan`` of ``schema.json``.
        report: of the build that was made from it, if one was.
    """
    lines = [_filled(f"asked: {words.asked(plan)}"), ""]
    if plan["met"]:
        lines += ["chosen:", *_steps(plan)]
    else:
        lines.append(_filled(words.outcome(plan)))
    header, rows = figure_table(plan, report)
    lines += ["", table(rows, header), "", _filled(_tried(plan))]
    if plan["relaxations"]:
        lines += ["", "with all else as it is there would be a plan for:"]
        lines += [f"  {words.relaxation(plan, one)}" for one in plan["relaxations"]]
    return "\n".join([*lines, *(_filled(one) for one in plan["advice"])])


def _steps(plan: Mapping[str, Any]) -> list[str]:
    """A line for each knob."""
    return [
        f"  {knob['title']}: {words.label(knob, knob['chosen'])}"
        + (f", of {plural(len(knob['alternatives']), 'way')}" if len(knob["alternatives"]) > 1 else "")
        for knob in plan["knobs"]
    ]


def _tried(plan: Mapping[str, Any]) -> str:
    """``tried: 16 plans, 6 keep the budgets, 1 refused by a pass; ..``"""
    looked = words.tried(plan)
    refused = sum(one["figures"] is None for one in plan["evaluations"])
    kept = sum(not words.over(plan, plan["evaluations"][i]) for i in looked)
    parts = [f"tried: {plural(len(plan['evaluations']), 'plan')}"]
    parts += [f"{kept} {'keeps' if kept == 1 else 'keep'} all budgets"] if plan["budgets"] else []
    parts += [f"{refused} refused by a pass"] if refused else []
    rank = rank_correlation(pairs(plan, "drop"))
    judged = f"judged on {plural(plan['judged_on'], 'sample')} that nothing was fitted to"
    known = "" if rank is None else f"; rank correlation of predicted and measured accuracy {rank:.2f}"
    return f"{', '.join(parts)}; {judged}{known}"


def _filled(text: str) -> str:
    return textwrap.fill(
        text, _COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )

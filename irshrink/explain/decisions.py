"""What a build decided and why, from its report alone: ``irshrink explain BUILD``.

Of a build whose plan was searched: every knob with its alternatives, and what one level more or less would
have done. Of any build: what became of each layer, and what was known of it when that was decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irshrink import __version__
from irshrink.report import words
from irshrink.report.svg_graph import change_lines, state

Row = Mapping[str, Any]
#: What is compared of alternatives.
_QUANTITIES = ("drop", "flash_bytes", "ram_bytes", "cost", "file_bytes")
_AIMS = {"accurate": "drop", "smallest": "flash_bytes", "fastest": "cost", "least-ram": "ram_bytes"}


def explain_build(report: Row) -> dict[str, Any]:
    """The decisions of a build as plain data; ``irshrink/explain/decisions.schema.json`` says what it means.

    Args:
        report: as :func:`irshrink.report.read.read_report` gives it.
    """
    plan = report["plan"]
    return {
        "format": 1,
        "irshrink": __version__,
        "model": {"name": report["model"]["name"], "sha256": report["model"]["sha256"]},
        "target": report["board"] or report["target"],
        "asked": None if plan is None else words.asked(plan),
        "chosen": None if plan is None else words.outcome(plan),
        "met": None if plan is None else plan["met"],
        "decisions": [] if plan is None else [_decision(plan, knob) for knob in plan["knobs"]],
        "steps": _steps(report),
        "layers": _layers(report),
    }


def _decision(plan: Row, knob: Row) -> dict[str, Any]:
    by_level = {one["level"]: one for one in knob["alternatives"]}
    mine = by_level.get(knob["chosen"])
    rows = [
        {
            "level": one["level"],
            "label": words.label(knob, one["level"]),
            "measured": one["measured"],
            **{name: one[name] for name in _QUANTITIES},
            "change": {name: one[name] - mine[name] for name in _QUANTITIES} if mine else None,
        }
        for one in knob["alternatives"]
    ]
    return {
        "knob": knob["knob"],
        "title": knob["title"],
        "level": knob["chosen"],
        "label": words.label(knob, knob["chosen"]),
        "why": _why(plan, knob["chosen"], by_level),
        "alternatives": rows,
    }


def _why(plan: Row, level: int, by_level: Mapping[int, Row]) -> list[str]:
    """What the neighbouring levels would have done."""
    mine = by_level.get(level)
    if mine is None:
        return []
    sentences = []
    for other, word in ((level + 1, "One level more"), (level - 1, "One level less")):
        if other in by_level:
            sentences.append(f"{word} {_would(plan, mine, by_level[other])}.")
    return sentences or ["There is no other level."]


def _would(plan: Row, mine: Row, other: Row) -> str:
    source = "" if other["measured"] else " (predicted)"
    spread = words.chosen(plan)["spread"]
    broken = [
        budget
        for budget in plan["budgets"]
        if other[budget["quantity"]] + (spread if budget["quantity"] == "drop" else 0) > budget["limit"]
    ]
    if broken:
        told = [
            f"{words.shown(plan, one['quantity'], other[one['quantity']])}"
            f"{_error(plan, spread) if one['quantity'] == 'drop' else ''}, over {one['option']} "
            f"{words.shown(plan, one['quantity'], one['limit'])}"
            for one in broken
        ]
        verb = "loses" if broken[0]["quantity"] == "drop" else "takes"
        return f"{verb} {'; and takes '.join(told)}{source}"
    aim = _AIMS[plan["objective"]]
    parts = [_moved(plan, name, other[name] - mine[name]) for name in dict.fromkeys((aim, "drop"))]
    return f"{' and '.join(parts)}{source}"


def _error(plan: Row, spread: float) -> str:
    """The standard error, which counts against a budget."""
    return f" ± {words.digits(plan, 'drop', spread)}" if spread else ""


def _moved(plan: Row, name: str, change: float) -> str:
    """``takes 2,204 B more flash``, ``loses as much``."""
    verb = "loses" if name == "drop" else "takes"
    amount = words.shown(plan, name, abs(change))
    if words.digits(plan, name, change).lstrip("-") == words.digits(plan, name, 0):
        return f"{verb} as much{'' if name == 'drop' else ' ' + words.quantity(plan, name)}"
    way = "more" if change > 0 else "less"
    what = f" {words.quantity(plan, name)}" if name.endswith("bytes") else ""
    return f"{verb} {amount} {way}{what}"


def _steps(report: Row) -> list[dict[str, Any]]:
    """The lossy part of the recipe: what the user, a shorthand or a search asked for."""
    steps = report["recipe"].get("steps")
    if steps:
        return [dict(step) for step in steps]
    named = report["recipe"].get("quantize")
    return [{"quantize": named}] if named else []


def _layers(report: Row) -> list[dict[str, Any]]:
    decided = {
        row["name"]: row for record in report["passes"] for row in record["stats"].get("layer_decisions", ())
    }
    changed = {row["layer"]: row for row in report["changes"]["layers"]} if report["changes"] else {}
    return [
        {
            "name": row["name"],
            "op_types": row["op_types"],
            "state": state(row),
            "done": change_lines(row)[0],
            "bits": row["bits"],
            "bytes": row["bytes"],
            "macs": row["macs"],
            "instructions": row["instructions"],
            "why": [*_of_changes(changed.get(row["name"])), *_of_bits(decided.get(row["name"]))],
        }
        for row in report["graph"]
        if row["bytes"][0] or row["macs"][0]
    ]


def _of_changes(row: Row | None) -> list[str]:
    if row is None:
        return []
    return [_of_step(step) for step in row["steps"]]


def _of_step(step: Row) -> str:
    """``prune-channels: 8 of 16 outputs, chosen by l2; error of its output 0.013``."""
    if step["kind"] is None:
        return f"{step['pass']}: {step['detail']}, as its neighbours changed"
    score = f", chosen by {step['score']}" if step["score"] else ""
    error = step["output_error"]
    told = error if error is None or isinstance(error, str) else f"{error:.2g}"
    return f"{step['pass']}: {step['detail']}{score}{'' if told is None else f'; error of its output {told}'}"


def _of_bits(row: Row | None) -> list[str]:
    """``4 bits lose 0.0012 alone and save 3,456 B; 3 bits would lose 0.02``."""
    if row is None:
        return []
    losses = {int(bits): float(loss) for bits, loss in row["loss"].items()}
    bits = int(row["bits"])
    mine = f" lose {losses[bits]:.2g} alone" if bits in losses else ""
    saved = f"{' and' if mine else ''} save {row['saved_bytes']:,} B" if row["saved_bytes"] else ""
    parts = [f"{_width(bits)}{mine}{saved}"] if mine or saved else []
    fewer = max((other for other in losses if other < bits), default=None)
    parts += [f"{_width(fewer)} would lose {losses[fewer]:.2g}"] if fewer is not None else []
    return ["; ".join(parts)] if parts else []


def _width(bits: int) -> str:
    return "32 bits" if bits == 32 else f"{bits} bits"


def changed_layers(result: Row) -> Sequence[Row]:
    """Those that something was done to on purpose, or that a width was chosen for."""
    return [
        row for row in result["layers"] if row["state"] != "kept" or row["bits"] is not None or row["why"]
    ]

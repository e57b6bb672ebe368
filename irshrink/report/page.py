"""``report.html``: one static page from ``report.json`` alone. No network, no script, readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from irshrink.console import plural
from irshrink.report.plan_view import plan_view
from irshrink.report.render import template
from irshrink.report.summary import arena_bound, kernels_chosen, removed_parts
from irshrink.report.svg import arena_over_time, split_bar, uncovered
from irshrink.report.svg_graph import change_lines, draw_graph, state, too_large


def render_page(report: Mapping[str, Any]) -> str:
    """The page of a report that fits ``schema.json``."""
    mixed = any(layer["dtype"] in ("int8", "int16") for layer in report["layers"])
    only = {"name": None, **report["size"], "arena": report["arena"], "layers": report["layers"]}
    return template("report.html.j2").render(
        r=report,
        where=report["board"] or report["target"],
        verdict=verdict(report),
        parts=[_part(one, mixed, f"variants.{i}.") for i, one in enumerate(report["variants"])]
        or [_part(only, mixed, "")],
        flash=_flash(report),
        ram=_ram(report),
        steps=_steps(report["passes"]),
        decided=_decided(report["passes"]),
        removed=_removed(report["changes"]) if report["changes"] else None,
        counted=report["changes"] and any(None not in c["instructions"] for c in report["changes"]["layers"]),
        kernels=kernels_chosen(report["choices"]) if report["choices"] else None,
        mixed=mixed,
        compared=_compared(report["graph"]),
        p=report["plan"],
        v=plan_view(report["plan"], report) if report["plan"] else None,
        before_arena=_before_arena(report),
        timed=any(record["seconds"] is not None for record in report["passes"]),
    )


def _part(variant: Mapping[str, Any], mixed: bool, path: str) -> dict[str, Any]:
    """The arena and the layers of one variant, or of the only one.

    Args:
        path: where it stands in the report, with a dot behind; empty for the only one.
    """
    layers, slots = variant["layers"], variant["arena"]
    arena, bound = (f"{path or 'size.'}{name}_bytes" for name in ("arena", "arena_lower_bound"))
    return {
        "name": variant["name"],
        "path": path,
        "excess": f"{arena} - {bound}, 100 * ({arena} - {bound}) / {bound}",
        "arena_bytes": variant["arena_bytes"],
        "lower_bound_bytes": variant["arena_lower_bound_bytes"],
        "bound": arena_bound(variant["arena_bytes"], variant["arena_lower_bound_bytes"]),
        "picture": arena_over_time(slots, len(layers), variant["arena_bytes"]),
        "overwrites": any(uncovered(slot, slots) <= slot["last"] - slot["first"] for slot in slots),
        "in_turns": sum(slot["rows"] is not None for slot in slots),
        "slots": slots,
        "layers": layers,
        "workspaces": any(layer["workspace_bytes"] for layer in layers),
        "most_macs": max((layer["macs"] for layer in layers), default=0),
        "most_instructions": max((layer["instructions"] or 0 for layer in layers), default=0),
        "in_float": [layer for layer in layers if layer["why_float"]] if mixed else [],
    }


def render_plan_page(plan: Mapping[str, Any], name: str) -> str:
    """The page of a plan alone, without a build.

    Args:
        plan: ``plan`` of ``schema.json``.
        name: what the plan is called.
    """
    return template("plan.html.j2").render(p=plan, v=plan_view(plan), name=name)


def _compared(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Layers before and after: a drawing, or why there is none, and a table of those that weigh anything."""
    if not rows:
        return None
    why_not = too_large(rows)
    table = [
        {**row, "state": state(row), "done": change_lines(row)[0]}
        for row in rows
        if row["bytes"][0] or row["macs"][0] or any(row["instructions"])
    ]
    return {
        "picture": draw_graph(rows) if why_not is None else "",
        "why_not": why_not,
        "rows": table,
        "number": len(rows),
        "most_bytes": max((max(_known(row["bytes"])) for row in table), default=0),
        "most_instructions": max((max(_known(row["instructions"])) for row in table), default=0),
        "predicted": any(row["instructions"][0] is not None for row in table),
        "bits": any(row["bits"] is not None for row in table),
    }


def _before_arena(report: Mapping[str, Any]) -> str | None:
    """What the arena would have been without the plan, or without what passes took away."""
    if report["plan"]:
        tried = report["plan"]["evaluations"]
        start = next((one["figures"] for one in tried if one["purpose"] == "baseline"), None)
        if not start or start["arena_bytes"] == report["size"]["arena_bytes"]:
            return None
        return f"The baseline of the plan would take {start['arena_bytes']:,} bytes."
    before = report["changes"]["total"]["arena_bytes"][0] if report["changes"] else None
    return None if before is None else f"Without what was taken away it would take {before:,} bytes."


def _known(pair: Sequence[int | None]) -> list[int]:
    return [value or 0 for value in pair]


def verdict(report: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the build computes what the reference says, and that as a sentence."""
    emulation = report["emulation"]
    runs, wrong, of = emulation["inputs"], emulation["mismatched_bytes"], emulation["compared_bytes"]
    if runs == 0:
        reason = emulation["why_not_run"]
        return False, "This build was NOT run." if reason is None else f"This build was NOT run: {reason}"
    place = "on this kind of machine" if emulation["native"] else f"on an emulated {report['target']}"
    times = plural(runs, "inference")
    if wrong:
        of_all = f"{wrong:,} of {plural(of, 'output byte')}"
        return False, f"{of_all} of {times} {place} differ from the reference."
    return True, f"All {plural(of, 'output byte')} of {times} {place} equal the reference."


def _flash(report: Mapping[str, Any]) -> dict[str, Any]:
    size = report["size"]
    other = max(0, size["flash_bytes"] - size["weights_bytes"] - size["code_bytes"])
    limit = report["hardware"]["flash_limit_bytes"]
    whole = max(size["flash_bytes"], limit or size["float_weights_bytes"])
    parts = [("tensor0", size["weights_bytes"]), ("tensor1", size["code_bytes"]), ("tensor2", other)]
    rest = whole - size["flash_bytes"]
    return {"other": other, "limit": limit, "rest": rest, "bar": split_bar(parts, whole)}


def _ram(report: Mapping[str, Any]) -> dict[str, Any]:
    size = report["size"]
    other = max(0, size["ram_bytes"] - size["arena_bytes"])
    stack = size["stack_bytes"] or 0
    limit = report["hardware"]["ram_limit_bytes"]
    parts = [("tensor0", size["arena_bytes"]), ("tensor2", other), ("work", stack)]
    whole = max(size["arena_bytes"] + other + stack, limit or 0)
    return {"other": other, "limit": limit, "bar": split_bar(parts, whole)}


def _steps(passes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Passes that changed something, repetitions of one pass in a row as one line."""
    changed = [(place, record) for place, record in enumerate(passes) if record["changed"]]
    lines = []
    for name, group in groupby(changed, key=lambda one: str(one[1]["name"])):
        places, records = zip(*group, strict=True)
        lines.append(
            {
                "name": name,
                "first": places[0],
                "times": len(records),
                "stats": {k: v for k, v in _sum_of_numbers([r["stats"] for r in records]).items() if v},
                "options": {k: v for k, v in records[0]["options"].items() if v not in (None, [], {})},
                "notes": list(dict.fromkeys(note for record in records for note in record["notes"])),
            }
        )
    return lines


def _decided(passes: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Bits of every layer and what others would have cost, where a pass chose them."""
    rows = [row for record in passes for row in record["stats"].get("layer_decisions", ())]
    if not rows:
        return None
    return {"rows": rows, "widths": sorted({int(bits) for row in rows for bits in row["loss"]}, reverse=True)}


def _removed(changes: Mapping[str, Any]) -> dict[str, Any]:
    lead, parts = removed_parts(changes)
    return {"lead": lead, "parts": parts}


def _sum_of_numbers(stats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for one in stats:
        for key, value in one.items():
            if isinstance(value, int) and not isinstance(value, bool):
                total[key] = total.get(key, 0) + value
            elif isinstance(value, str | float | bool):
                total[key] = value
    return total

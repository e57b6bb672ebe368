"""The last words of ``irshrink compile`` on the terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irshrink.console import count, percent, plural, similarity, size, table
from irshrink.report.layers import float_lines

#: Width of what is no table.
_COLUMNS = 110
#: Layers whose change is told.
_MOST_CHANGES = 12


def summary(report: Mapping[str, Any], out: Path | None) -> str:
    """A compact table of what was built, how it was found, what ran in float with its reason, and notes.

    Args:
        out: where the build was just written.
    """
    lines = [f"{report['model']['name']} for {report['board'] or report['target']}", ""]
    lines.append(table(_rows(report)))
    if report["plan"] is not None:
        from irshrink.report.plan_summary import plan_summary

        lines += ["", plan_summary(report["plan"], report)]
    lines += ["", _variants(report)] if report["variants"] else []
    number = sum(bool(layer["why_float"]) for layer in report["layers"])
    if number and any(layer["dtype"] in ("int8", "int16") for layer in report["layers"]):
        run = "runs" if number == 1 else "run"
        lines += ["", f"{number} of {plural(len(report['layers']), 'layer')} {run} in float:"]
        reasons = float_lines(report["layers"])
        lines += [f"  {line}" for line in reasons[:10]]
        lines += [f"  and {len(reasons) - 10} more, see report.html"] if len(reasons) > 10 else []
    lines += ["", *_removed_lines(report["changes"])] if report["changes"] else []
    lines += ["", *map(_note, report["notes"])] if report["notes"] else []
    slow = _slowest(report)
    lines += ["", slow] if slow else []
    lines += ["", f"written to {out}; open {out / 'report.html'}"] if out is not None else []
    return "\n".join(lines)


def kernels_chosen(choices: Mapping[str, Any]) -> tuple[str, str]:
    """How many layers go by measurements, and how the others were chosen."""
    by_rule = choices["by_rule"] + choices["outdated"]
    layers = plural(choices["measured"] + by_rule, "layer")
    rest = f", {by_rule} by rule" if by_rule else ""
    rest += f", {choices['outdated']} outdated" if choices["outdated"] else ""
    return f"{choices['measured']} of {layers}", f"by measured schedules{rest}"


def removed(changes: Mapping[str, Any]) -> str:
    """``9 layers and 4 beside them were changed: MACs 12,501,632 → 8,204,112 (-34.4 %), arena ..``"""
    lead, parts = removed_parts(changes)
    told = [
        f"{one['label']} {one['before']:,}{one['unit']} → {one['after']:,}{one['unit']} ({one['percent']})"
        for one in parts
    ]
    return f"{lead} {', '.join(told)}."


def removed_parts(changes: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """How :func:`removed` begins, and what each quantity was and is."""
    named = (("MACs", "macs", ""), ("weights", "weights_bytes", " B"), ("arena", "arena_bytes", " B"))
    parts = [
        {"label": label, "key": name, "unit": unit, "before": before, "after": after}
        | {"percent": _percent(before, after)}
        for label, name, unit in (*named, ("instructions", "instructions", ""))
        for before, after in (changes["total"][name],)
        if before and after is not None and before != after
    ]
    purpose = sum(any(step["kind"] for step in row["steps"]) for row in changes["layers"])
    others = len(changes["layers"]) - purpose
    behind = f" and {others} beside them" if others else ""
    return f"{plural(purpose, 'layer')}{behind} were changed:", parts


def _removed_lines(changes: Mapping[str, Any]) -> list[str]:
    """What went, in all and layer by layer."""
    rows = [row for row in changes["layers"] if any(step["kind"] for step in row["steps"])]
    lines = [
        f"  {row['layer']}: {'; '.join(_step(step) for step in row['steps'] if step['kind'])}" for row in rows
    ]
    more = [f"  and {len(lines) - _MOST_CHANGES} more, see report.html"] if len(lines) > _MOST_CHANGES else []
    whole = textwrap.fill(removed(changes), _COLUMNS, subsequent_indent="  ", break_long_words=False)
    return [whole, *lines[:_MOST_CHANGES], *more]


def _step(step: Mapping[str, Any]) -> str:
    """``8 of 32 output channels, by l2, error 0.013``."""
    score = f", by {step['score']}" if step["score"] else ""
    error = step["output_error"]
    told = "" if error is None else f", error {error if isinstance(error, str) else f'{error:.2g}'}"
    return f"{step['detail']}{score}{told}"


def _percent(before: int, after: int) -> str:
    return f"{100 * (after - before) / before:+.1f} %"


def arena_bound(nbytes: int, bound: int) -> str:
    """How far an arena is from its lower bound: ``at its lower bound``, ``lower bound 14,400 B, +4 B``."""
    if nbytes <= bound:
        return "at its lower bound"
    share = 100 * (nbytes - bound) / bound if bound else 0.0
    over = f"{share:.1f} %" if share >= 0.1 else size(nbytes - bound)
    return f"lower bound {size(bound)}, +{over}"


def _variants(report: Mapping[str, Any]) -> str:
    rows = []
    for one in report["variants"]:
        emulation = one["emulation"]
        wrong = f"{emulation['mismatched_bytes']} of {plural(emulation['compared_bytes'], 'byte')} differ"
        row = (one["name"], f"{one['symbol']}_run()", size(one["arena_bytes"]))
        counted = () if emulation["native"] else (size(one["stack_bytes"]), count(emulation["instructions"]))
        rows.append((*row, *counted, wrong if emulation["inputs"] else "NOT RUN"))
    counted = () if report["emulation"]["native"] else ("stack", "instructions")
    return table(rows, ("variant", "function", "arena", *counted, "checked"))


def _note(text: str) -> str:
    return textwrap.fill(f"note: {text}", _COLUMNS, subsequent_indent="      ", break_long_words=False)


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    sizes, emulation = report["size"], report["emulation"]
    limits = report["hardware"]
    parts = f"weights {size(sizes['weights_bytes'])}, code {size(sizes['code_bytes'])}"
    rows = [
        ("flash", size(sizes["flash_bytes"]), parts + _limit(limits["flash_limit_bytes"])),
        ("RAM", size(sizes["ram_bytes"]), "static" + _limit(limits["ram_limit_bytes"])),
        (
            "arena",
            size(sizes["arena_bytes"]),
            arena_bound(sizes["arena_bytes"], sizes["arena_lower_bound_bytes"]),
        ),
    ]
    if not emulation["native"]:
        macs, executed = report["model"]["macs"], emulation["instructions"]
        each = f", {executed / macs:.2f} a multiply-accumulate" if macs and executed else ""
        rows.append(("stack", size(sizes["stack_bytes"]), "high-water mark"))
        what = f"one inference{each}" if executed else "not counted"
        rows.append(("instructions", count(executed), what))
    if report["latency_seconds"] is not None:
        rows.append(("latency", f"{report['latency_seconds'] * 1e3:.3g} ms", "one inference on this machine"))
    if report["choices"] is not None:
        rows.append(("kernels", *kernels_chosen(report["choices"])))
    rows.append(_accuracy(report["accuracy"]))
    rows.append(_checked(emulation))
    return rows


def _checked(emulation: Mapping[str, Any]) -> tuple[str, str, str]:
    if emulation["why_not_run"] is not None:
        return ("checked", "NOT RUN", emulation["why_not_run"])
    wrong, compared = emulation["mismatched_bytes"], emulation["compared_bytes"]
    verdict = f"{wrong} DIFFER from the reference" if wrong else "all equal the reference"
    return ("checked", plural(emulation["inputs"], "input"), f"{plural(compared, 'output byte')}, {verdict}")


def _accuracy(accuracy: Mapping[str, Any]) -> tuple[str, str, str]:
    if accuracy["metric"] is None:
        return ("accuracy", "-", "no data to measure with; give --eval")
    of = "calibration sample" if accuracy["source"] == "calibration" else "sample"
    where = plural(accuracy["samples"], of)
    if accuracy["metric"] == "agreement":
        return ("agreement", percent(accuracy["compiled"]), f"with the float model on {where}, no labels")
    if accuracy["metric"] == "cosine":
        what = f"similarity with the float model on {where}{worst_output(accuracy)}"
        return ("cosine", similarity(accuracy["compiled"]), what)
    before, after = (measured(accuracy, accuracy[key]) for key in ("original", "compiled"))
    return (accuracy["metric"].rpartition(":")[2], after, f"float {before}, {where}")


def measured(accuracy: Mapping[str, Any], value: float) -> str:
    """A value of the metric as it is shown."""
    return percent(value) if accuracy["share"] else f"{value:.4g}"


def worst_output(accuracy: Mapping[str, Any]) -> str:
    """Which of several outputs the cosine similarity is of."""
    outputs = accuracy["outputs"]
    if len(outputs) < 2:
        return ""
    worst = min(outputs, key=lambda output: float(output["cosine"]))
    return f": '{worst['name']}', the worst of {len(outputs)} outputs"


def _limit(limit: int | None) -> str:
    return "" if limit is None else f", of {size(limit)}"


def _slowest(report: Mapping[str, Any]) -> str:
    """The passes that took most of the time; the report file leaves seconds out to be reproducible."""
    timed: Counter[str] = Counter()
    for record in report["passes"]:
        timed[record["name"]] += record["seconds"] or 0
    total = sum(timed.values())
    if total < 1:
        return ""
    top = timed.most_common(3)
    return f"passes took {total:.1f} s: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in top)

"""The last words of ``irshrink compile`` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irshrink.console import count, percent, size, table


def summary(report: Mapping[str, Any], out: Path) -> str:
    """A compact table of what was built, and what ran in float with its reason."""
    lines = [f"{report['model']['name']} for {report['board'] or report['target']}", ""]
    lines.append(table(_rows(report)))
    in_float = [layer for layer in report["layers"] if layer["why_float"]]
    if in_float and any(layer["dtype"] == "int8" for layer in report["layers"]):
        lines += ["", f"{len(in_float)} of {len(report['layers'])} layers run in float:"]
        lines += [f"  {_node(layer)} ({layer['op']}): {layer['why_float']}" for layer in in_float[:10]]
        lines += [f"  and {len(in_float) - 10} more, see report.html"] if len(in_float) > 10 else []
    for note in report["notes"]:
        lines += ["", f"note: {note}"]
    slow = _slowest(report)
    lines += ["", slow] if slow else []
    lines += ["", f"written to {out}/; open {out}/report.html"]
    return "\n".join(lines)


def _node(layer: Mapping[str, Any]) -> str:
    """What the model calls a layer: the name that --keep-float takes."""
    return ", ".join(layer["origin"]) or str(layer["name"])


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    sizes, emulation, accuracy = report["size"], report["emulation"], report["accuracy"]
    limits = report["hardware"]
    bound = sizes["arena_lower_bound_bytes"]
    over = f"lower bound {size(bound)}" + (
        f", +{100 * (sizes['arena_bytes'] - bound) / bound:.1f} %" if bound else ""
    )
    rows = [
        (
            "flash",
            size(sizes["flash_bytes"]),
            f"weights {size(sizes['weights_bytes'])}, code {size(sizes['code_bytes'])}"
            + _limit(limits["flash_limit_bytes"]),
        ),
        ("RAM", size(sizes["ram_bytes"]), "static" + _limit(limits["ram_limit_bytes"])),
        ("arena", size(sizes["arena_bytes"]), over),
    ]
    if not emulation["native"]:
        macs, executed = report["model"]["macs"], emulation["instructions"]
        each = f"{executed / macs:.2f} a multiply-accumulate" if macs and executed else ""
        rows.append(("stack", size(sizes["stack_bytes"]), "high-water mark"))
        rows.append(("instructions", count(executed), each))
    rows.append(_accuracy(accuracy))
    wrong, compared = emulation["mismatched_bytes"], emulation["compared_bytes"]
    verdict = f"{wrong} DIFFER from the reference" if wrong else "all equal the reference"
    rows.append(("checked", f"{emulation['inputs']} inputs", f"{count(compared)} output bytes, {verdict}"))
    return rows


def _accuracy(accuracy: Mapping[str, Any]) -> tuple[str, str, str]:
    if accuracy["metric"] is None:
        return ("accuracy", "-", "no data to measure with; give --eval")
    where = f"{accuracy['samples']} {'calibration ' if accuracy['source'] == 'calibration' else ''}samples"
    if accuracy["metric"] == "agreement":
        return ("agreement", percent(accuracy["compiled"]), f"with the float model on {where}, no labels")
    if accuracy["metric"] == "cosine":
        return ("cosine", f"{accuracy['compiled']:.5f}", f"similarity with the float model on {where}")
    return ("top-1", percent(accuracy["compiled"]), f"float {percent(accuracy['original'])}, {where}")


def _limit(limit: int | None) -> str:
    return "" if limit is None else f", of {size(limit)}"


def _slowest(report: Mapping[str, Any]) -> str:
    """The passes that took most of the time; the report file leaves seconds out to be reproducible."""
    timed = [(p["seconds"], p["name"]) for p in report["passes"] if p["seconds"] is not None]
    total = sum(seconds for seconds, _ in timed)
    if total < 1:
        return ""
    top = sorted(timed, reverse=True)[:3]
    return f"passes took {total:.1f} s: " + ", ".join(f"{name} {seconds:.1f} s" for seconds, name in top)

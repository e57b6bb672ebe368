"""The result of explain for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from irshrink.console import percent, plural, table

#: Width of what is no table.
_COLUMNS = 100
#: Layers in the table, the worst.
MOST_LAYERS = 10


def render(result: Mapping[str, Any], most: int = MOST_LAYERS) -> str:
    """A table of the worst layers, then the causes."""
    layers = worst_first(result)
    shown = layers[:most]
    lines = [headline(result), *score_lines(result), ""]
    lines.append(table([_row(layer) for layer in shown], _HEADER))
    if len(layers) > len(shown):
        lines.append(f"and {plural(len(layers) - len(shown), 'better layer')}; --layers N shows more")
    lines.append("")
    if not result["causes"]:
        lines.append(nothing_found())
    for number, cause in enumerate(result["causes"], start=1):
        lines += [*_cause(number, cause, result["score"]), ""]
    lines += [_wrapped(f"note: {note}", "      ") for note in result["notes"]]
    return "\n".join(lines).rstrip()


def worst_first(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Layers by the noise that they make themselves."""
    return sorted(result["layers"], key=lambda layer: float(layer["snr_alone_db"]))


def headline(result: Mapping[str, Any]) -> str:
    against = "the float model" if result["reference"] == "float model" else "itself in float"
    return f"{result['model']['name']} against {against} on {plural(result['samples']['count'], 'sample')}"


def score_lines(result: Mapping[str, Any]) -> list[str]:
    """The outputs, as one line or two."""
    score = result["score"]
    lines = [f"outputs: {decibel(score['snr_db'])} signal to noise{_answers(score)}"]
    if len(score["outputs"]) > 1:
        each = ", ".join(f"'{name}' {decibel(ratio)}" for name, ratio in score["outputs"].items())
        lines.append(_wrapped(f"of which {each}", "  "))
    return lines


def nothing_found() -> str:
    return "No known cause is at work, and no change of one layer gains 0.5 dB."


def decibel(ratio: float | None) -> str:
    """``"38.4 dB"``; what is beyond float32's own rounding is no noise."""
    if ratio is None:
        return "-"
    return "exact" if ratio >= 99.95 else f"{ratio:.1f} dB"


def effect(after: Mapping[str, Any] | None, before: Mapping[str, Any], why_not: str | None) -> str:
    """What a change buys, in words."""
    if after is None:
        return f"not measured: {why_not}" if why_not else "not measured"
    gain = after["snr_db"] - before["snr_db"]
    return f"{decibel(before['snr_db'])} -> {decibel(after['snr_db'])} ({gain:+.1f}){_change(after, before)}"


_HEADER = ("layer", "op", "alone", "weights", "so far", "grid", "seen", "clipped", "levels")


def _row(layer: Mapping[str, Any]) -> tuple[str, ...]:
    grid, clipped, levels = layer["grid"], layer["clipped"], layer["levels"]
    return (
        shortened(layer["name"]),
        layer["op"],
        decibel(layer["snr_alone_db"]),
        decibel(layer["snr_weights_db"]),
        decibel(layer["snr_whole_db"]),
        "float" if grid is None else ends(grid["low"], grid["high"]),
        ends(layer["seen"]["low"], layer["seen"]["high"]),
        "-" if clipped is None else share(clipped["low"] + clipped["high"]),
        "-" if levels is None else f"{levels['used']}, {levels['bulk']} for 99.9 %",
    )


def ends(low: float, high: float) -> str:
    return f"{low:.3g} .. {high:.3g}"


def share(fraction: float) -> str:
    if fraction == 0:
        return "0"
    return f"{100 * fraction:.2g} %" if fraction >= 1e-6 else "< 0.0001 %"


def shortened(name: str, room: int = 36) -> str:
    return name if len(name) <= room else f"…{name[len(name) - room + 1 :]}"


def _cause(number: int, cause: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    lines = [f"{number}. {cause['cause']}", _wrapped(cause["sentence"], "   ", "   ")]
    for remedy in cause["remedies"]:
        lines.append(_wrapped(f"-> {remedy['what']}", "      ", "   "))
        lines.append(f"      {effect(remedy['after'], before, remedy['why_not_measured'])}")
        lines += [f"        {line}" for line in (remedy["recipe"] or "").splitlines()]
    return lines


def _answers(score: Mapping[str, Any]) -> str:
    if score["metric"] == "none":
        return ""
    if score["metric"] == "top-1":
        return f"; top-1 {percent(score['value'])}, float {percent(score['best'])}"
    return f"; {percent(score['value'])} of the answers are those of the float model"


def _change(after: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    if after["metric"] == "none" or before["metric"] == "none":
        return ""
    return f", {after['metric']} {percent(before['value'])} -> {percent(after['value'])}"


def _wrapped(text: str, later: str, first: str = "") -> str:
    return textwrap.fill(
        text,
        _COLUMNS,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )

"""How two builds differ: what was asked, what was decided, what came out, layer by layer and file by file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irshrink.artifact import model_name
from irshrink.console import count, percent, plural, table
from irshrink.diff import diff_models, render
from irshrink.files import sha256
from irshrink.lock import LOCK_NAME, differences, read_lock
from irshrink.report import words
from irshrink.report.read import read_report
from irshrink.samples import Reading

#: Layers, files and keys of recipes that the terminal lists.
_MOST = 20

Row = Mapping[str, Any]


def diff_builds(
    a: Path,
    b: Path,
    *,
    data: Path | None = None,
    reading: Reading | None = None,
    samples: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two folders that ``irshrink compile`` wrote; options as for :func:`irshrink.diff.diff_models`.

    Returns:
        Plain data, each with ``a`` and ``b``: ``figures`` (sizes, accuracy, instructions), ``share`` (the
        accuracy of both is a fraction), ``recipe`` (keys that differ), ``decisions`` (levels of knobs that
        differ), ``layers`` (of the model as it was given: bits, bytes and instructions where one differs),
        ``files`` (digests of those that differ), ``causes`` (what the locks say of data and versions), and
        ``models`` (the comparison of each compressed model that differs, by file).

    Raises:
        UserError: a folder is no build.
        SamplesError: the data does not fit.
    """
    left, right = read_report(a), read_report(b)
    files = _files(a, b)
    return {
        "a": str(a),
        "b": str(b),
        "identical": not files,
        "same_model": left["model"]["sha256"] == right["model"]["sha256"],
        "figures": _figures(left, right),
        "share": bool(left["accuracy"]["share"] and right["accuracy"]["share"]),
        "recipe": _recipe(left["recipe"], right["recipe"]),
        "decisions": _decisions(left["plan"], right["plan"]),
        "layers": _layers(left["graph"], right["graph"]),
        "files": files,
        "causes": _causes(a, b),
        "models": {
            name: diff_models(a / name, b / name, data=data, reading=reading, samples=samples, seed=seed)
            for name in _models(left, right)
            if any(row["name"] == name for row in files)
        },
    }


def render_builds(result: Row, *, with_text: bool) -> str:
    """The comparison for the terminal."""
    lines = [f"a: {result['a']}", f"b: {result['b']}"]
    if result["identical"]:
        return "\n".join([*lines, "", "every byte of every file is the same"])
    if not result["same_model"]:
        lines.append("they were made from different models")
    figures = [_figure_row(row, result["share"]) for row in result["figures"]]
    lines += ["", table(figures, ("", "a", "b", ""))]
    lines += _section("recipe", [(row["key"], *_sides(row, _value)) for row in result["recipe"]])
    lines += _section("decisions", [(row["title"], *_sides(row, _value)) for row in result["decisions"]])
    lines += _layer_lines(result["layers"])
    lines += (
        ["", *(f"{cause[0].upper()}{cause[1:]}." for cause in result["causes"])] if result["causes"] else []
    )
    lines += ["", _file_line(result["files"])]
    for name, model in result["models"].items():
        lines += ["", f"{name}:", render(model, with_text=with_text)]
    return "\n".join(lines)


def _figures(left: Row, right: Row) -> list[dict[str, Any]]:
    sides = [_measured(one) for one in (left, right)]
    return [{"name": name, "a": sides[0][name], "b": sides[1][name]} for name in sides[0]]


def _measured(report: Row) -> dict[str, Any]:
    size, model, accuracy = report["size"], report["model"], report["accuracy"]
    return {
        "target": report["board"] or report["target"],
        **{name: size[f"{name}_bytes"] for name in ("flash", "weights", "code", "ram", "arena", "stack")},
        "model file": model["compressed_bytes"],
        "instructions": report["emulation"]["instructions"],
        "multiply-accumulates": model["macs"],
        "metric": accuracy["metric"],
        "accuracy": accuracy["compiled"],
        "accuracy of the float model": accuracy["original"],
        "samples": accuracy["samples"],
    }


def _recipe(left: Row, right: Row) -> list[dict[str, Any]]:
    """Keys that differ; of steps each one, by its place and pass."""
    flat = [_flat(recipe) for recipe in (left, right)]
    return [
        {"key": key, "a": flat[0].get(key), "b": flat[1].get(key)}
        for key in dict.fromkeys([*flat[0], *flat[1]])
        if flat[0].get(key) != flat[1].get(key)
    ]


def _flat(recipe: Row) -> dict[str, Any]:
    """A recipe with its steps as keys of their own: ``prune-channels.ratio``."""
    found = {key: value for key, value in recipe.items() if key != "steps"}
    seen: dict[str, int] = {}
    for step in recipe.get("steps") or ():
        name = step["pass"]
        seen[name] = seen.get(name, 0) + 1
        place = name if seen[name] == 1 else f"{name} ({seen[name]})"
        found[f"step {place}"] = "yes"
        found |= {f"{place}.{key}": value for key, value in step.items() if key != "pass"}
    return found


def _decisions(left: Row | None, right: Row | None) -> list[dict[str, Any]]:
    """Knobs whose level differs; null where a build was not planned, or has no such knob."""
    sides = [{knob["knob"]: knob for knob in plan["knobs"]} if plan else {} for plan in (left, right)]
    rows = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = (words.label(side[name], side[name]["chosen"]) if name in side else None for side in sides)
        if a != b:
            title = next(side[name]["title"] for side in sides if name in side)
            rows.append({"knob": name, "title": title, "a": a, "b": b})
    return rows


def _layers(left: Sequence[Row], right: Sequence[Row]) -> list[dict[str, Any]]:
    sides = [{row["name"]: _left(row) for row in rows} for rows in (left, right)]
    return [
        {"layer": name, "a": sides[0].get(name), "b": sides[1].get(name)}
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(name) != sides[1].get(name)
    ]


def _left(row: Row) -> dict[str, Any]:
    """What is left of a layer."""
    return {
        "bits": row["bits"],
        "bytes": row["bytes"][1],
        "instructions": row["instructions"][1],
        "details": row["details"],
    }


def _files(a: Path, b: Path) -> list[dict[str, Any]]:
    """Files that differ, by name; null where there is none."""
    sides = [
        {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}
        for folder in (a, b)
    ]
    return [
        {"name": name, "a": sides[0].get(name), "b": sides[1].get(name)}
        for name in sorted({*sides[0], *sides[1]})
        if sides[0].get(name) != sides[1].get(name)
    ]


def _causes(a: Path, b: Path) -> list[str]:
    """What the locks say of data and versions; keys of recipes are told apart."""
    locks = [read_lock(folder / LOCK_NAME) if (folder / LOCK_NAME).is_file() else None for folder in (a, b)]
    if locks[0] is None or locks[1] is None:
        return []
    return [cause for cause in differences(*locks) if not cause.startswith("'")]  # type: ignore[arg-type]


def _models(left: Row, right: Row) -> list[str]:
    """Compressed models that both builds have."""
    names = [
        {model_name(one["name"]) for one in report["variants"]} or {model_name(None)}
        for report in (left, right)
    ]
    return sorted(names[0] & names[1])


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    more = [f"and {len(rows) - _MOST} more, see --json"] if len(rows) > _MOST else []
    return ["", table(rows[:_MOST], (title, "a", "b")), *more]


def _layer_lines(layers: Sequence[Row]) -> list[str]:
    if not layers:
        return []
    names = [name for name in ("bits", "bytes", "instructions") if any(map(_has(name), layers))]
    rows = [(row["layer"], *(_pair(row, name) for name in names), _done(row)) for row in layers[:_MOST]]
    more = [f"and {plural(len(layers) - _MOST, 'other layer')}, see --json"] if len(layers) > _MOST else []
    return ["", table(rows, ("layer", *names, "what was done")), *more]


def _has(name: str) -> Callable[[Row], bool]:
    """Whether a side of a layer knows it."""
    return lambda row: any(one is not None and one[name] is not None for one in (row["a"], row["b"]))


def _done(row: Row) -> str:
    """``kept | 8 of 16 outputs removed``; one text where both are the same."""
    a, b = ("; ".join(one["details"]) or "kept" if one else "none" for one in (row["a"], row["b"]))
    return a if a == b else f"{a} | {b}"


def _pair(row: Row, name: str) -> str:
    """``1,300 -> 956``."""
    a, b = (_shown(one[name]) if one else "none" for one in (row["a"], row["b"]))
    return a if a == b else f"{a} -> {b}"


def _file_line(files: Sequence[Row]) -> str:
    names = [row["name"] for row in files]
    told = ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
    return f"{plural(len(names), 'file')} {'differs' if len(names) == 1 else 'differ'}: {told}"


def _figure_row(row: Row, share: bool) -> tuple[str, ...]:
    """A figure of both, and by how much it changed: fractions in points."""
    name, a, b = row["name"], row["a"], row["b"]
    if not name.startswith("accuracy") or not share:
        return (name, *_sides(row, _shown), _change(row))
    points = f"{100 * (b - a):+.2f} points" if None not in (a, b) and a != b else ""
    return (name, *_sides(row, percent), points)


def _sides(row: Row, show: Any) -> tuple[str, str]:
    return show(row["a"]), show(row["b"])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return count(value) if value is None or isinstance(value, int) else str(value)


def _value(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _change(row: Row) -> str:
    a, b = row["a"], row["b"]
    if a == b or isinstance(a, str) or isinstance(b, str) or not a or b is None:
        return ""
    return f"{100 * (b - a) / a:+.1f} %"

"""Every number on the page is one of report.json's, or says beside itself what it is computed from."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from itertools import takewhile
from typing import Any

import pytest

from irshrink.explain.decisions import explain_build
from irshrink.explain.decisions_text import render_decisions
from irshrink.report.forecast import pairs, rank_correlation, worst_error
from irshrink.report.page import render_page, render_plan_page
from irshrink.report.plan_summary import plan_summary
from irshrink.report.report import AccuracyFacts, build_report
from irshrink.testing.plans import example_plan
from irshrink.testing.reports import example_graph, facts

#: A number that is not part of a word: ``int8`` and ``cortex-m4`` are names.
_NUMBER = re.compile(r"(?:(?<=^)|(?<=[\s(\[±→×=,+−]))[-+−]?(\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]\d+)?)(?!\w)")
#: Words of the page itself that look like numbers.
_WORDS = ("SHA-256",)
#: A text whose digits are no number of their own.
_NAME = re.compile(r"(?=.*\d)(?=.*[A-Za-z])")
_VOID = frozenset({"meta", "rect", "line", "br", "path", "circle", "polyline"})


class Texts(HTMLParser):
    """Texts of a page, each with what its elements say that numbers come from; axes' scales are left out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._open: list[tuple[str, str, bool]] = []
        self.found: list[tuple[str, list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        silent = tag == "style" or "tick" in (given.get("class") or "").split()
        if tag not in _VOID:
            self._open.append((tag, given.get("data-from") or "", silent))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not any(silent for _, _, silent in self._open):
            self.found.append((data, [source for _, source, _ in self._open if source]))


def values(found: Any) -> Iterator[Any]:
    """Every number and text of plain data; how many items a list has, and their places, are numbers, too."""
    if isinstance(found, Mapping):
        for key, item in found.items():
            yield int(key) if key.isdigit() else key
            yield from values(item)
    elif isinstance(found, list):
        yield from range(len(found) + 1)
        for item in found:
            yield from values(item)
    elif isinstance(found, int | float | str) and not isinstance(found, bool):
        yield found


def written(value: float) -> set[str]:
    """The ways in which a page shows a number."""
    size = abs(value)
    ways = {f"{size}", f"{round(size):,}", f"{size:,}", *(f"{size:.{n}g}" for n in (2, 3, 4, 6))}
    return (
        ways
        | {f"{f * size:.{n}f}" for f in (1, 100) for n in (1, 2, 3, 6)}
        | {f"{int(size * 1e6) / 1e6:.6f}"}
    )


class Sources:
    """What ``data-from`` may say: sums and ratios of paths, and counts by name."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report = report
        self.plan = report.get("plan") or report

    def __call__(self, expression: str) -> list[float]:
        if "(" in expression and re.fullmatch(r"(100 \* )?(\w+)\((.*)\)", expression):
            return self._named(expression)
        paths = set(re.findall(r"[a-z_]\w*(?:\.\w+)+", expression))
        names = {path: f"v{i}" for i, path in enumerate(sorted(paths))}
        if any(self._at(path) is None for path in paths):
            return []
        code = re.sub(r"[a-z_]\w*(?:\.\w+)+", lambda m: names[m[0]], expression)
        return [float(eval(code, {"__builtins__": {}}, {names[path]: self._at(path) for path in paths}))]

    def _at(self, path: str) -> Any:
        found: Any = self.report
        for key in path.split("."):
            if isinstance(found, Mapping) and key not in found:
                return None
            found = found[int(key)] if isinstance(found, list) else found[key]
        return found

    def _named(self, expression: str) -> list[float]:
        match = re.fullmatch(r"(100 \* )?(\w+)\((.*)\)", expression)
        assert match is not None
        arguments = [part.strip() for part in match[3].split(",")] if match[3] else []
        found = getattr(self, f"_{match[2]}")(*arguments)
        many = found if isinstance(found, list) else [found]
        return [(100 if match[1] else 1) * float(one) for one in many if one is not None]

    def _count(self, path: str, key: str) -> int:
        return sum(bool(row[key]) for row in self._at(path))

    def _times(self, first: str) -> int:
        changed = [record for record in self.report["passes"][int(first) :] if record["changed"]]
        return len(list(takewhile(lambda record: record["name"] == changed[0]["name"], changed)))

    def _total(self, first: str, times: str, key: str) -> float:
        changed = [record for record in self.report["passes"][int(first) :] if record["changed"]]
        return float(sum(record["stats"].get(key, 0) for record in changed[: int(times)]))

    def _changed(self) -> int:
        return sum(any(step["kind"] for step in row["steps"]) for row in self.report["changes"]["layers"])

    def _beside(self) -> int:
        return len(self.report["changes"]["layers"]) - self._changed()

    def _looked(self) -> list[dict[str, Any]]:
        return [one for one in self.plan["evaluations"] if one["figures"] and one["purpose"] != "extreme"]

    def _tried(self) -> int:
        return len(self._looked())

    def _kept(self) -> int:
        limits = {one["quantity"]: one["limit"] for one in self.plan["budgets"]}
        return sum(
            all(
                one["figures"][q] + (one["spread"] if q == "drop" else 0) <= limit
                for q, limit in limits.items()
            )
            for one in self._looked()
        )

    def _with_error(self) -> list[float]:
        return [one["figures"]["drop"] + one["spread"] for one in self._looked()]

    def _forecast(self) -> int:
        return len(pairs(self.plan, "drop"))

    def _rank_correlation(self) -> float | None:
        return rank_correlation(pairs(self.plan, "drop"))

    def _worst_error(self) -> float | None:
        return worst_error(pairs(self.plan, "cost"))


def untraced(page: str, report: Mapping[str, Any]) -> list[str]:
    """Numbers on a page that are neither in the report nor computed as they say."""
    plain = list(values(report))
    known = set().union(*(written(value) for value in plain if not isinstance(value, str)))
    texts = sorted({value for value in plain if isinstance(value, str) and _NAME.search(value)}, key=len)
    told = [*_WORDS, str(report.get("irshrink")), *reversed(texts)]
    evaluate = Sources(report)
    wrong = []
    for text, sources in Texts(page).found:
        rest = text
        for one in told:
            rest = rest.replace(one, " ")
        parts = [part for source in sources for part in re.split(r",(?![^()]*\)) *", source)]
        derived = set().union(*(written(value) for part in parts for value in evaluate(part)), ())
        wrong += [
            f"{m[1]} in {text.strip()!r}" for m in _NUMBER.finditer(rest) if m[1] not in known | derived
        ]
    return wrong


MEASURED = {
    "none": None,
    "top-1": AccuracyFacts("top-1", 0.938, 0.9365, 1000, title="Top-1 accuracy", max_drop=0.01),
    "cosine": AccuracyFacts("cosine", 1.0, 0.8123456, 64, title="Cosine similarity"),
}


def report(target: str, accuracy: AccuracyFacts | None, plan: dict[str, Any] | None) -> dict[str, Any]:
    made = dataclasses.replace(facts(target, accuracy), plan=plan, graph=example_graph())
    return dict(json.loads(json.dumps(build_report(made))))


@pytest.mark.parametrize("accuracy", MEASURED)
@pytest.mark.parametrize("target", ["cortex-m4", "nucleo-f446re", "host"])
def test_every_number_of_a_build_is_traceable(target: str, accuracy: str) -> None:
    made = report(target, MEASURED[accuracy], example_plan())
    assert untraced(render_page(made), made) == []


@pytest.mark.parametrize("met", [True, False])
def test_every_number_of_a_plan_is_traceable(met: bool) -> None:
    plan = example_plan(met=met)
    assert untraced(render_plan_page(plan, "kws"), plan) == []


def _scaled(factor: float) -> list[dict[str, Any]]:
    """What was tried, with other figures."""
    found = copy.deepcopy(example_plan()["evaluations"])
    for one in found:
        for figures in (one["figures"], one["expected"]):
            if figures:
                figures.update({key: type(value)(value * factor) for key, value in figures.items()})
    return list(found)


LIMITS = [
    {"quantity": quantity, "option": option, "limit": limit}
    for quantity, option, limit in (
        ("drop", "--max-drop", 0.01), ("flash_bytes", "--flash", 40_960), ("ram_bytes", "--ram", 20_000),
        ("cost", "--instructions", 6e6), ("file_bytes", "--max-size", 300_000),
    )
]  # fmt: skip
TRIED = example_plan()["evaluations"]
ODD: dict[str, dict[str, Any]] = {
    "the baseline alone": {"evaluations": TRIED[:1], "chosen": 0, "frontier": [0]},
    "an extreme one alone": {"evaluations": TRIED[1:2], "chosen": 0, "frontier": [0], "met": False},
    "no knobs": {"knobs": [], "evaluations": [{**one, "levels": {}} for one in TRIED]},
    "no budgets": {"budgets": [], "objective": "accurate"},
    "all budgets": {"budgets": LIMITS},
    "nothing costs anything": {"evaluations": _scaled(0)},
    "everything costs much": {"evaluations": _scaled(1e6)},
    "no share": {"share": False, "metric": "mae", "title": "Mean absolute error", "original": 12.25},
    "relative": {"relative_drop": True},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_plans_are_shown_as_well(name: str) -> None:
    plan = {**example_plan(), **ODD[name]}
    made = report("cortex-m4", MEASURED["top-1"], plan)
    assert untraced(render_page(made), made) == []
    assert untraced(render_plan_page(plan, "kws"), plan) == []
    assert "asked: " in plan_summary(plan, made)
    assert "asked: " in render_decisions(explain_build(made), plan, 10)


def test_a_number_from_nowhere_is_found() -> None:
    plan = example_plan()
    page = render_plan_page(plan, "kws").replace("<h1>kws", "<h1>kws 123,457")
    assert untraced(page, plan) == ["123,457 in 'kws 123,457'"]

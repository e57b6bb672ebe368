"""Plans in words, on the terminal and in plots: what was asked, what was chosen, and what it misses."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from irshrink.report import words
from irshrink.report.forecast import rank_correlation, worst_error
from irshrink.report.plan_plots import pareto_plots, staircase
from irshrink.report.plan_summary import plan_summary
from irshrink.report.report import build_report
from irshrink.report.summary import summary
from irshrink.report.svg_axis import Axis, fitted
from irshrink.report.svg_plot import Plot, Point
from irshrink.testing.plans import example_plan
from irshrink.testing.reports import facts

PLAN = example_plan()
NOT_MET = example_plan(met=False)


def changed(**keys: Any) -> dict[str, Any]:
    return {**copy.deepcopy(PLAN), **keys}


def test_what_was_asked() -> None:
    assert words.asked(PLAN) == (
        "the smallest plan with at most 1.00 points of top-1 accuracy lost (--max-drop) and 40,960 B of "
        "flash (--flash)"
    )
    assert (
        words.asked(changed(objective="accurate", budgets=[])) == "the most accurate plan, without any budget"
    )
    limit = {"quantity": "cost", "option": "--instructions", "limit": 6e6}
    assert "at most 6,000,000 instructions (--instructions)" in words.asked(changed(budgets=[limit]))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "0.84 points"),
        ({"relative_drop": True}, "0.84 %"),
        ({"share": False}, "0.0084"),
    ],
)
def test_a_drop_has_the_unit_of_the_metric(keys: dict[str, Any], text: str) -> None:
    assert words.shown(changed(**keys), "drop", 0.0084) == text


def test_what_was_chosen_and_what_it_misses() -> None:
    assert words.outcome(PLAN) == (
        "channels removed: 10 % of the multiplications; bits of the weights: 4 bits in the mean (of 14 plans "
        "that were tried, 6 of which keep the budgets)"
    )
    assert "misses --max-drop 1.00 points by losing 1.24 points with its standard error" in words.outcome(
        NOT_MET
    )
    assert "--flash 24,576 B by taking 27,080 B" in words.outcome(NOT_MET)


def test_verdicts() -> None:
    told = [words.verdict(PLAN, i) for i in range(len(PLAN["evaluations"]))]
    assert told[0] == "over --flash"
    assert told[1] == "accuracy was not looked at"
    assert told[4] == "over --max-drop and --flash"
    assert told[12] == "refused: low-rank: layer '/fc' has no rank left"
    assert told[14] == "chosen"
    assert words.verdict(NOT_MET, NOT_MET["chosen"]) == "nearest"


def test_the_summary_of_a_plan() -> None:
    text = plan_summary(PLAN)
    assert re.search(r"^  layers become products: off, of 3 ways$", text, re.MULTILINE)
    assert re.search(r"^Flash, B +29,284 +40,960 +29,635 +52,480$", text, re.MULTILINE)
    assert "tried: 16 plans, 6 keep all budgets, 1 refused by a pass; judged on 1,000 samples" in text
    assert "--flash 29,284 B instead of 24,576 B, by plan 14" in plan_summary(NOT_MET)


def test_the_summary_of_a_build_has_the_plan_beside_what_was_built() -> None:
    made = build_report(dataclasses.replace(facts(), plan=PLAN))
    assert re.search(r"Flash, B +29,284 +40,960 +31,900 ", summary(made, Path("build")))
    assert "written to" not in summary(made, None)
    assert "asked" not in summary(build_report(facts()), None)


def test_rank_correlation() -> None:
    assert rank_correlation([(1, 10), (2, 20), (3, 30)]) == pytest.approx(1.0)
    assert rank_correlation([(1, 30), (2, 20), (3, 10)]) == pytest.approx(-1.0)
    assert rank_correlation([(1, 1), (2, 2), (2, 3), (4, 4)]) == pytest.approx(0.9486832980505138)
    assert rank_correlation([(1, 1), (2, 2)]) is None
    assert rank_correlation([(1, 1), (1, 2), (1, 3)]) is None
    assert worst_error([(110, 100), (95, 100)]) == pytest.approx(0.1)
    assert worst_error([]) is None


def test_a_frontier_is_a_staircase() -> None:
    assert staircase([(3, 1), (1, 3), (2, 3), (2, 2)]) == [(1, 3), (2, 3), (2, 2), (3, 2), (3, 1)]


def test_a_plot_tells_plans_apart_by_shape_and_says_all_in_words() -> None:
    plots = pareto_plots(PLAN)
    assert plots is not None
    assert [figure["title"] for figure in plots["figures"]] == [
        "Accuracy lost against flash", "Accuracy lost against RAM", "Accuracy lost against instructions"
    ]  # fmt: skip
    drawn = ElementTree.fromstring(plots["figures"][0]["picture"])
    assert "lower left is better" in drawn.attrib["aria-label"]
    marks = {
        title.text: group[1].tag for group in drawn.iter("g") if (title := group.find("title")) is not None
    }
    tags = {text.split(",")[0]: tag for text, tag in marks.items() if text}
    assert (tags["plan 14"], tags["plan 0"], tags["plan 9"]) == ("path", "rect", "circle")
    assert "plan 1" not in tags  # its accuracy was not looked at
    assert [text for _, text in plots["key"]][-2:] == ["frontier", "budget"]


def test_a_plan_that_loses_far_too_much_does_not_squeeze_the_others() -> None:
    plan = copy.deepcopy(PLAN)
    assert pareto_plots(plan)["bent"] is False  # type: ignore[index]
    plan["evaluations"][4]["figures"]["drop"] = 0.6
    plots = pareto_plots(plan)
    assert plots is not None
    assert plots["bent"]
    limits = [one for one in ElementTree.fromstring(plots["figures"][0]["picture"]).iter("line")
              if one.attrib["class"] == "limit" and one.attrib["y1"] == one.attrib["y2"]]  # fmt: skip
    assert 60 < float(limits[0].attrib["y1"]) < 200  # the budget is not at the bottom


def test_nothing_measured_is_no_plot() -> None:
    assert pareto_plots(changed(evaluations=[PLAN["evaluations"][1]], chosen=0)) is None


def test_labels_keep_off_the_marks() -> None:
    axis = Axis(0, 10, "x", lambda value: f"{value:g}", budget=5, budget_title="--flash 5")
    points = [Point(5, 5, "chosen", "one", 1), Point(5.4, 5, "kept", "two", 2)]
    drawn = ElementTree.fromstring(Plot(axis, axis, points, "two plans").draw())
    label = next(text for text in drawn.iter("text") if text.attrib["class"] == "number")
    assert float(label.attrib["x"]) < 190  # left of the mark: the other one is on its right


def test_ends_of_axes() -> None:
    assert fitted([10, 20]) == pytest.approx((9.4, 20.6))
    assert fitted([5]) == pytest.approx((4.7, 5.3))
    assert fitted([0.0]) == (-1.0, 1.0)
    assert fitted([0.1, 0.5], from_zero=True) == pytest.approx((-0.03, 0.53))
    assert fitted([-0.1, 0.5], from_zero=True)[0] < -0.1
    low, high = fitted([1.0, 1000.0], bend=0.5)
    assert 0.3 < low < 1.0
    assert 1000 < high < 2000


def test_ticks_are_round_and_apart() -> None:
    assert Axis(0, 1.1, "", str).ticks() == pytest.approx([0, 0.5, 1.0])
    assert Axis(20 * 1024, 55 * 1024, "", str, base=1024).ticks() == [20480, 30720, 40960, 51200]
    bent = Axis(-0.01, 0.7, "", str, base=0.01, bend=0.005)
    assert bent.ticks() == pytest.approx([-0.01, 0, 0.01, 0.1, 0.5], abs=1e-9)
    assert (bent.share(-1), bent.share(9)) == (0.0, 1.0)
    assert bent.share(0.05) - bent.share(0.01) == pytest.approx(bent.share(0.5) - bent.share(0.1), rel=0.1)

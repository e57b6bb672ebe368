"""The graph of a model before and after: rows, what became of each, and the drawing."""

from __future__ import annotations

import dataclasses
from typing import Any
from xml.etree import ElementTree

from irshrink.graph.shapes import infer_shapes
from irshrink.layer_cost import Cost, Footprint
from irshrink.report.graph import graph_rows
from irshrink.report.page import render_page
from irshrink.report.report import build_report
from irshrink.report.svg import shortened, text_width
from irshrink.report.svg_graph import MOST_LAYERS, change_lines, draw_graph, state, too_large
from irshrink.testing.reports import example_graph, facts
from irshrink.testing.small_net import small_net

WIDTH = 292.0


def compared(before: Footprint | None = None) -> list[dict[str, Any]]:
    made = build_report(dataclasses.replace(facts(), graph=example_graph(), before=before))
    return list(made["graph"])


def boxes(rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    drawn = ElementTree.fromstring(draw_graph(rows))
    found = [one for one in drawn.iter("rect") if one.attrib["class"].startswith("box")]
    return [(float(one.attrib["x"]), float(one.attrib["y"])) for one in found]


def test_a_row_is_a_layer_with_its_activation() -> None:
    module = small_net()
    assert [row["op_types"] for row in graph_rows(module.graph)][:2] == [["Conv"], ["Clip"]]  # open shapes
    infer_shapes(module.model)
    rows = graph_rows(module.graph)
    assert all(source < index for index, row in enumerate(rows) for source in row["inputs"])
    assert [row["op_types"] for row in rows] == [
        ["Conv", "Clip"], ["Conv"], ["Add", "Relu"], ["GlobalAveragePool", "Flatten"], ["Gemm"]
    ]  # fmt: skip
    assert [row["inputs"] for row in rows] == [[], [0], [0, 1], [2], [3]]
    assert rows[0]["nodes"] == ["node_c1", "node_r1"]
    assert rows[0]["bytes"] == 448
    assert rows[0]["macs"] > 0


def test_what_became_of_each_layer() -> None:
    rows = {row["name"]: row for row in compared()}
    assert rows["/conv"]["operators"] == ["conv"]
    assert rows["/conv"]["bytes"] == [640, 640]
    assert rows["/conv"]["instructions"] == [None, 1000]
    assert rows["/conv"]["output_shape"] == [[1, 16, 8, 8], [1, 8, 8, 16]]
    assert (state(rows["/conv"]), state(rows["/side"])) == ("kept", "joined")
    assert change_lines(rows["/side"])[0] == "nothing left to compute"
    within = {**rows["/side"], "within": "conv"}
    assert change_lines(within)[0] == "computed by conv"
    gone = {**rows["/side"], "kinds": ["block"]}
    assert (state(gone), change_lines(gone)[0]) == ("gone", "taken away")
    fewer = {**rows["/fc"], "kinds": ["rank"], "details": ["rank 4 of 10"], "bits": 4.0}
    assert change_lines(fewer) == ("rank 4 of 10; 4 bits", "10,280 → 0 B")


def test_instructions_before_are_those_that_were_predicted() -> None:
    cost = Cost(4000, "instructions", "predicted")
    before = Footprint(1, 1, 1, cost, {"/conv": cost, "/fc": Cost(1.0, "seconds", "measured")})
    rows = {row["name"]: row for row in compared(before)}
    assert rows["/conv"]["instructions"][0] == 4000
    assert rows["/fc"]["instructions"][0] is None


def test_boxes_stand_in_levels_and_never_on_each_other() -> None:
    places = boxes(compared())
    assert len(places) == len(set(places)) == 6
    conv, pool, side, add, fc, late = places
    assert conv[1] < pool[1] == side[1] < add[1] < fc[1] < late[1]
    assert side[0] - pool[0] > WIDTH


def test_an_edge_past_levels_runs_beside_the_boxes() -> None:
    rows = compared()
    drawn = ElementTree.fromstring(draw_graph(rows))
    right = max(x for x, _ in boxes(rows)) + WIDTH
    ways = [one.attrib["d"] for one in drawn.iter("path")]
    assert len(ways) == sum(len(row["inputs"]) for row in rows)
    (lane,) = [way for way in ways if way.count("H") == 2]
    assert float(lane.split("H")[1].split("V")[0]) > right


def test_a_large_graph_is_listed_and_says_why() -> None:
    chain = [
        {**compared()[0], "name": f"n{i}", "inputs": [i - 1] if i else []} for i in range(MOST_LAYERS + 1)
    ]
    assert too_large(chain) == "61 layers are more than can be drawn readably"
    wide = [{**row, "inputs": []} for row in chain[:4]]
    assert too_large(wide) == "4 layers stand side by side, which is too wide to read"
    made = build_report(dataclasses.replace(facts(), graph=example_graph()))
    page = render_page({**made, "graph": chain})
    assert "The graph is not drawn: 61 layers are more" in page
    assert '<svg class="graph"' not in page
    assert draw_graph([]) == ""


def test_names_are_cut_at_their_beginning() -> None:
    assert shortened("conv", 100, 12) == "conv"
    short = shortened("model/block_1/depthwise_conv", 100, 12)
    assert short.startswith("…")
    assert short.endswith("_conv")
    assert text_width(short, 12) <= 100
    assert text_width("MMM", 12) > text_width("iii", 12) * 2
    assert shortened("model", 1, 12) == ""

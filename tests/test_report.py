"""The report: its schema, what it must not hold, the page and the terminal's summary."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from irshrink.agreement import OutputScore
from irshrink.errors import InternalError
from irshrink.module import PassRecord
from irshrink.report.layers import float_lines
from irshrink.report.page import render_page, verdict
from irshrink.report.report import (
    AccuracyFacts,
    build_report,
    without_seconds,
    write_report,
)
from irshrink.report.summary import summary
from irshrink.report.svg import arena_over_time, nice_step
from irshrink.testing.reports import facts

SCHEMA = json.loads((Path(__file__).parents[1] / "irshrink" / "report" / "schema.json").read_text("utf-8"))
TOP1 = AccuracyFacts("top-1", 0.938, 0.9365, 1000, max_drop=0.01)
AGREEMENT = AccuracyFacts("agreement", 1.0, 0.99, 64, source="calibration")
TWO = (OutputScore("state", 256, 0.9999, 0.25, 8.0), OutputScore("score", 1, 0.8, None, 1.0))
COSINE = AccuracyFacts("cosine", 1.0, 0.8, 64, outputs=TWO)
MEASURED = (None, TOP1, AGREEMENT, COSINE)


def report(*arguments: Any, **options: Any) -> dict[str, Any]:
    return build_report(facts(*arguments, **options))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("target", ["cortex-m4", "nucleo-f446re", "host"])
@pytest.mark.parametrize(
    "accuracy", [None, TOP1, AGREEMENT, COSINE], ids=["none", "top-1", "agreement", "cosine"]
)
def test_reports_fit_the_schema(target: str, accuracy: AccuracyFacts | None) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(report(target, accuracy))


def test_the_keys_that_were_promised() -> None:
    made = report(accuracy=TOP1)
    assert made["target"] == "cortex-m4"
    assert made["model"]["sha256"] == "a" * 64
    assert made["size"] == {
        "flash_bytes": 31900,
        "weights_bytes": 26512,
        "code_bytes": 5210,
        "ram_bytes": 1900,
        "arena_bytes": 1388,
        "arena_lower_bound_bytes": 1380,
        "stack_bytes": 312,
        "float_weights_bytes": 4 * 24908,
    }
    emulation = made["emulation"]
    assert (emulation["instructions"], emulation["inputs"], emulation["mismatched_bytes"]) == (
        1_234_567,
        4,
        0,
    )
    assert (made["accuracy"]["original"], made["accuracy"]["compiled"]) == (0.938, 0.9365)
    first = made["passes"][0]
    assert (first["name"], first["changed"], first["seconds"]) == ("fold-constants", True, 0.125)


def test_a_host_build_has_no_instruction_count() -> None:
    made = report("host")
    assert made["emulation"]["native"]
    assert made["emulation"]["instructions"] is None
    assert made["size"]["stack_bytes"] is None
    assert {layer["instructions"] for layer in made["layers"]} == {None}


def test_layers() -> None:
    layers = {layer["name"]: layer for layer in report()["layers"]}
    assert list(layers) == ["conv", "pool", "fc", "dq", "softmax"]
    assert layers["conv"]["macs"] == 8 * 8 * 16 * 9
    assert layers["fc"]["macs"] == 10 * 256
    assert layers["conv"]["origin"] == ["/conv", "/relu"]
    assert layers["conv"]["quantization"] == {"scale": 0.0235, "zero_point": -3}
    assert layers["conv"]["kernel"] == "kernel_conv"
    assert [layer["dtype"] for layer in layers.values()] == ["int8", "int8", "int8", "float32", "float32"]
    reasons = {name: layer["why_float"] for name, layer in layers.items() if layer["why_float"]}
    assert reasons == {"softmax": "kept float by the recipe"}


def test_files_hold_no_seconds_unless_asked(tmp_path: Path) -> None:
    made = report()
    write_report(made, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert {record["seconds"] for record in written["passes"]} == {None}
    assert written == without_seconds(made)
    write_report(made, tmp_path, timings=True)
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == made


def test_files_hold_no_path(tmp_path: Path) -> None:
    write_report(report(), tmp_path)
    for name in ("report.json", "report.html"):
        text = (tmp_path / name).read_text("utf-8")
        assert "/nowhere" not in text
        assert str(tmp_path) not in text


def test_numbers_of_passes_become_plain() -> None:
    passes = report()["passes"]
    assert passes[0]["stats"] == {"folded": 2}
    assert passes[2]["options"] == {"keep_float": ["/soft*"]}
    assert passes[2]["stats"] == {"clip": "inf"}
    odd = facts()
    odd.history.append(PassRecord("odd", True, 0.0, {}, {"thing": object()}))
    with pytest.raises(InternalError, match="a pass put a object"):
        build_report(odd)


class Page(HTMLParser):
    """What a browser would fetch, and which tags are left open."""

    VOID = frozenset({"meta", "rect", "line", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "srcset", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("target", ["cortex-m4", "nucleo-f446re", "host"])
@pytest.mark.parametrize(
    "accuracy", [None, TOP1, AGREEMENT, COSINE], ids=["none", "top-1", "agreement", "cosine"]
)
def test_the_page_is_whole_and_fetches_nothing(target: str, accuracy: AccuracyFacts | None) -> None:
    text = render_page(report(target, accuracy))
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "script" not in page.tags
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_escapes_names_of_the_model() -> None:
    text = render_page(report())
    assert "one &lt;note&gt;" in text
    assert "<note>" not in text


def test_the_page_is_made_from_the_file_alone(tmp_path: Path) -> None:
    write_report(report(accuracy=TOP1), tmp_path)
    again = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert render_page(again) == (tmp_path / "report.html").read_text("utf-8")


def test_verdicts() -> None:
    assert verdict(report()) == (
        True,
        "All 192 output bytes of 4 inferences on an emulated cortex-m4 equal the reference.",
    )
    right, sentence = verdict(report(mismatched=3))
    assert not right
    assert sentence.startswith("3 of 192 output bytes")


def test_the_arena_is_drawn_to_scale() -> None:
    made = report()
    svg = arena_over_time(made["arena"], len(made["layers"]), made["size"]["arena_bytes"])
    groups = ElementTree.fromstring(svg).findall("g")
    assert len(groups) == len(made["arena"])
    heights = {}
    for group in groups:
        title, rect = group.find("title"), group.find("rect")
        assert title is not None
        assert rect is not None
        heights[str(title.text).split(":")[0]] = float(rect.attrib["height"]) + 1.5
    assert heights["a"] / heights["b"] == pytest.approx(4, rel=0.01)
    assert "role" in ElementTree.fromstring(svg).attrib
    assert arena_over_time([], 0, 0) == ""


def test_windows_of_rows_say_how_many_rows_they_hold() -> None:
    slot = {"name": "t", "offset": 0, "bytes": 64, "first": 0, "last": 1, "rows": 3}
    assert "<title>t (last 3 rows): 64 B at 0, layers 0 to 1</title>" in arena_over_time([slot], 2, 64)


@pytest.mark.parametrize(
    ("length", "step"), [(5, 1), (48, 10), (1388, 500), (16640, 5120), (55296, 20480), (4 << 20, 1024000)]
)
def test_steps_of_axes(length: int, step: int) -> None:
    assert nice_step(length, 5) == step


def test_the_summary_says_what_matters() -> None:
    text = summary(report("nucleo-f446re", TOP1), Path("build"))
    assert re.search(r"flash +31,900 B +weights 26,512 B, code 5,210 B, of 524,288 B", text)
    assert re.search(r"instructions +1,234,567", text)
    assert re.search(r"top-1 +93.65 % +float 93.80 %, 1,000 samples", text)
    assert "/soft<max> (SoftmaxF32): kept float by the recipe" in text
    assert "passes took 1.9 s: quantize-int8 1.5 s" in text
    assert re.search(r"kernels +1 of 2 layers +by measured schedules, 1 by rule, 1 outdated", text)
    assert not re.search("instructions|kernels", summary(report("host"), Path("build")))


def test_the_page_says_how_kernels_were_chosen() -> None:
    chosen = "Kernels of 1 of 2 layers were chosen by measured schedules, 1 by rule, 1 outdated."
    assert chosen in render_page(report())
    assert "were chosen" not in render_page(report("host"))


def test_the_worst_of_several_outputs_is_shown_and_all_are_listed() -> None:
    made = report(accuracy=COSINE)
    assert [output["name"] for output in made["accuracy"]["outputs"]] == ["state", "score"]
    text = summary(made, Path("build"))
    assert re.search("0.800000 +similarity with the float model on 64 samples: 'score', the worst of 2", text)
    page = render_page(made)
    assert "the worst output of what was compiled has a mean cosine similarity of 0.800000" in page
    assert '<td class="name">score</td><td class="num">1</td><td class="num">0.800000</td>' in page
    assert '<td class="num">NaN</td>' in page


def test_float_layers_go_by_their_nodes() -> None:
    rows = [
        {"name": "lstm", "op": "DenseF32", "origin": ["/lstm"], "why_float": "no form"},
        {"name": "lstm_2", "op": "RecurrentF32", "origin": ["/lstm"], "why_float": "no form"},
        {"name": "fc", "op": "DenseInt8", "origin": ["/fc"], "why_float": None},
        {"name": "lstm_3", "op": "Slice", "origin": ["/lstm"], "why_float": "no form"},
        {"name": "softmax", "op": "SoftmaxF32", "origin": [], "why_float": "kept float"},
    ]
    assert float_lines(rows) == [
        "/lstm (DenseF32, RecurrentF32, Slice): no form",
        "softmax (SoftmaxF32): kept float",
    ]


def test_times_of_a_pass_that_ran_twice_are_one() -> None:
    made = report()
    twice = dict(made["passes"][0], name="move", seconds=0.75)
    made["passes"] += [twice, dict(twice), dict(twice)]
    assert "move 2.2 s" in summary(made, Path("build"))
    assert summary(made, Path("build")).count("move") == 1


def test_the_page_has_no_empty_column_and_no_zero() -> None:
    made = report()
    assert '<th class="num">Seconds</th>' in render_page(made)
    assert "Seconds" not in render_page(without_seconds(made))
    port = made["model"]["inputs"][0]
    port["quantization"] = {"scale": 0.5, "zero_point": 0}
    assert "real = 0.5 × stored</dd>" in render_page(made)
    port["quantization"] = {"scale": 0.5, "zero_point": 3}
    assert "real = 0.5 × (stored -3)</dd>" in render_page(made)

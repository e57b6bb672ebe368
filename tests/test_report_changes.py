"""What pruning, low rank and sparsity took away, in the report, on its page and on the terminal."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from irshrink.changes import STATS_KEY, Kind, LayerChange, LayerSize
from irshrink.compiler import compile_model
from irshrink.costs.measure import Callers, Meter, Reading
from irshrink.costs.sizes import Single
from irshrink.layer_cost import Cost, Footprint
from irshrink.module import PassRecord
from irshrink.recipe import Recipe
from irshrink.report.changes import change_rows
from irshrink.report.page import render_page
from irshrink.report.report import build_report
from irshrink.report.summary import removed, summary
from irshrink.testing.reports import facts
from irshrink.testing.small_net import small_net

SCHEMA = json.loads((Path(__file__).parents[1] / "irshrink" / "report" / "schema.json").read_text("utf-8"))


def change(
    layer: str, kind: Kind | None, detail: str, nbytes: tuple[int, int], into: tuple[str, ...] = ()
) -> LayerChange:
    before, after = (LayerSize((4, 4), n, 10 * n, n) for n in nbytes)
    score = None if kind is None else "l2"
    error = None if kind is None else 0.0125
    return LayerChange(layer, "Conv", kind, detail, score, error, before, after, into)


def record(name: str, *changes: LayerChange) -> PassRecord:
    rows = [dataclasses.asdict(one) for one in changes]
    return PassRecord(name, True, 0.0, {}, {"removed": 8, STATS_KEY: rows})


PRUNED = record(
    "prune-channels",
    change("/conv", "channels", "8 of 32 output channels", (400, 300)),
    change("/fc", None, "weights 10x32 became 10x24", (320, 240)),
)
FACTORED = record(
    "factorize", change("/fc", "rank", "rank 4 of 10 <SVD>", (240, 136), into=("/fc_a", "/fc_b"))
)
THIRD = record("prune-again", change("/fc_b", "channels", "2 of 10 channels", (40, 32)))
BEFORE = Footprint(
    30000,
    5000,
    2000,
    Cost(2_000_000, "instructions", "predicted", 0.012),
    {"/conv": Cost(4000, "instructions", "predicted"), "/fc": Cost(900, "instructions", "measured")},
)


def built(
    *records: PassRecord, before: Footprint | None = BEFORE, target: str = "cortex-m4"
) -> dict[str, Any]:
    made = facts(target)
    return build_report(dataclasses.replace(made, history=[*made.history, *records], before=before))


def test_a_report_without_changes_says_so() -> None:
    assert built()["changes"] is None
    assert "taken away" not in render_page(built())


def test_changes_fit_the_schema() -> None:
    for made in (
        built(PRUNED),
        built(PRUNED, FACTORED),
        built(PRUNED, before=None),
        built(PRUNED, target="host"),
    ):
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(made)))


def test_a_layer_that_several_passes_changed_has_one_row() -> None:
    rows = built(PRUNED, FACTORED, THIRD)["changes"]["layers"]
    assert [row["layer"] for row in rows] == ["/conv", "/fc"]
    conv, fc = rows
    assert conv["bytes"] == [400, 300]
    assert conv["instructions"] == [4000, 1000]
    assert [step["pass"] for step in fc["steps"]] == ["prune-channels", "factorize", "prune-again"]
    assert fc["into"] == ["/fc_a", "/fc_b"]
    assert fc["bytes"] == [320, 128]
    assert fc["macs"] == [3200, 1280]


def test_totals_are_of_the_whole_model() -> None:
    total = built(PRUNED)["changes"]["total"]
    assert total["weights_bytes"] == [30000, 26512]
    assert total["arena_bytes"] == [2000, 1388]
    assert total["instructions"] == [2_000_000, 1_234_567]
    assert total["macs"] == [11776 + 1800, 11776]


def test_nothing_is_said_of_instructions_where_none_were_counted() -> None:
    seconds = dataclasses.replace(BEFORE, cost=Cost(0.5, "seconds", "measured"), layers={})
    for before in (None, seconds):
        changes = built(PRUNED, before=before, target="host")["changes"]
        assert changes["total"]["instructions"] == [None, None]
        assert {tuple(row["instructions"]) for row in changes["layers"]} == {(None, None)}
    assert "nstructions before" not in render_page(built(PRUNED, before=None, target="host"))


def test_the_page_and_the_terminal_tell_what_went_and_why() -> None:
    made = built(PRUNED, FACTORED)
    page = render_page(made)
    assert "8 of 32 output channels" in page
    assert "rank 4 of 10 &lt;SVD&gt;" in page
    assert "prune-channels, by l2" in page
    assert "became /fc_a, /fc_b" in page
    assert "within about 1.2 %" in page
    text = summary(made, Path("build"))
    assert "/conv: 8 of 32 output channels, by l2, error 0.013" in text
    assert re.search(r"instructions 2,000,000 → 1,234,567\s+\(-38.3 %\)", text)


def test_the_terminal_counts_neighbours_apart() -> None:
    assert removed(built(PRUNED)["changes"]).startswith(
        "1 layer and 1 beside them were changed: MACs 13,576 → 11,776 (-13.3 %),"
    )


def test_rows_are_in_the_order_of_the_first_pass() -> None:
    made = change_rows([PRUNED], None, [], {"weights_bytes": 1, "code_bytes": 1, "arena_bytes": 1}, None)
    assert made is not None
    assert made["predicted_error"] is None
    assert made["total"]["arena_bytes"] == [None, 1]


def test_a_compiled_model_that_lost_channels_tells_what_it_took_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Single] = []

    def read(self: Meter, layers: Sequence[Single], callers: Callers) -> list[Reading]:
        asked.extend(layers)
        return [Reading(10.0 * layer.program.tensors[layer.op.output].elements, 100) for layer in layers]

    monkeypatch.setattr(Meter, "read", read)
    monkeypatch.setattr("irshrink.costs.store.cost_folder", lambda: tmp_path / "cache")
    module = small_net()
    module.save(tmp_path / "net.onnx")
    np.savez(
        tmp_path / "samples.npz",
        x=np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32),
    )
    recipe = Recipe(
        target="cortex-m4",
        calibration=str(tmp_path / "samples.npz"),
        steps=(
            {"pass": "prune-channels", "score": "l2", "repair": False, "ratio": 0.4, "multiple": 1},
            {"pass": "quantize-int8"},
        ),
        test_inputs=1,
    )
    made = compile_model(tmp_path / "net.onnx", recipe, tmp_path / "out")
    jsonschema.Draft202012Validator(SCHEMA).validate(made)
    changes = made["changes"]
    assert {row["layer"] for row in changes["layers"]} >= {"node_c1", "node_c2", "node_y"}
    before, after = changes["total"]["instructions"]
    assert after == made["emulation"]["instructions"]
    assert before > 0
    assert asked
    assert changes["total"]["arena_bytes"][0] >= changes["total"]["arena_bytes"][1] > 0
    first = next(row for row in changes["layers"] if row["layer"] == "node_c1")
    assert first["macs"][0] > first["macs"][1]
    assert None not in first["instructions"]

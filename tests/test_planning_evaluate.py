"""What is measured of a plan is what a compilation of it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from irshrink.compiler import compile_model
from irshrink.costs.planned import plan_only
from irshrink.errors import OutputError, RecipeError
from irshrink.planning import evaluate as evaluation
from irshrink.planning.evaluate import Job, Measured, evaluate, known
from irshrink.planning.footprint import footprint
from irshrink.planning.journal import Journal
from irshrink.planning.stages import Stages
from irshrink.planning.subject import Subject
from irshrink.recipe import make_recipe
from irshrink.testing.small_net import dense_net

MODELS = Path(__file__).parents[1] / "models"
INT8: dict[str, Any] = {"pass": "quantize-int8", "method": "minmax"}
PRUNE: dict[str, Any] = {"pass": "prune-channels", "ratio": 0.5, "repair": False}
FOUR: dict[str, Any] = {**INT8, "weight_bits": 4}
KEYS: dict[str, Any] = {
    "target": "cortex-m4", "calibration": str(MODELS / "kws-samples.npz"), "fit": 12, "test_inputs": 1
}  # fmt: skip


def opened(**keys: Any) -> Subject:
    return Subject.open(MODELS / "kws.onnx", make_recipe({**KEYS, **keys}))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return opened()


@pytest.fixture
def stages(subject: Subject, tmp_path: Path) -> Stages:
    return Stages(subject, Journal(tmp_path / "journal"))


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A net of few layers, and keys for it."""
    folder = tmp_path_factory.mktemp("dense")
    dense_net().save(folder / "net.onnx")
    np.savez(folder / "x.npz", x=np.random.default_rng(0).standard_normal((18, 24)).astype(np.float32))
    return folder / "net.onnx", {**KEYS, "calibration": str(folder / "x.npz")}


def test_figures_are_those_of_a_build(tmp_path: Path) -> None:
    compared(MODELS / "kws.onnx", KEYS, (INT8,), tmp_path)


def test_figures_are_those_of_a_build_of_fewer_channels(
    dense: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    found = compared(*dense, (PRUNE, FOUR), tmp_path)
    assert any("channels" in str(row.get("changes")) for row in found.layers)


def compared(model: Path, keys: dict[str, Any], steps: tuple[dict[str, Any], ...], folder: Path) -> Measured:
    """What is measured of a plan, which is what a build of it takes."""
    subject = Subject.open(model, make_recipe(keys))
    stages = Stages(subject, Journal(folder / "journal"))
    measured = evaluate(subject, stages, Job(steps))
    figures = measured.figures
    assert figures is not None
    report = compile_model(model, make_recipe({**keys, "steps": list(steps)}), folder / "build")
    size = report["size"]
    assert figures.flash_bytes == size["flash_bytes"]
    assert figures.weights_bytes == size["weights_bytes"]
    assert figures.arena_bytes == size["arena_bytes"]
    assert abs(figures.ram_bytes - size["ram_bytes"] - size["stack_bytes"]) <= 64
    assert figures.file_bytes == report["model"]["compressed_bytes"]
    assert figures.cost == pytest.approx(report["emulation"]["instructions"], rel=0.001)  # of another sample
    assert sum(row.get("cost", 0) for row in measured.layers) <= figures.cost
    assert (measured.metric, measured.original, measured.share) == ("agreement", 1.0, True)
    assert known(stages, Job(steps)) == measured  # the same after it was written and read
    return measured


def test_without_judging_only_the_size_is_found(subject: Subject, stages: Stages) -> None:
    measured = evaluate(subject, stages, Job((PRUNE, INT8), judged=False))
    assert measured.figures is not None
    assert (measured.figures.drop, measured.figures.loss, measured.metric) == (0, 0, "")
    assert known(stages, Job((PRUNE, INT8))) is None
    assert [row["changes"][0]["pass"] for row in measured.layers if "changes" in row]


def test_a_pass_that_refuses_is_an_answer(subject: Subject, stages: Stages) -> None:
    job = Job((PRUNE, {"pass": "quantize-mixed", "max_size": 100}))
    measured = evaluate(subject, stages, job)
    assert measured.figures is None
    assert "with the fewest bits everywhere the model takes" in str(measured.failed)
    lines = len(stages.journal.log())
    assert evaluate(subject, stages, job) == measured
    assert len(stages.journal.log()) == lines
    with pytest.raises(RecipeError, match="has no option 'ratoi'"):
        evaluate(subject, stages, Job(({"pass": "prune-channels", "ratoi": 0.5},)))


def test_a_full_disk_is_no_answer(subject: Subject, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OutputError("/tmp: no space left on device")

    monkeypatch.setattr(evaluation, "footprint", full)
    with pytest.raises(OutputError, match="no space left"):
        evaluate(subject, stages, Job((INT8,), judged=False))
    assert known(stages, Job((INT8,), judged=False)) is None


def test_a_budget_decides_whether_answers_are_counted(subject: Subject, stages: Stages) -> None:
    assert evaluate(subject, stages, Job((INT8,))).estimated
    loose = opened(max_drop="60%")
    assert loose.digest == subject.digest
    again = Stages(loose, stages.journal)
    assert known(again, Job((INT8,))) is None
    assert not evaluate(loose, again, Job((INT8,))).estimated
    stages_made = [words for words in stages.journal.log() if words[0] == "stage"]
    assert len(stages_made) == 1


def test_budgets_that_are_judged_by_alike_share_what_was_found(subject: Subject, stages: Stages) -> None:
    found = evaluate(subject, stages, Job((INT8,)))
    lines = stages.journal.log()
    for limit in ("1%", "2%", "2% relative"):
        other = Stages(opened(max_drop=limit), stages.journal)
        shared = "relative" not in limit  # which has another unit
        assert known(other, Job((INT8,))) == (found if shared else None)
    assert stages.journal.log() == lines


def test_ram_that_no_plan_fits_is_missed_by_as_much_as_it_is(tmp_path: Path) -> None:
    """The smallest arena there is counts, not the one of a target with room."""
    keys = {**KEYS, "calibration": str(MODELS / "mnist-samples.npz")}
    plenty, little = (
        Subject.open(MODELS / "lenet-5.onnx", make_recipe({**keys, **ram})) for ram in ({}, {"ram": "4K"})
    )
    journal = Journal(tmp_path)
    module = Stages(plenty, journal).module([INT8])
    arenas = [footprint(one, journal, module)[0].arena_bytes for one in (plenty, little)]
    assert arenas == [11_888, 6_704]
    assert plan_only(module, little.target).arena_bytes == 6_704


def test_where_nothing_counts_cost_multiplications_do(tmp_path: Path) -> None:
    subject = opened(target="host")
    found = evaluate(subject, Stages(subject, Journal(tmp_path)), Job((INT8,))).figures
    assert found is not None
    assert found.cost == found.macs == 2_656_768
    assert found.flash_bytes > found.weights_bytes
    assert msgspec.to_builtins(found)["ram_bytes"] >= found.arena_bytes

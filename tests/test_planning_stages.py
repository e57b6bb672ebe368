"""Models between steps: the same as in memory, kept, and robust against damage."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from irshrink.costs.planned import costs_if_any, needs_costs
from irshrink.errors import RecipeError
from irshrink.module import Module
from irshrink.pipeline import Pipeline
from irshrink.planning.journal import Journal
from irshrink.planning.stages import RefusedError, Stages, made
from irshrink.planning.subject import Subject
from irshrink.recipe import make_recipe
from irshrink.verify import verify_structure

MODELS = Path(__file__).parents[1] / "models"
INT8: dict[str, Any] = {"pass": "quantize-int8", "method": "minmax"}
PRUNE: dict[str, Any] = {"pass": "prune-channels", "ratio": 0.3, "repair": False}

PLANS: list[list[dict[str, Any]]] = [
    [PRUNE, {"pass": "repair"}, {**INT8, "keep_float": ["Gemm"]}],
    [
        {"pass": "low-rank", "by": "parameters", "budget": 0.3},
        {"pass": "prune-weights", "sparsity": 0.6},
        {"pass": "quantize-int8", "weight_bits": 4, "method": "minmax"},
        {"pass": "store-sparse"},
    ],
    [PRUNE, {"pass": "quantize-mixed", "max_size": 30_000}],
]


@pytest.fixture(scope="module")
def subject() -> Subject:
    data = str(MODELS / "kws-samples.npz")
    recipe = make_recipe({"target": "cortex-m4", "calibration": data, "fit": 12})
    return Subject.open(MODELS / "kws.onnx", recipe)


@pytest.fixture
def stages(subject: Subject, tmp_path: Path) -> Stages:
    return Stages(subject, Journal(tmp_path / "journal"))


def saved(module: Module, folder: Path) -> bytes:
    module.save(folder / "model.onnx")
    return (folder / "model.onnx").read_bytes()


def in_memory(subject: Subject, steps: Sequence[dict[str, Any]]) -> Module:
    """As a compilation runs them."""
    passes, module = made(steps), subject.module.clone()
    target, seed = subject.target, subject.recipe.seed
    costs = costs_if_any(target, passes, subject.schedules) if needs_costs(passes) else None
    for step in passes:
        Pipeline([step], (), verify_structure, costs=costs).run(module, target, seed)
    return module


@pytest.mark.parametrize("steps", PLANS, ids=["repair", "sparse", "mixed"])
def test_stages_give_the_bytes_of_one_go(
    subject: Subject, stages: Stages, steps: list[dict[str, Any]], tmp_path: Path
) -> None:
    whole = in_memory(subject, steps)
    staged = stages.module(steps)
    assert saved(staged, tmp_path) == saved(whole, tmp_path)
    done = [record.name for record in staged.history]
    assert done == [step["pass"] for step in steps]
    assert all(record.seconds == 0 for record in staged.history)
    if whole.original is not None:
        assert staged.original is not None
        assert saved(staged.original.module, tmp_path) == saved(whole.original.module, tmp_path)
        assert staged.original.kept.keys() == whole.original.kept.keys()
    assert stages.subject.module.original is None  # what it began with is as it was


def test_plans_share_what_they_have_in_common(stages: Stages) -> None:
    four = {**INT8, "weight_bits": 4}
    stages.module([PRUNE, INT8])
    stages.module([PRUNE, INT8, {"pass": "store-sparse"}])
    stages.module([PRUNE, INT8])
    assert [words[2] for words in stages.journal.log()] == ["prune-channels", "quantize-int8", "store-sparse"]
    # passes that ask for costs count layers as later steps store them
    assert stages.keys([PRUNE, INT8])[0] != stages.keys([PRUNE, four])[0]
    assert stages.keys([PRUNE, INT8])[0] == stages.keys([PRUNE, {**INT8, "rounding": "nearest"}])[0]
    assert stages.keys([INT8])[0] != stages.keys([INT8], judged=False)[0]


def test_what_is_damaged_is_computed_again(stages: Stages, tmp_path: Path) -> None:
    first = saved(stages.module([INT8]), tmp_path)
    key, journal = stages.keys([INT8])[0], stages.journal
    entry, blob = journal.folder / "stages" / f"{key}.json", next((journal.folder / "blobs").iterdir())
    whole = {entry: entry.read_bytes(), blob: blob.read_bytes()}
    for file, content in whole.items():
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        for damaged in (content[: len(content) // 2], b"", bytes(flipped), None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            assert saved(stages.module([INT8]), tmp_path) == first
            assert file.read_bytes() == content


def test_a_refusal_is_remembered(stages: Stages) -> None:
    impossible = {"pass": "quantize-mixed", "max_size": 100}
    for _ in range(2):
        with pytest.raises(RefusedError, match="with the fewest bits everywhere"):
            stages.module([impossible, INT8])
    assert [words[2:] for words in stages.journal.log()] == [["quantize-mixed", "refused"]]
    assert stages.has(stages.keys([impossible])[0])


def test_an_unknown_pass_is_the_callers_fault(stages: Stages) -> None:
    with pytest.raises(RecipeError, match="unknown pass 'prune-chanels'"):
        stages.module([{"pass": "prune-chanels"}])
    assert stages.journal.log() == []


def test_the_journal_keeps_what_was_used_last(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    names = [journal.put_blob(bytes([n]) * 1000) for n in range(4)]
    for age, name in enumerate(names):
        path = tmp_path / "blobs" / name
        times = (path.stat().st_atime, path.stat().st_mtime - 1000 * (4 - age))
        os.utime(path, times)
    assert journal.blob(names[0]) is not None  # the oldest, but used just now
    journal.tidy(2000)
    assert [name for name in names if journal.has_blob(name)] == [names[0], names[3]]

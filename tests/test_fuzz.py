"""A few hundred hostile models; benchmarks/fuzz.py runs a hundred thousand of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from irshrink.isolation.confine import confine_writes
from irshrink.testing.mutation import mutate
from irshrink.testing.sandbox import run_cases

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux: fork, /proc and Landlock"),
    # fork() with ONNX Runtime's threads around is what the sandbox is for.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_no_hostile_model_crashes_or_hangs_or_writes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("TMPDIR", os.environ.get("TMPDIR", "/tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    import fuzz
    from fuzz_seeds import seeds

    bench = fuzz.Bench(tmp_path / "bench", seeds(quick=True), seed=7)
    outcomes = list(run_cases(range(1, 200), bench.check, bench.folder, seconds=60))
    assert not [one for one in outcomes if one.kind in ("crash", "hang")]
    assert sum(one.kind == "ok" for one in outcomes) > 20


def test_the_same_seed_gives_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from fuzz_seeds import seeds

    models = seeds(quick=True)
    assert [mutate(models[k], models, k) for k in range(20)] == [
        mutate(models[k], models, k) for k in range(20)
    ]


def test_the_sandbox_survives_what_a_case_does(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    inside.mkdir()

    def check(case: int) -> tuple[str, str]:
        if case == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if case == 2:
            while True:
                time.sleep(0)
        if case == 3:
            outside.write_text("x")
        if case == 4:
            bytearray(1 << 34)
        (inside / "file").write_text("x")
        return "ok", "fine"

    outcomes = list(run_cases(range(6), check, inside, seconds=0.3, memory=1 << 30))
    assert [one.kind for one in outcomes] == ["ok", "crash", "hang", "crash", "crash", "ok"]
    assert outcomes[1].text == "signal SIGSEGV"
    assert outcomes[3].text.startswith("PermissionError")
    assert outcomes[4].text.startswith("MemoryError")
    assert not outside.exists()


def test_a_confined_process_may_read(tmp_path: Path) -> None:
    def check(case: int) -> tuple[str, str]:
        assert confine_writes(tmp_path)  # once more
        return "ok", str(len(Path(__file__).read_text()))

    (outcome,) = run_cases([0], check, tmp_path)
    assert outcome.kind == "ok"

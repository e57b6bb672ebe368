"""How many processes try plans where memory is short, and that it is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from irshrink.console import Milestone
from irshrink.planning import memory, workers
from irshrink.planning.memory import available_bytes, fitting, process_bytes
from irshrink.planning.subject import Subject
from irshrink.planning.workers import workers_for
from irshrink.recipe import make_recipe

MODELS = Path(__file__).parents[1] / "models"
GROUP = "sys/fs/cgroup"


@pytest.fixture(scope="module")
def subject() -> Subject:
    data = str(MODELS / "kws-samples.npz")
    return Subject.open(MODELS / "kws.onnx", make_recipe({"target": "cortex-m4", "calibration": data}))


def test_what_a_process_takes_is_estimated_from_the_model(subject: Subject) -> None:
    second_moments, activations, parameters = 80 * 42_816, 48 * 144_652, 8 * 22_604
    samples = 21 * (2_000 + 4 * 12)
    assert process_bytes(subject) == (500 << 20) + second_moments + activations + parameters + samples


def test_as_many_as_fit_but_one_at_least(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    each = process_bytes(subject)
    for free, count in [(None, 8), (8 * each, 8), (8 * each - 1, 7), (2 * each, 2), (each, 1), (0, 1)]:
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: free)
        found, why = fitting(8, subject)
        assert found == count
        assert (why is None) == (count == 8)
        assert fitting(1, subject) == (1, None)
    assert why == "one plan is tried at a time, not 8: a process takes up to 0.5 GB, and 0.0 GB are free"


@pytest.mark.parametrize(
    ("processes", "count", "said"),
    [
        (0, 2, ["2 plans are tried at a time, not 4: a process takes up to 0.5 GB, and 1.2 GB are free"]),
        (3, 3, []),
    ],
)
def test_fewer_processes_are_said_and_a_wish_is_a_wish(
    processes: int,
    count: int,
    said: list[str],
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_200_000_000)
    monkeypatch.setattr(workers, "cores", lambda: 4)
    told: list[str] = []
    with workers_for(subject, processes=processes, folder=tmp_path, progress=told.append) as found:
        assert found.processes == count
    assert told == said
    assert all(isinstance(one, Milestone) for one in told)


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_linux_says_what_is_available(tmp_path: Path) -> None:
    meminfo = {"proc/meminfo": "MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:  8000 kB\n"}
    root = machine(tmp_path, meminfo)
    assert available_bytes(root) == 8_192_000
    # version 1 of control groups alone
    assert available_bytes(machine(root, {"proc/self/cgroup": "3:memory:/user\n"})) == 8_192_000
    limited = {
        "proc/self/cgroup": "3:cpu:/\n0::/outer/inner\n",
        f"{GROUP}/outer/inner/memory.max": "max\n",
        f"{GROUP}/outer/inner/memory.current": "500\n",
        f"{GROUP}/outer/memory.max": "7000000\n",
        f"{GROUP}/outer/memory.current": "3000000\n",
        f"{GROUP}/outer/memory.stat": "anon 5\ninactive_file 1000000\nactive_file 7\n",
    }
    assert available_bytes(machine(root, limited)) == 5_000_000
    over = {f"{GROUP}/memory.max": "100\n", f"{GROUP}/memory.current": "200\n"}
    assert available_bytes(machine(root, over)) == 0


def test_elsewhere_all_memory_counts_where_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert available_bytes(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(os, "sysconf_names", {})
    assert available_bytes(tmp_path) is None

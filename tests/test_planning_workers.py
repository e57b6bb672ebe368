"""Who tries plans makes no difference to what is found, and nothing is computed twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.errors import ToolError, UserError
from irshrink.planning.cluster import require_cluster
from irshrink.planning.evaluate import Job, Measured
from irshrink.planning.journal import Journal
from irshrink.planning.parallel import Parallel
from irshrink.planning.remote import Place, try_plan
from irshrink.planning.stages import Stages
from irshrink.planning.subject import Subject
from irshrink.planning.workers import Workers, workers_for
from irshrink.recipe import make_recipe
from irshrink.testing.small_net import dense_net

INT8: dict[str, Any] = {"pass": "quantize-int8", "method": "minmax"}
FOUR: dict[str, Any] = {**INT8, "weight_bits": 4}
PRUNE: dict[str, Any] = {"pass": "prune-channels", "ratio": 0.3, "repair": False}
ZEROS: dict[str, Any] = {"pass": "prune-weights", "sparsity": 0.5, "method": "magnitude"}
#: Two share two steps, four share one, and one is asked for twice.
JOBS = [
    Job((INT8,)),
    Job((PRUNE, INT8)),
    Job((PRUNE, ZEROS, INT8)),
    Job((PRUNE, ZEROS, INT8, {"pass": "store-sparse"})),
    Job((PRUNE, {"pass": "quantize-mixed", "max_size": 100})),
    Job((INT8,)),
]


def opened(folder: Path) -> Subject:
    recipe = make_recipe({"target": "cortex-m4", "calibration": str(folder / "x.npz"), "fit": 8})
    return Subject.open(folder / "net.onnx", recipe)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``net.onnx``, which takes little time, and samples ``x.npz``."""
    folder = tmp_path_factory.mktemp("files")
    dense_net().save(folder / "net.onnx")
    np.savez(folder / "x.npz", x=np.random.default_rng(0).standard_normal((24, 24)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def subject(files: Path) -> Subject:
    return opened(files)


@pytest.fixture(scope="module")
def alone(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> list[Measured]:
    """What is found here, one after the other."""
    with workers_for(subject, processes=1, folder=tmp_path_factory.mktemp("alone")) as workers:
        assert workers.processes == 1
        return workers.run(JOBS, lambda *_: None)


def computed_once(folder: Path) -> None:
    lines = [tuple(words) for words in Journal(folder).log()]
    assert len(lines) == len(set(lines))
    stages = [words for words in lines if words[0] == "stage"]
    assert len(stages) == 7  # int8, prune, prune + int8, prune + zeros, those + int8, those + sparse, mixed
    assert len([words for words in lines if words[0] == "evaluation"]) == len(JOBS) - 1


def run(workers: Workers) -> tuple[list[Measured], dict[int, bool]]:
    told: dict[int, bool] = {}

    def done(index: int, measured: Measured, seconds: float, reused: bool) -> None:
        assert index not in told
        assert seconds >= 0
        told[index] = reused

    return workers.run(JOBS, done), told


def test_two_processes_find_the_same(subject: Subject, alone: list[Measured], tmp_path: Path) -> None:
    with workers_for(subject, processes=2, folder=tmp_path) as workers:
        found, told = run(workers)
        assert found == alone
        assert told == {index: index == 5 for index in range(len(JOBS))}
        computed_once(tmp_path)
        again, told = run(workers)
    assert again == alone
    assert all(told[index] for index in range(len(JOBS)))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")
def test_a_dask_cluster_finds_the_same(subject: Subject, alone: list[Measured], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with workers_for(subject, cluster="local:2", folder=tmp_path) as workers:
        assert workers.processes == 2
        found, _ = run(workers)
    assert found == alone
    computed_once(tmp_path)


class Fragile(ThreadPoolExecutor):
    """Breaks where so many tasks have been submitted."""

    def __init__(self, after: int) -> None:
        super().__init__(1)
        self._left = after

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self._left -= 1
        if self._left < 0:
            raise BrokenExecutor("a process died")
        return super().submit(*args, **kwargs)


def test_after_a_process_has_died_fewer_go_on(
    subject: Subject, alone: list[Measured], tmp_path: Path
) -> None:
    started: list[int] = []

    @contextmanager
    def pool(processes: int) -> Iterator[Executor]:
        started.append(processes)
        with Fragile(2 if processes > 1 else 100) as executor:
            yield executor

    workers = Parallel(Stages(subject, Journal(tmp_path)), pool, 4)
    found, _ = run(workers)
    workers.close()
    assert started == [4, 2, 1]
    assert found == alone
    computed_once(tmp_path)


def test_processes_that_always_die_are_given_up(subject: Subject, tmp_path: Path) -> None:
    @contextmanager
    def pool(processes: int) -> Iterator[Executor]:
        with Fragile(0) as executor:
            yield executor

    workers = Parallel(Stages(subject, Journal(tmp_path)), pool, 2)
    with pytest.raises(ToolError, match="died again and again"):
        workers.run(JOBS, lambda *_: None)


def test_a_machine_without_the_model_or_with_another_one_says_so(subject: Subject, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    here = Place.of(subject, journal)
    assert Path(here.model).is_absolute()
    missing = Place(str(tmp_path / "none.onnx"), here.recipe, "0" * 64, here.folder)
    with pytest.raises(ToolError, match=r"none.onnx: not there on a machine that is to try plans"):
        try_plan(missing, JOBS[0])
    other = Place(here.model, here.recipe, "0" * 64, here.folder)
    with pytest.raises(ToolError, match="has another model, other data, or other versions of irshrink"):
        try_plan(other, JOBS[0])


def test_what_is_no_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("local", "local:0", "somewhere", "http://", ""):
        with pytest.raises(UserError, match="is no cluster"):
            require_cluster(address)
    monkeypatch.setattr("irshrink.planning.cluster.find_spec", lambda _: None)
    with pytest.raises(ToolError, match=r"pip install 'irshrink\[dask\]'"):
        require_cluster("tcp://host:8786")


_PROGRAM = """
import sys
from pathlib import Path
from tests_jobs import JOBS
from irshrink.planning.subject import Subject
from irshrink.planning.workers import workers_for
from irshrink.recipe import make_recipe

if __name__ == "__main__":
    files, folder, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    recipe = make_recipe({"target": "cortex-m4", "calibration": str(files / "x.npz"), "fit": 8})
    subject = Subject.open(files / "net.onnx", recipe)
    with workers_for(subject, processes=processes, folder=folder) as workers:
        workers.run(JOBS, lambda *_: None)
"""


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_done_before_a_kill_is_not_done_again(
    alone: list[Measured], files: Path, tmp_path: Path, processes: int
) -> None:
    """The log has every stage and evaluation once, however often the process was killed in between."""
    (tmp_path / "tests_jobs.py").write_text(f"from irshrink.planning.evaluate import Job\nJOBS = {JOBS!r}\n")
    (tmp_path / "program.py").write_text(_PROGRAM)
    folder = tmp_path / "journal"
    command = [sys.executable, str(tmp_path / "program.py"), str(files), str(folder), str(processes)]
    for lines in (2, 6):
        with subprocess.Popen(command) as process:
            while process.poll() is None and len(Journal(folder).log()) < lines:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    _all_ended(folder)
    assert subprocess.run(command, check=False).returncode == 0
    computed_once(folder)
    with workers_for(opened(files), processes=1, folder=folder) as workers:
        found, told = run(workers)
    assert found == alone
    assert all(told.values())


def _all_ended(folder: Path) -> None:
    """Processes end with the one that started them: nothing is written any more."""
    before = None
    while before != (before := Journal(folder).log()):
        time.sleep(1.5)

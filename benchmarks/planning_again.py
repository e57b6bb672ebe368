"""The same plan again: after kills, with other processes, on a cluster, in another folder; byte by byte.

    python benchmarks/planning_again.py kill [--mnist FOLDER]
    python benchmarks/planning_again.py cluster [--mnist FOLDER]
    python benchmarks/planning_again.py replay [--mnist FOLDER]

``kill``: the command is killed (SIGKILL, its processes with it) at ten random moments, each time run again,
and at last left alone; its build is compared with that of a run that nobody disturbed, and the journal is
searched for work that was done twice. ``cluster``: one process, two processes, and a local Dask cluster of
two workers (the extra ``irshrink[dask]``), each with a journal of its own. ``replay``: a build is moved to
another folder and built again by ``irshrink replay --check`` with three threads for numerical libraries, and
compiled by its lock alone. With MNIST the model is LeNet-300-100, else kws on its synthetic samples.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from planning import mnist
from weights import MODELS

from irshrink.planning.journal import Journal
from irshrink.replay import compare_folders

KILLS, SEED = 10, 20261122
#: Seconds that a command takes before it searches: killing it then is too easy.
START = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["kill", "cluster", "replay"])
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--evaluations", type=int, default=12)
    parser.add_argument("--processes", type=int, default=0, help="of kill and replay; all cores without")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        command = arguments(given, scratch)
        print(f"irshrink compile {' '.join(command)}", flush=True)
        {"kill": kill, "cluster": cluster, "replay": replay}[given.what](command, scratch)


def arguments(given: argparse.Namespace, scratch: Path) -> list[str]:
    """Model and options; the output and the journal are added."""
    if given.mnist:
        data, _ = mnist(given.mnist, scratch)
        model, budgets = "lenet-300-100", ["--max-drop", "0.1%", "--objective", "smallest"]
    else:
        data, model = MODELS / "kws-samples.npz", "kws"
        budgets = ["--metric", "agreement", "--max-drop", "5%", "--ram", "12K", "--objective", "smallest"]
    count = ["--evaluations", str(given.evaluations)]
    if given.what != "cluster":
        count += ["--processes", str(given.processes)]
    return [str(MODELS / f"{model}.onnx"), "-t", "cortex-m4", "-c", str(data), *budgets, *count]


def start(command: list[str], out: Path, journal: Path, *options: str) -> subprocess.Popen[bytes]:
    """``irshrink compile`` in a session of its own, so that its processes can be killed with it."""
    whole = [sys.executable, "-m", "irshrink", "compile", *command, "-o", str(out), "--journal", str(journal)]
    return subprocess.Popen(
        [*whole, *options], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finished(process: subprocess.Popen[bytes]) -> float:
    """Seconds until it ended."""
    begin = time.perf_counter()
    said = process.communicate()[1]
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {said.decode()[-2000:]}")
    return time.perf_counter() - begin


def kill(command: list[str], scratch: Path) -> None:
    whole = finished(start(command, scratch / "whole", scratch / "journal-whole"))
    print(f"undisturbed: {whole:.0f} s, {counted(scratch / 'journal-whole')}", flush=True)
    moments, disturbed = random.Random(SEED), (scratch / "killed", scratch / "journal-killed")
    killed = 0
    for _ in range(KILLS):
        process, seconds = start(command, *disturbed), moments.uniform(START, START + whole / 4)
        try:
            process.communicate(timeout=seconds)
            print("ended before it was killed", flush=True)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            left = "there is a build" if disturbed[0].exists() else "no build"
            print(f"killed after {seconds:5.1f} s: {counted(disturbed[1])}, {left}", flush=True)
    rest = finished(start(command, *disturbed))
    print(f"left alone after {killed} kills: {rest:.0f} s, {counted(disturbed[1])}")
    print(f"builds: {verdict(scratch / 'whole', disturbed[0])}")


def counted(folder: Path) -> str:
    """What a journal's log holds, and how much of it twice."""
    lines = Counter(tuple(line) for line in Journal(folder).log())
    kinds = Counter(line[0] for line in lines)
    twice = Counter(line[0] for line, count in lines.items() if count > 1)
    done = ", ".join(f"{count} {kind}s" for kind, count in sorted(kinds.items())) or "nothing done yet"
    again = ", ".join(f"{count} {kind}s" for kind, count in sorted(twice.items())) or "nothing"
    return f"{done}; {again} computed twice"


def cluster(command: list[str], scratch: Path) -> None:
    ways = {
        "1 process": ("--processes", "1"),
        "2 processes": ("--processes", "2"),
        "Dask, 2 workers": ("--cluster", "local:2"),
    }
    first: Path | None = None
    for number, (name, options) in enumerate(ways.items()):
        out = scratch / f"out-{number}"
        seconds = finished(start(command, out, scratch / f"journal-{number}", *options))
        said = "" if first is None else f", against 1 process: {verdict(first, out)}"
        print(f"{name}: {seconds:.0f} s, {counted(scratch / f'journal-{number}')}{said}", flush=True)
        first = first or out


def replay(command: list[str], scratch: Path) -> None:
    finished(start(command, scratch / "first", scratch / "journal"))
    elsewhere = scratch / "another" / "folder"
    shutil.copytree(scratch / "first", elsewhere)
    data = ["-c", command[command.index("-c") + 1]]
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    irshrink = [sys.executable, "-m", "irshrink"]
    again = [*irshrink, "replay", str(elsewhere), command[0], *data, "--check"]
    done = subprocess.run(again, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    print(f"replay --check: exit code {done.returncode}: {(done.stdout + done.stderr).strip()}", flush=True)
    by_lock = [*irshrink, "compile", command[0], *data, "-r", str(elsewhere / "recipe.lock")]
    subprocess.run([*by_lock, "-o", str(scratch / "lock")], check=True, stdout=subprocess.DEVNULL)
    print(f"compile -r recipe.lock: {verdict(elsewhere, scratch / 'lock')}")


def verdict(one: Path, other: Path) -> str:
    found = compare_folders(one, other)
    return f"{found.files} files, every byte the same" if found.identical else found.sentence()


if __name__ == "__main__":
    main()

"""What cleanup leaves of models: nodes, bytes of the file, seconds and memory, one process a model.

    python benchmarks/cleanup.py MODEL.onnx ...

Everything from the start of Python to the saved file counts, shape inference and constant folding in their
own process too: seconds on the clock, seconds of processor time, and the largest of the two processes.
Exit code 1 if a file became larger than it came.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from irshrink.console import table

_HEADER = ("model", "nodes", "left", "bytes", "left", "s", "CPU s", "MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*clean(options.models[0]))
        return
    rows, larger = [], []
    for model in options.models:
        (before, after, old, new), measured = measure(model)
        rows.append((model.name, str(before), str(after), f"{old:,}", f"{new:,}", *measured))
        larger += [model.name] if new > old else []
    print(table(rows, _HEADER))
    if larger:
        sys.exit(f"larger than they came: {', '.join(larger)}")


def measure(model: Path) -> tuple[list[int], tuple[str, str, str]]:
    """What :func:`clean` says in a process of its own, and what that took."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--one", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)  # with the processes that it waited for
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{model}: cleanup failed")
    seconds = time.perf_counter() - start, used.ru_utime + used.ru_stime
    return [int(number) for number in answer.split()], (
        f"{seconds[0]:.1f}",
        f"{seconds[1]:.1f}",
        f"{used.ru_maxrss / 1024:.0f}",
    )


def clean(model: Path) -> tuple[int, int, int, int]:
    """Nodes before and after, bytes before and after."""
    from irshrink.module import load_module
    from irshrink.passes.cleanup import cleanup_steps
    from irshrink.pipeline import Pipeline
    from irshrink.target import load_target
    from irshrink.verify import verify_structure

    module = load_module(model)
    before, old = len(module.graph), _bytes((model, *module.external))
    Pipeline(cleanup_steps(), verify=verify_structure).run(module, load_target("host"))
    with tempfile.TemporaryDirectory() as folder:
        module.save(Path(folder, model.name))
        return before, len(module.graph), old, _bytes(Path(folder).iterdir())


def _bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()

"""How much faster inferences get on several threads of this machine.

    python benchmarks/threads.py models/ic.onnx --calibration models/ic-samples.npz [--threads 1,2]

Builds once, for the largest number of threads, then times all numbers in turns: medians, and their ratio to
the first. `--floor` measures what splitting costs instead: a model of layers that have next to nothing to do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np

from irshrink import Recipe, compile_model
from irshrink.backends.native.library import NativeLibrary
from irshrink.backends.tvm import threads
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.console import table
from irshrink.names import DEFAULT_NAMES
from irshrink.program.ops import TableInt8
from irshrink.target import load_target, with_threads
from irshrink.testing.kernels import KernelBench

#: Seconds that one measurement should take; it repeats inferences until it does.
_SPAN = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--calibration")
    parser.add_argument("--threads", default="1,2", help="numbers to compare; default 1,2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--floor", action="store_true", help="what splitting a layer costs")
    options = parser.parse_args()
    counts = [int(n) for n in options.threads.split(",")]
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        folder = Path(scratch) / "build"
        if options.floor:
            layers = build_layers(folder, max(counts))
        elif options.model is None:
            parser.error("give a model, or --floor")
        else:
            recipe: dict[str, Any] = {"calibration": options.calibration} if options.calibration else {}
            compile_model(options.model, Recipe(target="host", threads=max(counts), **recipe), folder)
        times = measure(folder, counts, options.rounds)
    rows = []
    for count in counts:
        seconds = statistics.median(times[count])
        ratios = [a / b for a, b in zip(times[count], times[counts[0]], strict=True)]
        row = [str(count), f"{seconds * 1e6:,.1f}", f"{statistics.median(ratios):.2f}"]
        rows.append((*row, f"{seconds / layers * 1e6:.2f}") if options.floor else tuple(row))
    head = ("threads", "microseconds", f"to {counts[0]}", *(["a layer"] if options.floor else []))
    print(table(rows, head))


def build_layers(folder: Path, most: int, layers: int = 200) -> int:
    """A chain of look-ups in a table, each of a few elements, split all the same."""
    bench = KernelBench()
    table = np.arange(-128, 128).astype(np.int8)
    for _ in range(layers):
        bench.add(TableInt8, bench.int8(64), shape=(64,), table=table)
    folder.mkdir()
    with patch.object(threads, "_LEAST", 0.001):
        bench.check(TvmBackend(), with_threads(load_target("host"), most), folder, threads=(1, most))
    return layers


def measure(folder: Path, counts: list[int], rounds: int) -> dict[int, list[float]]:
    """Seconds of an inference for every number of threads, in turns."""
    library = NativeLibrary(folder / DEFAULT_NAMES.shared)
    library.repeat(3)
    start = perf_counter()
    library.repeat(1)
    inferences = max(1, round(_SPAN / (perf_counter() - start)))
    times: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            library.use_threads(count)
            library.repeat(2)
            start = perf_counter()
            library.repeat(inferences)
            times[count].append((perf_counter() - start) / inferences)
    library.use_threads(1)
    return times


if __name__ == "__main__":
    main()

"""Seconds and memory of choosing ranges on photos, one process a method.

    python benchmarks/calibration.py MODEL.onnx PHOTOS [--samples 64] [--mean 127] [--std 128]

PHOTOS is a folder of images. Each method quantizes the cleaned-up model to int8 in a process of its own:
seconds on the clock of the pass alone, and the peak of resident memory of the whole process, imports
included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from irshrink.console import table
from irshrink.frontends.read import read_model
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import ImageOptions, input_specs, load_samples
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target

METHODS = ("minmax", "percentile", "entropy", "mse", "output")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--mean", type=float, default=127)
    parser.add_argument("--std", type=float, default=128)
    parser.add_argument("--method", choices=METHODS, help="measure this one, in this process")
    options = parser.parse_args()
    if options.method:
        print(*measured(options))
        return
    rows = []
    for method in METHODS:
        command = [sys.executable, *sys.argv, "--method", method]
        seconds, megabytes = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.split()
        rows.append((method, f"{float(seconds):.1f}", f"{float(megabytes):.0f}"))
    print(table(rows, ("method", "s", "peak MB")))


def measured(options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of the pass, and megabytes of the process."""
    module, _ = read_model(options.model)
    fix_input_shapes(module, {})
    target = load_target("host")
    Pipeline(cleanup_steps()).run(module, target)
    images = ImageOptions(mean=(options.mean,), std=(options.std,))
    specs = input_specs(module.graph)
    module.calibration = load_samples(options.photos, specs, image=images, role="calibration")
    choice = {"method": options.method, "bias-correction": "none", "max-samples": options.samples}
    start = time.perf_counter()
    Pipeline([make_pass("quantize-int8", choice)]).run(module, target)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

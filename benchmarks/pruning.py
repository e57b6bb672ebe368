"""What structured pruning leaves of real models: multiplications, bytes, and right answers. No training.

    python benchmarks/pruning.py digits --mnist FOLDER
    python benchmarks/pruning.py cifar --images cifar.npz
    python benchmarks/pruning.py photos --photos FOLDER --efficientnet FILE.onnx
    python benchmarks/pruning.py cores

``digits``: the project's LeNets, fitted to 256 training images, judged on MNIST's 10,000 test images (gzipped
idx). ``cifar``: the project's ResNet-8 on an .npz of x uint8 [n, 32, 32, 3] and y; every tenth image
calibrates, the others are judged. ``photos``: 224x224 photos named by their class; every fourth calibrates,
the others are judged. ``cores``: kws and vww, pruned and in int8, on an emulated Cortex-M4, against the same
without pruning; their samples are synthetic, so agreement is what there is. ``--rows`` takes names of rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from repairs import pixels
from weights import MODELS, idx

from irshrink import onnxrt
from irshrink.analyses.cost import graph_macs
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.graph.shapes import infer_shapes
from irshrink.module import load_module
from irshrink.optimize import optimize_model, parse_pass
from irshrink.recipe import make_recipe
from irshrink.registry import make_pass

Array = np.ndarray[Any, np.dtype[Any]]

DIGITS: Mapping[str, tuple[str, ...]] = {
    "lenet-5": (),
    "lenet-5, a third of the MACs": ("prune-channels ratio=0.667",),
    "lenet-5, the same, then low rank": (
        "prune-channels ratio=0.67",
        "low-rank by=parameters saves=parameters budget=0.6",
        "repair",
    ),
    "lenet-5, and a quarter of the bytes": (
        "prune-channels ratio=0.667 steps=3",
        "prune-channels ratio=0.41 by=bytes steps=3",
    ),
    "lenet-5, the same without repair": (
        "prune-channels ratio=0.6 score=l2 repair=false",
        "prune-channels ratio=0.55 by=bytes score=l2 repair=false",
    ),
    "lenet-300-100": (),
    "lenet-300-100, half of the bytes": ("prune-channels ratio=0.5 by=bytes",),
    "lenet-300-100, a quarter, with low rank": (
        "prune-channels ratio=0.3 by=bytes",
        "low-rank by=parameters budget=0.354 scope=model",
        "repair",
    ),
}
CIFAR: Mapping[str, tuple[str, ...]] = {
    "ic": (),
    "ic, 10 % of the MACs gone": ("prune-channels ratio=0.1",),
    "ic, 16 % of the MACs gone": ("prune-channels ratio=0.16",),
    "ic, 28 % of the MACs gone": ("prune-channels ratio=0.28",),
    "ic, pruned, then low rank": (
        "prune-channels ratio=0.1",
        "low-rank by=macs budget=0.78",
        "repair",
    ),
    "ic, pictures of 28 x 28": ("reduce-resolution scale=0.875",),
    "ic, pictures of 24 x 24": ("reduce-resolution scale=0.75",),
}
PHOTOS: Mapping[str, tuple[str, ...]] = {
    "EfficientNet-Lite0": (),
    "9 % of the MACs gone": ("prune-channels ratio=0.092",),
    "17 % of the MACs gone": ("prune-channels ratio=0.167",),
    "17 %, in two steps": ("prune-channels ratio=0.167 steps=2",),
    "pictures of 192 x 192": ("reduce-resolution scale=0.857",),
}
TARGET = {"pass": "prune-channels", "ratio": 0.3, "by": "target", "steps": 3}
LAYER = {"pass": "prune-channels", "ratio": 0.35, "by": "layer"}
INT8 = {"pass": "quantize-int8"}
CORES: Mapping[str, dict[str, Any]] = {
    "int8": {},
    "--prune 30%": {"prune": "30%"},
    "30 % of the instructions": {"steps": [TARGET, INT8]},
    "35 % of every layer's channels": {"steps": [LAYER, INT8]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["digits", "cifar", "photos", "cores"])
    for option in ("--mnist", "--images", "--photos", "--efficientnet"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--rows", nargs="*", help="names of the rows to measure; all without")
    given = parser.parse_args()
    {"digits": digits, "cifar": cifar, "photos": photos, "cores": cores}[given.what](given)


def digits(given: argparse.Namespace) -> None:
    x = idx(given.mnist / "t10k-images-idx3-ubyte.gz")[:, np.newaxis].astype(np.float32) / np.float32(255)
    y = idx(given.mnist / "t10k-labels-idx1-ubyte.gz")
    samples = np.load(MODELS / "mnist-samples.npz")["input"]
    rows = [
        (row, *measured(MODELS / f"{row.split(',')[0]}.onnx", DIGITS[row], samples, x, y))
        for row in given.rows or DIGITS
    ]
    print(table(rows, HEADS))


def cifar(given: argparse.Namespace) -> None:
    data = np.load(given.images)
    x = (data["x"].astype(np.float32) - 128) / 128
    judged = np.arange(len(x)) % 10 != 0  # files of test sets are sorted by class
    rows = [
        (row, *measured(MODELS / "ic.onnx", CIFAR[row], x[~judged], x[judged], data["y"][judged]))
        for row in given.rows or CIFAR
    ]
    print(table(rows, HEADS))


def photos(given: argparse.Namespace) -> None:
    files = sorted(given.photos.glob("*.jpg"))
    x = np.concatenate([pixels(file) for file in files])
    y = np.array([int(file.stem) for file in files])
    judged = np.arange(len(files)) % 4 != 0
    rows = [
        (row, *measured(given.efficientnet, PHOTOS[row], x[~judged], x[judged], y[judged]))
        for row in given.rows or PHOTOS
    ]
    print(table(rows, HEADS))


HEADS = ("model", "right, %", "as float, %", "MACs", "times fewer", "bytes", "times fewer", "seconds")


def measured(model: Path, steps: tuple[str, ...], samples: Array, x: Array, y: Array) -> tuple[str, ...]:
    """Make the model smaller on ``samples``, judge it on ``x`` and ``y``."""
    name = str(load_module(model).graph.inputs[0].name)
    shapes = {name: (1, *x.shape[1:])}
    with tempfile.TemporaryDirectory() as folder:
        calibration, plain, out = (Path(folder, file) for file in ("samples.npz", "plain.onnx", "out.onnx"))
        arrays: dict[str, Any] = {name: samples}
        np.savez(calibration, **arrays)
        optimize_model(model, plain, shapes=shapes)
        passes = [make_pass(*parse_pass(step)) for step in steps]
        begin = time.perf_counter()
        optimize_model(model, out, passes, shapes=shapes, calibration=calibration)
        seconds = time.perf_counter() - begin
        wanted, given = answers(plain, name, x), answers(out, name, x)
        before, after = macs(plain), macs(out)
        nbytes = plain.stat().st_size, out.stat().st_size
    shares = (f"{100 * float((given == other).mean()):.2f}" for other in (y, wanted))
    return (
        *shares,
        f"{after:,}",
        f"{before / after:.2f}",
        f"{nbytes[1]:,}",
        f"{nbytes[0] / nbytes[1]:.2f}",
        f"{seconds:.0f}",
    )


def answers(model: Path, name: str, x: Array) -> Array:
    session = onnxrt.session(model)
    runs = (onnxrt.run(session, {name: one[np.newaxis]}) for one in x)
    return np.array([next(iter(outputs.values())).argmax() for outputs in runs])


def macs(model: Path) -> int:
    module = load_module(model)
    infer_shapes(module.model)
    return sum(count or 0 for count in graph_macs(module.graph).values())


def cores(given: argparse.Namespace) -> None:
    rows = []
    for net in ("kws", "vww"):
        for row in given.rows or CORES:
            with tempfile.TemporaryDirectory() as folder:
                values = {"target": "cortex-m4", "calibration": str(MODELS / f"{net}-samples.npz")}
                recipe = make_recipe({**values, **CORES[row]})
                report = compile_model(MODELS / f"{net}.onnx", recipe, Path(folder, "out"))
            ran = report["emulation"]
            numbers = ran["instructions"], report["size"]["flash_bytes"], report["size"]["arena_bytes"]
            equal = "equal" if ran["mismatched_bytes"] == 0 else f"{ran['mismatched_bytes']} differ"
            agreement = f"{100 * report['accuracy']['compiled']:.1f}"
            rows.append((f"{net}, {row}", *(f"{number:,}" for number in numbers), equal, agreement))
    print(table(rows, ("build", "instructions", "flash", "arena", "bytes", "as float, %")))


if __name__ == "__main__":
    main()

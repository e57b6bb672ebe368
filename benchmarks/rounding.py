"""Ways to round weights, compared: accuracy, bytes and seconds by method and bits, activations in int8.

    python benchmarks/rounding.py [--cifar FILE.npz] [--photos FOLDER --efficientnet FILE.onnx]

CIFAR: ``x`` uint8 [n,32,32,3] and ``y``; calibrates on the first 200 and scores the others. Photos: 224x224
images named by their class; calibrates on ``--samples`` (200) at even distances and scores the last 600 of
the others. Scores are ONNX Runtime's on the quantized model as it is written. ``--methods`` picks rows,
``--bits`` widths. Neither data set is part of the project.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.console import table
from irshrink.module import Module, load_module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import ImageOptions, Samples, input_specs, load_samples
from irshrink.shorthands import LAYER_BY_LAYER
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target

MODELS = Path(__file__).parent.parent / "models"
Array = np.ndarray[Any, np.dtype[Any]]
STEPS = 200

#: Options of ``quantize-int8`` by the name of a row.
METHODS: dict[str, dict[str, Any]] = {
    "nearest": {"bias_correction": "none"},
    "nearest, analytic bias": {},
    "nearest, empirical bias": {"bias_correction": "empirical"},
    "nearest, mse": {"weight_range": "mse"},
    "gptq": {"rounding": "gptq", "weight_range": "output"},
    "quantease": {"rounding": "quantease", "weight_range": "output"},
    "adaround": {"rounding": "adaround", "weight_range": "output"},
    "gptq, compensated": {**LAYER_BY_LAYER, "rounding": "gptq"},
    "adaround, compensated": {**LAYER_BY_LAYER, "rounding": "adaround"},
    "quantease, compensated, mse": {**LAYER_BY_LAYER, "weight_range": "mse"},
    "quantease, compensated": LAYER_BY_LAYER,
    "nearest, mse, blocks": {"weight_range": "mse", "reconstruct_steps": STEPS},
    "quantease, compensated, blocks": {**LAYER_BY_LAYER, "reconstruct_steps": STEPS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("--cifar", "--photos", "--efficientnet"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4])
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        for module, scored in nets(options, Path(name)):
            rows += compared(module, scored, options.methods, options.bits, Path(name))
    print(table(rows, ("model", "bits", "method", "top-1 %", "agreement %", "bytes", "seconds")))


def nets(options: argparse.Namespace, scratch: Path) -> Iterator[tuple[Module, Samples]]:
    """Float models with their calibration data, and what they are scored on."""
    if options.cifar:
        with np.load(options.cifar) as data:
            x, y = (data["x"].astype(np.float32) - 128) / 128, data["y"].astype(np.int64)
        np.savez(scratch / "first.npz", input=x[:200])
        np.savez(scratch / "others.npz", input=x[200:], y=y[200:])
        yield prepared(MODELS / "ic.onnx", scratch / "first.npz", scratch / "others.npz", None)
    if options.photos and options.efficientnet:
        files = sorted(options.photos.glob("*.jpg"))
        chosen = {files[i * len(files) // options.samples] for i in range(options.samples)}
        others = [file for file in files if file not in chosen][-600:]
        for folder, group in (("calibration", sorted(chosen)), ("scored", others)):
            (scratch / folder).mkdir()
            for file in group:
                shutil.copy(file, scratch / folder / file.name)
        images = ImageOptions(mean=(127.0,), std=(128.0,), labels="stem")
        yield prepared(options.efficientnet, scratch / "calibration", scratch / "scored", images)


def prepared(
    model: Path, calibration: Path, scored: Path, images: ImageOptions | None
) -> tuple[Module, Samples]:
    module = load_module(model)
    fix_input_shapes(module, {})
    Pipeline(cleanup_steps()).run(module, load_target("host"))
    specs = input_specs(module.graph)
    module.calibration = load_samples(calibration, specs, image=images, role="calibration")
    return module, load_samples(scored, specs, image=images, role="evaluation")


def compared(
    module: Module, scored: Samples, methods: list[str], bits: list[int], scratch: Path
) -> Iterator[tuple[str, ...]]:
    """A row for the float model, and one for each method and width."""
    expected = answers(module, scored)
    labels = scored.labels
    assert labels is not None, "both data sets have them"
    name = str(module.source.stem if module.source else "")
    yield name, "32", "float", percent(expected == labels), "100.00", "", ""
    for width in bits:
        for method in methods:
            result = module.clone()
            step = make_pass("quantize-int8", {"weight_bits": width, **METHODS[method]})
            start = time.perf_counter()
            Pipeline([step]).run(result, load_target("host"))
            seconds = time.perf_counter() - start
            result.save(scratch / "model.onnx")
            size = (scratch / "model.onnx").stat().st_size
            found = answers(result, scored)
            shares = percent(found == labels), percent(found == expected)
            yield name, str(width), method, *shares, f"{size:,}", f"{seconds:.0f}"


def answers(module: Module, samples: Samples) -> Array:
    """The largest output for each sample."""
    session = onnxrt.session(module.model)
    outputs = (next(iter(onnxrt.run(session, feeds).values())) for feeds in samples.feeds())
    return np.array([int(output.argmax()) for output in outputs])


def percent(right: Array) -> str:
    return f"{100 * right.mean():.2f}"


if __name__ == "__main__":
    main()

"""Accuracy of int8 host builds against the float models, and the bytes of ONNX Runtime beside ours.

    python benchmarks/accuracy.py --mnist FOLDER [--cifar FILE.npz] [--photos FOLDER --efficientnet FILE.onnx]

MNIST: the four idx files, gzipped. CIFAR: ``x`` uint8 [n,32,32,3] and ``y``; calibrates on the first 200 and
scores the others. Photos: 224x224 images named by their class; calibrates on 64 at even distances and
scores the others, then all. None of these data sets is part of the project.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.artifact import MODEL_NAME, load_build
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.ports import encode_inputs
from irshrink.recipe import Recipe, make_recipe

MODELS = Path(__file__).parent.parent / "models"
Array = np.ndarray[Any, np.dtype[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("--mnist", "--cifar", "--photos", "--efficientnet"):
        parser.add_argument(option, type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if options.mnist:
            calibration, test = mnist(options.mnist, scratch)
            rows += [row(MODELS / f"{net}.onnx", calibration, test) for net in ("lenet-300-100", "lenet-5")]
        if options.cifar:
            rows += [row(MODELS / "ic.onnx", *cifar(options.cifar, scratch))]
        if options.photos and options.efficientnet:
            calibration, held_out = photos(options.photos, scratch)
            images = {"mean": 127, "std": 128, "labels": "stem"}
            for scored in (held_out, options.photos):
                rows.append(row(options.efficientnet, calibration, scored, images=images))
    header = ("model", "scored", "float %", "int8 %", "lost, points", "bytes unlike ONNX Runtime's")
    print(table(rows, header))


def row(model: Path, calibration: Path, scored: Path, **options: Any) -> tuple[str, ...]:
    """Compile for the host, score, and compare the bytes of some outputs with ONNX Runtime's."""
    values = {"target": "host", "calibration": str(calibration), "eval": str(scored), "test_inputs": 32}
    recipe = make_recipe({**values, **options})
    with tempfile.TemporaryDirectory() as name:
        build = Path(name) / "build"
        accuracy = compile_model(model, recipe, build)["accuracy"]
        differing, compared = against_onnxruntime(build, recipe)
    before, after = accuracy["original"] * 100, accuracy["compiled"] * 100
    figures = (f"{before:.2f}", f"{after:.2f}", f"{before - after:.2f}", f"{differing} of {compared}")
    return (model.stem, str(accuracy["samples"]), *figures)


def against_onnxruntime(folder: Path, recipe: Recipe) -> tuple[int, int]:
    """Bytes of the int8 outputs of 32 samples that differ from the quantized model in ONNX Runtime."""
    from irshrink.module import load_module
    from irshrink.samples import input_specs, load_samples

    build = load_build(folder)
    session = onnxrt.session(folder / MODEL_NAME)
    specs = input_specs(load_module(folder / MODEL_NAME).graph)
    assert recipe.eval is not None
    samples = load_samples(recipe.eval, specs, image=recipe.images, role="evaluation").spread(32)
    differing = compared = 0
    for feeds in samples.feeds():
        ours = build.run([encode_inputs(build.program, feeds)]).outputs[0]
        theirs = onnxrt.run(session, feeds)
        for port, value in zip(build.program.outputs, ours, strict=True):
            quantization = build.program.tensors[port.tensor].quantization
            assert quantization is not None
            stored = np.rint(theirs[port.name] / np.float32(quantization.scale)) + quantization.zero_point
            differing += int((stored.astype(np.int8) != value).sum())
            compared += value.size
    return differing, compared


def mnist(folder: Path, scratch: Path) -> tuple[Path, Path]:
    """256 training images to calibrate with, all test images to score; pixels / 255."""

    def idx(name: str, header: int) -> Array:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes())[header:], np.uint8)

    def images(name: str) -> Array:
        return idx(name, 16).reshape(-1, 1, 28, 28).astype(np.float32) / 255

    calibration, test = scratch / "mnist-calibration.npz", scratch / "mnist-test.npz"
    np.savez(calibration, input=images("train-images-idx3-ubyte.gz")[:256])
    labels = idx("t10k-labels-idx1-ubyte.gz", 8).astype(np.int64)
    np.savez(test, input=images("t10k-images-idx3-ubyte.gz"), y=labels)
    return calibration, test


def cifar(file: Path, scratch: Path) -> tuple[Path, Path]:
    """The first 200 images to calibrate with, the others to score; (pixels - 128) / 128."""
    with np.load(file) as data:
        x, y = (data["x"].astype(np.float32) - 128) / 128, data["y"].astype(np.int64)
    calibration, test = scratch / "cifar-calibration.npz", scratch / "cifar-test.npz"
    np.savez(calibration, input=x[:200])
    np.savez(test, input=x[200:], y=y[200:])
    return calibration, test


def photos(folder: Path, scratch: Path, count: int = 64) -> tuple[Path, Path]:
    """So many photos at even distances to calibrate with, the others to score."""
    files = sorted(folder.glob("*.jpg"))
    chosen = {files[i * len(files) // count] for i in range(count)}
    for name, group in (("calibration", chosen), ("scored", set(files) - chosen)):
        (scratch / name).mkdir()
        for file in group:
            shutil.copy(file, scratch / name / file.name)
    return scratch / "calibration", scratch / "scored"


if __name__ == "__main__":
    main()

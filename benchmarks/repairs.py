"""What repairs before rounding give back: EfficientNet-Lite0 with int8 weights, per channel and per tensor.

    python benchmarks/repairs.py --photos FOLDER --efficientnet FILE.onnx

Photos are 224x224 images named by their class, neither they nor the model are part of the project. Every
fourth photo is put aside, 64 of those at even distances calibrate, all others (600 of 800) are scored, in
ONNX Runtime. Beside top-1: how often the answer is the float model's, and the root mean square of the
difference of the logits, which says more than either with so few photos.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.console import table
from irshrink.optimize import optimize_model, parse_pass
from irshrink.registry import make_pass

Array = np.ndarray[Any, np.dtype[Any]]
CALIBRATION = 64
TENSOR = "per-channel=false"
EXACT = ("equalize", "shrink-saturated")
ROWS: dict[str, tuple[str, ...]] = {
    "a scale per channel": ("quantize-int8",),
    "a scale per channel, GPTQ, compensated": ("quantize-int8 rounding=gptq compensate=true",),
    "a scale per tensor": (f"quantize-int8 {TENSOR}",),
    "a scale per tensor, equalize": ("equalize", f"quantize-int8 {TENSOR}"),
    "a scale per tensor, shrink-saturated": ("shrink-saturated", f"quantize-int8 {TENSOR}"),
    "a scale per tensor, both": (*EXACT, f"quantize-int8 {TENSOR}"),
    "a scale per tensor, both, GPTQ": (*EXACT, f"quantize-int8 {TENSOR} rounding=gptq"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--efficientnet", type=Path, required=True)
    options = parser.parse_args()
    files = sorted(options.photos.glob("*.jpg"))
    aside, scored = files[::4], [file for i, file in enumerate(files) if i % 4]
    labels = np.array([int(file.stem) for file in scored])
    wanted = logits(options.efficientnet, scored)
    rows = [("float", f"{100 * float((wanted.argmax(1) == labels).mean()):.2f}", "", "")]
    with tempfile.TemporaryDirectory() as folder:
        calibration, out = Path(folder, "calibration.npz"), Path(folder, "out.onnx")
        chosen = [aside[i * len(aside) // CALIBRATION] for i in range(CALIBRATION)]
        name = str(onnxrt.session(options.efficientnet).get_inputs()[0].name)
        arrays: dict[str, Any] = {name: np.concatenate([pixels(file) for file in chosen])}
        np.savez(calibration, **arrays)
        for label, steps in ROWS.items():
            passes = [make_pass(*parse_pass(step)) for step in steps]
            shapes = {name: (1, 3, 224, 224)}
            optimize_model(options.efficientnet, out, passes, shapes=shapes, calibration=calibration)
            rows.append((label, *compared(logits(out, scored), wanted, labels)))
    print(table(rows, ("int8 with", "top-1, %", "as float, %", "logits, rms")))


def compared(given: Array, wanted: Array, labels: Array) -> tuple[str, str, str]:
    answers = given.argmax(axis=1)
    shares = [float((answers == other).mean()) for other in (labels, wanted.argmax(axis=1))]
    rms = float(np.sqrt(np.square(given - wanted).mean()))
    return (*(f"{100 * share:.2f}" for share in shares), f"{rms:.3f}")  # type: ignore[return-value]


def logits(model: Path, files: list[Path]) -> Array:
    session = onnxrt.session(model)
    name = session.get_inputs()[0].name
    outputs = [next(iter(onnxrt.run(session, {name: pixels(file)}).values())) for file in files]
    return np.asarray(np.concatenate(outputs))


def pixels(file: Path) -> Array:
    """A photo as the model wants it: [1, 3, 224, 224], (pixels - 127) / 128."""
    from PIL import Image

    image = np.asarray(Image.open(file).convert("RGB"), np.float32)
    return np.asarray((image.transpose(2, 0, 1)[np.newaxis] - 127) / 128)


if __name__ == "__main__":
    main()

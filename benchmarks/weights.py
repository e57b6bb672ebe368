"""LeNet-300-100 and LeNet-5 with weights in 4 and 2 bits: errors on MNIST's test set, and bytes of the file.

    python benchmarks/weights.py --mnist FOLDER [--rows NAME ...]

The folder holds MNIST's test files, gzipped idx; it is not part of the project. What is fitted to data is
fitted to the 256 training images of ``models/mnist-samples.npz``. The answers are ONNX Runtime's on the file,
in float32; the bytes are those of ``model.onnx``, biases and what stays float32 included.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.console import table
from irshrink.optimize import optimize_model
from irshrink.registry import make_pass

MODELS = Path(__file__).parent.parent / "models"
NETS = ("lenet-300-100", "lenet-5")
Array = np.ndarray[Any, np.dtype[Any]]

#: A pass with its options.
ROWS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "float32": None,
    "fp16": ("store-weights", {}),
    "int8": ("quantize-weights", {}),
    "int4, full range": ("quantize-weights", {"bits": 4}),
    "int4": ("quantize-weights", {"bits": 4, "weight_range": "mse"}),
    "int4, fitted": ("quantize-weights", {"bits": 4, "weight_range": "mse", "fit": "outputs"}),
    "int4 in blocks of 64": ("quantize-weights", {"bits": 4, "block_size": 64, "weight_range": "mse"}),
    "4-bit levels": ("cluster-weights", {"bits": 4}),
    "4-bit levels, fitted": ("cluster-weights", {"bits": 4, "fit": "outputs"}),
    "4-bit levels of even distance": ("quantize-weights", {"bits": 4, "formula": "range"}),
    "int2 (ternary)": ("quantize-weights", {"bits": 2, "weight_range": "mse"}),
    "int2 (ternary), fitted": ("quantize-weights", {"bits": 2, "weight_range": "mse", "fit": "outputs"}),
    "2-bit levels a channel": ("cluster-weights", {"bits": 2, "tables": "channel"}),
    "2-bit levels a channel, fitted": (
        "cluster-weights",
        {"bits": 2, "tables": "channel", "fit": "outputs"},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    x = idx(options.mnist / "t10k-images-idx3-ubyte.gz")[:, np.newaxis].astype(np.float32) / np.float32(255)
    y = idx(options.mnist / "t10k-labels-idx1-ubyte.gz")
    rows = [row(net, name, x, y) for net in NETS for name in options.rows]
    print(table(rows, ("net", "weights", "right, %", "bytes", "seconds to make")))


def row(net: str, name: str, x: Array, y: Array) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder:
        out, start, chosen = Path(folder) / "out.onnx", time.perf_counter(), ROWS[name]
        optimize_model(
            MODELS / f"{net}.onnx",
            out,
            [] if chosen is None else [make_pass(*chosen)],
            shapes={"input": (1, 1, 28, 28)},
            calibration=MODELS / "mnist-samples.npz",
        )
        seconds = time.perf_counter() - start
        session = onnxrt.session(out)
        right = [
            next(iter(onnxrt.run(session, {"input": one[np.newaxis]}).values())).argmax() == label
            for one, label in zip(x, y, strict=True)
        ]
        return (
            net, name, f"{100 * np.mean(right):.2f}", f"{out.stat().st_size:,}", f"{seconds:.1f}",
        )  # fmt: skip


def idx(path: Path) -> Array:
    """An array of bytes in MNIST's format: two zeros, the type, the rank, the sizes, the bytes."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    sizes = np.frombuffer(data, ">i4", rank, 4)
    return np.asarray(np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(sizes.tolist()))


if __name__ == "__main__":
    main()

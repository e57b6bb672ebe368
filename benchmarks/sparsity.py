"""Weights that are 0: what they cost in accuracy, and what leaving them out saves in bytes and instructions.

    python benchmarks/sparsity.py --mnist FOLDER [--nets lenet-5] [--rows NAME ...]
    python benchmarks/sparsity.py --layers [--targets cortex-m4,cortex-m3]
    python benchmarks/sparsity.py --stored [--targets cortex-m4]

The folder holds MNIST's test files, gzipped idx; it is not part of the project. Weights are chosen and fitted
with the 256 training images of ``models/mnist-samples.npz``; answers are ONNX Runtime's on the file that is
written. ``--layers`` builds single int8 layers, dense and without their zeros, and counts instructions in the
emulator; ``--stored`` builds the nets with their weights as they are, without zeros, and in a Huffman code.
Every build is compared with the reference.
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
from irshrink.backend import Inference
from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.console import table
from irshrink.module import load_module
from irshrink.optimize import optimize_model
from irshrink.program.lower import lower
from irshrink.program.lower.finish import for_target
from irshrink.program.ops import ConvInt8, DenseInt8, Requantization, Window
from irshrink.program.reference import run_program
from irshrink.registry import make_pass
from irshrink.shorthands import LAYER_BY_LAYER
from irshrink.target import Target, load_target
from irshrink.testing.kernels import KernelBench

MODELS = Path(__file__).parent.parent / "models"
NETS = ("lenet-5", "lenet-300-100")
DENSITIES = (1.0, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
Array = np.ndarray[Any, np.dtype[Any]]
Steps = tuple[tuple[str, dict[str, Any]], ...]

FOUR: tuple[str, dict[str, Any]] = (
    "quantize-int8",
    {"weight_bits": 4, **LAYER_BY_LAYER, "weight_range": "mse"},
)
STORED: tuple[str, dict[str, Any]] = ("store-sparse", {})
CODED: tuple[str, dict[str, Any]] = ("store-huffman", {})


def pruned(sparsity: float, method: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return "prune-weights", {"sparsity": sparsity, "method": method, "scope": "global", **options}


ROWS: dict[str, Steps] = {
    "float32": (),
    "magnitude 70 %": (pruned(0.7, "magnitude"), STORED),
    "magnitude 70 %, each layer": (pruned(0.7, "magnitude", scope="layer"), STORED),
    "wanda 70 %": (pruned(0.7, "wanda"), STORED),
    "wanda 70 %, update": (pruned(0.7, "wanda", update=True), STORED),
    "sparsegpt 70 %": (pruned(0.7, "sparsegpt"), STORED),
    "admm 70 %": (pruned(0.7, "admm"), STORED),
    "sparsegpt 70 %, each layer": (pruned(0.7, "sparsegpt", scope="layer"), STORED),
    "sparsegpt 2:4": (pruned(0.5, "sparsegpt", scope="layer", pattern="2:4"), STORED),
    "sparsegpt 1:4": (pruned(0.5, "sparsegpt", scope="layer", pattern="1:4"), STORED),
    "sparsegpt 70 %, 4x1 blocks": (pruned(0.7, "sparsegpt", pattern="4x1"), STORED),
    "sparsegpt 80 %": (pruned(0.8, "sparsegpt"), STORED),
    "sparsegpt 90 %": (pruned(0.9, "sparsegpt"), STORED),
    "admm 90 %": (pruned(0.9, "admm"), STORED),
    "int8": (("quantize-int8", {}),),
    "sparsegpt 70 %, int8": (pruned(0.7, "sparsegpt"), ("quantize-int8", {}), STORED),
    "sparsegpt 90 %, int8": (pruned(0.9, "sparsegpt"), ("quantize-int8", {}), STORED),
    "sparsegpt 90 %, int4": (pruned(0.9, "sparsegpt"), FOUR, STORED),
    "sparsegpt 92 %, int4": (pruned(0.92, "sparsegpt"), FOUR, STORED),
    "half the bytes in channels, sparsegpt 82 %, int4": (
        ("prune-channels", {"ratio": 0.5, "by": "bytes", "steps": 4}),
        pruned(0.82, "sparsegpt"),
        FOUR,
        STORED,
    ),
}


#: What becomes of the weights before they are stored, and how they are.
CHANGES: dict[str, Steps] = {
    "int8": (("quantize-int8", {}),),
    "admm 84 %, int4": (pruned(0.84, "admm"), FOUR),
    "admm 90 %, int4": (pruned(0.9, "admm"), FOUR),
}
STORAGES: dict[str, Steps] = {"dense": (), "sparse": (STORED,), "coded": (STORED, CODED)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--stored", action="store_true")
    parser.add_argument("--targets", default="cortex-m4,cortex-m3,cortex-m0")
    options = parser.parse_args()
    if options.mnist:
        rows = accuracies(options.mnist, options.nets.split(","), options.rows)
        print(table(rows, ("net", "weights", "right, %", "bytes", "of float", "times", "seconds")))
    if options.layers:
        for name in options.targets.split(","):
            print(f"{name}: instructions a product, zeros included (bytes of all constants)\n")
            head = ("layer", *(f"{100 * d:.0f} % left" for d in DENSITIES))
            print(f"{table(layers(load_target(name)), head)}\n", flush=True)
    if options.stored:
        for name in options.targets.split(","):
            rows = stored(load_target(name), options.nets.split(","))
            head = ("net", "weights", "stored", "bytes of weights", "of flash", "of RAM", "instructions")
            print(f"{name}:\n\n{table(rows, head)}\n", flush=True)


def stored(target: Target, nets: list[str]) -> list[tuple[str, ...]]:
    """One row a net, its weights and a storage: bytes of the build, instructions of an inference."""
    rows = []
    for net in nets:
        for change, steps in CHANGES.items():
            with tempfile.TemporaryDirectory() as scratch:
                changed = Path(scratch) / "changed.onnx"
                written(MODELS / f"{net}.onnx", changed, steps)
                for storage, last in STORAGES.items():
                    out = Path(scratch) / f"{storage}.onnx"
                    written(changed, out, last)
                    rows.append((net, change, storage, *build(out, target)))
    return rows


def build(model: Path, target: Target) -> tuple[str, ...]:
    program, backend = for_target(lower(load_module(model)), target), TvmBackend()
    rng = np.random.default_rng(0)
    dtypes = [program.tensors[port.tensor].dtype for port in program.inputs]
    feeds: list[Array] = [
        rng.integers(-128, 128, port.shape).astype(np.int8)
        if dtype == "int8"
        else rng.uniform(0, 1, port.shape).astype(dtype)
        for port, dtype in zip(program.inputs, dtypes, strict=True)
    ]
    wanted = run_program(program, feeds)
    with tempfile.TemporaryDirectory() as folder:
        made = backend.compile(program, target, Path(folder), [Inference(feeds, wanted)], "net")
        result = backend.run(Path(folder), target, made.program, [feeds])
    for one, expected in zip(result.outputs[0], wanted, strict=True):
        np.testing.assert_array_equal(one, expected)
    sizes = (made.weights_bytes, made.flash_bytes, made.ram_bytes, result.instructions)
    return tuple(f"{size:,}" for size in sizes)


def written(model: Path, out: Path, steps: Steps) -> None:
    optimize_model(
        model,
        out,
        [make_pass(*step) for step in steps],
        shapes={"input": (1, 1, 28, 28)},
        calibration=MODELS / "mnist-samples.npz",
    )


def accuracies(folder: Path, nets: list[str], names: list[str]) -> list[tuple[str, ...]]:
    x = idx(folder / "t10k-images-idx3-ubyte.gz")[:, np.newaxis].astype(np.float32) / np.float32(255)
    y = idx(folder / "t10k-labels-idx1-ubyte.gz")
    rows: list[tuple[str, ...]] = []
    for net in nets:
        whole = (MODELS / f"{net}.onnx").stat().st_size
        for name in names:
            with tempfile.TemporaryDirectory() as scratch:
                out, start = Path(scratch) / "out.onnx", time.perf_counter()
                written(MODELS / f"{net}.onnx", out, ROWS[name])
                seconds, size = time.perf_counter() - start, out.stat().st_size
                share = f"{100 * right(out, x, y):.2f}"
            sizes = (f"{size:,}", f"{100 * size / whole:.1f} %", f"{whole / size:.1f}")
            rows.append((net, name, share, *sizes, f"{seconds:.0f}"))
    return rows


def right(path: Path, x: Array, y: Array) -> float:
    session = onnxrt.session(path)
    answers = [next(iter(onnxrt.run(session, {"input": one[np.newaxis]}).values())).argmax() for one in x]
    return float(np.mean(np.array(answers) == y))


def layers(target: Target) -> list[tuple[str, ...]]:
    """One row a layer: what it takes dense, and without the zeros of each density."""
    rows = []
    pointwise, square = Window(kernel=(1, 1)), Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    for bits in (8, 4):
        rows.append(row(f"dense 512 -> 64, int{bits}", target, bits, (512, 64), None))
        rows.append(row(f"1x1 64 -> 64, 8x8 pixels, int{bits}", target, bits, (64, 64), pointwise))
        rows.append(row(f"3x3 32 -> 32, 8x8 pixels, int{bits}", target, bits, (32, 32), square))
    return rows


def row(
    name: str, target: Target, bits: int, size: tuple[int, int], window: Window | None
) -> tuple[str, ...]:
    figures: list[str] = []
    for density in DENSITIES:
        bench = KernelBench()
        macs = add_layer(bench, bits, size, window, density)
        with tempfile.TemporaryDirectory() as folder:
            result = bench.check(TvmBackend(), target, Path(folder))
        call = choose_kernels(bench.program, target)[0].call
        stored = sum(constant.array.nbytes for constant in call.constants())
        dense = "" if call.function.name.startswith("sparse") else "dense, "
        figures.append(f"{result.op_instructions['op0'] / macs:.2f} ({dense}{stored:,})")
    return (name, *figures)


def add_layer(
    bench: KernelBench, bits: int, size: tuple[int, int], window: Window | None, density: float
) -> int:
    """Add one layer; its products."""
    inputs, channels = size
    kernel = (1, 1) if window is None else window.kernel
    half = 1 << (bits - 1)
    weight = bench.rng.integers(1, half, (channels, *kernel, inputs)).astype(np.int8)
    weight[bench.rng.random(weight.shape) >= density] = 0
    more: dict[str, Any] = {
        "weight_bits": bits,
        "sparse": density < 1,
        "bias": np.zeros(channels, np.int32),
        "requantization": Requantization(multiplier=np.full(channels, 1e-3, np.float32), zero_point=0),
    }
    if window is None:
        bench.add(DenseInt8, bench.int8(1, inputs), shape=(1, channels), weight=weight[:, 0, 0], **more)
        return weight.size
    x = bench.int8(1, 8, 8, inputs)
    bench.add(
        ConvInt8, x, shape=(1, 8, 8, channels), weight=weight, window=window, groups=1,
        input_zero_point=0, **more,
    )  # fmt: skip
    return 64 * weight.size


def idx(path: Path) -> Array:
    """An array of bytes in MNIST's format: two zeros, the type, the rank, the sizes, the bytes."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    sizes = np.frombuffer(data, ">i4", rank, 4)
    return np.asarray(np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(sizes.tolist()))


if __name__ == "__main__":
    main()

"""TensorFlow Lite files through irshrink, and against TensorFlow Lite Micro and ONNX Runtime.

    pip install 'irshrink[tflite]' tflite-micro
    python benchmarks/tflite_nets.py FOLDER [--target cortex-m4] [--inputs 32] [--only keyword]
                                     [--data keyword_spotting=models/kws-samples.npz ...]

FOLDER holds ``.tflite`` files. Every file is compiled for the target, and for this machine in both
arithmetics; the host builds (which equal the NumPy reference, as every build does) run on random and smooth
inputs, or on the first array of ``--data``, beside the ``tflite-micro`` package and ONNX Runtime. Outputs are
compared as stored int8; float models by the largest difference over the largest output.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink import onnxrt
from irshrink.artifact import MODEL_NAME, Build, load_build
from irshrink.compiler import compile_model
from irshrink.console import count, table
from irshrink.errors import IrshrinkError
from irshrink.frontends.read import read_model
from irshrink.module import load_module
from irshrink.ports import decode, quantize
from irshrink.program.lower import lower
from irshrink.program.ops import Transpose
from irshrink.program.program import Port, Program
from irshrink.recipe import make_recipe

Array = NDArray[Any]

_ARENA = 8 << 20
_HEADER = ("net", "nodes", "Transposes", "flash", "arena", "instructions", "tflm", "float32", "onnxruntime")


@dataclass
class Difference:
    """Outputs of one program against those of TensorFlow Lite Micro."""

    different: int = 0
    compared: int = 0
    largest: float = 0.0
    scale: float = field(default=1e-30)
    exact: bool = True

    def add(self, ours: Array, theirs: Array) -> None:
        distance = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        self.exact = ours.dtype == np.int8
        self.different += int((distance > 0).sum())
        self.compared += distance.size
        self.largest = max(self.largest, float(distance.max(initial=0)))
        self.scale = max(self.scale, float(np.abs(theirs).max(initial=0)))

    def __str__(self) -> str:
        if not self.exact:
            return f"{self.largest / self.scale:.1e}"
        largest = f" ({self.largest:.0f})" if self.different else ""
        return f"{self.different} of {self.compared}{largest}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--data", action="append", default=[], metavar="NET=FILE.npz", help="its real inputs")
    parser.add_argument("--only", default="", help="part of a file's name")
    options = parser.parse_args()
    data = dict(text.split("=", 1) for text in options.data)
    rows: list[tuple[str, ...]] = []
    for file in sorted(options.folder.glob("*.tflite")):
        if options.only in file.name:
            samples = data.get(file.stem)
            rows.append((file.stem, *row(file, options.target, options.inputs, samples)))
            print("  ".join(rows[-1]), flush=True)
    print()
    print(table(rows, _HEADER))
    print("\nnodes and Transposes: as read > after cleanup; Transposes > in the program.")
    print(
        "tflm, float32, onnxruntime: output bytes unlike TensorFlow Lite Micro's (largest distance in steps)."
    )


def row(file: Path, target: str, inputs: int, data: str | None) -> tuple[str, ...]:
    """The figures of one file; the reason where it does not compile."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        try:
            report = compile_model(file, make_recipe({"target": target}), scratch / "target")
            compare = {form: host_build(file, form, scratch / form) for form in ("tflm", "float32")}
        except IrshrinkError as e:
            return (str(e), *[""] * (len(_HEADER) - 2))
        module, _ = read_model(file)
        cleaned = load_module(scratch / "target" / MODEL_NAME)
        program = lower(cleaned)
        size, run = report["size"], report["emulation"]
        return (
            f"{len(module.graph)} > {len(cleaned.graph)}",
            " > ".join(map(str, (_transposes(module), _transposes(cleaned), _moves(program)))),
            count(size["flash_bytes"]),
            count(size["arena_bytes"]),
            count(run["instructions"]),
            *map(str, differences(file, compare, scratch / "target" / MODEL_NAME, inputs, data)),
        )


def host_build(file: Path, requantize: str, folder: Path) -> Build:
    compile_model(file, make_recipe({"target": "host", "requantize": requantize}), folder)
    return load_build(folder)


def differences(
    file: Path, builds: dict[str, Build], model: Path, inputs: int, data: str | None
) -> list[Difference]:
    """Of both builds and of ONNX Runtime, over as many inputs."""
    runtime: Any = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    theirs = runtime.Interpreter.from_file(str(file), arena_size=_ARENA)
    session = onnxrt.session(load_module(model).to_proto())
    found = {name: Difference() for name in (*builds, "onnxruntime")}
    program = builds["tflm"].program
    for stored in samples(program, inputs) if data is None else recorded(program, inputs, data):
        real = [_as_model(program, port, x) for port, x in zip(program.inputs, stored, strict=True)]
        for index, x in enumerate(real):
            theirs.set_input(x, index)
        theirs.invoke()
        wanted = [_as_stored(program, p, theirs.get_output(i)) for i, p in enumerate(program.outputs)]
        outputs = {name: build.run([stored]).outputs[0] for name, build in builds.items()}
        names = [port.name for port in program.inputs]
        reals = session.run(None, dict(zip(names, real, strict=True)))
        outputs["onnxruntime"] = [
            _as_stored(program, p, y) for p, y in zip(program.outputs, reals, strict=True)
        ]
        for name, values in outputs.items():
            for ours, their in zip(values, wanted, strict=True):
                found[name].add(np.asarray(ours), their)
    return list(found.values())


def samples(program: Program, count: int) -> Iterator[list[Array]]:
    """Random and smooth inputs in turn."""
    rng = np.random.default_rng(0)
    for number in range(count):
        yield [sample(program, port, rng, smooth=number % 2 == 1) for port in program.inputs]


def recorded(program: Program, count: int, file: str) -> Iterator[list[Array]]:
    """The first array of a file, for the only input."""
    arrays = np.load(file)
    (port,) = program.inputs
    stored = program.tensors[port.tensor].quantization
    assert stored is not None, "the net takes int8"
    for x in arrays[arrays.files[0]][:count]:
        yield [quantize(x[None].astype(np.float32), stored.scale, stored.zero_point)]


def sample(program: Program, port: Port, rng: np.random.Generator, *, smooth: bool) -> Array:
    """Independent values over the whole range, or a random walk along every axis, as images and spectra."""
    if smooth:
        x = rng.standard_normal(port.shape)
        for axis, size in enumerate(port.shape):
            x = np.cumsum(x, axis=axis) / np.sqrt(size)
        x = x / max(float(np.abs(x).max()), 1e-9)
    else:
        x = rng.uniform(-1, 1, port.shape)
    if program.tensors[port.tensor].dtype == "int8":
        return np.clip(np.rint(x * 128), -128, 127).astype(np.int8)
    return x.astype(np.float32)


def _as_model(program: Program, port: Port, stored: Array) -> Array:
    """What the model's own input takes: the stored integers, or the numbers they stand for."""
    if port.element == "float32":
        return np.asarray(decode(program, port, stored), np.float32)
    return stored


def _as_stored(program: Program, port: Port, value: Array) -> Array:
    tensor = program.tensors[port.tensor]
    if tensor.dtype != "int8" or value.dtype == np.int8 or tensor.quantization is None:
        return np.asarray(value)
    steps = np.rint(value / np.float32(tensor.quantization.scale)) + tensor.quantization.zero_point
    return np.asarray(np.clip(steps, -128, 127).astype(np.int8))


def _transposes(module: Any) -> int:
    return sum(node.op_type == "Transpose" for node in module.graph)


def _moves(program: Program) -> int:
    return sum(isinstance(op, Transpose) for op in program)


if __name__ == "__main__":
    main()

"""3x3 convolutions of float32, directly and in tiles of 2x2: where which is faster.

    python benchmarks/winograd.py [--target cortex-a72] [--layers 8x8x64x64,56x56x64x64] [--rounds 15]

Layers are height x width x channels in x channels out, padded, stride 1. On the host (`--target host`, the
default) builds take turns, and the ratio is that of the fastest runs; on others instructions are
counted. The last column is what the rule of `irshrink/program/lower/winograd.py` chooses.
"""

from __future__ import annotations

import argparse
import tempfile
from math import inf
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from irshrink.backend import Inference
from irshrink.backends.native.library import NativeLibrary
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.console import table
from irshrink.names import DEFAULT_NAMES
from irshrink.program.lower.finish import for_target
from irshrink.program.ops import ConvF32, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.report.layers import macs
from irshrink.target import Target, load_target

LAYERS = (
    "32x32x16x16,16x16x32x32,8x8x64x64,56x56x32x32,28x28x64x64,14x14x128x128,7x7x256x256,7x7x384x384,"
    "7x7x512x512,14x14x512x512,225x40x32x32,112x20x32x64,40x40x96x24,32x32x8x8,32x32x12x12,32x32x64x8,"
    "9x9x64x64,5x5x64x64,3x3x128x128,4x4x64x64,2x2x256x256,1x40x32x32"
)
#: Multiplications that one measurement of time should take at least.
_WORK = 3e8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="host")
    parser.add_argument("--layers", default=LAYERS)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    target, rows = load_target(options.target), []
    measure = timed if target.emulation is None else counted
    for layer in options.layers.split(","):
        height, width, ci, co = (int(n) for n in layer.split("x"))
        direct = program(height, width, ci, co)
        chosen = for_target(direct, target).ops[0]
        assert isinstance(chosen, ConvF32)
        with tempfile.TemporaryDirectory() as folder:
            costs = measure(direct, target, Path(folder), options.rounds)
        texts = [f"{cost:,.1f}" if measure is timed else f"{cost:,.0f}" for cost in costs]
        rows.append((layer, *texts, f"{costs[1] / costs[0]:.2f}", "tiles" if chosen.winograd else "direct"))
    unit = "microseconds" if measure is timed else "instructions"
    print(table(rows, ("layer", f"direct, {unit}", "tiles of 2x2", "ratio", "chosen")))


def program(height: int, width: int, ci: int, co: int, winograd: bool = False) -> Program:
    """One layer with random weights."""
    rng = np.random.default_rng(0)
    op = ConvF32(
        name="layer", origin=(), inputs=("x",), output="y", bias=rng.standard_normal(co).astype(np.float32),
        weight=(rng.standard_normal((co, 3, 3, ci)) / (9 * ci) ** 0.5).astype(np.float32), groups=1, low=0.0,
        high=inf, window=Window(kernel=(3, 3), pads=(1, 1, 1, 1)), fused=True, winograd=winograd,
    )  # fmt: skip
    x, y = (1, height, width, ci), (1, height, width, co)
    tensors = {name: Tensor(name, shape, "float32") for name, shape in (("x", x), ("y", y))}
    ports = [Port(name, name, shape, "float32") for name, shape in (("x", x), ("y", y))]
    return Program(tensors, [op], ports[:1], ports[1:])


def both(direct: Program, target: Target, folder: Path) -> tuple[list[Path], NDArray[np.float32]]:
    """The folders of both builds, and an input."""
    (height, width, ci), co = direct.inputs[0].shape[1:], direct.outputs[0].shape[-1]
    x = np.random.default_rng(1).standard_normal(direct.inputs[0].shape).astype(np.float32)
    y = np.zeros(direct.outputs[0].shape, np.float32)
    folders = []
    for winograd in (False, True):
        folders.append(folder / str(winograd))
        folders[-1].mkdir()
        layer = program(height, width, ci, co, winograd)
        TvmBackend().compile(layer, target, folders[-1], [Inference([x], [y])], "layer")
    return folders, x


def counted(direct: Program, target: Target, folder: Path, rounds: int) -> list[float]:
    """Instructions of both forms; their answers are about equal."""
    folders, x = both(direct, target, folder)
    runs = [TvmBackend().run(path, target, direct, [[x]]) for path in folders]
    answers = [run.outputs[0][0].astype(np.float32) for run in runs]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)
    return [float(sum(run.op_instructions.values())) for run in runs]


def timed(direct: Program, target: Target, folder: Path, rounds: int) -> list[float]:
    """Microseconds of both forms, the least of some rounds."""
    folders, x = both(direct, target, folder)
    libraries = [NativeLibrary(path / DEFAULT_NAMES.shared) for path in folders]
    answers = [np.frombuffer(library.run([x.tobytes()])[0], np.float32) for library in libraries]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)
    repeats = max(1, int(_WORK / macs(direct, direct.ops[0])))
    least = [inf, inf]
    for _ in range(rounds):
        for i, library in enumerate(libraries):
            start = perf_counter()
            library.repeat(repeats)
            least[i] = min(least[i], (perf_counter() - start) / repeats * 1e6)
    return least


if __name__ == "__main__":
    main()

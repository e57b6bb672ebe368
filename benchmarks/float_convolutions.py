"""Convolutions of float32 directly, in tiles of 2x2 and by Fourier transforms: where which is faster.

    python benchmarks/float_convolutions.py [--target cortex-a72] [--layers 8x8x64x64,172x264x8x8x3x39]

Layers are height x width x channels in x channels out, and the window where it is not 3x3; padded, stride 1.
3x3 runs in tiles of 2x2 as well, other windows with transforms of each of `--lengths` with room for them.
On the host (`--target host`, the default) builds take turns, and times are those of the fastest rounds; on
others instructions are counted. Ratios are to the direct kernel, and `*` is what the rules of
`irshrink/program/lower/` choose.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from time import perf_counter

import numpy as np

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
    "7x7x512x512,14x14x512x512,225x40x32x32,112x20x32x64,40x40x96x24,32x32x8x8,32x32x12x12,32x32x8x16,"
    "32x32x64x8,9x9x64x64,5x5x64x64,3x3x128x128,4x4x64x64,2x2x256x256,1x40x32x32,"
    "172x264x8x8x3x39,20x100x8x8x1x9,20x100x8x8x1x15,20x100x16x16x1x15,20x100x32x32x1x31,30x60x16x16x5x5,"
    "56x56x32x32x7x7,56x56x32x32x11x11,1x1000x64x64x1x9,1x1000x64x64x1x25"
)
#: Multiplications that one measurement of time should take at least.
_WORK = 5e7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="host")
    parser.add_argument("--layers", default=LAYERS)
    parser.add_argument("--lengths", default="64,128,256")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    target = load_target(options.target)
    native = target.emulation is None
    print(f"ratios to the direct kernel, by {'time' if native else 'instructions'}\n")
    rows = []
    for layer in options.layers.split(","):
        forms = forms_of(layer, [int(n) for n in options.lengths.split(",")])
        chosen = algorithm(for_target(forms[0], target))
        with tempfile.TemporaryDirectory() as folder:
            costs = (timed if native else counted)(forms, target, Path(folder), options.rounds)
        others = [
            f"{algorithm(form)} {cost / costs[0]:.2f}{'*' * (algorithm(form) == chosen)}"
            for form, cost in zip(forms[1:], costs[1:], strict=True)
        ]
        direct = f"{costs[0]:,.1f} us" if native else f"{costs[0]:,.0f}"
        rows.append((layer, direct + "*" * (chosen == "direct"), ", ".join(others)))
    print(table(rows, ("layer", "direct", "others")))


def forms_of(layer: str, lengths: Sequence[int]) -> list[Program]:
    """One layer with random weights: directly, and in the other ways."""
    height, width, ci, co, kh, kw = [*(int(n) for n in layer.split("x")), 3, 3][:6]
    rng = np.random.default_rng(0)
    window = Window(kernel=(kh, kw), pads=(kh // 2, kw // 2, kh // 2, kw // 2))
    op = ConvF32(
        name="layer", origin=(), inputs=("x",), output="y", bias=rng.standard_normal(co).astype(np.float32),
        weight=(rng.standard_normal((co, kh, kw, ci)) / (kh * kw * ci) ** 0.5).astype(np.float32),
        groups=1, low=-inf, high=inf, window=window, fused=True,
    )  # fmt: skip
    shapes = {"x": (1, height, width, ci), "y": (1, *window.output(height, width), co)}
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    ports = [Port(name, name, shape, "float32") for name, shape in shapes.items()]
    ops = [op]
    if (kh, kw) == (3, 3):
        ops.append(replace(op, winograd=True))
    else:
        ops += [replace(op, fourier=n) for n in lengths if n > kw]
    return [Program(tensors, [one], ports[:1], ports[1:]) for one in ops]


def algorithm(program: Program) -> str:
    (op,) = program.ops
    assert isinstance(op, ConvF32)
    return "tiles" if op.winograd else f"transforms of {op.fourier}" if op.fourier else "direct"


def built(forms: Sequence[Program], target: Target, folder: Path) -> list[Path]:
    """The folders of the builds."""
    folders = []
    for number, form in enumerate(forms):
        folders.append(folder / str(number))
        folders[-1].mkdir()
        x, y = (np.zeros(port.shape, np.float32) for port in (form.inputs[0], form.outputs[0]))
        TvmBackend().compile(form, target, folders[-1], [Inference([x], [y])], "layer")
    return folders


def counted(forms: Sequence[Program], target: Target, folder: Path, rounds: int) -> list[float]:
    """Instructions of every form; their answers are about equal."""
    x = np.random.default_rng(1).standard_normal(forms[0].inputs[0].shape).astype(np.float32)
    folders = built(forms, target, folder)
    runs = [TvmBackend().run(path, target, forms[0], [[x]]) for path in folders]
    answers = [run.outputs[0][0].astype(np.float32) for run in runs]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-4)
    return [float(sum(run.op_instructions.values())) for run in runs]


def timed(forms: Sequence[Program], target: Target, folder: Path, rounds: int) -> list[float]:
    """Microseconds of every form, the least of some rounds."""
    x = np.random.default_rng(1).standard_normal(forms[0].inputs[0].shape).astype(np.float32)
    libraries = [NativeLibrary(path / DEFAULT_NAMES.shared) for path in built(forms, target, folder)]
    answers = [np.frombuffer(library.run([x.tobytes()])[0], np.float32) for library in libraries]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-4)
    repeats = max(1, int(_WORK / macs(forms[0], forms[0].ops[0])))
    least = [inf] * len(libraries)
    for _ in range(rounds):
        for i, library in enumerate(libraries):
            start = perf_counter()
            library.repeat(repeats)
            least[i] = min(least[i], (perf_counter() - start) / repeats * 1e6)
    return least


if __name__ == "__main__":
    main()

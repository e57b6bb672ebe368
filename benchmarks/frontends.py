"""One network of each framework to Cortex-M4: emulated, beside what the framework itself computes.

    python benchmarks/frontends.py [--target cortex-m4] [--samples 8]

Needs the extras keras, tensorflow and pytorch, and opencv-python-headless (below 5) as Caffe's stand-in, each
in irshrink's environment or in one that ``IRSHRINK_CONVERTER_PYTHON`` names. Networks are made up here with
random weights. ``float``: the largest difference over all outputs, relative to the largest output. ``int8``:
calibrated on half of the samples, scored on the other half.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.artifact import load_build
from irshrink.compiler import compile_model
from irshrink.console import count, table
from irshrink.recipe import make_recipe
from irshrink.testing.caffe import rich_network, write
from irshrink.testing.frameworks import answers_of_opencv, run_file

NETS = Path(__file__).with_name("nets")
HEADER = ("format", "model", "layers", "float, relative", "int8: same class", "cosine", "instructions, both")


@dataclass(frozen=True)
class Net:
    """A model file, samples by input name and the framework's outputs by output name."""

    format: str
    path: Path
    samples: Path
    answers: dict[str, NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--samples", type=int, default=8, help="emulated for the float figure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        for net in (net for make in MAKERS for net in make(folder)):
            print(f"{net.format} ...", file=sys.stderr, flush=True)
            rows.append(row(net, options.target, options.samples, folder))
    print(table(rows, HEADER))


def tensorflow_nets(folder: Path) -> list[Net]:
    """A Keras network in both of its formats, and a SavedModel without Keras."""
    run_file("keras", NETS / "tensorflow_nets.py", folder, str(folder))
    formats = {"Keras .keras": "mobile.keras", "Keras .h5": "mobile.h5", "SavedModel": "speech"}
    return [_net(name, folder / file, folder) for name, file in formats.items()]


def torch_nets(folder: Path) -> list[Net]:
    """An exported program."""
    run_file("torch", NETS / "torch_nets.py", folder, str(folder))
    return [_net("PyTorch .pt2", folder / "residual.pt2", folder)]


def caffe_nets(folder: Path) -> list[Net]:
    """A network of many layer types, answered by OpenCV's importer."""
    rng = np.random.default_rng(0)
    path = write(folder / "caffe", *rich_network(rng), name="rich")
    x = rng.normal(size=(64, 3, 19, 17)).astype(np.float32)
    np.savez(folder / "rich-x.npz", data=x)
    return [Net("Caffe", path, folder / "rich-x.npz", {"prob": answers_of_opencv(path, x, folder)})]


MAKERS: tuple[Callable[[Path], list[Net]], ...] = (tensorflow_nets, torch_nets, caffe_nets)


def row(net: Net, target: str, number: int, folder: Path) -> tuple[str, ...]:
    """Compile in float and in int8, run both in the emulator."""
    plain = compile_model(net.path, make_recipe({"target": target}), folder / "float", force=True)
    worst = difference(folder / "float", net, range(number))
    half = folder / "half.npz"
    with np.load(net.samples) as samples:
        total = min(len(samples[name]) for name in samples)
        np.savez(half, **{name: samples[name][: total // 2] for name in samples})
    recipe = make_recipe({"target": target, "calibration": str(half)})
    small = compile_model(net.path, recipe, folder / "int8", force=True)
    same, cosine = agreement(folder / "int8", net, range(total // 2, total))
    counts = " / ".join(count(report["emulation"]["instructions"]) for report in (plain, small))
    return (
        net.format,
        net.path.name,
        str(len(plain["layers"])),
        f"{worst:.1e}",
        same,
        f"{cosine:.5f}",
        counts,
    )


def difference(build: Path, net: Net, chosen: range) -> float:
    """The largest difference from the framework, relative to its largest output."""
    worst = 0.0
    for index, outputs in zip(chosen, run_build(build, net, chosen), strict=True):
        for name, values in outputs.items():
            expected = net.answers[name][index]
            worst = max(worst, float(np.abs(values[0] - expected).max() / np.abs(net.answers[name]).max()))
    return worst


def agreement(build: Path, net: Net, chosen: range) -> tuple[str, float]:
    """How often the largest output is the same one, and the mean cosine similarity."""
    (name,) = net.answers
    ours = np.stack([outputs[name].reshape(-1) for outputs in run_build(build, net, chosen)])
    theirs = np.stack([net.answers[name][index].reshape(-1) for index in chosen])
    same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return f"{same} of {len(chosen)}", float(np.mean((ours * theirs).sum(1) / lengths))


def run_build(build: Path, net: Net, chosen: range) -> list[dict[str, NDArray[Any]]]:
    """Outputs of the emulated build by name, for the chosen samples."""
    program = load_build(build)
    with np.load(net.samples) as samples:
        arrays = {name: samples[name] for name in samples}
    return [program({name: array[i][None] for name, array in arrays.items()}) for i in chosen]


def _net(name: str, path: Path, folder: Path) -> Net:
    with np.load(folder / f"{path.stem}-y.npz") as answers:
        return Net(name, path, folder / f"{path.stem}-x.npz", {key: answers[key] for key in answers})


if __name__ == "__main__":
    main()

"""Whole models against ONNX Runtime: compile, run on eight inputs, compare; int8 against the reference.

    python benchmarks/zoo.py FOLDER [--only NAME,NAME] [--target host] [--photos FOLDER] [--float]

FOLDER is searched for the files of ``zoo_models.py`` and ``zoo_sequences.py``; models that are not there are
left out. None of them is part of the project. The relative error of an output is
``max |ours - theirs| / max |theirs|``; the largest of all outputs and inputs is shown. int8 builds are
calibrated on inputs of the same kind and must equal the reference byte for byte, which the compiler checks
itself; their error is the cosine similarity with the float model instead.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from zoo_models import ZOO, Array, Inputs, Net, photos
from zoo_sequences import SEQUENCES

from irshrink import onnxrt
from irshrink.agreement import cosine
from irshrink.artifact import load_build
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.errors import IrshrinkError, UnsupportedModelError
from irshrink.recipe import make_recipe

COMPARED = 8
CALIBRATION = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="names of models, separated by commas")
    parser.add_argument("--target", default="host")
    parser.add_argument("--photos", type=Path, help="folder of images that image models are given")
    parser.add_argument("--float", action="store_true", help="leave int8 out")
    options = parser.parse_args()
    chosen = None if options.only is None else set(options.only.split(","))
    rows: list[tuple[str, ...]] = []
    for net in (*ZOO, *SEQUENCES):
        path = next(iter(sorted(options.folder.rglob(net.file))), None)
        if path is None or (chosen is not None and net.name not in chosen):
            continue
        with photos(options.photos):
            for int8 in (False, True) if net.int8 and not options.float else (False,):
                rows.append(row(net, path, options.target, int8=int8))
                print(*rows[-1], sep=", ", flush=True)
    print(table(rows, ("model", "form", "layers", "result", "against ONNX Runtime", "seconds")))


def row(net: Net, path: Path, target: str, *, int8: bool) -> tuple[str, ...]:
    """One line of the table; a refusal is a result, too."""
    started = time.perf_counter()
    form = "int8" if int8 else "float"
    try:
        layers, error = measure(net, path, target, int8=int8)
    except UnsupportedModelError as e:
        refused = str(e).count("\n")
        return (net.name, form, "", f"{refused} nodes refused", "", f"{time.perf_counter() - started:.0f}")
    except IrshrinkError as e:
        return (net.name, form, "", f"{type(e).__name__}: {e}"[:120], "", "")
    return (net.name, form, layers, "bytes equal", error, f"{time.perf_counter() - started:.0f}")


def measure(net: Net, path: Path, target: str, *, int8: bool) -> tuple[str, str]:
    """Layers of the build, and how far it is from the float model.

    Raises:
        IrshrinkError: it cannot be compiled, or a byte differs from the reference.
    """
    rng = np.random.default_rng(0)
    feeds = [net.inputs(rng) for _ in range(COMPARED)]
    values: dict[str, Any] = {"target": target, "shapes": net.shapes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder / "eval.npz", feeds)
        values |= {"eval": str(folder / "eval.npz"), "test_inputs": COMPARED if int8 else 1}
        if int8:
            save(folder / "calibration.npz", [net.inputs(rng) for _ in range(CALIBRATION)])
            values["calibration"] = str(folder / "calibration.npz")
            values["keep_float"] = list(net.keep_float)
        report = compile_model(path, make_recipe(values), folder / "build")
        build, session = load_build(folder / "build"), onnxrt.session(path)
        theirs = [onnxrt.run(session, one) for one in feeds]
        ours = [build(one) for one in feeds]
    kinds = [layer["dtype"] for layer in report["layers"]]
    if int8:
        similar = min(cosine(a[name], b[name]) for a, b in zip(theirs, ours, strict=True) for name in a)
        floating = sum(kind == "float32" for kind in kinds)
        return f"{len(kinds)}, {floating} in float", f"cosine {similar:.4f}"
    worst = max(relative_error(a, b) for a, b in zip(theirs, ours, strict=True))
    return f"{len(kinds)}", f"{worst:.1e}"


def relative_error(theirs: dict[str, Array], ours: dict[str, Array]) -> float:
    """``max |ours - theirs| / max |theirs|``, the largest of all outputs."""
    errors = []
    for name, wanted in theirs.items():
        difference = np.abs(ours[name].astype(np.float64) - wanted.astype(np.float64)).max(initial=0)
        errors.append(float(difference / max(float(np.abs(wanted).max(initial=0)), 1e-30)))
    return max(errors)


def save(path: Path, feeds: Sequence[Inputs]) -> None:
    np.savez(path, **{name: np.stack([one[name] for one in feeds]) for name in feeds[0]})


if __name__ == "__main__":
    main()

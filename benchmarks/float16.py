"""float16 arithmetic against float32: instructions and arena on a target that has it, and accuracy.

    python benchmarks/float16.py [--models kws,ic] [--cifar FILE] [--photos FOLDER --efficientnet FILE]

Instructions are counted in QEMU, every byte compared with the reference. Accuracy is that of the same sums
computed by this machine through float32 and float64, all convolutions direct: top-1 where there are labels
(photos are named by their class), else agreement with the float model or the cosine of outputs, on the
samples beside the models.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tomli_w

from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.recipe import Recipe
from irshrink.samples import ImageOptions
from irshrink.target import load_target

MODELS = Path(__file__).parent.parent / "models"
#: Of EfficientNet-Lite0.
SHAPE, IMAGES = {"input": (1, 3, 224, 224)}, ImageOptions(mean=(127,), std=(128,), labels="stem")
HEAD = ("model", "float32", "float16", "ratio", "arena", "float16", "bytes", "metric", "float32", "float16")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="kws,ic,vww,ad")
    parser.add_argument("--target", default="neoverse-n1")
    for option in ("--cifar", "--photos", "--efficientnet"):
        parser.add_argument(option, type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        emulated = scratch / "emulated.toml"
        emulated.write_text(tomli_w.dumps(emulating()))
        for model in options.models.split(","):
            scored = MODELS / f"{model}-samples.npz"
            if model == "ic" and options.cifar:
                scored = cifar(options.cifar, scratch)
            rows.append(row(MODELS / f"{model}.onnx", options.target, emulated, scratch, eval=str(scored)))
            print(rows[-1], file=sys.stderr)
        if options.photos and options.efficientnet:
            more: dict[str, Any] = {"shapes": SHAPE, "images": IMAGES, "eval": str(options.photos)}
            rows.append(row(options.efficientnet, options.target, emulated, scratch, **more))
    print(f"{options.target}, instructions of one inference, bytes of the arena\n")
    print(table(rows, HEAD))


def emulating() -> dict[str, Any]:
    """This machine as a target that computes float16."""
    fields: dict[str, Any] = msgspec.to_builtins(load_target("host"))
    fields["features"] = sorted({*fields["features"], "fp16"})
    return {
        key: value for key, value in fields.items() if value is not None and key not in ("name", "stated")
    }


def cifar(file: Path, scratch: Path) -> Path:
    """The images from number 200 on, (pixels - 128) / 128."""
    with np.load(file) as data:
        x, y = (data["x"][200:].astype(np.float32) - 128) / 128, data["y"][200:].astype(np.int64)
    np.savez(scratch / "cifar.npz", input=x, y=y)
    return scratch / "cifar.npz"


def row(model: Path, target: str, emulated: Path, scratch: Path, **more: Any) -> tuple[str, ...]:
    """One line of the table."""
    counted = {}
    for quantize in ("none", "fp16"):
        shapes = {key: value for key, value in more.items() if key == "shapes"}
        recipe = Recipe(target=target, quantize=quantize, test_inputs=2, **shapes)
        counted[quantize] = compile_model(model, recipe, scratch / f"{model.stem}-{quantize}")
    scored = Recipe(target=str(emulated), quantize="fp16", test_inputs=1, **more)
    accuracy = compile_model(model, scored, scratch / f"{model.stem}-scored")["accuracy"]
    before, after = (counted[key]["emulation"]["instructions"] for key in ("none", "fp16"))
    arena = [f"{counted[key]['size']['arena_bytes']:,}" for key in ("none", "fp16")]
    emulation = counted["fp16"]["emulation"]
    equal = f"{emulation['compared_bytes'] - emulation['mismatched_bytes']} of {emulation['compared_bytes']}"
    original = "" if accuracy["original"] is None else f"{accuracy['original']:.4f}"
    metric = f"{accuracy['metric']}, {accuracy['samples']}"
    figures = (f"{before:,}", f"{after:,}", f"{after / before:.3f}", *arena, equal, metric)
    return (model.stem, *figures, original, f"{accuracy['compiled']:.4f}")


if __name__ == "__main__":
    main()

"""PP-OCR's recognizer, float against int8: wrong characters in rendered lines of text.

    python benchmarks/reading.py MODEL --fonts FOLDER [--lines 400] [--pass "NAME OPTION=VALUE"] [--compiled]

MODEL is ch_PP-OCRv4_rec_infer.onnx of the PyPI package rapidocr-onnxruntime 1.4.4, FOLDER holds TrueType
fonts, DejaVu's for example. Lines of words and numbers are drawn in all of them, in grey on grey, with
noise, from fixed seeds; 64 lines of other seeds calibrate. Counted are insertions, deletions and
substitutions (Levenshtein) against what was drawn, by ONNX Runtime on the quantized model, with
--compiled by the host build as well. The model is not part of the project.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.artifact import load_build
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.optimize import optimize_model, parse_pass
from irshrink.recipe import make_recipe
from irshrink.registry import make_pass

Array = np.ndarray[Any, np.dtype[Any]]
HEIGHT, WIDTH = 48, 320
CALIBRATION, SEED = 64, 1000
WORDS = (
    "the quick brown fox jumps over lazy dog invoice total amount due date Street Avenue Hotel Paris "
    "London Berlin number order receipt price tax net gross table chair window kitchen garden Monday "
    "Friday March August Winter open closed exit push pull left right north south engine motor voltage "
    "current water coffee sugar flour bread butter cheese apple orange lemon Mr. Mrs. Dr. Smith Miller "
    "Johnson University School Library Station Airport Gate Terminal Platform Seat Room Floor Page "
    "Chapter Volume Price: Total: Date: "
)
Reader = Callable[[Array], Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--fonts", type=Path, required=True, help="folder of .ttf files")
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--pass", dest="passes", action="append", help="in order, instead of quantize-int8")
    parser.add_argument("--compiled", action="store_true", help="read with the host build, too")
    options = parser.parse_args()
    fonts = sorted(options.fonts.rglob("*.ttf"))
    lines = [drawn(seed, fonts) for seed in range(options.lines)]
    letters = ["", *alphabet(options.model), " "]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        calibration = scratch / "calibration.npz"
        np.savez(
            calibration, x=np.concatenate([drawn(SEED + i, fonts)[1] for i in range(CALIBRATION)])[:, None]
        )
        shown = {"float": by_onnxruntime(options.model)}
        steps = [parse_pass(text) for text in options.passes or ["quantize-int8"]]
        passes = [make_pass(*step) for step in steps]
        shapes = {"x": (1, 3, HEIGHT, WIDTH)}
        optimize_model(options.model, scratch / "int8.onnx", passes, shapes=shapes, calibration=calibration)
        shown["int8 in ONNX Runtime"] = by_onnxruntime(scratch / "int8.onnx")
        if options.compiled:
            tables = [{"pass": name, **given} for name, given in steps]
            shown["int8, host build"] = by_build(options.model, calibration, tables, scratch / "build")
        rows = [(label, *counted(read, lines, letters)) for label, read in shown.items()]
    print(table(rows, ("model", "lines", "characters", "wrong", "wrong, %", "lines without error")))


def drawn(seed: int, fonts: list[Path]) -> tuple[str, Array]:
    """A line of text, and its picture as the model wants it: [1, 3, 48, 320], -1..1."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(seed)
    text = ""
    while len(text) < 8:
        word = (
            str(rng.choice(WORDS.split()))
            if rng.random() < 0.75
            else f"{rng.integers(0, 10 ** int(rng.integers(1, 6)))}"
        )
        text = f"{text} {word}".strip()
    text = text[:18].strip()
    font = ImageFont.truetype(str(fonts[int(rng.integers(len(fonts)))]), int(rng.integers(28, 44)))
    left, top, right, bottom = font.getbbox(text)
    paper, ink = sorted(rng.integers(0, 256, 2), reverse=bool(rng.random() < 0.8))
    ink = ink if abs(int(paper) - int(ink)) > 80 else (int(paper) + 128) % 256
    margin = int(rng.integers(3, 9))
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    image = Image.new("L", size, int(paper))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, fill=int(ink), font=font)
    width = min(WIDTH, round(size[0] * HEIGHT / size[1]))
    pixels = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    pixels = np.clip(pixels + rng.normal(0, rng.uniform(0, 12), pixels.shape), 0, 255)
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)  # the model's own padding is 0 after normalization
    canvas[:, :width] = np.rint(pixels) / 127.5 - 1
    return text, np.broadcast_to(canvas, (1, 3, HEIGHT, WIDTH)).copy()


def alphabet(model: Path) -> list[str]:
    """The characters that the model knows, in its order."""
    import onnx

    properties = {str(p.key): str(p.value) for p in onnx.load(str(model)).metadata_props}
    return properties["character"].splitlines()


def by_onnxruntime(model: Path) -> Reader:
    session = onnxrt.session(model)
    return lambda image: next(iter(onnxrt.run(session, {"x": image}).values()))


def by_build(model: Path, calibration: Path, steps: list[dict[str, Any]], folder: Path) -> Reader:
    values = {"target": "host", "calibration": str(calibration), "steps": steps, "io": "float"}
    compile_model(model, make_recipe({**values, "shapes": {"x": [1, 3, HEIGHT, WIDTH]}}), folder)
    build = load_build(folder)
    return lambda image: build.run([[image]]).outputs[0][0]


def counted(read: Reader, lines: list[tuple[str, Array]], letters: list[str]) -> tuple[str, ...]:
    """Lines, characters, wrong ones, their share, and lines without error."""
    errors = [distance(text, decoded(read(image), letters)) for text, image in lines]
    characters = sum(len(text) for text, _ in lines)
    share = f"{100 * sum(errors) / characters:.2f}"
    return (str(len(lines)), str(characters), str(sum(errors)), share, str(errors.count(0)))


def decoded(probabilities: Array, letters: list[str]) -> str:
    """The most likely class of each position; repeated ones are one, and class 0 is none (CTC)."""
    best = probabilities.reshape(-1, len(letters)).argmax(axis=1)
    kept = [int(c) for c, before in zip(best, [0, *best[:-1]], strict=True) if c not in (0, before)]
    return "".join(letters[c] for c in kept).strip()


def distance(a: str, b: str) -> int:
    """Levenshtein's."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


if __name__ == "__main__":
    main()

"""Low rank on real models: what is left of them, and what of their answers.

    python benchmarks/low_rank.py digits --mnist FOLDER
    python benchmarks/low_rank.py photos --model open-nsfw.onnx --photos FOLDER
    python benchmarks/low_rank.py sentences --model FILE.onnx --vocabulary vocab.txt --pairs FOLDER

``digits``: the project's LeNets, fitted to 256 training images, judged on MNIST's test files (gzipped idx).
``photos``: a classifier of 224 x 224 photos as open_nsfw takes them (NHWC, BGR minus a mean); every fourth
photo of the folder, in the order of their names, is read by the passes, and what is judged is agreement with
the original on all photos and on the others. ``sentences``: a BERT-like encoder on word similarity, as in
``benchmarks/sentences.py``; it is fitted to 256 rows of single words between markers, drawn from its own
vocabulary without those that the scores are about. Nothing is trained. None of these files is part of the
project but the LeNets.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentences import SETS, Words, read_pairs, score
from weights import MODELS, idx

from irshrink import onnxrt
from irshrink.analyses.cost import graph_macs, graph_parameters
from irshrink.console import table
from irshrink.graph.shapes import infer_shapes
from irshrink.module import load_module
from irshrink.optimize import optimize_model
from irshrink.registry import make_pass

Array = np.ndarray[Any, np.dtype[Any]]
Steps = list[tuple[str, dict[str, Any]]]

#: Words of a row, [CLS] and [SEP] included, and rows.
WORDS, ROWS = 16, 256

DIGITS: dict[str, tuple[str, Steps]] = {
    "lenet-300-100": ("lenet-300-100", []),
    "lenet-300-100, 24.5 % of the weights": (
        "lenet-300-100",
        [("low-rank", {"by": "parameters", "budget": 0.245, "multiple": 1})],
    ),
    "lenet-300-100, as small, fitted to weights": (
        "lenet-300-100",
        [("low-rank", {"by": "parameters", "budget": 0.245, "multiple": 1, "fit": "weights"})],
    ),
    "lenet-300-100, pruned, then as small": (
        "lenet-300-100",
        [
            ("prune-channels", {"ratio": 0.15, "by": "bytes"}),
            ("low-rank", {"by": "parameters", "budget": 0.285, "multiple": 1}),
            ("repair", {}),
        ],
    ),
    "lenet-5": ("lenet-5", []),
    "lenet-5, half of the MACs": ("lenet-5", [("low-rank", {"by": "macs", "budget": 0.5})]),
    "lenet-5, a third of the MACs": ("lenet-5", [("low-rank", {"by": "macs", "budget": 0.33})]),
    "lenet-5, pruned, then 20 % of the weights, int8": (
        "lenet-5",
        [
            ("prune-channels", {"ratio": 0.2}),
            ("low-rank", {"by": "parameters", "budget": 0.2, "multiple": 1}),
            ("repair", {}),
            ("quantize-int8", {}),
        ],
    ),
}
PHOTOS: dict[str, Steps] = {
    "original": [],
    "half of the MACs": [("low-rank", {"by": "macs", "budget": 0.5})],
    "half, weights alone": [("low-rank", {"by": "macs", "budget": 0.5, "fit": "weights"})],
    "half, repaired": [("low-rank", {"by": "macs", "budget": 0.5}), ("repair", {})],
}
SENTENCES: dict[str, Steps] = {
    "original": [],
    "table halved": [("factorize-embedding", {})],
    "layers at 61.5 %": [("low-rank", {"by": "parameters", "budget": 0.615, "multiple": 8})],
    "both": [
        ("factorize-embedding", {}),
        ("low-rank", {"by": "parameters", "budget": 0.615, "multiple": 8}),
    ],
    "both, weights alone": [
        ("factorize-embedding", {}),
        ("low-rank", {"by": "parameters", "budget": 0.615, "multiple": 8, "fit": "weights"}),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["digits", "photos", "sentences"])
    for option in ("--mnist", "--model", "--photos", "--vocabulary", "--pairs"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--rows", nargs="*", help="names of the rows to measure; all without")
    given = parser.parse_args()
    {"digits": digits, "photos": photos, "sentences": sentences}[given.what](given)


def digits(given: argparse.Namespace) -> None:
    x = idx(given.mnist / "t10k-images-idx3-ubyte.gz")[:, np.newaxis].astype(np.float32) / np.float32(255)
    y = idx(given.mnist / "t10k-labels-idx1-ubyte.gz")
    rows = []
    for name in given.rows or DIGITS:
        net, steps = DIGITS[name]
        with tempfile.TemporaryDirectory() as folder:
            out, samples = Path(folder) / "out.onnx", MODELS / "mnist-samples.npz"
            seconds = made(MODELS / f"{net}.onnx", out, steps, {"input": (1, 1, 28, 28)}, samples)
            answers = [one.argmax() for one in run(out, [{"input": one[np.newaxis]} for one in x])]
            right = 100 * float(np.mean(np.array(answers) == y))
            size = f"{out.stat().st_size:,}"
            rows.append((name, f"{right:.2f}", *sizes(out), f"{constants(out):,}", size, f"{seconds:.0f}"))
    heads = ("net", "right, %", "MACs", "parameters", "bytes of them", "of the file", "seconds to make")
    print(table(rows, heads))


def photos(given: argparse.Namespace) -> None:
    files = sorted(given.photos.glob("*.jpg"))
    name = str(load_module(given.model).graph.inputs[0].name)
    rows, wanted = [], np.zeros(0)
    with tempfile.TemporaryDirectory() as folder:
        samples, out = Path(folder) / "samples.npz", Path(folder) / "out.onnx"
        read: dict[str, Any] = {name: np.stack([photo(file) for file in files[::4]])}
        np.savez(samples, **read)
        wanted = np.stack(run(given.model, [{name: photo(file)[np.newaxis]} for file in files]))
        others = np.arange(len(files)) % 4 != 0
        for row in given.rows or PHOTOS:
            seconds = made(given.model, out, PHOTOS[row], {name: (1, 224, 224, 3)}, samples)
            found = np.stack(run(out, [{name: photo(file)[np.newaxis]} for file in files]))
            same = found.argmax(axis=-1).reshape(-1) == wanted.argmax(axis=-1).reshape(-1)
            right = np.corrcoef(odds(found)[others], odds(wanted)[others])[0, 1]
            rows.append(
                (
                    row, f"{100 * same.mean():.2f}", f"{100 * same[others].mean():.2f}",
                    f"{right:.3f}", f"{np.abs(found - wanted).mean():.4f}", *sizes(out), f"{seconds:.0f}",
                )
            )  # fmt: skip
    heads = ("model", "agree, %", "others, %", "correlation", "probability off by", "MACs", "parameters")
    print(table(rows, (*heads, "seconds to make")))


def sentences(given: argparse.Namespace) -> None:
    words = Words(given.vocabulary)
    pairs = {name: read_pairs(given.pairs / file) for name, file in SETS.items()}
    judged = sorted({word for some in pairs.values() for a, b, _ in some for word in (a, b)})
    shapes = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, WORDS))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        samples, out = Path(folder) / "samples.npz", Path(folder) / "out.onnx"
        np.savez(samples, **drawn_words(given.vocabulary, judged))
        for row in given.rows or SENTENCES:
            seconds = made(given.model, out, SENTENCES[row], shapes, samples)
            vectors = encoded(out, words, judged)
            scores = [f"{score(some, vectors):.4f}" for some in pairs.values()]
            rows.append((row, *scores, *parameters(out), f"{out.stat().st_size:,}", f"{seconds:.0f}"))
    heads = ("model", *SETS, "parameters of layers", "of the table", "bytes", "seconds to make")
    print(table(rows, heads))


def made(model: Path, out: Path, steps: Steps, shapes: Mapping[str, tuple[int, ...]], samples: Path) -> float:
    """Seconds that the passes took."""
    start = time.perf_counter()
    passes = [make_pass(name, options) for name, options in steps]
    optimize_model(model, out, passes, shapes=shapes, calibration=samples)
    return time.perf_counter() - start


def run(model: Path, feeds: Sequence[dict[str, Array]]) -> list[Array]:
    session = onnxrt.session(model)
    return [next(iter(onnxrt.run(session, one).values())) for one in feeds]


def sizes(model: Path) -> tuple[str, str]:
    """Multiply-accumulates, and parameters."""
    module = load_module(model)
    infer_shapes(module.model)
    macs = sum(value or 0 for value in graph_macs(module.graph).values())
    return f"{macs:,}", f"{graph_parameters(module.graph):,}"


def constants(model: Path) -> int:
    """Bytes, scales and zero points included."""
    values = load_module(model).graph.initializers.values()
    return sum(int(value.const_value.nbytes) for value in values if value.const_value is not None)


def parameters(model: Path) -> tuple[str, str]:
    """Numbers in the constants: those of layers, and those of the largest table."""
    numbers = _numbers(load_module(model).graph.initializers.values())
    return f"{sum(numbers) - max(numbers):,}", f"{max(numbers):,}"


def _numbers(values: Any) -> list[int]:
    tensors = [value.const_value for value in values if value.dtype.is_floating_point()]
    return [int(tensor.size) for tensor in tensors]


def photo(file: Path) -> Array:
    """As open_nsfw's reference does it: 256 x 256, the middle of it, through JPEG again, BGR minus a mean."""
    from PIL import Image

    image = Image.open(file).convert("RGB").resize((256, 256), resample=Image.Resampling.BILINEAR)
    held = io.BytesIO()
    image.crop((16, 16, 240, 240)).save(held, format="JPEG")
    pixels = np.asarray(Image.open(io.BytesIO(held.getvalue())), np.float32)[:, :, ::-1]
    return np.ascontiguousarray(pixels - np.array([104, 117, 123], np.float32))


def odds(answers: Array) -> Array:
    """Logarithm of the second class over the first."""
    flat = answers.reshape(len(answers), 2).astype(np.float64)
    return np.asarray(np.log(flat[:, 1] / flat[:, 0]))


def drawn_words(vocabulary: Path, judged: Sequence[str]) -> dict[str, Any]:
    """Rows of whole words, none of them judged, each between [CLS] and [SEP] as those will be."""
    lines, known = vocabulary.read_text("utf-8").splitlines(), {word.lower() for word in judged}
    whole = [i for i, w in enumerate(lines) if w.isascii() and w.isalpha() and len(w) > 2 and w not in known]
    ids = np.random.default_rng(0).choice(whole, (ROWS, WORDS)).astype(np.int64)
    places = np.arange(WORDS) % 3
    ids[:, places == 0], ids[:, places == 2] = lines.index("[CLS]"), lines.index("[SEP]")
    ids[:, -1] = lines.index("[SEP]")
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def encoded(model: Path, words: Words, wanted: Sequence[str]) -> dict[str, Array]:
    """The vector of each word, behind which the row is empty: the mean of its hidden states."""
    session, found = onnxrt.session(model), {}
    for word in wanted:
        known = words.ids(word)
        ids, mask = np.zeros((1, WORDS), np.int64), np.zeros((1, WORDS), np.int64)
        ids[0, : len(known)], mask[0, : len(known)] = known, 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = onnxrt.run(session, feeds).values()
        found[word] = hidden[0, : len(known)].mean(axis=0)
    return found


if __name__ == "__main__":
    main()

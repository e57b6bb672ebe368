"""A sentence encoder on word similarity, with its weights stored in fewer bits and computed in int8.

    python benchmarks/sentences.py --model FILE.onnx --vocabulary vocab.txt --pairs FOLDER [--rows NAME ...]

The model is a BERT-like encoder (``input_ids``, ``attention_mask``, ``token_type_ids`` -> hidden states
[n, words, size]) whose sentence vector is the mean over words, such as all-MiniLM-L6-v2; the vocabulary
that of its WordPiece tokenizer. The folder holds ``wordsim353.tsv`` and ``simlex999.txt`` (gensim's test
data): two words and a score of people a line. What is printed is Spearman's rank correlation between
these scores and the cosine of the words' vectors, and the bytes of the file. No calibration data is used.
None of the files is part of the project.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from irshrink import onnxrt
from irshrink.console import table
from irshrink.external import files_of
from irshrink.optimize import optimize_model
from irshrink.registry import make_pass

Array = np.ndarray[Any, np.dtype[Any]]
Pair = tuple[str, str, float]

SETS = {"WordSim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}
#: What is measured: passes with their options.
ROWS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "float32": [],
    "fp16": [("store-weights", {})],
    "int8": [("quantize-weights", {"bits": 8})],
    "int4 a channel": [("quantize-weights", {"bits": 4, "weight_range": "mse"})],
    "int4 in blocks of 32": [("quantize-weights", {"bits": 4, "block_size": 32, "weight_range": "mse"})],
    "int4 in blocks of 64": [("quantize-weights", {"bits": 4, "block_size": 64, "weight_range": "mse"})],
    "uint4 in blocks of 32": [
        ("quantize-weights", {"bits": 4, "block_size": 32, "weight_range": "mse", "formula": "asymmetric"})
    ],
    "4-bit k-means": [("cluster-weights", {"bits": 4})],
    "4-bit k-means a channel": [("cluster-weights", {"bits": 4, "tables": "channel"})],
    "dynamic int8": [("quantize-dynamic", {}), ("quantize-weights", {"bits": 8})],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("--model", "--vocabulary", "--pairs"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    words = Words(options.vocabulary)
    pairs = {name: read_pairs(options.pairs / file) for name, file in SETS.items()}
    rows = [row(name, options.model, words, pairs) for name in options.rows]
    print(table(rows, ("weights", *SETS, "bytes", "seconds to make")))


def row(name: str, model: Path, words: Words, pairs: dict[str, list[Pair]]) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "out.onnx", time.perf_counter()
        optimize_model(model, out, [make_pass(step, given) for step, given in ROWS[name]])
        seconds = time.perf_counter() - start
        vectors = encoded(
            out, words, sorted({word for some in pairs.values() for a, b, _ in some for word in (a, b)})
        )
        scores = [f"{score(some, vectors):.4f}" for some in pairs.values()]
        size = sum(file.stat().st_size for file in files_of(out))
    return (name, *scores, f"{size:,}", f"{seconds:.0f}")


class Words:
    """WordPiece: the longest known piece first, what follows it behind ``##``."""

    def __init__(self, vocabulary: Path) -> None:
        lines = vocabulary.read_text("utf-8").splitlines()
        self._ids = {piece: number for number, piece in enumerate(lines)}

    def ids(self, word: str) -> list[int]:
        """The ids of a word between those of [CLS] and [SEP]."""
        pieces: list[str] = []
        rest = word.lower()
        while rest:
            prefix = "##" if pieces else ""
            length = next((n for n in range(len(rest), 0, -1) if prefix + rest[:n] in self._ids), 0)
            if not length:
                pieces = ["[UNK]"]
                break
            pieces.append(prefix + rest[:length])
            rest = rest[length:]
        return [self._ids[piece] for piece in ("[CLS]", *pieces, "[SEP]")]


def encoded(model: Path, words: Words, wanted: Sequence[str]) -> dict[str, Array]:
    """The vector of each word: the mean of its hidden states."""
    session, found = onnxrt.session(model), {}
    for word in wanted:
        ids = np.array([words.ids(word)], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (hidden,) = onnxrt.run(session, feeds).values()
        found[word] = hidden[0].mean(axis=0)
    return found


def score(pairs: Sequence[Pair], vectors: dict[str, Array]) -> float:
    """Spearman's rank correlation between people and cosines."""
    cosines = [
        float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        for a, b in ((vectors[first], vectors[second]) for first, second, _ in pairs)
    ]
    return float(spearmanr([given for *_, given in pairs], cosines).statistic)


def read_pairs(file: Path) -> list[Pair]:
    lines = [line.split("\t") for line in file.read_text("utf-8").splitlines() if line and line[0] != "#"]
    return [(first, second, float(given)) for first, second, given in lines]


if __name__ == "__main__":
    main()

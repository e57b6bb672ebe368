"""float16 arithmetic from the option to the program: what is computed so, and what is said of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from irshrink import load_build
from irshrink.compiler import compile_model
from irshrink.errors import RecipeError
from irshrink.graph import float16
from irshrink.module import Module, load_module
from irshrink.optimize import optimize_model
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program import ops
from irshrink.program.lower import lower, lower_for
from irshrink.program.lower.finish import for_target
from irshrink.program.ops.float16 import PIECE, Pieces
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.program.reference.float16 import HalfSums
from irshrink.recipe import Recipe
from irshrink.registry import make_pass
from irshrink.target import load_target
from irshrink.testing.models import random_model

MODELS = Path(__file__).parent.parent / "models"

#: A residual block, a pool, an operator without a float16 form, a dense layer and a softmax.
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 8, 6, 6] x) => (float[1, 4] y)
{
   c = Conv <pads = [1, 1, 1, 1]> (x, k, b)
   r = Relu (c)
   d = Conv <pads = [1, 1, 1, 1]> (r, k, b)
   a = Add (c, d)
   s = Sigmoid (a)
   p = Softmax <axis = 3> (s)
   m = GlobalAveragePool (p)
   f = Flatten (m)
   g = Gemm <transB = 1> (f, w)
   y = Softmax (g)
}
"""


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Module]:
    """The model with the pass's options run on it, read back from its file."""

    def make(scale: float = 0.2, **options: Any) -> Module:
        proto, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
        for name, shape in {"k": (8, 8, 3, 3), "b": (8,), "w": (4, 8)}.items():
            numbers = (rng.normal(0, 0.2, shape) * (scale / 0.2)).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(numbers, name))
        onnx.save(proto, tmp_path / "m.onnx")
        steps = [make_pass("store-weights", {"arithmetic": "float16", "min_elements": 1, **options})]
        optimize_model(tmp_path / "m.onnx", tmp_path / "out.onnx", steps)
        return load_module(tmp_path / "out.onnx")

    return make


def kinds(program: Program) -> list[str]:
    return [type(op).__name__ for op in program.ops]


def answers(program: Program) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(1).standard_normal((1, 8, 6, 6)).astype(np.float32)
    return run_program(program, [x])[0]


def test_layers_and_what_lies_between_are_float16(made: Callable[..., Module]) -> None:
    program = lower_for(made(), load_target("neoverse-n1"))
    assert [kind for kind in kinds(program) if kind not in ("Reshape", "Transpose")] == [
        *("RoundF16", "ConvF16", "UnaryF16", "ConvF16", "BinaryF16", "UnaryF16", "WidenF16"),
        *("SoftmaxF32", "AveragePoolF32", "RoundF16", "DenseF16", "WidenF16", "SoftmaxF32"),
    ]
    assert for_target(program, load_target("neoverse-n1")).notes == program.notes
    assert program.notes[-2].startswith("Arithmetic is float16 in 6 of ")
    left = program.notes[-1]
    assert left.startswith("In float32 stay, with conversions around them: p: ")
    assert left.endswith("y: SoftmaxF32 has no float16 form.")
    assert {program.tensors[port.tensor].dtype for port in (*program.inputs, *program.outputs)} == {"float32"}
    np.testing.assert_allclose(answers(program), answers(lower(made())), atol=2e-3)


def test_other_targets_compute_float32_and_say_so(made: Callable[..., Module]) -> None:
    module = made()
    program = lower_for(module, load_target("cortex-a72"))
    assert not any(kind.endswith("F16") for kind in kinds(program))
    assert program.notes[-1].startswith(
        "Arithmetic is float32: cortex-a72 computes no float16 (feature fp16)."
    )


def test_nodes_stay_float32_by_name(made: Callable[..., Module]) -> None:
    program = lower_for(made(keep_float=["d", "Sigmoid"]), load_target("neoverse-n1"))
    real = {name for op in program.ops if type(op).__name__.endswith("F32") for name in op.origin}
    assert {"d", "s", "p", "y"} <= real
    assert "d: it is kept float32; " in program.notes[-1]
    halves = {name for op in program.ops if type(op).__name__.endswith("F16") for name in op.origin}
    assert {"c", "a", "g"} <= halves


def test_storage_alone_wishes_for_nothing(made: Callable[..., Module]) -> None:
    module = made(arithmetic="float32")
    assert lower_for(module, load_target("neoverse-n1")).float32_nodes is None


def test_numbers_beyond_float16_keep_their_layer_float32(made: Callable[..., Module]) -> None:
    program = lower_for(made(scale=1e6), load_target("neoverse-n1"))
    assert not any(isinstance(op, ops.ConvF16 | ops.DenseF16) for op in program.ops)
    assert "its weights go beyond float16" in program.notes[-1]


def test_bfloat16_has_no_such_arithmetic() -> None:
    with pytest.raises(RecipeError, match=r"float16 arithmetic needs weights of dtype 'float16'"):
        make_pass("store-weights", {"dtype": "bfloat16", "arithmetic": "float16"})


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '"d"', "[" * 9999])
def test_a_wish_that_cannot_be_read_is_none(text: str) -> None:
    model = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
    assert float16.kept(model) is None
    float16.wish(model, ["b", "a"])
    assert float16.kept(model) == frozenset({"a", "b"})
    model.metadata_props["irshrink.float16"] = text
    assert float16.kept(model) is None


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 300))
def test_pieces_are_bounded_and_end_with_the_sum(rows: int, runs: int, run: int) -> None:
    pieces = Pieces(rows, runs, run)
    ends = list(pieces.ends())
    assert len(ends) == rows * runs * run
    if not pieces.several:
        assert not any(ends)
        assert len(ends) <= PIECE or (rows == 1 and run <= PIECE)
        return
    assert ends[-1]
    lengths = np.diff([-1, *np.flatnonzero(ends)])
    assert lengths.max() <= PIECE * runs
    assert lengths.sum() == len(ends)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_errors_stay_within_the_stated_bound(rows: int, run: int, seed: int) -> None:
    rng, pieces = np.random.default_rng(seed), Pieces(rows, 1, run)
    n = rows * run
    x, w = (rng.standard_normal((n, 20)).astype(np.float16) for _ in range(2))
    bias = rng.standard_normal(20).astype(np.float16)
    sums = HalfSums(bias, pieces)
    products = x.astype(np.float64) * w
    for k in range(n):
        sums.add(x[k].astype(np.float64), w[k].astype(np.float64))
    lengths = np.diff([-1, *np.flatnonzero(list(pieces.ends()))]) if pieces.several else np.array([n])
    count = lengths.max() + (len(lengths) if pieces.several else 0)
    error = np.abs(sums.finished() - (bias + products.sum(0)))
    assert (error <= 1.1 * count * 2**-11 * (np.abs(bias) + np.abs(products).sum(0))).all()


@pytest.mark.parametrize("start", range(0, 60, 15))
def test_random_models_stay_near_float32(start: int) -> None:
    target = load_target("neoverse-n1")
    for seed in range(start, start + 15):
        module = Module(ir.from_proto(random_model(random.Random(seed).choice)))
        step = make_pass("store-weights", {"arithmetic": "float16", "min_elements": 1})
        Pipeline([*cleanup_steps(), step]).run(module, target)
        program = lower(module)
        real = for_target(replace(program, float32_nodes=None), target)
        inputs = [
            np.random.default_rng(seed).standard_normal(port.shape).astype(program.tensors[port.tensor].dtype)
            for port in program.inputs
        ]
        pairs = zip(run_program(for_target(program, target), inputs), run_program(real, inputs), strict=True)
        for got, wanted in pairs:
            assert got.dtype == wanted.dtype
            if np.isfinite(wanted).all():
                np.testing.assert_allclose(got, wanted, rtol=0, atol=0.05 * max(1e-3, np.abs(wanted).max()))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_fused_sums_round_once(seed: int) -> None:
    """Against whole numbers: every float16 is one of 2^-24, every product one of 2^-48."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 16, (3, 200)).astype(np.uint16)
    bits[2, ::2] = bits[0, ::2] ^ (rng.integers(0, 1 << 11, 100) << 5).astype(np.uint16)
    a, b, c = bits.view(np.float16)
    good = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    sums = HalfSums(c[good], Pieces(1, 1, 1))
    with np.errstate(all="ignore"):
        sums.add(a[good].astype(np.float64), b[good].astype(np.float64))
        got = sums.finished()
    for x, w, acc, y in zip(a[good], b[good], c[good], got, strict=True):
        assert y == nearest(whole(x) * whole(w) + (whole(acc) << 24))


def whole(x: np.float16) -> int:
    """A finite float16 in steps of 2^-24."""
    return int(float(x) * 2**24)


def nearest(steps: int) -> float:
    """The float16 nearest to so many steps of 2^-48, halves to even."""
    place = max(abs(steps).bit_length() - 11, 24)
    down, rest = divmod(abs(steps), 1 << place)
    half = 1 << (place - 1)
    down += rest > half or (rest == half and down % 2 == 1)
    value = float(down << place) / 2**48
    return (-1 if steps < 0 else 1) * (value if value < 65520 else float("inf"))


@pytest.mark.long
def test_a_build_is_the_reference_s(tmp_path: Path) -> None:
    recipe = Recipe(
        target="neoverse-n1", quantize="fp16", eval=str(MODELS / "kws-samples.npz"), test_inputs=4
    )
    report = compile_model(MODELS / "kws.onnx", recipe, tmp_path / "build")
    assert report["emulation"]["mismatched_bytes"] == 0
    assert report["accuracy"]["compiled"] >= 0.99
    convolutions = [layer for layer in report["layers"] if layer["op"] == "ConvF16"]
    assert all(layer["dtype"] == "float16" and layer["macs"] > 0 for layer in convolutions)
    assert len(convolutions) == 9
    notes = json.loads((tmp_path / "build" / "report.json").read_text("utf-8"))["notes"]
    assert any(note.startswith("Arithmetic is float16 in ") for note in notes)
    assert "ConvF16" in kinds(load_build(tmp_path / "build").program)

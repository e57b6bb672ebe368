"""The figures under ``irshrink explain``: sums, quantiles, grids, constants as ONNX Runtime reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from irshrink import onnxrt
from irshrink.calibration.observers import Range
from irshrink.explain.findings import Recipe
from irshrink.explain.points import find_points
from irshrink.explain.remedy import best_range, grid_over
from irshrink.explain.score import Scorer
from irshrink.explain.stored import read_stored
from irshrink.explain.tally import BEST_DB, Magnitudes, Tally, decibels
from irshrink.graph.quantized import Affine

FEW = settings(max_examples=25, deadline=None, derandomize=True)
NUMBERS = st.floats(-1e6, 1e6, width=32)


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [
        (100.0, 1.0, 20.0),
        (1.0, 0.0, BEST_DB),
        (0.0, 1.0, -BEST_DB),
        (0.0, 0.0, BEST_DB),
        (1.0, np.inf, -BEST_DB),
    ],
)
def test_decibels(signal: float, noise: float, expected: float) -> None:
    assert decibels(signal, noise) == pytest.approx(expected)


@FEW
@given(st.lists(NUMBERS, min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_quantiles_are_right_to_a_bin(values: list[float], share: float) -> None:
    magnitudes = Magnitudes()
    magnitudes.update(np.array(values, np.float32))
    (found,) = magnitudes.quantiles(share)
    ordered = np.sort(np.array(values, np.float32))
    exact = float(ordered[max(int(np.ceil(share * len(values))), 1) - 1])
    assert abs(found - exact) <= abs(exact) / 8 + 1e-38
    assert magnitudes.ordered[1].sum() == len(values)


@FEW
@given(st.integers(0, 2**16), st.sampled_from(["int8", "uint8", "int16"]))
def test_a_tally_counts_what_rounding_does(seed: int, dtype: str) -> None:
    x = np.random.default_rng(seed).normal(0, 1, (2, 5, 40)).astype(np.float32)
    limits = np.iinfo(dtype)
    grid = Affine(4.0 / int(limits.max), int(limits.max) // 2 if dtype == "uint8" else 0, dtype)
    tally = Tally(grid, axis=1)
    for sample in x[:, None]:
        tally.add(sample, sample, sample)
    codes = np.clip(np.rint(x / np.float32(grid.scale)) + grid.zero_point, limits.min, limits.max)
    error = (codes - grid.zero_point) * np.float32(grid.scale) - x
    ratios = np.square(error).sum((1, 2)) / np.square(x).sum((1, 2))
    assert tally.snr(tally.alone) == pytest.approx(-10 * np.log10(ratios.mean()), abs=0.01)
    assert tally.alone == tally.rounding
    assert (tally.weights, tally.whole, tally.shift) == (0, 0, 0)
    assert tally.codes is not None
    assert tally.codes.sum() == x.size
    assert np.array_equal(np.flatnonzero(tally.codes) + limits.min, np.unique(codes))
    high = grid.range[1]
    assert tally.clipped[1] == int((x > high + grid.scale / 2).sum())
    assert tally.seen == Range(float(x.min()), float(x.max()))


@FEW
@given(NUMBERS, NUMBERS, st.sampled_from(["int8", "uint8"]), st.booleans())
def test_a_grid_holds_its_range(a: float, b: float, dtype: str, symmetric: bool) -> None:
    signed = dtype == "int8"
    like = Affine(1.0, 0 if symmetric and signed else 3, dtype)
    found = grid_over(Range(min(a, b), max(a, b)), like)
    low, high = found.range
    slack = found.scale * 0.51 + 1e-6 * abs(found.scale) * 256
    assert low <= min(a, b, 0) + slack
    assert high >= max(a, b, 0) - slack
    assert not (symmetric and signed) or found.zero_point == 0


def test_the_best_range_clips_what_is_rare() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (1, 1, 400_000)).astype(np.float32)
    x[0, 0, 0] = 60
    tally = Tally(Affine(60 / 127, 0, "int8"), axis=1)
    tally.add(x, x, x)
    found = best_range(tally)
    assert 3 < found.max < 45
    other = Tally(grid_over(found, Affine(1.0, 3, "int8")), axis=1)
    other.add(x, x, x)
    assert other.alone < tally.alone


def test_scores_weigh_samples_alike() -> None:
    scorer = Scorer(["y"], np.array([1, 0]))
    feeds = {"x": np.zeros((1, 7))}
    scorer.add(feeds, [np.array([[0.0, 1.0]])], [np.array([[0.0, 1.1]])])
    scorer.add(feeds, [np.array([[1000.0, 0.0]])], [np.array([[999.0, 0.0]])])
    score = scorer.score()
    assert score.snr_db == pytest.approx((20 + 60) / 2)
    assert (score.metric, score.value, score.best) == ("top-1", 1.0, 1.0)


def test_recipes_are_joined() -> None:
    one = Recipe(("a",), {"weight_bits": 4, "layer_bits": {"a": 8}})
    both = one | Recipe(("b", "a"), {"weight_bits": 4, "layer_bits": {"b": 8}}, ("equalize",))
    assert both.text().splitlines() == [
        'keep_float = ["a", "b"]',
        "[[steps]]",
        'pass = "equalize"',
        "[[steps]]",
        'pass = "quantize-int8"',
        "weight_bits = 4",
        'layer_bits = { "a" = 8, "b" = 8 }',
    ]


CONSTANTS: list[tuple[int, list[int], dict[str, int]]] = [
    (TensorProto.INT8, [], {}),
    (TensorProto.UINT8, [6], {"axis": 1}),
    (TensorProto.INT4, [4], {"axis": 0}),
    (TensorProto.INT4, [4, 2], {"axis": 1, "block_size": 3}),
    (TensorProto.INT32, [4], {"axis": 0}),
]


@pytest.mark.parametrize(("dtype", "scales", "attributes"), CONSTANTS)
def test_constants_are_read_as_onnx_runtime_does(
    dtype: int, scales: list[int], attributes: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    codes = rng.integers(0 if dtype == TensorProto.UINT8 else -7, 8, (4, 6))
    scale = rng.uniform(0.1, 1, scales).astype(np.float32)
    given = [
        helper.make_tensor("w", dtype, [4, 6], codes.astype(kind)),
        onnx.numpy_helper.from_array(scale.reshape(scales), "s"),
    ]
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 6])
    total = helper.make_node("Add", ["x", "y"], ["z"])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [4, 6])
    graph = helper.make_graph([node, total], "g", [x], [z], given)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    stored = read_stored(next(iter(ir.from_proto(proto).graph)))
    assert stored is not None
    theirs = onnxrt.run(onnxrt.session(proto), {"x": np.zeros((4, 6), np.float32)})["z"]
    assert np.array_equal(stored.real, theirs)


def test_moves_between_grids_are_no_points() -> None:
    """A reshape that is rounded again to the same grid loses nothing, and is not listed."""
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[2, 2] y)
    <float s = {0.5}, int8 z = {3}, int64[2] d = {2, 2}> {
      q = QuantizeLinear (x, s, z) r = DequantizeLinear (q, s, z) m = Reshape (r, d)
      p = QuantizeLinear (m, s, z) n = DequantizeLinear (p, s, z) y = Relu (n) }"""
    rounded = find_points(ir.from_proto(onnx.parser.parse_model(text)).graph, "g")
    assert [(point.op_type, point.grid is None) for point in rounded.points] == [
        ("input", False),
        ("Relu", True),
    ]
    assert len(rounded.points[0].quantizers) == 2


def test_an_input_behind_moves_is_the_input() -> None:
    """Converted models turn images around before they round them."""
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4, 4, 3] x) => (float[1, 3, 4, 4] y)
    <float s = {0.5}, int8 z = {3}> {
      t = Transpose <perm = [0, 3, 1, 2]> (x) q = QuantizeLinear (t, s, z) r = DequantizeLinear (q, s, z)
      y = Relu (r) }"""
    points = find_points(ir.from_proto(onnx.parser.parse_model(text)).graph, "g").points
    assert [(point.op_type, point.name) for point in points] == [("input", "x"), ("Relu", points[1].name)]

"""Weight-only passes from ONNX to the program: what is stored, and that it computes as ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from irshrink import onnxrt
from irshrink.errors import RecipeError, UnsupportedModelError
from irshrink.module import Module, load_module
from irshrink.optimize import optimize_model
from irshrink.passes.quantize.stored import weight_only
from irshrink.passes.quantize.stored.kmeans import kmeans
from irshrink.passes.quantize.stored.output_error import Grid, fitted_integers, fitted_levels
from irshrink.program import ops
from irshrink.program.lower import lower
from irshrink.program.reference.evaluate import run_program
from irshrink.registry import make_pass

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[4, 3, 5, 5] x, int64[3] i) => (float[4, 12] y, float[3, 40] z)
{
   c = Conv <pads = [1, 1, 1, 1], group = 1> (x, k)
   r = Relu (c)
   f = Flatten (r)
   y = Gemm <transB = 1> (f, w, b)
   t = Gather (e, i)
   z = MatMul (t, v)
}
"""
SHAPES = {"k": (8, 3, 3, 3), "w": (12, 200), "b": (12,), "e": (30, 36), "v": (36, 40)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution whose image is flattened into a Gemm, a table and a MatMul."""
    proto, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        numbers = rng.normal(0, 0.3, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(numbers, name))
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    onnx.save(proto, path)
    return path


#: Pass and options, and the stored form of the Gemm: its class, bits, and a predicate's worth of detail.
FORMS: list[tuple[str, dict[str, Any], type, int]] = [
    ("quantize-weights", {"bits": 8}, ops.WeightCodes, 8),
    ("quantize-weights", {"bits": 8, "formula": "asymmetric"}, ops.WeightCodes, 8),
    ("quantize-weights", {"bits": 4}, ops.WeightCodes, 4),
    ("quantize-weights", {"bits": 4, "block_size": 32}, ops.WeightCodes, 4),
    ("quantize-weights", {"bits": 4, "block_size": 16, "formula": "asymmetric"}, ops.WeightCodes, 4),
    ("quantize-weights", {"bits": 2, "weight_range": "mse"}, ops.WeightCodes, 2),
    ("quantize-weights", {"bits": 2, "formula": "asymmetric", "weight_range": "mse"}, ops.WeightCodes, 2),
    ("quantize-weights", {"bits": 4, "formula": "step", "step": 0.1}, ops.WeightCodes, 4),
    ("quantize-weights", {"bits": 4, "formula": "range"}, ops.WeightLevels, 4),
    ("cluster-weights", {"bits": 4}, ops.WeightLevels, 4),
    ("cluster-weights", {"bits": 2, "tables": "channel"}, ops.WeightLevels, 2),
    ("cluster-weights", {"bits": 6}, ops.WeightLevels, 8),
    ("store-weights", {}, ops.WeightHalves, 16),
    ("store-weights", {"dtype": "bfloat16"}, ops.WeightHalves, 16),
]


@pytest.mark.parametrize(("name", "options", "kind", "bits"), FORMS)
def test_the_program_keeps_the_form(
    name: str, options: dict[str, Any], kind: type, bits: int, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    optimize_model(model, out, [make_pass(name, {"min_elements": 1, **options})])
    program = lower(load_module(out))
    stored = [op.codes for op in program.ops if isinstance(op, ops.ConvF32 | ops.DenseF32 | ops.GatherRows)]
    assert [type(codes) for codes in stored] == [kind] * 4
    assert all(getattr(codes, "bits", 16) == bits for codes in stored)
    for op in program.ops:
        if isinstance(op, ops.ConvF32 | ops.DenseF32):
            assert op.codes is not None
            np.testing.assert_array_equal(op.codes.real(), op.weight)
    rng = np.random.default_rng(1)
    x, i = rng.normal(0, 1, (4, 3, 5, 5)).astype(np.float32), np.array([3, 29, 0])
    expected = onnxrt.run(onnxrt.session(out), {"x": x, "i": i})
    y, z = run_program(program, [x, i.astype(np.int32)])
    np.testing.assert_allclose(y, expected["y"], atol=1e-5)
    np.testing.assert_allclose(z, expected["z"], atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [(name, options) for name, options, *_ in FORMS])
def test_weights_in_runs_of_rows_are_the_same(
    name: str, options: dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight beside the model is read in parts, and made again when the file is written."""
    whole, parts = tmp_path / "whole.onnx", tmp_path / "parts.onnx"
    beside = tmp_path / "beside.onnx"
    onnx.save(onnx.load(model), beside, save_as_external_data=True, location="b.bin", size_threshold=0)
    optimize_model(model, whole, [make_pass(name, {"min_elements": 1, **options})])
    monkeypatch.setattr(weight_only, "_AT_ONCE", 200)
    optimize_model(beside, parts, [make_pass(name, {"min_elements": 1, **options})])
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_transposed_convolution_keeps_its_numbers(bits: int, tmp_path: Path) -> None:
    """Its integers lose their zero points on the way to a convolution, and may need more bits then."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3, 4, 4] x) => (float[1, 5, 9, 9] y)'
        "{ y = ConvTranspose <strides = [2, 2]> (x, k) }"
    )
    rng = np.random.default_rng(0)
    kernel = rng.uniform(0, 1, (3, 5, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(kernel, "k"))
    onnx.save(proto, tmp_path / "m.onnx")
    options = {"bits": bits, "formula": "asymmetric", "min_elements": 1}
    out = tmp_path / "out.onnx"
    optimize_model(tmp_path / "m.onnx", out, [make_pass("quantize-weights", options)])
    program = lower(load_module(out))
    (layer,) = (op for op in program.ops if isinstance(op, ops.ConvF32))
    assert layer.codes is None or np.array_equal(layer.codes.real(), layer.weight)
    if isinstance(layer.codes, ops.WeightCodes):
        half = 1 << (layer.codes.bits - 1)
        assert -half <= layer.codes.integers.min()
        assert layer.codes.integers.max() < half
    x = rng.normal(0, 1, (1, 3, 4, 4)).astype(np.float32)
    expected = onnxrt.run(onnxrt.session(out, optimize=False), {"x": x})["y"]
    np.testing.assert_allclose(run_program(program, [x])[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("quantize-weights", {"block_size": 24}, "block_size is a power of two from 16 on"),
        ("quantize-weights", {"formula": "step"}, "step is a number above 0 for the formula 'step'"),
        ("quantize-weights", {"formula": "range", "power_of_two": True}, "'range' has no block_size"),
        ("quantize-weights", {"bits": 3}, "bits"),
        ("cluster-weights", {"bits": 9}, "bits"),
        ("cluster-weights", {"iterations": -1}, "iterations is a number of steps"),
    ],
)
def test_options_that_do_not_fit(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_pass(name, options)


@pytest.mark.parametrize("name", ["quantize-weights", "cluster-weights"])
def test_outputs_need_samples(name: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fit = outputs needs calibration data"):
        optimize_model(model, tmp_path / "out.onnx", [make_pass(name, {"fit": "outputs"})])


def layer(groups: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights, and second moments of inputs that depend on each other."""
    rng = np.random.default_rng(groups)
    x = rng.normal(0, 1, (groups, 60, 4)) @ rng.normal(0, 1, (groups, 4, 24))
    x += rng.normal(0, 0.1, x.shape)
    return rng.normal(0, 1, (groups, 5, 24)), x.swapaxes(1, 2) @ x / 60


def error(rows: Any, stored: Any, hessian: Any) -> float:
    d = rows - stored
    return float(((d @ hessian) * d).sum())


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_levels_that_fit_outputs_beat_those_that_fit_weights(groups: int, shared: bool) -> None:
    rows, hessian = layer(groups)
    values, indices = fitted_levels(rows, hessian, 4, shared=shared, iterations=100)
    assert np.all(np.diff(values, axis=1) >= 0)
    tables = np.broadcast_to(values, (indices.shape[0], 4))
    fitted = np.take_along_axis(tables, indices, 1).reshape(rows.shape)
    flat = rows.reshape(1, -1) if shared else rows.reshape(-1, 24)
    plain = np.stack([kmeans(row, np.ones(row.size), 4, 100) for row in flat])
    tables = np.broadcast_to(plain, (indices.shape[0], 4)).reshape(*rows.shape[:2], 1, 4)
    nearest = np.abs(rows[..., None] - tables).argmin(-1)
    rounded = np.take_along_axis(np.broadcast_to(tables, (*rows.shape, 4)), nearest[..., None], -1)[..., 0]
    assert error(rows, fitted, hessian) < 0.5 * error(rows, rounded, hessian)


@pytest.mark.parametrize("free", [False, True])
def test_integers_that_fit_outputs_beat_the_nearest(free: bool) -> None:
    rows, hessian = layer(2)
    scale = np.abs(rows).max(axis=2, keepdims=True) / 7
    grid = Grid(np.broadcast_to(scale, rows.shape), np.zeros(rows.shape), (-7, 7), free)
    integers, scales = fitted_integers(rows, hessian, grid)
    assert np.array_equal(integers, np.rint(integers))
    assert np.abs(integers).max() <= 7
    assert free or np.array_equal(scales, np.broadcast_to(scale, rows.shape))
    nearest = np.rint(rows / scale) * scale
    assert error(rows, integers * scales, hessian) < 0.5 * error(rows, nearest, hessian)


def test_kmeans_is_exact_where_numbers_are_few() -> None:
    numbers = np.array([3.0, -1.0, 3.0, 7.0, -1.0])
    np.testing.assert_array_equal(np.unique(kmeans(numbers, np.ones(5), 4, 300))[[0, -1]], [-1, 7])
    centres = kmeans(np.array([0.0, 1.0, 10.0, 12.0]), np.array([3.0, 1.0, 1.0, 1.0]), 2, 300)
    np.testing.assert_allclose(centres, [0.25, 11.0])


def test_indices_beyond_their_table_are_refused(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    optimize_model(model, out, [make_pass("cluster-weights", {"min_elements": 1})])
    proto = onnx.load(out)
    (levels,) = (t for t in proto.graph.initializer if t.name == "w_levels")
    levels.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(levels)[:3], "w_levels"))
    with pytest.raises(UnsupportedModelError, match="an index is outside of its 3 elements"):
        lower(Module(ir.from_proto(proto)))

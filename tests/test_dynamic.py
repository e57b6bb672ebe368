"""Products whose input is quantized at run time: pass, program, kernels, and ONNX Runtime beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from irshrink import onnxrt
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.errors import UnsupportedModelError
from irshrink.module import load_module
from irshrink.optimize import optimize_model
from irshrink.program import ops
from irshrink.program.lower import lower
from irshrink.program.reference.evaluate import run_program
from irshrink.registry import make_pass
from irshrink.target import load_target
from irshrink.testing.kernels import EXTREMES, KernelBench

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
TEXT = """
g (float[2, 3, 20] x) => (float[2, 3, 24] y, float[2, 3, 10] z)
{
   y = MatMul (x, w)
   t = MatMul (x, v)
   z = Add (t, b)
}
"""
MIXED = """
g (uint8[2, 4] x) => (int32[2, 3] y)
{
   y = MatMulInteger (x, w, a, c)
}
"""


def save(text: str, path: Path, **constants: Any) -> Path:
    proto = onnx.parser.parse_model(HEADER + text)
    for name, array in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(proto, path)
    return path


def layers(b: KernelBench) -> None:
    for x in (
        b.f32(3, 40),
        np.abs(b.f32(7)),
        -np.abs(b.f32(7)),
        np.zeros(5, np.float32),
        np.nan_to_num(EXTREMES),
    ):
        scale = np.array([np.float32(0.037)])
        b.add(ops.DynamicScale, x, shape=(1,), dtype="float32")
        b.add(ops.DynamicZeroPoint, x, scale, shape=(1,), dtype="int8")
        b.add(ops.DynamicQuantize, x, scale, b.int8(1), shape=x.shape, dtype="int8")
    for rows, k, n in ((3, 40, 21), (1, 5, 1)):
        b.add(
            ops.DenseInteger, b.int8(rows, k), b.int8(1), shape=(rows, n), dtype="int32", weight=b.int8(n, k)
        )


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_kernels_equal_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    layers(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)


def test_the_program_computes_what_onnx_runtime_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    constants = {
        name: rng.normal(0, 1, shape).astype(np.float32)
        for name, shape in {"w": (20, 24), "v": (20, 10), "b": (10,)}.items()
    }
    model, out = save(TEXT, tmp_path / "m.onnx", **constants), tmp_path / "out.onnx"
    optimize_model(model, out, [make_pass("quantize-dynamic", {"min_elements": 1})])
    program = lower(load_module(out))
    kinds = [type(op).__name__ for op in program.ops]
    assert kinds.count("DynamicQuantize") == 1
    assert kinds.count("DenseInteger") == 2
    for _ in range(5):
        x = rng.normal(rng.normal(), 2, (2, 3, 20)).astype(np.float32)
        expected = onnxrt.run(onnxrt.session(out, optimize=False), {"x": x})
        y, z = run_program(program, [x])
        np.testing.assert_allclose(y, expected["y"], atol=1e-5)
        np.testing.assert_allclose(z, expected["z"], atol=1e-5)
        assert np.abs(expected["y"] - x @ constants["w"]).max() < 0.3


def test_zero_points_of_both_operands(tmp_path: Path) -> None:
    """The form that ONNX Runtime's own tools write."""
    rng = np.random.default_rng(1)
    given = {
        "w": rng.integers(60, 190, (4, 3)).astype(np.uint8),
        "a": np.array(7, np.uint8),
        "c": np.array([128, 120, 130], np.uint8),
    }
    path = save(MIXED, tmp_path / "m.onnx", **given)
    x = rng.integers(0, 256, (2, 4)).astype(np.uint8)
    expected = onnxrt.run(onnxrt.session(path), {"x": x})["y"]
    program = lower(load_module(path))
    (y,) = run_program(program, [(x.astype(np.int16) - 128).astype(np.int8)])
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"w": np.full((4, 3), 255, np.uint8), "c": np.array(0, np.uint8)}, "need more than 8 bits"),
        ({"w": np.zeros((4, 3), np.uint8), "c": np.zeros(2, np.uint8)}, "not one a column"),
    ],
)
def test_refusals(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = save(MIXED, tmp_path / "m.onnx", a=np.array(7, np.uint8), **given)
    with pytest.raises(UnsupportedModelError, match=message):
        lower(load_module(path))

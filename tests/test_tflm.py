"""TensorFlow Lite Micro's arithmetic: kernels against the reference, the reference against what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink.artifact import load_build
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.compiler import compile_model
from irshrink.module import module_from_text
from irshrink.ports import encode_inputs
from irshrink.program import ops
from irshrink.program.lower import lower
from irshrink.program.lower.tflm import quantized_multiplier
from irshrink.program.ops import FixedPoint, Window
from irshrink.program.reference import fixed_point
from irshrink.recipe import make_recipe
from irshrink.target import load_target
from irshrink.testing.kernels import EXTREMES, KernelBench

MODELS = Path(__file__).parent.parent / "models"

Array = NDArray[Any]


def fixed(*numbers: float, zero_point: int = -3, low: int = -128, high: int = 127) -> FixedPoint:
    pairs = [quantized_multiplier(number) for number in numbers]
    multiplier, shift = np.array(pairs, np.int64).T.astype(np.int32)
    return FixedPoint(multiplier=multiplier, shift=shift, zero_point=zero_point, low=low, high=high)


def layers(b: KernelBench) -> None:
    """Convolutions, a depthwise one, a dense layer; shifts to the right, to the left, and both."""
    x = b.int8(1, 6, 6, 5)
    for channels, numbers, low in ((4, (3e-3,), -128), (3, (1.7, 2e-3, 0.9), -60)):
        b.add(
            ops.ConvInt8, x, shape=(1, 6, 6, channels), weight=b.int8(channels, 3, 3, 5),
            bias=np.arange(channels, dtype=np.int32) * 100, window=Window(kernel=(3, 3), pads=(1, 1, 1, 1)),
            groups=1, input_zero_point=-7, requantization=fixed(*numbers, low=low),
        )  # fmt: skip
    b.add(
        ops.ConvInt8, x, shape=(1, 4, 4, 5), weight=b.int8(5, 3, 3, 1), bias=np.zeros(5, np.int32),
        window=Window(kernel=(3, 3)), groups=5, input_zero_point=0, requantization=fixed(*[0.013] * 5),
    )  # fmt: skip
    b.add(
        ops.DenseInt8, b.int8(2, 33), shape=(2, 7), weight=b.int8(7, 33), bias=np.zeros(7, np.int32),
        requantization=fixed(2.0**-9),
    )  # fmt: skip
    b.add(
        ops.MatMulInt8, b.int8(3, 5), b.int8(5, 4), shape=(3, 4), zero_points=(2, -5),
        requantization=fixed(0.004),
    )  # fmt: skip


def elementwise(b: KernelBench) -> None:
    """Every pair of values; ties in both roundings."""
    every = np.arange(-128, 128).astype(np.int8)
    pair = np.repeat(every, 256), np.tile(every, 256)
    operands = ((1 << 30, 0), (1518500250, 1))
    for subtract, low in ((False, -128), (True, -90)):
        b.add(
            ops.AddTflm, *pair, shape=(65536,), zero_points=(3, -9), operands=operands, subtract=subtract,
            requantization=fixed(2.0**-19 * 0.75, low=low),
        )  # fmt: skip
    b.add(ops.MulInt8, *pair, shape=(65536,), zero_points=(3, -7), requantization=fixed(2.0**-7))
    b.add(ops.MulInt8, b.int8(2, 9), b.int8(1), shape=(2, 9), zero_points=(0, 0), requantization=fixed(3.0))


def pools(b: KernelBench) -> None:
    """Packed and plain sums, padded windows, clips."""
    for channels in (18, 3):
        x = b.int8(1, 9, 7, channels)
        window = Window(kernel=(3, 3), strides=(2, 1), pads=(1, 1, 1, 1))
        shape = (1, *window.output(9, 7), channels)
        b.add(ops.AveragePoolTflm, x, shape=shape, window=window)
        b.add(ops.AveragePoolTflm, x, shape=shape, window=window, low=-20, high=30)
        b.add(
            ops.MeanTflm, x, shape=(1, 1, 1, channels), window=Window(kernel=(9, 7)), input_zero_point=-100,
            requantization=fixed(1.37 / 63),
        )  # fmt: skip


def borders(b: KernelBench) -> None:
    """Halves go away from zero."""
    x = np.concatenate([EXTREMES, (np.arange(1200) - 600).astype(np.float32) / 4, b.f32(100) * 40])
    b.add(ops.Quantize, x, shape=x.shape, scale=0.5, zero_point=-3, half_away=True)


def softmaxes(b: KernelBench) -> None:
    for rows, n, scale in ((5, 12, 0.11), (1, 10, 0.9), (2, 1, 0.02), (1, 300, 0.001)):
        steps = np.minimum(np.rint(np.arange(256) * scale * 2**26), 2**31 - 1).astype(np.int64)
        table = fixed_point.exp_of_negative(-steps, 5).astype(np.int32)
        b.add(ops.SoftmaxTflm, b.int8(rows, n), shape=(rows, n), exp_table=table)


@pytest.mark.parametrize("target", ["host", "cortex-m3", "cortex-m4"])
def test_kernels(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    for family in (layers, elementwise, pools, borders, softmaxes):
        family(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)


def test_a_whole_network(tmp_path: Path) -> None:
    """The bytes of TensorFlow Lite Micro on 32 inputs (models/make.py tflm), through the whole flow."""
    report = compile_model(
        MODELS / "kws.tflite", make_recipe({"target": "host", "requantize": "tflm"}), tmp_path / "build"
    )
    assert report["recipe"]["requantize"] == "tflm"
    build = load_build(tmp_path / "build")
    samples = np.load(MODELS / "kws-samples.npz")["input"][:32].astype(np.float32)
    stored = [encode_inputs(build.program, {"input_1": x[None]}) for x in samples]
    outputs = [y for (y,) in build.run(stored).outputs]
    np.testing.assert_array_equal(np.array(outputs), np.load(MODELS / "kws-tflm.npz")["outputs"])


def test_operators_without_such_a_form_are_named() -> None:
    """Ours stays, and the report says so."""
    module = module_from_text(
        """<ir_version: 9, opset_import: ["" : 20]>
        g (int8[1, 8] x) => (int8[1, 8] y) <float s = {0.1}, int8 z = {3}> {
            a = DequantizeLinear (x, s, z)
            b = Gelu (a)
            y = QuantizeLinear (b, s, z)
        }"""
    )
    (note,) = lower(module, requantize="tflm").notes
    assert note == "Gelu 'b' has no form in TensorFlow Lite Micro's arithmetic here; it keeps irshrink's."
    assert not lower(module).notes


def test_a_float_build_says_that_there_was_nothing_to_requantize() -> None:
    module = module_from_text(
        """<ir_version: 9, opset_import: ["" : 20]>
        g (float[1, 8] x) => (float[1, 8] y) { y = Gelu (x) }"""
    )
    assert lower(module, requantize="tflm").notes == [
        "The model is not quantized: everything runs in float.",
        "--requantize tflm changed nothing: no operator runs in int8. "
        "Give --calibration, or a quantized model.",
    ]
    assert lower(module).notes == ["The model is not quantized: everything runs in float."]

"""quantize-int8: what its graphs must hold in ONNX Runtime, and what it refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.calibration.observers import Range
from irshrink.errors import ModelError, RecipeError
from irshrink.graph.opset import raise_opset
from irshrink.module import Module, module_from_text
from irshrink.passes.quantize.bias_correction import weight_shift
from irshrink.passes.quantize.qparams import QParams, activation_qparams, quantize_tensor
from irshrink.passes.quantize.weights import BIAS_LIMIT, quantize_weights
from irshrink.registry import make_pass
from irshrink.testing.small_net import Node, error, outputs, quantized, small_net

Array = np.ndarray[Any, np.dtype[Any]]


def op_types(module: Module, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs in the end."""
    import onnxruntime  # after irshrink.onnxrt, which switches its telemetry off

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    onnxruntime.InferenceSession(
        module.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def test_onnx_runtime_runs_it_in_integers_only(tmp_path: Path) -> None:
    assert op_types(quantized(small_net()), tmp_path) == Counter(
        QuantizeLinear=1,
        QLinearConv=2,
        QLinearAdd=1,
        QLinearGlobalAveragePool=1,
        Flatten=1,
        QGemm=1,
        DequantizeLinear=1,
        Transpose=op_types(quantized(small_net()), tmp_path)["Transpose"],
    )


@settings(deadline=None, max_examples=6, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from(["minmax", "percentile", "entropy", "mse"]), st.booleans())
def test_close_to_float_with_and_without_optimization(seed: int, method: Any, per_channel: bool) -> None:
    module = small_net(seed=seed)
    result = quantized(module, method=method, per_channel=per_channel)
    expected = outputs(module)
    for optimize in (True, False):
        difference = np.abs(outputs(result, optimize) - expected)
        assert difference.max() < 0.25 * np.abs(expected).max() + 0.1


ZOO: list[Node] = [
    ("Conv", ["x", "w1"], "a", {}),
    ("LeakyRelu", ["a"], "b", {"alpha": 0.1}),
    ("AveragePool", ["b"], "c", {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}),
    ("MaxPool", ["b"], "d", {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}),
    ("Concat", ["c", "d", "b"], "e", {"axis": 1}),
    ("HardSwish", ["e"], "f", {}),
    ("Sigmoid", ["e"], "g", {}),
    ("Mul", ["f", "g"], "h", {}),
    ("Tanh", ["h"], "i", {}),
    ("Sub", ["h", "i"], "j", {}),
    ("Elu", ["j"], "k", {}),
    ("Transpose", ["k"], "l", {"perm": [0, 2, 3, 1]}),
    ("Flatten", ["l"], "y", {}),
]


@pytest.mark.parametrize("activations", ["asymmetric", "symmetric"])
def test_every_light_operator(activations: Any) -> None:
    module = small_net(ZOO, output=(1, 432))
    result = quantized(module, activations=activations)
    assert result.history[0].notes == ()
    assert result.history[0].stats["int8_nodes"] == len(ZOO)
    zero_points = [v.const_value for n, v in result.graph.initializers.items() if n.endswith("_zero_point")]
    if activations == "symmetric":
        assert not any(tensor is not None and tensor.numpy().any() for tensor in zero_points)
    for optimize in (True, False):
        difference = outputs(result, optimize) - outputs(module)
        assert np.sqrt(np.square(difference).mean()) < 0.03 * outputs(module).std()


def test_options_change_the_error_as_they_should() -> None:
    module = small_net()
    assert error(module) < 0.05
    assert error(module, activations="symmetric") < 0.1
    assert error(module) < error(module, per_channel=False) + 0.02
    assert error(module, keep_float=("*",)) == 0.0


def test_bias_correction_takes_the_mean_error_out() -> None:
    module = small_net([("Relu", ["x"], "r", {}), ("Conv", ["r", "w1", "b1"], "c1", {})], output=(1, 4, 6, 6))
    # One large weight in each channel makes the others round coarsely; behind the ReLU errors add up.
    weight = np.random.default_rng(3).standard_normal((4, 3, 3, 3)).astype(np.float32)
    weight[:, 0, 0, 0] = 100
    module.graph.initializers["w1"].const_value = ir.tensor(weight)
    shift = {}
    for corrected in ("none", "analytic", "empirical"):
        result = quantized(module, bias_correction=corrected, method="minmax")
        mean = (outputs(result) - outputs(module)).mean(axis=(0, 1, 3, 4))
        shift[corrected] = np.abs(mean).max()
    assert shift["analytic"] < 0.3 * shift["none"]
    assert shift["empirical"] < 0.3 * shift["none"]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_weight_shift_is_the_mean_of_what_the_error_adds(groups: int) -> None:
    rng = np.random.default_rng(groups)
    x, wrong = rng.standard_normal((50, 4)), rng.standard_normal((8, 4 // groups, 1, 1))
    conv = ir.node("Conv", [], {"group": groups})
    dense = np.zeros((8, 4))
    for channel in range(8):
        group = channel // (8 // groups)
        dense[channel, group * (4 // groups) : (group + 1) * (4 // groups)] = wrong[channel, :, 0, 0]
    expected = (x @ dense.T).mean(axis=0)
    np.testing.assert_allclose(weight_shift(conv, wrong, x.mean(axis=0)), expected)
    np.testing.assert_allclose(weight_shift(ir.node("Gemm", []), dense.T, x.mean(axis=0)), expected)
    np.testing.assert_allclose(
        weight_shift(ir.node("Gemm", [], {"transB": 1}), dense, x.mean(axis=0)), expected
    )


def test_the_same_twice() -> None:
    first, second = (
        quantized(small_net()).to_proto().SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second


def test_names_and_signature_stay() -> None:
    module = small_net()
    result = quantized(module)
    names = [node.name for node in result.graph]
    assert len(set(names)) == len(names)
    assert {node.name for node in module.graph} <= set(names)
    assert {"x_quantize", "x_dequantize", "r1_quantize", "w1_dequantize"} <= set(names)
    assert [(v.name, v.dtype) for v in result.graph.inputs] == [("x", ir.DataType.FLOAT)]
    assert [(v.name, v.dtype) for v in result.graph.outputs] == [("y", ir.DataType.FLOAT)]
    assert "w1" not in result.graph.initializers


def test_weights_are_replaced_not_written() -> None:
    module = small_net()
    before = {
        name: value.const_value.numpy().copy()
        for name, value in module.graph.initializers.items()
        if value.const_value
    }
    quantized(module)
    for name, array in before.items():
        value = module.graph.initializers[name].const_value
        assert value is not None
        np.testing.assert_array_equal(value.numpy(), array)


def test_a_convolution_without_bias_gets_one_for_the_correction() -> None:
    module = small_net([("Conv", ["x", "w1"], "c1", {})], output=(1, 4, 6, 6))
    result = quantized(module)
    conv = next(node for node in result.graph if node.op_type == "Conv")
    assert len(conv.inputs) == 3
    assert "node_c1_bias_quantized" in result.graph.initializers
    assert (
        len(next(n for n in quantized(module, bias_correction="none").graph if n.op_type == "Conv").inputs)
        == 2
    )


def test_shared_weights_are_quantized_for_each_reader() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w1", "b1"], "a", {}),
        ("Relu", ["x"], "r", {}),
        ("Conv", ["r", "w1", "b1"], "b", {}),
        ("Add", ["a", "b"], "y", {}),
    ]
    result = quantized(small_net(nodes, output=(1, 4, 6, 6)))
    assert {"w1_dequantize", "w1_dequantize_1"} <= {node.name for node in result.graph}
    assert np.isfinite(outputs(result)).all()


def test_max_samples() -> None:
    record = quantized(small_net(), max_samples=4).history[0]
    assert record.stats == {"int8_nodes": 8, "scales": 6, "samples": 4, "method": "percentile"}


def test_without_calibration_data() -> None:
    module = small_net()
    module.calibration = None
    with pytest.raises(
        RecipeError, match=r"needs calibration data\. Give --calibration with an \.npz file or a folder"
    ):
        quantized(module)


def test_a_quantized_model_is_refused() -> None:
    result = quantized(small_net())
    with pytest.raises(
        ModelError, match=r"quantized already \(QuantizeLinear 'x_quantize'\)\. Give the float model"
    ):
        quantized(result)


def test_a_pattern_that_fits_nothing() -> None:
    with pytest.raises(
        RecipeError, match=r"keep_float: no node is named or is a 'node_c9'\. Did you mean 'node_c"
    ):
        quantized(small_net(), keep_float=("node_c9",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 12.0}, "percentile is 12.0; it must be above 50 and at most 100"),
        ({"max-samples": 0}, "max_samples is 0; at least one sample is needed"),
        (
            {"method": "magic"},
            "method: 'magic' is not known. Known: entropy, minmax, mse, output, percentile",
        ),
        ({"per_chanel": True}, "no option 'per_chanel'. Did you mean 'per-channel'?"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_pass("quantize-int8", options)
    assert message in str(caught.value)


def test_old_opsets_are_raised() -> None:
    module = small_net(opset=11)
    expected = outputs(module)
    graph = module.graph
    assert raise_opset(module, 13)
    assert not raise_opset(module, 13)
    assert module.graph is graph
    assert module.graph.opset_imports[""] == 13
    np.testing.assert_allclose(outputs(module), expected, rtol=1e-6)
    assert quantized(small_net(opset=11)).graph.opset_imports[""] == 13


def test_an_opset_that_cannot_be_raised() -> None:
    module = module_from_text(
        """<ir_version: 4, opset_import: ["" : 8]>
        g (float[2, 2] x, int32[1] n) => (float[2, 2] z) { z = Upsample <mode = "nearest"> (x, x) }"""
    )
    with pytest.raises(
        ModelError, match=r"opset 8 cannot be converted to 13: .* Export the model with opset 13"
    ):
        raise_opset(module, 13)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32), st.booleans())
def test_zero_and_both_ends_are_represented(a: float, b: float, symmetric: bool) -> None:
    params = activation_qparams(Range(min(a, b), max(a, b)), symmetric)
    if params is None:
        assert max(abs(a), abs(b)) < 1e-10
        return
    assert -128 <= params.zero_point <= 127
    assert not symmetric or params.zero_point == 0
    for value in (0.0, a, b):
        real = (int(quantize_tensor(np.float32(value)[None], params)[0]) - params.zero_point) * params.scale
        assert abs(real - value) <= params.scale * 1.001
    assert quantize_tensor(np.zeros(1), params)[0] == params.zero_point


def test_a_range_of_zero_has_no_scale() -> None:
    assert activation_qparams(Range(0.0, 0.0), False) is None
    assert activation_qparams(Range(-1e-30, 1e-30), True) is None
    assert activation_qparams(Range(2.0, 2.0), False) == QParams(float(np.float32(2 / 255)), -128)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6), st.sampled_from([None, 0, 1]))
def test_weights_and_bias_fit_their_types(seed: int, spread: float, axis: int | None) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((6, 6)) * 10.0 ** rng.integers(-12, 3, (6, 6))).astype(np.float32)
    bias = (rng.standard_normal(6) * spread).astype(np.float32)
    x_scale = float(np.float32(0.01))
    result = quantize_weights(weight, bias, x_scale, axis)
    assert result.bias is not None
    assert np.abs(result.weight.astype(int)).max() <= 127
    assert np.abs(result.bias.astype(np.int64)).max() <= BIAS_LIMIT * 1.001
    np.testing.assert_array_equal(result.bias_scale, np.float32(x_scale) * result.scale)
    broad = np.broadcast_to(result.bias_scale, 6)
    assert (
        np.abs(result.bias * broad.astype(np.float64) - bias) <= broad * 0.501 + np.abs(bias) * 1e-6
    ).all()
    steps = np.abs(result.dequantized(axis or 0) - weight) / np.broadcast_to(
        result.scale if axis is None else np.expand_dims(result.scale, 1 - axis), (6, 6)
    )
    assert steps.max() <= 0.501


def test_dead_channel_keeps_its_bias() -> None:
    result = quantize_weights(np.zeros((2, 3), np.float32), np.array([3.0, 0.0], np.float32), 0.01, 0)
    assert result.bias is not None
    assert result.bias[0] * result.bias_scale[0] == pytest.approx(3.0, rel=1e-4)
    assert result.bias[1] == 0
    assert result.raised == ()

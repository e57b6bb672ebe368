"""What layers read, as rows of a matrix, and the second moments of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from irshrink import onnxrt
from irshrink.calibration import moments
from irshrink.calibration.moments import Moments, input_moments, row_generator, rows_per_sample
from irshrink.calibration.patches import from_rows, input_rows, weight_rows, why_no_rows
from irshrink.testing.small_net import small_net

LAYERS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    (
        "Conv",
        (8, 2, 3, 3),
        (2, 4, 9, 10),
        {"group": 2, "strides": [2, 1], "dilations": [1, 2], "pads": [1, 2, 0, 1]},
    ),
    ("Conv", (6, 1, 5), (1, 6, 11), {"group": 6, "auto_pad": "SAME_LOWER", "strides": [2]}),
    ("Conv", (6, 3, 2, 2), (1, 3, 7, 7), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (6, 3, 2, 2), (1, 3, 7, 7), {"auto_pad": "VALID"}),
    (
        "ConvTranspose",
        (4, 3, 3, 2),
        (1, 4, 5, 6),
        {
            "group": 2,
            "strides": [2, 3],
            "pads": [1, 0, 3, 1],
            "output_padding": [1, 0],
            "dilations": [2, 1],
        },
    ),
    ("ConvTranspose", (4, 3, 2), (2, 4, 5), {"strides": [2], "pads": [2, 0]}),
    ("Gemm", (5, 7), (3, 5), {}),
    ("Gemm", (7, 5), (3, 5), {"transB": 1}),
    ("MatMul", (5, 7), (2, 3, 5), {}),
]


@pytest.mark.parametrize(("op_type", "shape", "x_shape", "attributes"), LAYERS)
def test_a_layer_is_a_product_with_its_rows(
    op_type: str, shape: tuple[int, ...], x_shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    weight, x = (rng.standard_normal(s).astype(np.float32) for s in (shape, x_shape))
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in (("x", x_shape),)]
    made = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    result = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph([made], "g", infos, result, [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    y = onnxrt.run(onnxrt.session(model), {"x": x})["y"]
    node = next(iter(ir.from_proto(model).graph))
    assert why_no_rows(node) is None

    rows = weight_rows(node, weight)
    np.testing.assert_array_equal(from_rows(node, rows, shape).astype(np.float32), weight)
    read = input_rows(node, shape, x, None, rng)
    ours = np.einsum("gpn,gon->pgo", read, rows).reshape(read.shape[1], -1)
    last = np.moveaxis(y, 1, -1) if op_type.startswith("Conv") else y
    np.testing.assert_allclose(ours, last.reshape(ours.shape), rtol=1e-4, atol=1e-5)

    some = input_rows(node, shape, x, 2, row_generator(3, 4))
    assert some.shape == (read.shape[0], 2, read.shape[2])
    np.testing.assert_array_equal(some, input_rows(node, shape, x, 2, row_generator(3, 4)))


def test_padding_that_follows_from_the_output_is_not_known() -> None:
    node = ir.node("ConvTranspose", [], {"auto_pad": "SAME_UPPER"})
    assert why_no_rows(node) == "its padding follows from the shape of its output"


def test_moments_of_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    module = small_net()
    samples = module.calibration
    assert samples is not None
    layers = [node for node in module.graph if node.op_type in ("Conv", "Gemm")]
    found = input_moments(module, samples, layers)
    assert list(found) == ["c1", "c2", "y"]
    shapes = {"c1": (1, 27, 27), "c2": (4, 9, 9), "y": (1, 4, 4)}
    assert {name: one.hessian.shape for name, one in found.items()} == shapes
    assert found["c1"].count == 16 * 64
    x = np.stack([feeds["x"] for feeds in samples.feeds()])
    centre = found["c1"].hessian[0, 4, 4]  # the middle tap of the first channel is never padding
    assert centre == pytest.approx(np.square(x[:, 0, 0]).mean(), rel=1e-5)

    monkeypatch.setattr(moments, "MOMENTS_AT_ONCE", 1)
    for name, one in input_moments(module, samples, layers).items():
        np.testing.assert_array_equal(one.second, found[name].second)


def test_moments_beside_a_reference() -> None:
    rng = np.random.default_rng(0)
    x, r = rng.standard_normal((2, 1, 50, 3))
    found = Moments.zero(1, 3, paired=True)
    for part in np.split(np.arange(50), 5):
        found.update(x[:, part], r[:, part])
    assert found.cross is not None
    np.testing.assert_allclose(found.cross[0], r[0].T @ x[0])
    np.testing.assert_allclose(found.reference, r.sum(axis=1))
    np.testing.assert_allclose(found.mean, x.mean(axis=1))


def test_small_maps_are_read_whole() -> None:
    assert rows_per_sample(9, 64) == 64
    assert rows_per_sample(1152, 64) == 144
    assert rows_per_sample(9, 10_000) == 1

"""Layers in all their forms against ONNX Runtime: in float, and quantized where they have an integer form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.shape_inference import InferenceError

from irshrink.errors import ModelError, UnsupportedModelError
from irshrink.program import ops
from irshrink.program.lower import lower
from irshrink.testing.nodes import Node, floats, in_float, model, ours, quantized, theirs


def check(nodes: list[Node], shape: tuple[int, ...], opset: int = 20, **constants: Any) -> None:
    """The same numbers as ONNX Runtime, to float32's rounding."""
    proto = model(nodes, shape, constants, opset)
    x = floats(1, *shape)
    expected, got = theirs(proto, x), ours(in_float(proto), x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def check_int8(nodes: list[Node], shape: tuple[int, ...], **constants: Any) -> list[str]:
    """Nothing in float, and the bytes of ONNX Runtime's plain operators but for two in a hundred.

    Interpolation's weights have 11 bits here, so a value close to a tie may fall on its other side.

    Returns:
        The kinds of the program's operators.
    """
    module = quantized(model(nodes, shape, constants))
    program = lower(module, io="float")
    assert program.float_reasons == {}
    x = floats(2, *shape)
    expected, got = theirs(module.model, x, optimize=False), ours(program, x)
    assert np.mean(got != expected) <= 0.02
    return [type(op).__name__ for op in program]


@st.composite
def transposed(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]:
    axes = draw(st.sampled_from([1, 2, 2]))
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    kernel = [draw(st.integers(1, 4)) for _ in range(axes)]
    strides = [draw(st.integers(1, 3)) for _ in range(axes)]
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in range(axes)]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    options: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    if draw(st.booleans()):
        options["pads"] = [draw(st.integers(0, e - 1)) for e in (*extents, *extents)]
        options["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    shape = (1, 4, *(draw(st.integers(3, 5)) for _ in range(axes)))
    return shape, options, (4, draw(st.integers(1, 3)), *kernel)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(transposed(), st.booleans())
def test_conv_transpose(case: tuple[Any, ...], bias: bool) -> None:
    shape, options, weight = case
    constants = {"w": floats(3, *weight)} | ({"b": floats(4, weight[1] * options["group"])} if bias else {})
    nodes: list[Node] = [("ConvTranspose", ["x", *constants], "y", options)]
    try:
        proto = model(nodes, shape, constants)
        x = floats(1, *shape)
        expected = theirs(proto, x)
    except (ModelError, InferenceError):  # pads that leave nothing
        return
    np.testing.assert_allclose(ours(in_float(proto), x), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"output_shape": [9, 11], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    ],
)
def test_conv_transpose_of_a_wanted_size(options: dict[str, Any]) -> None:
    check([("ConvTranspose", ["x", "w"], "y", options)], (1, 2, 5, 5), w=floats(3, 2, 3, 3, 3))


@pytest.mark.parametrize(("groups", "outputs", "stride"), [(1, 3, 2), (4, 1, 2), (2, 2, 3), (1, 2, 1)])
def test_conv_transpose_in_int8(groups: int, outputs: int, stride: int) -> None:
    options = {"group": groups, "strides": [stride, 2], "pads": [1, 1, 1, 1]}
    kinds = check_int8(
        [("ConvTranspose", ["x", "w", "b"], "c", options), ("Relu", ["c"], "y", {})],
        (1, 4, 6, 5),
        w=floats(3, 4, outputs, 3, 4),
        b=floats(4, outputs * groups),
    )
    assert kinds.count("ConvInt8") == 1
    assert "TableInt8" not in kinds  # the Relu is part of it


_COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.mark.parametrize("coordinates", _COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(9, 4), (10, 6), (3, 12)])
def test_resize(mode: str, coordinates: str, sizes: tuple[int, int]) -> None:
    options = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if coordinates == "align_corners" and mode == "nearest":
        options["nearest_mode"] = "floor"
    resize: Node = ("Resize", ["x", "", "", "sizes"], "y", options)
    check([resize], (1, 3, 5, 6), sizes=np.array([1, 3, *sizes]))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
        {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
        {"mode": "linear", "antialias": 1},
        {"mode": "cubic", "antialias": 1},
    ],
)
@pytest.mark.parametrize("scale", [0.6, 1.7])
def test_resize_options(options: dict[str, Any], scale: float) -> None:
    resize: Node = ("Resize", ["x", "", "scales"], "y", options)
    check([resize], (1, 2, 7, 10), scales=np.array([1.0, 1.0, scale, scale]))


def test_resize_of_one_axis() -> None:
    check([("Resize", ["x", "", "", "s"], "y", {"mode": "linear"})], (1, 3, 8), s=np.array([1, 3, 13]))


def test_whole_repetition_needs_no_table() -> None:
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    proto = model([("Resize", ["x", "", "s"], "y", options)], (1, 2, 3, 4), {"s": [1.0, 1.0, 2.0, 3.0]})
    kinds = {type(op) for op in in_float(proto)}
    assert ops.Expand in kinds
    assert ops.Take not in kinds


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_in_int8(mode: str) -> None:
    kinds = check_int8(
        [("Conv", ["x", "w"], "c", {}), ("Resize", ["c", "", "", "s"], "y", {"mode": mode})],
        (1, 3, 5, 6),
        w=floats(3, 4, 3, 1, 1),
        s=np.array([1, 4, 8, 9]),
    )
    assert ("Take" if mode == "nearest" else "ResampleInt8") in kinds


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pad_with_copies(mode: str) -> None:
    check([("Pad", ["x", "p"], "y", {"mode": mode})], (1, 2, 4, 5), p=np.array([0, 0, 2, 1, 0, 1, 3, 0]))


@pytest.mark.parametrize("step", [-1, -2])
def test_slice_backwards(step: int) -> None:
    bounds = {"s": np.array([-1]), "e": np.array([-1000]), "a": np.array([2]), "t": np.array([step])}
    check([("Slice", ["x", *bounds], "y", {})], (1, 2, 4, 5), **bounds)


def test_pad_that_crops_and_grows() -> None:
    check([("Pad", ["x", "p"], "y", {})], (1, 2, 4, 5), p=np.array([0, -1, 2, -1, 0, 0, -1, 2]))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_pools_over_one_to_three_axes(kind: str, axes: int) -> None:
    options: dict[str, Any] = {"kernel_shape": [2, 3, 2][:axes], "strides": [2, 1, 2][:axes]}
    options["pads"] = [1, 1, 0][:axes] * 2 if kind != "LpPool" else [0] * (2 * axes)
    check([(kind, ["x"], "y", options)], (2, 3, *(5, 6, 4)[:axes]))


@pytest.mark.parametrize("include", [0, 1])
def test_average_pool_that_rounds_up(include: int) -> None:
    options = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    check([("AveragePool", ["x"], "y", {**options, "count_include_pad": include})], (1, 2, 6, 6))


@pytest.mark.parametrize(
    "kind", ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
)
@pytest.mark.parametrize("axes", [[1], [0, 2], [-1, 1]])
def test_reductions(kind: str, axes: list[int]) -> None:
    nodes: list[Node] = [("Abs", ["x"], "a", {}), (f"Reduce{kind}", ["a", "axes"], "y", {"keepdims": 0})]
    check(nodes, (2, 3, 4), axes=np.array(axes))


@pytest.mark.parametrize("kind", ["Max", "Mean", "Min"])
def test_reductions_in_int8(kind: str) -> None:
    nodes: list[Node] = [("Relu", ["x"], "r", {}), (f"Reduce{kind}", ["r", "axes"], "y", {})]
    check_int8(nodes, (2, 3, 4, 5), axes=np.array([2, 3]))


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (("InstanceNormalization", ["x", "g", "b"], "y", {}), {"g": floats(5, 4), "b": floats(6, 4)}),
        (("LRN", ["x"], "y", {"size": 3, "alpha": 0.1}), {}),
        (("LpNormalization", ["x"], "y", {"axis": 1, "p": 1}), {}),
        (("LpNormalization", ["x"], "y", {"p": 2}), {}),
        (("LogSoftmax", ["x"], "y", {"axis": 1}), {}),
        (("CumSum", ["x", "a"], "y", {"reverse": 1, "exclusive": 1}), {"a": np.array(2)}),
        (("DepthToSpace", ["x"], "y", {"blocksize": 2, "mode": "CRD"}), {}),
        (("SpaceToDepth", ["x"], "y", {"blocksize": 2}), {}),
        (("Tile", ["x", "r"], "y", {}), {"r": np.array([2, 1, 3, 1])}),
        (("PRelu", ["x", "s"], "y", {}), {"s": floats(7, 4, 1, 1)}),
        (("Pow", ["x", "e"], "y", {}), {"e": np.float32(-3)}),
    ],
)
def test_other_layers(node: Node, constants: dict[str, Any]) -> None:
    check([node], (2, 4, 6, 4), **constants)


def test_group_normalization() -> None:
    node: Node = ("GroupNormalization", ["x", "g", "b"], "y", {"num_groups": 2})
    check([node], (2, 4, 3, 3), opset=21, g=floats(5, 4), b=floats(6, 4))


def test_prelu_in_int8() -> None:
    nodes: list[Node] = [("Conv", ["x", "w"], "c", {}), ("PRelu", ["c", "s"], "y", {})]
    kinds = check_int8(nodes, (1, 3, 5, 6), w=floats(3, 4, 3, 1, 1), s=floats(4, 4, 1, 1))
    assert "PReluInt8" in kinds


def test_split_and_blocks_in_int8_move_bytes_only() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], "c", {}),
        ("DepthToSpace", ["c"], "d", {"blocksize": 2}),
        ("Expand", ["d", "e"], "y", {}),
    ]
    kinds = check_int8(nodes, (1, 3, 4, 4), w=floats(3, 8, 3, 1, 1), e=np.array([3, 2, 8, 8]))
    assert "Expand" in kinds


def test_reflection_by_more_than_there_is() -> None:
    proto = model([("Pad", ["x", "p"], "y", {"mode": "reflect"})], (1, 3), {"p": np.array([0, 0, 0, 3])})
    with pytest.raises(UnsupportedModelError, match="pads by more than the 3 values that there are"):
        in_float(proto)

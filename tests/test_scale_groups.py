"""Which channels can be scaled together, and that doing it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink import onnxrt
from irshrink.analyses.scale_groups import scale_groups
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module, module_from_text
from irshrink.passes.quantize.repair.scaling import rescale
from irshrink.testing.builder import ModelBuilder

Array = np.ndarray[Any, np.dtype[Any]]
HEADER = '<ir_version: 9, opset_import: ["" : 20]>\n'

#: Several operators at a time that channels pass through, on images of 4 channels and 6x6 pixels.
LINKS: dict[str, Any] = {
    "relu": lambda b, x: b.op("Relu", x),
    "leaky": lambda b, x: b.op("LeakyRelu", x, alpha=0.1),
    "prelu": lambda b, x: b.op("PRelu", x, b.constant(np.full((4, 1, 1), 0.2, np.float32), own=True)),
    "clip": lambda b, x: b.op("Clip", x, b.constant(np.float32(0), own=True)),
    "pool": lambda b, x: b.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "mean": lambda b, x: b.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "pad": lambda b, x: b.op(
        "Slice", b.op("Pad", x, b.ints([0, 0, 1, 0, 0, 0, 0, 0])), *map(b.ints, ([0], [6], [2]))
    ),
    "shift": lambda b, x: b.op("Add", x, b.floats(1, 4, 1, 1)),
    "factor": lambda b, x: b.op("Mul", x, b.floats(1, 4, 1, 1)),
    "gate": lambda b, x: b.op("Mul", x, b.op("Sigmoid", x)),
    "residual": lambda b, x: b.op("Add", x, b.op("Conv", x, b.weights(4, 4, 1, 1, fan_in=4))),
    "depthwise": lambda b, x: b.op(
        "Conv",
        x,
        b.constant(b.rng.standard_normal((4, 1, 3, 3)).astype(np.float32), own=True),
        group=4,
        pads=[1] * 4,
    ),
    "swap": lambda b, x: b.op("Transpose", x, perm=[0, 1, 3, 2]),
    "halves": lambda b, x: b.op("Concat", *halves(b, x), axis=1),
    "sigmoid": lambda b, x: b.op("Sigmoid", x),
}


def halves(b: ModelBuilder, x: str) -> tuple[str, str]:
    """Channels 2 and 3, then 0 and 1 behind a Relu."""
    first = b.op("Slice", x, *map(b.ints, ([0], [2], [1])))
    return b.op("Slice", x, *map(b.ints, ([2], [4], [1]))), b.op("Relu", first)


def net(links: list[str]) -> Module:
    builder = ModelBuilder(lambda options: options[0])
    value = builder.op("Conv", builder.input((1, 3, 6, 6)), builder.floats(4, 3, 1, 1), builder.floats(4))
    for link in links:
        value = LINKS[link](builder, value)
    value = builder.op("Flatten", value)
    module = Module(ir.from_proto(builder.model([builder.op("Gemm", value, builder.floats(4 * 36, 2))])))
    infer_shapes(module.model)
    return module


def outputs(module: Module) -> Array:
    x = np.random.default_rng(7).standard_normal((1, 3, 6, 6)).astype(np.float32)
    return next(iter(onnxrt.run(onnxrt.session(module.model, optimize=False), {"x": x}).values()))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.sampled_from(sorted(LINKS)), max_size=5), st.integers(0, 99))
def test_scaling_free_groups_changes_nothing(links: list[str], seed: int) -> None:
    module = net(links)
    before = outputs(module)
    groups = scale_groups(module.graph)
    scale = np.where(groups.free(), 2.0 ** np.random.default_rng(seed).integers(-3, 4, groups.count), 1.0)
    rescale(groups, scale)
    np.testing.assert_allclose(outputs(module), before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


@pytest.mark.parametrize("link", sorted(set(LINKS) - {"sigmoid", "gate"}))
def test_channels_pass_through(link: str) -> None:
    assert scale_groups(net([link]).graph).free().sum() >= 4


def test_a_group_spans_what_is_added_and_concatenated() -> None:
    text = """g (float[1, 2, 4, 4] x) => (float[1, 1, 4, 4] y)
       <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2, 2, 1, 1] u = {1, 2, 3, 4},
        float[1, 4, 1, 1] v = {1, 2, 3, 4}>
    {
       a = Conv (x, w)
       b = Conv (x, u)
       s = Add (a, b)
       c = Concat <axis = 1> (s, a)
       y = Conv (c, v)
    }"""
    groups = scale_groups(module_from_text(HEADER + text).graph)
    a, b, y = (site.groups.tolist() for site in groups.writers)
    assert a == b
    assert [site.groups.tolist() for site in groups.readers] == [[*a, *a]]
    assert groups.free().tolist() == [True, True, False]
    assert groups.blocked == {y[0]: "'y' is an output of the model"}
    assert groups.families.tolist() == [0, 0, 1]


def test_flattened_pixels_are_of_their_channel() -> None:
    text = """g (float[1, 1, 2, 2] x) => (float[1, 3] y)
       <float[2, 1, 1, 1] w = {1, 2}, float[8, 3] v>
    {
       a = Conv (x, w)
       f = Flatten (a)
       y = Gemm (f, v)
    }"""
    module = module_from_text(HEADER + text.replace("v>", f"v = {{{', '.join('1' * 24)}}}>"))
    groups = scale_groups(module.graph)
    assert groups.readers[0].groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_heads_are_no_channels_any_more() -> None:
    text = """g (float[1, 2] x) => (float[1, 2, 1] y)
       <float[2, 4] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[2, 1] v = {1, 2}, int64[3] shape = {1, 2, 2}>
    {
       a = MatMul (x, w)
       h = Reshape (a, shape)
       y = MatMul (h, v)
    }"""
    groups = scale_groups(module_from_text(HEADER + text).graph)
    assert set(groups.blocked.values()) >= {"Reshape 'h' mixes channels with positions"}
    assert not groups.free().any()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("s = Softmax (a)\ny = MatMul (s, v)", "Softmax 's' does not scale along"),
        ("t = Transpose <perm = [1, 0]> (a)\ny = MatMul (t, v)", "MatMul 'y' reads another axis of it"),
        ("s = ReduceSum <keepdims = 1> (a)\ny = MatMul (v, s)", "ReduceSum 's' mixes channels"),
        ("s = Add (a, x)\ny = MatMul (s, v)", "Add 's' adds what cannot be scaled"),
        ("y = MatMul (v, a)", "MatMul 'y' does not scale along"),
    ],
)
def test_what_blocks_is_named(lines: str, reason: str) -> None:
    text = f"""g (float[2, 2] x) => (float[n, m] y)
       <float[2, 2] w = {{1, 2, 3, 4}}, float[2, 2] v = {{1, 2, 3, 4}}>
    {{
       a = MatMul (x, w)
       {lines}
    }}"""
    groups = scale_groups(module_from_text(HEADER + text).graph)
    first = groups.writers[0].groups
    assert {groups.blocked.get(int(g)) for g in first} == {reason}

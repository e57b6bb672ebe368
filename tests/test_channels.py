"""Which channels go together, why some stay, and that removing empty ones changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from irshrink import onnxrt
from irshrink.channels.groups import ChannelGroups, channel_groups
from irshrink.channels.remove import remove_groups
from irshrink.channels.unshare import unshare_vectors
from irshrink.errors import ModelError
from irshrink.graph.edit import Refusal
from irshrink.module import Module
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.testing.builder import ModelBuilder
from irshrink.testing.planted import closed_model, pick_groups, plant_zeros

Array = np.ndarray[Any, np.dtype[Any]]
Net = Callable[[ModelBuilder, str], str]


def weights(b: ModelBuilder, *shape: int) -> str:
    """A constant of its own, which no other layer shares."""
    return b.constant(b.rng.standard_normal(shape).astype(np.float32), own=True)


def net(make: Net, shape: tuple[int, ...] = (1, 3, 6, 6)) -> Module:
    builder = ModelBuilder(lambda options: options[0])
    out = make(builder, builder.input(shape))
    return Module(ir.from_proto(onnx.shape_inference.infer_shapes(builder.model([out]))))


def conv(b: ModelBuilder, x: str, filters: int, group: int = 1, size: int = 3) -> str:
    shape = (filters, b.shapes[x][1] // group, size, size)
    return b.op("Conv", x, weights(b, *shape), weights(b, filters), pads=[size // 2] * 4, group=group)


def head(b: ModelBuilder, x: str) -> str:
    """Two numbers for whatever comes in."""
    flat = b.op("Flatten", x)
    return b.op("Gemm", flat, weights(b, b.shapes[flat][1], 2))


def run(module: Module) -> list[Array]:
    samples = random_samples(input_specs(module.graph), 2)
    session = onnxrt.session(module.model, optimize=False)
    return [out for feed in samples.feeds() for out in onnxrt.run(session, feed).values()]


def sizes(groups: ChannelGroups) -> list[int]:
    """How many groups each family has that can go."""
    return [len(family) for family in groups.members()]


def reasons(groups: ChannelGroups) -> str:
    return "; ".join(dict.fromkeys(groups.blocked.values()))


def check_removal(module: Module, seed: int, share: float = 0.5) -> int:
    """Plant zeros, remove them, compare; returns how many groups went."""
    unshare_vectors(module.graph)
    groups = channel_groups(module.graph)
    gone = pick_groups(groups, np.random.default_rng(seed), share)
    plant_zeros(groups, gone)
    before = run(module)
    remove_groups(module.graph, groups, gone)
    onnx.checker.check_model(module.to_proto(), full_check=True)
    for old, new in zip(before, run(module), strict=True):
        assert new.shape == old.shape
        if np.isfinite(old).all():
            np.testing.assert_allclose(new, old, atol=1e-5 * max(1.0, float(np.abs(old).max(initial=0))))
    return int(gone.sum())


def residual(b: ModelBuilder, x: str) -> str:
    x = b.op("Relu", conv(b, x, 8))
    inner = b.op("Relu", conv(b, x, 6))
    return head(b, b.op("Add", x, conv(b, inner, 8)))


def inverted(b: ModelBuilder, x: str) -> str:
    wide = b.op("Clip", conv(b, x, 8, size=1), b.constant(np.float32(0)), b.constant(np.float32(6)))
    return head(b, conv(b, conv(b, wide, 8, group=8), 4, size=1))


def grouped(b: ModelBuilder, x: str) -> str:
    return head(b, conv(b, conv(b, x, 8), 6, group=2))


def joined(b: ModelBuilder, x: str) -> str:
    return head(b, conv(b, b.op("Concat", conv(b, x, 4), conv(b, x, 6), axis=1), 5))


def cut(b: ModelBuilder, x: str) -> str:
    x = conv(b, x, 8)
    first = b.op("Slice", x, b.ints([0]), b.ints([3]), b.ints([1]))
    return head(b, b.op("Concat", b.op("Relu", first), conv(b, x, 2), axis=1))


def padded(b: ModelBuilder, x: str) -> str:
    x = conv(b, x, 4)
    return head(b, b.op("Add", conv(b, x, 6), b.op("Pad", x, b.ints([0, 1, 0, 0, 0, 1, 0, 0]))))


def normalized(b: ModelBuilder, x: str) -> str:
    x = conv(b, x, 6)
    mean, variance = weights(b, 6), b.constant(np.linspace(0.5, 2, 6, dtype=np.float32), own=True)
    x = b.op("BatchNormalization", x, weights(b, 6), weights(b, 6), mean, variance)
    return head(b, b.op("PRelu", x, weights(b, 6, 1, 1)))


def attention(b: ModelBuilder, x: str) -> str:
    """Two heads of 3 numbers over 5 places of 4 numbers."""

    def heads(order: list[int]) -> str:
        flat = b.op("MatMul", x, weights(b, 4, 6))
        return b.op("Transpose", b.op("Reshape", flat, b.ints([1, 5, 2, 3])), perm=order)

    scores = b.op("Softmax", b.op("MatMul", heads([0, 2, 1, 3]), heads([0, 2, 3, 1])), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, heads([0, 2, 1, 3])), perm=[0, 2, 1, 3])
    return b.op("MatMul", b.op("Reshape", mixed, b.ints([1, 5, 6])), weights(b, 6, 4))


def packed_attention(b: ModelBuilder, x: str) -> str:
    """Query, key and value of two heads in one product."""
    packed = b.op("Reshape", b.op("MatMul", x, weights(b, 4, 18)), b.ints([1, 5, 3, 2, 3]))
    turned = b.op("Transpose", packed, perm=[2, 0, 3, 1, 4])
    query, key, value = (b.op("Gather", turned, b.constant(np.int64(i), own=True), axis=0) for i in range(3))
    scores = b.op("Softmax", b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, value), perm=[0, 2, 1, 3])
    return b.op("MatMul", b.op("Reshape", mixed, b.ints([1, 5, 6])), weights(b, 6, 4))


def memory(b: ModelBuilder, x: str) -> str:
    """An LSTM of 6 units over 5 places, time first."""
    shapes = (1, 24, 4), (1, 24, 6), (1, 48)
    hidden = b.op("LSTM", x, *(weights(b, *shape) for shape in shapes), hidden_size=6)
    return head(b, b.op("Transpose", b.op("Squeeze", hidden, b.ints([1])), perm=[1, 0, 2]))


def integers(b: ModelBuilder, x: str) -> str:
    """Weights stored as int8 with a scale for each filter."""
    stored = b.constant(b.rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8), own=True)
    scales = b.constant(np.linspace(0.01, 0.02, 8, dtype=np.float32), own=True)
    kernel = b.op("DequantizeLinear", stored, scales, axis=0)
    return head(b, b.op("Relu", b.op("Conv", x, kernel, pads=[1] * 4)))


NETS: dict[str, tuple[Net, tuple[int, ...], list[int]]] = {
    "residual": (residual, (1, 3, 6, 6), [8, 6]),
    "inverted": (inverted, (1, 3, 6, 6), [8, 4]),
    "grouped": (grouped, (1, 3, 6, 6), [4, 3]),
    "joined": (joined, (1, 3, 6, 6), [4, 6, 5]),
    "cut": (cut, (1, 3, 6, 6), [8, 2]),
    "padded": (padded, (1, 3, 6, 6), [6]),
    "normalized": (normalized, (1, 3, 6, 6), [6]),
    "attention": (attention, (1, 5, 4), [2]),
    "packed attention": (packed_attention, (1, 5, 4), [2]),
    "memory": (memory, (5, 1, 4), [6]),
    "integers": (integers, (1, 3, 6, 6), [8]),
}


@pytest.mark.parametrize("name", NETS)
def test_families(name: str) -> None:
    make, shape, expected = NETS[name]
    assert sizes(channel_groups(net(make, shape).graph)) == expected


@pytest.mark.parametrize("name", [name for name in NETS if name != "integers"])
@pytest.mark.parametrize("seed", range(3))
def test_removing_zeros_changes_nothing(name: str, seed: int) -> None:
    make, shape, _ = NETS[name]
    assert check_removal(net(make, shape), seed)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 2**20), st.integers(1, 12))
def test_removing_zeros_from_random_models_changes_nothing(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    proto = closed_model(lambda options: options[int(rng.integers(len(options)))], steps)
    module = Module(ir.from_proto(proto))
    try:
        run(module)
    except ModelError:
        assume(False)  # ONNX Runtime does not run everything that ONNX allows
    check_removal(module, seed)


def test_rows_of_stored_integers_go_with_their_scales() -> None:
    module = net(integers)
    groups = channel_groups(module.graph)
    gone = np.zeros(groups.count, bool)
    gone[groups.members()[0][::2]] = True
    remove_groups(module.graph, groups, gone)
    onnx.checker.check_model(module.to_proto(), full_check=True)
    assert run(module)[0].shape == (1, 2)
    assert {tuple(v.const_value.shape) for v in module.graph.initializers.values() if v.const_value} == {
        (4, 3, 3, 3),
        (4,),
        (144, 2),
    }


def test_an_output_and_an_unknown_operator_are_the_reasons_that_channels_stay() -> None:
    module = net(lambda b, x: b.op("CumSum", conv(b, x, 4), b.constant(np.int64(1))))
    assert "no rule says how CumSum" in reasons(channel_groups(module.graph))
    groups = channel_groups(net(lambda b, x: conv(b, x, 4)).graph)
    assert not groups.members()
    assert "is an output of the model" in reasons(groups)


def test_what_is_added_to_the_input_stays() -> None:
    groups = channel_groups(net(lambda b, x: head(b, b.op("Add", x, conv(b, x, 3)))).graph)
    assert not groups.members()
    assert "which stays: 'x' is an input of the model" in reasons(groups)


def test_a_softmax_over_channels_keeps_them() -> None:
    groups = channel_groups(net(lambda b, x: head(b, b.op("Softmax", conv(b, x, 4), axis=1))).graph)
    assert not groups.members()
    assert "works along them" in reasons(groups)


def test_a_mean_over_channels_counts_them() -> None:
    def gated(b: ModelBuilder, x: str) -> str:
        x = conv(b, x, 4)
        return head(b, b.op("Mul", x, b.op("ReduceMean", x, b.ints([1]))))

    groups = channel_groups(net(gated).graph)
    assert set(groups.members()[0].tolist()) <= set(groups.inexact)
    assert "sums over them" in next(iter(groups.inexact.values()))


def test_weights_of_two_layers_shrink_together() -> None:
    def tied(b: ModelBuilder, x: str) -> str:
        kernel = weights(b, 4, 3, 1, 1)
        left, right = b.op("Conv", x, kernel), b.op("Conv", b.op("Neg", x), kernel)
        return head(b, b.op("Concat", left, right, axis=1))

    module = net(tied)
    assert sizes(channel_groups(module.graph)) == [4]
    assert check_removal(module, 1)


def test_biases_that_are_kept_once_tie_nothing_once_they_are_copied() -> None:
    def alike(b: ModelBuilder, x: str) -> str:
        bias = weights(b, 4)
        x = b.op("Relu", b.op("Conv", x, weights(b, 4, 3, 1, 1), bias))
        return head(b, b.op("Conv", x, weights(b, 4, 4, 1, 1), bias))

    module = net(alike)
    assert sizes(channel_groups(module.graph)) == [4]
    assert unshare_vectors(module.graph) == 1
    assert sizes(channel_groups(module.graph)) == [4, 4]


def test_nothing_is_removed_that_must_stay_and_no_axis_is_emptied() -> None:
    module = net(residual)
    groups = channel_groups(module.graph)
    before = module.text()
    with pytest.raises(Refusal, match="nothing would be left of"):
        remove_groups(module.graph, groups, groups.free())
    with pytest.raises(Refusal, match="is an input of the model"):
        remove_groups(module.graph, groups, np.ones(groups.count, bool))
    assert module.text() == before

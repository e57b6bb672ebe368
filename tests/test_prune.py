"""Structured pruning: what goes first, how much of it, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink import onnxrt
from irshrink.analyses.cost import graph_macs
from irshrink.channels.groups import channel_groups
from irshrink.channels.remove import remove_groups
from irshrink.channels.unshare import unshare_vectors
from irshrink.errors import RecipeError
from irshrink.graph.edit import constant, static_shape
from irshrink.layer_cost import Cost, Footprint, Unit
from irshrink.module import Module
from irshrink.passes.prune.savings import macs, weight_bytes
from irshrink.passes.prune.scores import SCORES
from irshrink.passes.prune.scores.reconstruction import Reader, eliminate
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.testing.builder import ModelBuilder
from irshrink.testing.planted import pick_groups, plant_zeros
from irshrink.testing.small_net import small_net
from irshrink.verify import verify_structure

Array = np.ndarray[Any, np.dtype[Any]]
HIDDEN = 8


def net(seed: int = 0, samples: int = 32) -> Module:
    """Convolutions with a residual sum, a depthwise one among them, a pool, and two dense layers."""
    b = ModelBuilder(
        lambda options: options[seed % len(options)] if isinstance(options, range) else options[0]
    )
    b.rng = np.random.default_rng(seed)

    def conv(x: str, filters: int, group: int = 1) -> str:
        inputs = b.shapes[x][1] // group
        weight = b.rng.standard_normal((filters, inputs, 3, 3)) / np.sqrt(9 * inputs)
        bias = b.constant(b.rng.normal(0, 0.1, filters).astype(np.float32), own=True)
        named = b.constant(weight.astype(np.float32), own=True)
        return b.op("Conv", x, named, bias, pads=[1] * 4, group=group)

    def dense(x: str, units: int) -> str:
        inputs = b.shapes[x][1]
        weight = (b.rng.standard_normal((inputs, units)) / np.sqrt(inputs)).astype(np.float32)
        return b.op(
            "Gemm", x, b.constant(weight, own=True), b.constant(np.zeros(units, np.float32), own=True)
        )

    x = b.op("Relu", conv(b.input((1, 3, 6, 6)), HIDDEN))
    inner = b.op("Relu", conv(conv(x, 2 * HIDDEN), 2 * HIDDEN, group=2 * HIDDEN))
    x = b.op("Relu", b.op("Add", x, conv(inner, HIDDEN)))
    out = dense(b.op("Relu", dense(b.op("Flatten", b.op("GlobalAveragePool", x)), 12)), 5)
    proto = onnx.shape_inference.infer_shapes(b.model([out]))
    module = Module(ir.from_proto(proto))
    module.calibration = random_samples(input_specs(module.graph), samples)
    return module


def run(module: Module, seed: int = 9) -> Array:
    session = onnxrt.session(module.model, optimize=False)
    feeds = random_samples(input_specs(module.graph), 8, seed).feeds()
    return np.concatenate([next(iter(onnxrt.run(session, feed).values())) for feed in feeds])


def total_macs(module: Module) -> int:
    return sum(count or 0 for count in graph_macs(module.graph).values())


def prune(module: Module, name: str = "prune-channels", **options: Any) -> list[str]:
    """Run a pass; returns its notes."""
    Pipeline([make_pass(name, options)], verify=verify_structure).run(module, load_target("host"))
    return list(module.history[-1].notes)


@dataclass
class Flat:
    """A target on which every number that a node writes takes one instruction.

    Attributes:
        besides: what a whole model takes whatever its layers are.
    """

    besides: float = 0.0
    unit: Unit = "instructions"
    exact: bool = True

    def of_node(self, node: ir.Node) -> Cost:
        return Cost(float(np.prod(static_shape(node.outputs[0]) or (0,))), self.unit, "measured")

    def of_channels(
        self, node: ir.Node, *, inputs: int | None = None, outputs: int | None = None
    ) -> Cost | None:
        raise AssertionError("nobody asks")

    def of_module(self, module: Module) -> Footprint:
        amount = sum(self.of_node(node).amount for node in module.graph)
        return Footprint(0, None, 0, Cost(amount + self.besides, self.unit, "measured"))


class TestElimination:
    @settings(deadline=None, max_examples=15, derandomize=True)
    @given(st.integers(0, 1000), st.integers(1, 3))
    def test_the_cost_is_what_the_best_other_weights_lose(self, seed: int, taps: int) -> None:
        rng = np.random.default_rng(seed)
        n, count = 6 * taps, 6
        x = rng.standard_normal((200, n)) @ rng.standard_normal((n, n))
        rows, hessian = rng.standard_normal((3, n)), x.T @ x
        reader = Reader(rows.copy(), np.linalg.inv(hessian), np.arange(n).reshape(count, taps))
        order, costs = eliminate([reader], np.arange(count), 3)
        left = np.setdiff1d(np.arange(n), order[:, None] * taps + np.arange(taps))
        best = np.linalg.lstsq(x[:, left], x @ rows.T, rcond=None)[0].T
        np.testing.assert_allclose(reader.rows[:, left], best, rtol=1e-5, atol=1e-6)
        lost = np.square(x[:, left] @ best.T - x @ rows.T).sum()
        np.testing.assert_allclose(costs.sum(), lost, rtol=1e-6)

    def test_of_two_that_are_the_same_one_goes_for_nothing(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((100, 500))
        x[:, 1] = x[:, 0]
        hessian = x.T @ x + 1e-6 * np.eye(500)
        reader = Reader(rng.standard_normal((2, 500)), np.linalg.inv(hessian), np.arange(500)[:, None])
        order, costs = eliminate([reader], np.arange(500), 12)
        assert costs[0] < 1e-4
        assert not {0, 1} <= set(order.tolist()[:6]) or costs[:6].max() < 1e-3

    def test_a_given_order_is_kept(self) -> None:
        rng = np.random.default_rng(1)
        reader = Reader(rng.standard_normal((2, 300)), np.eye(300), np.arange(300)[:, None])
        wanted = rng.permutation(300)
        assert eliminate([reader], wanted, 20, in_order=True)[0].tolist() == wanted[:20].tolist()


class TestSizes:
    @pytest.mark.parametrize("seed", range(3))
    def test_what_is_foretold_is_what_is_left(self, seed: int) -> None:
        module = net(seed)
        unshare_vectors(module.graph)
        groups = channel_groups(module.graph)
        gone = pick_groups(groups, np.random.default_rng(seed), 0.4)
        foretold = macs(module.graph, groups).total(gone), weight_bytes(module.graph, groups).total(gone)
        remove_groups(module.graph, groups, gone)
        none = channel_groups(module.graph)
        stored = weight_bytes(module.graph, none).total(np.zeros(none.count, bool))
        assert foretold == pytest.approx((total_macs(module), stored))


class TestPruneChannels:
    @settings(deadline=None, max_examples=4, derandomize=True)
    @given(st.integers(0, 100))
    def test_empty_channels_go_first_and_nothing_changes(self, seed: int) -> None:
        module = net(seed, samples=16)
        unshare_vectors(module.graph)
        groups = channel_groups(module.graph)
        gone = pick_groups(groups, np.random.default_rng(seed), 0.3)
        plant_zeros(groups, gone)
        before, whole = run(module), macs(module.graph, groups)
        share = 1 - whole.total(gone) / whole.total(np.zeros(groups.count, bool))
        prune(module, ratio=0.97 * share)
        np.testing.assert_allclose(run(module), before, atol=1e-3 * float(np.abs(before).max()))

    @pytest.mark.parametrize("by", ["macs", "bytes", "global", "layer"])
    def test_as_much_goes_as_was_asked_for(self, by: str) -> None:
        module = net()
        before = total_macs(module)
        prune(module, ratio=0.3, by=by)
        stats = module.history[-1].stats
        assert stats["channels"] > 0
        assert stats["saved"] >= (0.3 if by in ("macs", "bytes") else 0.2)
        assert total_macs(module) < before
        assert any(
            row["kind"] == "channels" and row["output_error"] is not None for row in stats["layer_changes"]
        )

    @pytest.mark.parametrize("score", [*sorted(set(SCORES) - {"batchnorm-scale"}), "reconstruction"])
    def test_every_score_finds_the_empty_channels(self, score: str) -> None:
        module = net(3)
        unshare_vectors(module.graph)
        groups = channel_groups(module.graph)
        gone = np.zeros(groups.count, bool)
        for members in groups.members():
            gone[members[: len(members) // 4]] = True
        plant_zeros(groups, gone)
        before = run(module)
        prune(module, ratio=0.25, by="layer", score=score, repair=False)
        if score == "geometric-median":  # looks for filters that others can stand in for, not for empty ones
            assert total_macs(module) < total_macs(net(3))
        else:
            np.testing.assert_allclose(run(module), before, atol=1e-5)

    def test_what_layers_take_on_a_target_can_be_the_measure(self) -> None:
        module = net(1)
        before = {node.outputs[0].name: Flat().of_node(node).amount for node in module.graph}
        pipeline = Pipeline([make_pass("prune-channels", {"ratio": 0.2, "by": "target"})], costs=Flat())
        pipeline.run(module, load_target("host"))
        after = sum(Flat().of_node(node).amount for node in module.graph)
        assert after <= 0.87 * sum(before.values())

    def test_what_the_whole_model_takes_decides_how_far_it_goes(self) -> None:
        """Where something stays whatever goes, more of the rest has to."""
        amounts = []
        for besides in (0.0, 400.0):
            module = net(1)
            costs = Flat(besides)
            before = costs.of_module(module).cost
            step = make_pass("prune-channels", {"ratio": 0.2, "by": "target"})
            Pipeline([step], costs=costs).run(module, load_target("host"))
            after = costs.of_module(module).cost
            assert before is not None
            assert after is not None
            assert after.amount <= 0.8 * before.amount
            amounts.append(after.amount - besides)
        assert amounts[1] < amounts[0]

    def test_repair_comes_closer_than_none(self) -> None:
        plain, repaired = net(4, 64), net(4, 64)
        wanted = run(plain)
        prune(plain, ratio=0.35, score="l2", repair=False)
        prune(repaired, ratio=0.35, score="l2")
        errors = [float(np.square(run(module) - wanted).mean()) for module in (plain, repaired)]
        assert errors[1] < 0.7 * errors[0]

    def test_the_same_twice(self) -> None:
        texts = []
        for _ in range(2):
            module = net(5)
            prune(module, ratio=0.3, steps=2)
            texts.append(module.model.graph.initializers)
        for one, other in zip(texts[0].values(), texts[1].values(), strict=True):
            np.testing.assert_array_equal(constant(one), constant(other))

    def test_multiples_and_the_least_number_are_kept(self) -> None:
        module = net(6)
        prune(module, ratio=0.4, multiple=4, min_channels=4)
        groups = channel_groups(module.graph)
        sizes = {len(members) for members in groups.members()}
        assert all(size % 4 == 0 and size >= 4 for size in sizes), sizes

    def test_what_is_excluded_stays(self) -> None:
        module = net(7)
        notes = prune(module, ratio=0.9, by="layer", exclude=("Conv", "Gemm"))
        assert module.history[-1].stats["channels"] == 0
        assert any("is an output of the model" in note for note in notes)

    def test_what_cannot_be_reached_is_said(self) -> None:
        notes = prune(net(8), ratio=0.9, min_channels=7)
        assert any("of macs went, not 90 %" in note for note in notes)

    def test_a_quantized_model_is_quantized_again(self) -> None:
        module = small_net()
        prune(module, "quantize-int8")
        notes = prune(module, ratio=0.25, by="layer")
        assert "the model came quantized: it was dequantized, changed, and quantized to int8 again" in notes
        assert sum(node.op_type == "QuantizeLinear" for node in module.graph) > 2
        assert run_small(module).shape == (1, 5)

    def test_normalizations_that_are_left_are_moved(self) -> None:
        module = normalized()
        prune(module, ratio=0.3, by="layer", score="batchnorm-scale")
        node = next(node for node in module.graph if node.op_type == "BatchNormalization")
        scale, mean = constant(node.inputs[1]), constant(node.inputs[3])
        assert scale is not None
        assert scale.tolist() == [1.0, 2.0, 3.0]
        assert mean is not None
        assert np.abs(mean).max() < 1.0


def attention() -> Module:
    """Four heads of 3 numbers over 5 places of 4 numbers; the second head's values are all but zero."""
    b = ModelBuilder(lambda options: options[0])
    x = b.input((1, 5, 4))

    def weights(*shape: int) -> Array:
        return b.rng.standard_normal(shape).astype(np.float32)

    def heads(weight: Array, order: list[int]) -> str:
        flat = b.op("MatMul", x, b.constant(weight, own=True))
        return b.op("Transpose", b.op("Reshape", flat, b.ints([1, 5, 4, 3])), perm=order)

    values = weights(4, 12)
    values[:, 3:6] *= 1e-3
    scores = b.op("MatMul", heads(weights(4, 12), [0, 2, 1, 3]), heads(weights(4, 12), [0, 2, 3, 1]))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), heads(values, [0, 2, 1, 3]))
    flat = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints([1, 5, 12]))
    out = b.op("MatMul", flat, b.constant(weights(12, 4), own=True))
    module = Module(ir.from_proto(onnx.shape_inference.infer_shapes(b.model([out]))))
    module.calibration = random_samples(input_specs(module.graph), 32)
    return module


@pytest.mark.parametrize("score", ["reconstruction", "l2", "second-order"])
def test_heads_go_as_wholes(score: str) -> None:
    module = attention()
    before = run(module)
    prune(module, ratio=0.25, by="layer", score=score)
    shapes = [list(node.outputs[0].shape or ()) for node in module.graph if node.op_type == "Softmax"]
    assert shapes == [[1, 3, 5, 5]]
    if score != "l2":  # which also looks at the weights of queries and keys
        np.testing.assert_allclose(run(module), before, atol=0.02 * float(np.abs(before).max()))


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"ratio": 0.0}, "ratio is 0.0; it must be above 0 and below 1"),
            ({"steps": 0}, "steps is 0; it must be at least 1"),
            ({"multiple": -1}, "multiple is -1; it must not be negative"),
        ],
    )
    def test_options(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(RecipeError, match=said):
            make_pass("prune-channels", options)

    def test_no_data(self) -> None:
        module = net()
        module.calibration = None
        with pytest.raises(RecipeError, match="needs calibration data to repair layers and for this score"):
            prune(module)
        with pytest.raises(RecipeError, match="prune-blocks needs at least two calibration samples"):
            prune(module, "prune-blocks")

    def test_one_sample(self) -> None:
        with pytest.raises(RecipeError, match="needs at least two calibration samples: one decides"):
            prune(net(samples=1))

    def test_no_normalization(self) -> None:
        notes = prune(net(), score="batchnorm-scale")
        assert any("no BatchNormalization is left around them" in note for note in notes)

    def test_a_target_that_nobody_measures(self) -> None:
        with pytest.raises(RecipeError, match="by = 'target' needs a target whose layers can be measured"):
            prune(net(), by="target")


def test_a_block_that_adds_nothing_goes() -> None:
    module = net(2)
    conv = [node for node in module.graph if node.op_type == "Conv"][-1]
    weight = conv.inputs[1]
    assert weight is not None
    value = constant(weight)
    assert value is not None
    weight.const_value = ir.tensor(1e-3 * value, name=weight.name)
    before = run(module)
    prune(module, "prune-blocks")
    assert [node.op_type for node in module.graph].count("Conv") == 1
    np.testing.assert_allclose(run(module), before, atol=0.05 * float(np.abs(before).max()))


def normalized() -> Module:
    """One convolution with a BatchNormalization, whose scales are 0.1, 1, 2, 3."""
    b = ModelBuilder(lambda options: options[0])
    x = b.input((1, 2, 5, 5))
    weight = b.constant(b.rng.standard_normal((4, 2, 3, 3)).astype(np.float32), own=True)
    vectors = [[0.1, 1, 2, 3], [0, 0, 0, 0], [0, 0.1, 0, 0], [18, 18, 18, 18]]
    stored = [b.constant(np.array(v, np.float32), own=True) for v in vectors]
    y = b.op("BatchNormalization", b.op("Conv", x, weight), *stored)
    last = b.constant(b.rng.standard_normal((2, 4, 1, 1)).astype(np.float32), own=True)
    out = b.op("Conv", b.op("Relu", y), last)
    module = Module(ir.from_proto(onnx.shape_inference.infer_shapes(b.model([out]))))
    module.calibration = random_samples(input_specs(module.graph), 16)
    return module


def run_small(module: Module) -> Array:
    feeds = next(iter(random_samples(input_specs(module.graph), 1).feeds()))
    return next(iter(onnxrt.run(onnxrt.session(module.model), feeds).values()))

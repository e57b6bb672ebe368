"""Repairs of the float model before rounding: what they promise to keep, and what they gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink import onnxrt
from irshrink.errors import RecipeError
from irshrink.graph.edit import constant
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module, module_from_text
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs, load_samples
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.testing.builder import ModelBuilder
from irshrink.verify import verify_structure

Array = np.ndarray[Any, np.dtype[Any]]

HEADER = '<ir_version: 9, opset_import: ["" : 20]>\n'
BLOCKS = ("conv", "depthwise", "clip", "pool", "residual")


def net(blocks: list[str], seed: int) -> Module:
    """Layers with weights of very different ranges over 4 channels of 6x6 pixels."""
    builder = ModelBuilder(lambda options: options[0])
    builder.rng = np.random.default_rng(seed)

    def uneven(*shape: int) -> str:
        rows = np.exp(builder.rng.normal(0, 2, (shape[0], *[1] * (len(shape) - 1))))
        return builder.constant((builder.rng.standard_normal(shape) * rows).astype(np.float32), own=True)

    value = builder.op("Conv", builder.input((1, 3, 6, 6)), uneven(4, 3, 1, 1), builder.floats(4))
    for block in blocks:
        if block == "conv":
            value = builder.op("Relu", builder.op("Conv", value, uneven(4, 4, 1, 1), builder.floats(4)))
        elif block == "depthwise":
            value = builder.op("Conv", value, uneven(4, 1, 3, 3), group=4, pads=[1] * 4)
        elif block == "clip":
            limits = [builder.constant(np.float32(x), own=True) for x in (0, 6)]
            value = builder.op("Clip", value, *limits)
        elif block == "pool":
            value = builder.op("AveragePool", value, kernel_shape=[3, 3], pads=[1] * 4)
        else:
            value = builder.op("Add", value, builder.op("Conv", value, uneven(4, 4, 1, 1)))
    module = Module(ir.from_proto(builder.model([builder.op("Conv", value, uneven(2, 4, 1, 1))])))
    infer_shapes(module.model)
    module.calibration = random_samples(input_specs(module.graph), 8)
    return module


def run(module: Module, *steps: tuple[str, dict[str, Any]]) -> Module:
    copy = module.clone()
    passes = [make_pass(name, options) for name, options in steps]
    return Pipeline(passes, verify=verify_structure).run(copy, load_target("host"))


def outputs(module: Module, of: Module) -> Array:
    """Of all calibration samples of ``of``."""
    session = onnxrt.session(module.model, optimize=False)
    assert of.calibration is not None
    return np.concatenate([*(next(iter(onnxrt.run(session, f).values())) for f in of.calibration.feeds())])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("equalize", {}),
        ("smooth", {"layernorm_only": False}),
        ("absorb-bias", {}),
        ("split-channels", {"expand": 0.5}),
    ],
)
@settings(deadline=None, max_examples=12, derandomize=True)
@given(blocks=st.lists(st.sampled_from(BLOCKS), max_size=4), seed=st.integers(0, 999))
def test_an_exact_repair_changes_nothing_on_calibration_data(
    name: str, options: dict[str, Any], blocks: list[str], seed: int
) -> None:
    module = net(blocks, seed)
    before = outputs(module, module)
    after = outputs(run(module, (name, options)), module)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())


def test_repairs_together_help_one_scale_per_tensor() -> None:
    module = net(["clip", "depthwise", "clip", "conv", "residual"], 5)
    wanted = outputs(module, module)
    step = ("quantize-int8", {"per_channel": False})

    def error(*steps: tuple[str, dict[str, Any]]) -> float:
        return float(np.square(outputs(run(module, *steps, step), module) - wanted).mean())

    assert error(("equalize", {}), ("shrink-saturated", {})) < 0.5 * error()


def test_smooth_evens_out_what_layernorm_writes(tmp_path: Path) -> None:
    text = """g (float[1, 8, 4] x) => (float[1, 8, 3] y)
       <float[4] gain = {1, 1, 1, 50}, float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0.1, 0.2, 0.3}>
    {
       n = LayerNormalization <axis = -1> (x, gain)
       y = MatMul (n, w)
    }"""
    module = module_from_text(HEADER + text)
    np.savez(tmp_path / "s.npz", x=np.random.default_rng(0).standard_normal((16, 1, 8, 4)).astype(np.float32))
    module.calibration = load_samples(tmp_path / "s.npz", input_specs(module.graph), role="calibration")
    wanted = outputs(module, module)

    def error(*steps: tuple[str, dict[str, Any]]) -> float:
        return float(np.square(outputs(run(module, *steps, ("quantize-int8", {})), module) - wanted).mean())

    assert error(("smooth", {})) < 0.5 * error()


def test_splitting_halves_the_largest_weight() -> None:
    module = net(["conv"], 3)
    ends = [list(m.graph)[-1] for m in (module, run(module, ("split-channels", {"expand": 0.25})))]
    weights = [constant(node.inputs[1]) for node in ends]
    assert weights[0] is not None
    assert weights[1] is not None
    assert [w.shape[1] for w in weights if w is not None] == [4, 5]
    assert np.abs(weights[1]).max() < np.abs(weights[0]).max()


@pytest.mark.parametrize("name", ["smooth", "absorb-bias", "shrink-saturated"])
def test_what_needs_data_says_so(name: str) -> None:
    module = net(["clip"], 0)
    module.calibration = None
    with pytest.raises(RecipeError, match=f"{name} needs calibration data. Give --calibration"):
        run(module, (name, {}))


def test_clips_stay_without_data() -> None:
    module = net(["clip"], 0)
    module.calibration = None
    record = run(module, ("equalize", {})).history[-1]
    assert not record.changed
    assert any(
        "bounds channels, which are scaled only where calibration data says" in n for n in record.notes
    )


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("equalize", {"margin": -1.0}, "margin is -1.0"),
        ("equalize", {"rounds": 0}, "rounds is 0"),
        ("smooth", {"alpha": 1.5}, "alpha is 1.5"),
        ("absorb-bias", {"margin": -1.0}, "margin is -1.0"),
        ("split-channels", {"expand": 0.0}, "expand is 0.0"),
        ("split-channels", {"bits": 9}, "bits is 9"),
        ("shrink-saturated", {"max_samples": 0}, "max_samples is 0"),
    ],
)
def test_options_without_sense_are_refused(name: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        make_pass(name, options)


def test_another_variant_is_repaired_alike() -> None:
    module = net(["clip", "depthwise", "clip", "conv"], 1)
    steps: list[tuple[str, dict[str, Any]]] = [
        (name, {}) for name in ("equalize", "shrink-saturated", "smooth", "absorb-bias")
    ]
    first = run(module, *steps)
    other = module.clone()
    other.taken_over = first.measured
    other.calibration = random_samples(input_specs(module.graph), 2, seed=9)
    second = run(other, *steps)
    for a, b in zip(first.graph, second.graph, strict=True):
        for x, y in zip(a.inputs, b.inputs, strict=True):
            np.testing.assert_array_equal(constant(x), constant(y))

"""Random models through the whole compiler, compared with ONNX Runtime at every stage.

Seeds, not hypothesis: the same models for everyone. A longer search is ``SEEDS = range(20000)``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from irshrink import onnxrt
from irshrink.errors import UnsupportedModelError
from irshrink.instruments import difference, largest_magnitude
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline, flatten
from irshrink.ports import encode_inputs
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.program.reference import run_program
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.testing.layers import LAYERS
from irshrink.testing.models import random_model
from irshrink.testing.rare_layers import RARE_LAYERS
from irshrink.verify import verify_static, verify_structure

#: From here on models have layers that fewer networks have.
RARE = 1_000_000
SEEDS = [*range(60), *range(RARE, RARE + 20)]
Arrays = dict[str, NDArray[Any]]


def model(seed: int) -> Module:
    rng = np.random.default_rng(seed)
    layers = LAYERS if seed < RARE else (*LAYERS, *RARE_LAYERS, *RARE_LAYERS)
    proto = random_model(lambda options: options[int(rng.integers(len(options)))], 2 + seed % 9, layers)
    onnx.checker.check_model(proto, full_check=True)
    module = Module(ir.from_proto(proto))
    module.calibration = random_samples(input_specs(module.graph), 4)
    return module


@cache
def cleaned(seed: int) -> Module:
    module = model(seed)
    Pipeline(cleanup_steps(), verify=verify_structure).run(module, load_target("host"))
    verify_static(module)
    return module


def feeds(module: Module) -> list[Arrays]:
    assert module.calibration is not None
    return list(module.calibration.spread(2).feeds())


def in_onnx_runtime(module: Module, feed: Arrays) -> Arrays:
    return onnxrt.run(onnxrt.session(module.model, optimize=False), feed)


def in_reference(program: Program, feed: Arrays) -> Arrays:
    """What the program gives, as the real numbers that its integers stand for."""
    outputs = {}
    for port, array in zip(program.outputs, run_program(program, encode_inputs(program, feed)), strict=True):
        held = program.tensors[port.tensor].quantization
        real = array if held is None else (array - np.float32(held.zero_point)) * np.float32(held.scale)
        outputs[port.name] = real
    return outputs


def lowered(module: Module, seed: int) -> Program | None:
    try:
        return lower(module, io="quantized" if seed % 2 else "float")
    except UnsupportedModelError as e:
        assert all(line.startswith("  ") and line.count(". ") for line in str(e).splitlines()[1:])  # noqa: PT017
        return None


@pytest.mark.parametrize("seed", SEEDS)
def test_cleanup_keeps_the_outputs(seed: int) -> None:
    before, after = model(seed), cleaned(seed)
    assert [v.name for v in after.graph.outputs] == [v.name for v in before.graph.outputs]
    assert len(after.graph) <= 2 * len(before.graph)  # a lone BatchNormalization becomes two nodes
    for feed in feeds(before):
        old, new = in_onnx_runtime(before, feed), in_onnx_runtime(after, feed)
        for name, array in old.items():
            # Outputs that are all cancellation (a mean of what is centred) have no digit to compare.
            peak = max(largest_magnitude([array]), 0.05)
            assert difference(array, new[name], 1e-4 * peak) is None, name


@pytest.mark.parametrize("seed", SEEDS)
def test_the_float_program_agrees_with_onnx_runtime(seed: int) -> None:
    module = cleaned(seed)
    program = lowered(module, seed)
    for feed in feeds(module) if program else []:
        assert program is not None
        wanted, given = in_onnx_runtime(module, feed), in_reference(program, feed)
        for name, array in wanted.items():
            peak = max(largest_magnitude([array]), 0.05)
            assert difference(array, given[name], 1e-4 * peak) is None, name


@pytest.mark.parametrize("seed", SEEDS)
def test_the_int8_program_agrees_with_onnx_runtime(seed: int) -> None:
    """Byte for byte but for the few places that docs/integer-semantics.md names, each off by one step."""
    module = cleaned(seed).clone()
    options = {
        "method": ("minmax", "percentile", "entropy", "mse")[seed % 4],
        "activations": ("asymmetric", "symmetric")[seed // 4 % 2],
        "per_channel": seed % 3 != 0,
        "bias_correction": ("none", "analytic", "empirical")[seed % 5 % 3],
        "rounding": ("nearest", "gptq", "quantease", "adaround")[seed // 2 % 4],
        "weight_bits": (8, 4)[seed // 3 % 2],
        "compensate": seed % 7 > 3,
    }
    Pipeline([make_pass("quantize-int8", options)], verify=verify_structure).run(module, load_target("host"))
    verify_static(module)
    onnxrt.session(module.model)  # loads with optimizations too
    program = lowered(module, seed)
    for feed in feeds(module) if program else []:
        assert program is not None
        wanted, given = in_onnx_runtime(module, feed), in_reference(program, feed)
        for port in program.outputs:
            held = program.tensors[port.tensor].quantization
            peak = max(largest_magnitude([wanted[port.name]]), 0.05)
            step = peak / 60 if held is None else held.scale * 1.01
            assert difference(wanted[port.name], given[port.name], step) is None, port.name


def test_every_cleanup_pass_finds_work_in_these_models() -> None:
    """The models would be too tame if one did not."""
    wanted = {step.name for step in flatten(cleanup_steps())}
    # The models have static shapes, no functions, no branches and no composite operators, and are recent.
    wanted -= {"fold-reshape-targets", "squeeze-range-inputs", "inline-functions", "resolve-control-flow"}
    wanted -= {"expand-operators", "decompose-dft", "decompose-einsum", "qoperator-to-qdq", "raise-opset"}
    changed: set[str] = set()
    for seed in range(240):
        changed |= {record.name for record in cleaned(seed).history if record.changed}
        if wanted <= changed:
            return
    raise AssertionError(f"no work for {sorted(wanted - changed)}")

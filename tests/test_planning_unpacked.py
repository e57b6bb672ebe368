"""Weights that ONNX Runtime would unpack for each sample are unpacked once; results stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irshrink import onnxrt
from irshrink.module import Module, load_module
from irshrink.passes.prune.sparse.prune_weights import PruneWeights
from irshrink.passes.prune.sparse.store_sparse import StoreSparse
from irshrink.passes.quantize.quantize_int8 import QuantizeInt8
from irshrink.pipeline import Pipeline
from irshrink.planning.unpacked import unpack
from irshrink.samples import input_specs, load_samples
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target

MODELS = Path(__file__).parents[1] / "models"


def quantized(bits: int, zeros: bool) -> Module:
    module = load_module(MODELS / "lenet-300-100.onnx")
    fix_input_shapes(module, {})
    data = load_samples(MODELS / "mnist-samples.npz", input_specs(module.graph), role="calibration")
    module.calibration = data.spread(8)
    pruned = [PruneWeights(sparsity=0.8)] if zeros else []
    stored = [StoreSparse()] if zeros else []
    steps = [*pruned, QuantizeInt8(weight_bits=bits), *stored]
    return Pipeline(steps).run(module, load_target("host"))


@pytest.mark.parametrize(("bits", "zeros"), [(8, False), (8, True), (4, False), (4, True)])
def test_unpacked_weights_compute_the_same(bits: int, zeros: bool) -> None:
    module = quantized(bits, zeros)
    assert module.calibration is not None
    unpacked = module.clone()
    unpack(unpacked)
    before, after = onnxrt.session(module.model), onnxrt.session(unpacked.model)
    for feeds in module.calibration.feeds():
        for name, value in onnxrt.run(before, feeds).items():
            assert value.tobytes() == onnxrt.run(after, feeds)[name].tobytes()
    weights = {str(v.dtype) for v in unpacked.graph.initializers.values() if np.prod(v.shape) > 1000}
    assert weights == {"INT8" if bits == 8 else "FLOAT"}
    kinds = {node.op_type for node in unpacked.graph}
    assert not kinds & {"ScatterND", "NonZero", "CumSum"}

"""Weights stored without their zeros: the bytes of the reference, from the file to the target."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.backends.tvm.kernels import sparse
from irshrink.backends.tvm.kernels.sparse import Entries, sparse_notes
from irshrink.module import Module, load_module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.passes.prune.sparse.packing import Gaps, packed, unpacked
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.lower.finish import for_target
from irshrink.program.ops import ConvInt8, DenseF32, DenseInt8, Requantization, Window
from irshrink.registry import make_pass
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench
from irshrink.testing.small_net import RESIDUAL, small_net
from irshrink.verify import verify_structure

SAME = (1, 1, 1, 1)
Array = NDArray[Any]


def fields(bench: KernelBench, bits: int, density: float, *shape: int) -> dict[str, Any]:
    """Weights of which some are not 0, a channel without any and one with a single one at its end."""
    rng, half = bench.rng, 1 << (bits - 1)
    w = rng.integers(-half, half, shape).astype(np.int8)
    w[rng.random(shape) >= density] = 0
    w[0] = 0
    w[1] = 0
    w[1].reshape(-1)[-1] = half - 1
    scale = rng.uniform(0.3, 3, len(w)) * 40 / (74 * half / 2 * (density * w[0].size) ** 0.5)
    form = Requantization(multiplier=scale.astype(np.float32), zero_point=int(rng.integers(-128, 128)))
    bias = rng.integers(-1000, 1000, len(w)).astype(np.int32)
    return {"weight": w, "weight_bits": bits, "sparse": True, "bias": bias, "requantization": form}


def add(bench: KernelBench, *args: Any, bits: int, density: float = 0.15, **more: Any) -> None:
    bench.convolution(*args, partial(fields, bench, bits, density), **more)


def layers(bits: int, seed: int = 0) -> KernelBench:
    bench = KernelBench(seed)
    add(bench, (5, 5), (40, 9), Window(kernel=(1, 1)), bits=bits)
    add(bench, (7, 6), (16, 8), Window(kernel=(3, 3), pads=SAME), bits=bits, residual=True)
    add(bench, (9, 9), (32, 12), Window(kernel=(3, 3), strides=(2, 2), pads=SAME), bits=bits, groups=2)
    add(bench, (1, 1), (300, 7), Window(kernel=(1, 1)), bits=bits, density=0.02)
    add(bench, (1, 3), (24, 5), Window(kernel=(1, 2), dilations=(1, 2)), bits=bits)
    for rows, depth, channels, density in ((1, 700, 12, 0.01), (1, 90, 34, 0.3), (5, 64, 9, 0.1)):
        more = fields(bench, bits, density, channels, depth)
        bench.add(DenseInt8, bench.int8(rows, depth), shape=(rows, channels), **more)
    return bench


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "cortex-m0", "host"])
def test_bytes_equal_the_reference(bits: int, target: str, tmp_path: Path) -> None:
    bench, chosen = layers(bits), load_target(target)
    steps = choose_kernels(bench.program, chosen)
    skipping = [step.call.function.name.startswith("sparse_") for step in steps]
    assert any(skipping) == (target != "host")
    bench.check(TvmBackend(), chosen, tmp_path)
    notes = sparse_notes([(step.op, step.call) for step in steps], bench.program, chosen)
    assert (notes != []) == (not all(skipping) or target == "cortex-m4")


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0", "host"])
def test_float_layers_skip_zeros_where_they_are_told_to(target: str, tmp_path: Path) -> None:
    bench, chosen = KernelBench(), load_target(target)
    for rows, depth, channels, low, high in ((1, 90, 7, -np.inf, np.inf), (3, 40, 5, 0.0, 6.0)):
        x, weight = bench.f32(rows, depth), bench.f32(channels, depth)
        weight[bench.rng.random(weight.shape) < 0.8] = 0
        weight[0], x[0, :2] = 0, (np.inf, np.nan)
        weight[1:, :2] = np.where(np.arange(channels - 1)[:, None] % 2, weight[1:, :2], 0)
        bench.add(
            DenseF32, x, shape=(rows, channels), dtype="float32", weight=weight, bias=bench.f32(channels),
            low=low, high=high, sparse=True,
        )  # fmt: skip
    bench.program = for_target(bench.program, chosen)
    steps = choose_kernels(bench.program, chosen)
    assert [s.call.function.name.startswith("sparse_f32") for s in steps] == 2 * [target != "host"]
    bench.check(TvmBackend(), chosen, tmp_path)


def halves(columns: Array, bits: int) -> Array:
    """Numbers of pairs, [pairs, 2], from their bytes."""
    return columns if bits == 8 else np.concatenate([columns & 15, columns >> 4], axis=1)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.integers(0, 999),
    st.sampled_from([4, 8]),
    st.sampled_from([4, 8]),
    st.floats(0.005, 0.5),
    st.integers(1, 600),
)
def test_pairs_are_the_weights(seed: int, bits: int, distance: int, density: float, depth: int) -> None:
    rng, half = np.random.default_rng(seed), 1 << (bits - 1)
    rows = rng.integers(-half, half, (3, depth)).astype(np.int8)
    rows[rng.random(rows.shape) >= density] = 0
    stream = sparse.packed(rows, Entries(distance, bits))
    assert stream.pairs.shape == (stream.counts.sum(), stream.form.nbytes)
    found, split = np.zeros(rows.shape, np.int64), distance // 4
    gaps, weights = halves(stream.pairs[:, :split], distance), halves(stream.pairs[:, split:], bits)
    starts = np.append(0, np.cumsum(stream.counts))
    for channel in range(3):
        here = slice(starts[channel], starts[channel + 1])
        places = np.cumsum(gaps[here].reshape(-1).astype(int))
        signed = (weights[here].reshape(-1).astype(int) ^ half) - half
        np.add.at(found[channel], places, signed)
    np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize(
    ("target", "density", "skips", "said"),
    [
        ("cortex-m3", 0.8, False, "1 layer, from op0 on, lie in memory with their zeros"),
        ("cortex-m3", 0.5, True, ""),
        ("cortex-m4", 0.6, False, "does not pay on cortex-m4"),
        ("cortex-m4", 0.35, True, "saves flash without zeros"),
        ("cortex-m4", 0.35, True, "where less than 20 % of the weights are left"),
        ("cortex-m4", 0.1, True, ""),
    ],
)
def test_zeros_are_skipped_where_that_saves(target: str, density: float, skips: bool, said: str) -> None:
    bench, chosen = KernelBench(), load_target(target)
    add(bench, (5, 5), (256, 16), Window(kernel=(1, 1)), bits=8, density=density)
    steps = choose_kernels(bench.program, chosen)
    assert steps[0].call.function.name.startswith("sparse_") == skips
    notes = sparse_notes([(step.op, step.call) for step in steps], bench.program, chosen)
    assert bool(notes) == bool(said)
    assert said in " ".join(notes)


Steps = list[tuple[str, dict[str, Any]]]


def after(steps: Steps) -> Module:
    module = small_net(RESIDUAL)
    passes = [*cleanup_steps(), *(make_pass(*step) for step in steps)]
    Pipeline(passes, verify=verify_structure).run(module, load_target("host"))
    return module


@pytest.mark.parametrize("bits", [8, 4])
def test_a_stored_model_has_the_layers_of_the_dense_one(bits: int, tmp_path: Path) -> None:
    steps: Steps = [
        ("prune-weights", {"sparsity": 0.8, "min_elements": 1}),
        ("quantize-int8", {"weight_bits": bits}),
    ]
    after([*steps, ("store-sparse", {"min_saving": 1})]).save(tmp_path / "model.onnx")
    dense, stored = lower(after(steps)), lower(load_module(tmp_path / "model.onnx"))
    assert [type(op) for op in dense.ops] == [type(op) for op in stored.ops]
    left_out = 0
    for a, b in zip(dense.ops, stored.ops, strict=True):
        if not isinstance(a, ConvInt8 | DenseInt8) or not isinstance(b, ConvInt8 | DenseInt8):
            continue
        np.testing.assert_array_equal(a.weight, b.weight)
        assert a.weight_bits == b.weight_bits == bits
        assert not a.sparse
        left_out += b.sparse
    assert left_out


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.integers(0, 999),
    st.sampled_from([np.float32, np.int8, ml_dtypes.int4]),
    st.floats(0, 1),
    st.integers(1, 900),
)
def test_packing_is_undone_exactly(seed: int, kind: Any, density: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    array = np.where(rng.random(size) < density, rng.integers(-8, 8, size), 0).astype(kind)
    form = packed(array, ir.DataType.from_numpy(array.dtype).bitwidth)
    np.testing.assert_array_equal(unpacked(form, size).astype(np.float32), array.astype(np.float32))


def test_long_gaps_are_bridged() -> None:
    array = np.zeros(2000, np.float32)
    array[[3, 1999]] = 1, 2
    form = packed(array, 32)
    assert isinstance(form, Gaps)
    np.testing.assert_array_equal(unpacked(form, 2000), array)

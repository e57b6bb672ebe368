"""Weights in a Huffman code: the bytes of the reference, from the mark in the file to the target."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.backends.tvm.kernels.huffman import huffman_notes
from irshrink.backends.tvm.kernels.huffman_forms import forms_of
from irshrink.backends.tvm.kernels.sparse import sparse_notes
from irshrink.costs.sizes import family
from irshrink.knobs import Effect, Wishes
from irshrink.module import Module, load_module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.passes.store_huffman import StoreHuffman
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.ops import ConvInt8, DenseInt8, Requantization, Window
from irshrink.registry import make_pass
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench
from irshrink.testing.small_net import RESIDUAL, outputs, small_net
from irshrink.verify import verify_structure

MODELS = Path(__file__).parents[1] / "models"
SAME = (1, 1, 1, 1)
Array = NDArray[Any]


def weights(rng: np.random.Generator, bits: int, density: float, shape: tuple[int, ...]) -> Array:
    """Many small ones, some that are 0, more of them the further in front the input is; a channel without any
    other, one with a single one at its end."""
    half = 1 << (bits - 1)
    w = np.clip(np.rint(rng.normal(0, half / 4, shape)), -half, half - 1).astype(np.int8)
    w[w == 0] = 1
    kept = density ** np.linspace(2.5, 0.5, shape[-1])
    w[rng.random(shape) >= kept] = 0
    w[0] = 0
    if len(w) > 1:
        w[1] = 0
        w[1].reshape(-1)[-1] = half - 1
    return w


def fields(bench: KernelBench, bits: int, density: float, *shape: int) -> dict[str, Any]:
    w = weights(bench.rng, bits, density, shape)
    scale = bench.rng.uniform(0.3, 3, len(w)) * 40 / (74 * (1 << bits) / 8 * (density * w[0].size + 1) ** 0.5)
    form = Requantization(multiplier=scale.astype(np.float32), zero_point=int(bench.rng.integers(-128, 128)))
    bias = bench.rng.integers(-1000, 1000, len(w)).astype(np.int32)
    return {
        "weight": w, "weight_bits": bits, "huffman": True, "sparse": density < 0.5, "bias": bias,
        "requantization": form,
    }  # fmt: skip


def add(bench: KernelBench, *args: Any, bits: int, density: float = 0.15, **more: Any) -> None:
    bench.convolution(*args, partial(fields, bench, bits, density), **more)


def layers(bits: int, seed: int = 0) -> KernelBench:
    bench = KernelBench(seed)
    add(bench, (5, 5), (40, 20), Window(kernel=(1, 1)), bits=bits)
    add(bench, (7, 6), (16, 16), Window(kernel=(3, 3), pads=SAME), bits=bits, residual=True)
    add(bench, (9, 9), (32, 32), Window(kernel=(3, 3), strides=(2, 2), pads=SAME), bits=bits, groups=2)
    add(bench, (1, 1), (900, 7), Window(kernel=(1, 1)), bits=bits, density=0.02)
    add(bench, (1, 3), (24, 24), Window(kernel=(1, 2), dilations=(1, 2)), bits=bits, density=0.3)
    add(bench, (4, 4), (24, 24), Window(kernel=(1, 1)), bits=bits, density=1.0)
    for rows, depth, channels, density in (
        (1, 700, 12, 0.1),
        (1, 60, 300, 0.1),
        (1, 90, 34, 0.3),
        (5, 64, 19, 0.1),
        (1, 70, 30, 1.0),
    ):
        more = fields(bench, bits, density, channels, depth)
        bench.add(DenseInt8, bench.int8(rows, depth), shape=(rows, channels), **more)
    return bench


@pytest.mark.parametrize(
    ("target", "bits"),
    [
        ("cortex-m4", 8),
        ("cortex-m4", 4),
        ("cortex-m4", 2),
        ("cortex-m3", 4),
        ("cortex-m0", 8),
        ("cortex-m0", 4),
        ("cortex-m55", 8),
        ("host", 4),
    ],
)
def test_bytes_equal_the_reference(target: str, bits: int, tmp_path: Path) -> None:
    bench, chosen = layers(bits), load_target(target)
    steps = choose_kernels(bench.program, chosen)
    names = [step.call.function.name for step in steps]
    forms = {name.split("_")[2] for name in names if name.startswith("huffman_")}
    wide = "w8" if bits == 8 else "w4"
    assert forms == (set() if target == "host" else {wide, f"{wide}d", f"{wide}c"})
    bench.check(TvmBackend(), chosen, tmp_path)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.integers(0, 999),
    st.sampled_from([8, 4, 2]),
    st.floats(0.0, 1.0),
    st.integers(1, 9),
    st.integers(1, 400),
)
def test_a_stream_is_the_weights(seed: int, bits: int, density: float, channels: int, depth: int) -> None:
    """Decoded as the kernel does."""
    w = weights(np.random.default_rng(seed), bits, density, (channels, depth))
    for coded in forms_of(w, bits, True):
        lines = w.T if coded.form == "columns" else w
        constants = {c.role: c.array for c in coded.constants(bits)}
        sizes = coded.sizes(lines.shape[1])
        stream = constants["weight"]
        assert coded.nbytes == sum(array.nbytes for array in constants.values())
        assert not stream[-3:].any()
        found = decoded(stream, constants["values"], constants.get("distances"), sizes, bits, lines.shape)
        np.testing.assert_array_equal(found, lines)


def decoded(
    stream: Array,
    values: Array,
    distances: Array | None,
    sizes: dict[str, int],
    bits: int,
    shape: tuple[int, ...],
) -> Array:
    number, at, place = int.from_bytes(stream.tobytes(), "little"), 0, sizes.get("first", 0)
    found, line, table, raw = np.zeros(shape, int), -1, 0, 3 if bits == 8 else 0
    while place < found.size:
        if place // shape[1] != line:
            line, class_bits = place // shape[1], sizes.get("class_bits", 0)
            table = ((number >> at) & ((1 << class_bits) - 1)) << sizes.get("distance_bits", 0)
            at += class_bits
        value = int(values[(number >> at) & sizes["value_mask"]])
        at += value & 7
        found.reshape(-1)[place] = ((value >> 3) << raw) + ((number >> at) & ((1 << raw) - 1))
        at += raw
        assert at <= 8 * (len(stream) - 3)
        gap = 8
        while distances is not None:
            gap = int(distances[table + ((number >> at) & sizes["distance_mask"])])
            at += gap & 7
            if gap >= 8:
                break
            place += sizes["reach"]
        place += gap >> 3
    return found


@pytest.mark.parametrize(
    ("size", "channels", "density", "sparse", "form", "said"),
    [
        (None, (256, 64), 0.1, True, "w4c", "from op0 on, are in a Huffman code: "),
        (None, (256, 64), 1.0, False, "w4", "instead of 8,192. Reading one takes about 20 instructions"),
        ((16, 16), (64, 64), 0.1, True, "w4d", "are in a Huffman code"),
        ((17, 16), (64, 64), 0.1, True, None, "in no Huffman code: on cortex-m4 it would save less than 3 %"),
        (None, (12, 8), 1.0, False, None, "or be read for more than 64 tiles of pixels"),
    ],
)
def test_a_code_is_taken_where_it_is_smaller_and_read_a_few_times(
    size: tuple[int, int] | None,
    channels: tuple[int, int],
    density: float,
    sparse: bool,
    form: str | None,
    said: str,
) -> None:
    bench, chosen = KernelBench(), load_target("cortex-m4")
    if size is None:
        more = fields(bench, 4, density, channels[1], channels[0])
        bench.add(DenseInt8, bench.int8(1, channels[0]), shape=(1, channels[1]), **more)
    else:
        add(bench, size, channels, Window(kernel=(1, 1)), bits=4, density=density)
    (step,) = choose_kernels(bench.program, chosen)
    assert step.op.sparse == sparse  # type: ignore[attr-defined]
    assert step.call.function.name.startswith(f"huffman_s8_{form}") == (form is not None)
    notes = huffman_notes([(step.op, step.call)], bench.program, chosen)
    assert said in " ".join(notes)
    assert form is None or not sparse_notes([(step.op, step.call)], bench.program, chosen)


def test_what_a_coded_layer_takes_is_not_told_by_its_sizes() -> None:
    bench = KernelBench()
    more = fields(bench, 4, 0.2, 16, 64)
    for coded in (True, False):
        bench.add(DenseInt8, bench.int8(1, 64), shape=(1, 16), **{**more, "huffman": coded})
    assert [family(op, bench.program) is None for op in bench.program.ops] == [True, False]


Steps = list[tuple[str, dict[str, Any]]]
SPARSE: Steps = [("store-sparse", {"min_saving": 1})]
CODED: Steps = [("store-huffman", {"min_elements": 1})]


def after(steps: Steps) -> Module:
    module = small_net(RESIDUAL)
    passes = [*cleanup_steps(), *(make_pass(*step) for step in steps)]
    Pipeline(passes, verify=verify_structure).run(module, load_target("host"))
    return module


def quantized(bits: int, behind: Steps) -> Module:
    before: Steps = [("prune-weights", {"sparsity": 0.8, "min_elements": 1})]
    return after([*before, ("quantize-int8", {"weight_bits": bits}), *behind])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("steps", [CODED, SPARSE + CODED, CODED + SPARSE])
def test_the_mark_reaches_the_layers_and_the_model_stays_the_same(
    bits: int, steps: Steps, tmp_path: Path
) -> None:
    marked = quantized(bits, steps)
    marked.save(tmp_path / "model.onnx")
    found = lower(load_module(tmp_path / "model.onnx")).ops
    layers = [op for op in found if isinstance(op, ConvInt8 | DenseInt8)]
    assert layers
    assert all(op.huffman for op in layers)
    assert any(op.sparse for op in layers) == (len(steps) == 2)
    np.testing.assert_array_equal(outputs(marked), outputs(quantized(bits, [])))


def test_small_weights_are_not_marked() -> None:
    module = quantized(8, [("store-huffman", {"min_elements": 10**6})])
    assert not any(getattr(op, "huffman", False) for op in lower(module).ops)


def wishes(effects: set[Effect], cost_matters: bool, target: str) -> Wishes:
    return Wishes(frozenset(effects), True, 64, load_target(target), cost_matters)


def test_a_code_is_in_every_plan_that_is_to_be_small() -> None:
    assert StoreHuffman.knobs(small_net(RESIDUAL), wishes({"size"}, False, "cortex-m4")) == ()
    module = load_module(MODELS / "lenet-5.onnx")
    assert StoreHuffman.knobs(module, wishes({"size"}, False, "host")) == ()
    (free,) = StoreHuffman.knobs(module, wishes({"size"}, False, "cortex-m4"))
    assert free.obligatory
    assert [level.behind for level in free.levels] == [({"pass": "store-huffman"},)]
    for effects, cost_matters in (({"size"}, True), (set(), False), ({"ram"}, False)):
        (open_,) = StoreHuffman.knobs(module, wishes(effects, cost_matters, "cortex-m0"))
        assert not open_.obligatory

"""Weights of 4 and 2 bits: packed in flash, the bytes of the reference on every family of kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irshrink import target as targets
from irshrink.backend import Inference
from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.backends.tvm.kernels.dsp.nibbles import exact
from irshrink.backends.tvm.kernels.packed import BLOCK, codes_of, in_bytes, pack, wider_notes
from irshrink.backends.tvm.memory import plan_steps
from irshrink.errors import InternalError
from irshrink.program.ops import Addition, ConvInt8, DenseInt8, Requantization, Window
from irshrink.program.reference.evaluate import run_program
from irshrink.target import load_target, with_threads
from irshrink.testing.kernels import KernelBench

SAME = (1, 1, 1, 1)
Array = NDArray[Any]


def fields(bench: KernelBench, bits: int, *shape: int) -> dict[str, Any]:
    """Weights, in half of the layers none of -8 or -2, which some forms have no room for beside others.

    Some layers have channels without any.
    """
    rng, half, channels = bench.rng, 1 << (bits - 1), shape[0]
    lowest = int(rng.integers(-half, 2 - half))
    w = rng.integers(lowest, half, shape).astype(np.int8)
    w[rng.random(shape) < 0.05] = lowest
    w[rng.random(channels) < rng.choice([0.0, 0.3])] = 0
    scale = rng.uniform(0.3, 3, channels) * 40 / (74 * half / 2 * w[0].size ** 0.5)
    form = Requantization(multiplier=scale.astype(np.float32), zero_point=int(rng.integers(-128, 128)))
    bias = rng.integers(-1000, 1000, channels).astype(np.int32)
    return {"weight": w, "weight_bits": bits, "bias": bias, "requantization": form}


def add(bench: KernelBench, size: tuple[int, int], channels: tuple[int, int], window: Window, groups: int = 1,
        bits: int = 4, residual: bool = False, images: int = 1) -> None:  # fmt: skip
    ci, co = channels
    shape = (images, *window.output(*size), co)
    inputs, more = [bench.int8(images, *size, ci)], fields(bench, bits, co, *window.kernel, ci // groups)
    if residual:
        inputs.append(bench.int8(*shape))
        more["residual"] = Addition(
            multipliers=(1 << 19, -777_777), shift=20, zero_points=(3, -9), zero_point=7
        )
    zero_point = int(bench.rng.integers(-128, 128))
    bench.add(
        ConvInt8, *inputs, shape=shape, window=window, groups=groups, input_zero_point=zero_point, **more
    )


def add_dense(bench: KernelBench, rows: int, depth: int, channels: int, bits: int = 4) -> None:
    more = fields(bench, bits, channels, depth)
    bench.add(DenseInt8, bench.int8(rows, depth), shape=(rows, channels), **more)


def chosen(bits: int) -> KernelBench:
    """What has a path of its own in some family."""
    bench = KernelBench(bits)
    add(bench, (7, 5), (16, 8), Window(kernel=(1, 1)), bits=bits)
    add(bench, (5, 5), (3, 7), Window(kernel=(1, 1)), bits=bits, images=2)
    add(bench, (5, 6), (40, 9), Window(kernel=(1, 1)), bits=bits)
    add(bench, (1, 1), (24, 17), Window(kernel=(1, 1)), bits=bits)
    add(bench, (8, 8), (16, 16), Window(kernel=(3, 3), pads=SAME), bits=bits, residual=True)
    add(bench, (3, 4), (32, 32), Window(kernel=(3, 3), pads=SAME), bits=bits)
    add(bench, (9, 7), (12, 5), Window(kernel=(3, 2), pads=(1, 0, 1, 1)), bits=bits, residual=True)
    add(bench, (13, 6), (1, 12), Window(kernel=(10, 4), strides=(2, 2), pads=(4, 1, 5, 1)), bits=bits)
    add(bench, (9, 9), (8, 12), Window(kernel=(3, 3), strides=(2, 2), pads=SAME), groups=2, bits=bits)
    add(bench, (5, 5), (6, 1), Window(kernel=(3, 3), pads=SAME), bits=bits)
    for rows, depth, channels in ((1, 64, 12), (1, 33, 34), (3, 16, 5), (1, 9, 3), (1, 40, 64), (2, 72, 32)):
        add_dense(bench, rows, depth, channels, bits=bits)
    for stride, height, width in ((1, 7, 9), (2, 9, 8)):
        window = Window(kernel=(3, 3), strides=(stride, stride), pads=SAME)
        add(bench, (height, width), (8, 8), window, groups=8, bits=bits)
        add(bench, (height, width), (32, 32), window, groups=32, bits=bits)
    add(bench, (7, 7), (6, 6), Window(kernel=(5, 5), pads=(2, 2, 2, 2)), groups=6, bits=bits)
    return bench


AVX2 = str(targets.HERE / "targets" / "host.toml")
OFTEN = ["cortex-m4", "cortex-m3", "cortex-m55", "cortex-a72", "host"]
SELDOM = ["cortex-m0", "cortex-m33", "armv7-linux", "rv32imc-linux", "neoverse-n1", AVX2]


@pytest.mark.parametrize("target", OFTEN)
def test_every_family(target: str, tmp_path: Path) -> None:
    chosen(4).check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("target", SELDOM)
def test_every_other_family(target: str, tmp_path: Path) -> None:
    chosen(4).check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("target", OFTEN)
def test_two_bits(target: str, tmp_path: Path) -> None:
    chosen(2).check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.long
def test_threads_unpack_for_themselves(tmp_path: Path) -> None:
    chosen(4).check(TvmBackend(), with_threads(load_target("host"), 2), tmp_path, threads=(1, 2))


@pytest.mark.long
@settings(deadline=None, max_examples=2, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), target=st.sampled_from(["cortex-m4", "cortex-m3", "cortex-m55"]))
def test_layers_nobody_thought_of(tmp_path_factory: pytest.TempPathFactory, seed: int, target: str) -> None:
    bench = KernelBench(seed)
    while len(bench.program.ops) < 10:
        rows, columns, stride, height, width, ci, co = (
            int(n) for n in bench.rng.integers(1, [5, 5, 3, 14, 14, 40, 40])
        )
        groups = int(bench.rng.choice([1, 1, 2, 8]))
        channels = (8, 8) if groups == 8 else (ci * groups, co * groups)
        top, left, bottom, right = (int(p) for p in bench.rng.integers(0, 3, 4))
        window = Window(kernel=(rows, columns), strides=(stride, stride), pads=(top, left, bottom, right))
        if min(window.output(height, width)) >= 1:
            residual = groups == 1 and bench.rng.random() < 0.3
            add(bench, (height, width), channels, window, groups, residual=residual)
    bench.check(TvmBackend(), load_target(target), tmp_path_factory.mktemp("layers"))


def kernels(bench: KernelBench, target: str) -> list[tuple[str, int, int]]:
    """Name, bytes of constants and of workspace of every kernel."""
    steps = choose_kernels(bench.program, load_target(target))
    return [
        (s.call.function.name, sum(c.array.nbytes for c in s.call.constants()), s.call.workspace_bytes)
        for s in steps
    ]


@pytest.mark.parametrize(
    ("target", "form", "ram"),
    [
        ("cortex-m4", "_w4", 0),
        ("cortex-m3", "_w4", 0),
        ("cortex-m55", "_w4", 0),
        ("cortex-a72", "_unpack4", 4096),
    ],
)
def test_half_the_flash_and_no_more_ram_on_microcontrollers(target: str, form: str, ram: int) -> None:
    packed, wide = KernelBench(1), KernelBench(1)
    for bench, bits in ((packed, 4), (wide, 8)):
        add(bench, (12, 12), (64, 64), Window(kernel=(1, 1)), bits=4)
        op = bench.program.ops[0]
        assert isinstance(op, ConvInt8)
        object.__setattr__(op, "weight_bits", bits)
    (name, nbytes, workspace), (_, nbytes_wide, workspace_wide) = (
        kernels(bench, target)[0] for bench in (packed, wide)
    )
    assert form in name
    assert nbytes < 0.6 * nbytes_wide  # biases and multipliers stay
    assert workspace - workspace_wide == ram


@given(st.integers(0, 100), st.sampled_from([2, 4]), st.integers(1, 200))
def test_packed_weights_unpack(seed: int, bits: int, size: int) -> None:
    half = 1 << (bits - 1)
    weights = np.random.default_rng(seed).integers(-half, half, size).astype(np.int8)
    packed = pack(weights, bits)
    assert len(packed) == BLOCK * -(-size * bits // (8 * BLOCK))
    fields = [(packed.reshape(-1, 1, BLOCK) >> (bits * i)) & (2 * half - 1) for i in range(8 // bits)]
    unpacked = np.concatenate(fields, axis=1).reshape(-1).astype(np.int16) - half
    np.testing.assert_array_equal(unpacked[:size], weights)
    assert not unpacked[size:].any()


def test_kernels_that_spend_more_bits_say_so() -> None:
    bench = KernelBench()
    add(bench, (4, 4), (8, 8), Window(kernel=(1, 1)), bits=2)
    add(bench, (4, 4), (8, 8), Window(kernel=(1, 1)), bits=4)
    steps = choose_kernels(bench.program, load_target("cortex-m4"))
    (note,) = wider_notes((step.op, step.call) for step in steps)
    assert note == "Kernels for this target hold the 2-bit weights of 1 layer in 4 bits, from op0 on."
    steps = choose_kernels(bench.program, load_target("cortex-a72"))
    assert wider_notes((step.op, step.call) for step in steps) == []


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(InternalError, match="weights from -9 to 7 do not fit 4 bits"):
        codes_of(np.array([-9, 7], np.int8), 4)


def test_two_weights_in_a_byte() -> None:
    both, form = in_bytes(np.array([-8, 0, 7, -8, 3, 7], np.int8))
    assert (both.tolist(), form) == ([-128, 104, 55], "sums")
    both, form = in_bytes(np.array([-8, -1, 7, -8], np.int8))
    assert (both.tolist(), form) == ([-113, 120], "fields")


def test_sums_that_a_factor_of_4096_does_not_leave_exact() -> None:
    """Then the general kernel computes the layer, which unpacks its weights."""
    one = np.ones(2, np.float32)
    assert exact(np.full((2, 500), -8, np.int8), np.zeros(2, np.int32), one)
    assert not exact(np.full((2, 513), -8, np.int8), np.zeros(2, np.int32), one)
    assert not exact(np.zeros((2, 4), np.int8), np.array([0, 1 << 19], np.int32), one)
    bench = KernelBench()
    form = Requantization(multiplier=np.full(4, 1e-4, np.float32), zero_point=0)
    w, bias = np.full((4, 600), -8, np.int8), np.zeros(4, np.int32)
    bench.add(
        DenseInt8, bench.int8(1, 600), shape=(1, 4), weight=w, weight_bits=4, bias=bias, requantization=form
    )
    assert kernels(bench, "cortex-m4")[0][0] == "conv_s8_dsp_1x4_unpack4"


def test_a_result_may_not_lie_where_padding_is_read(tmp_path: Path) -> None:
    """Of 500 inputs 504 are read: what their sum adds to every channel must still be there for the last."""
    bench = KernelBench(3)
    add_dense(bench, 1, 12, 500)
    add_dense(bench, 1, 500, 10)
    program, (first, last) = bench.program, bench.program.ops
    port = next(port for port in program.inputs if port.tensor == last.inputs[0])
    del bench.values[program.inputs.index(port)]
    program.inputs.remove(port)
    del program.tensors[last.inputs[0]]
    program.ops[1] = replace(last, inputs=(first.output,))
    program.outputs[:] = [one for one in program.outputs if one.tensor == last.output]
    target = load_target("cortex-m4")
    plan = plan_steps(program, choose_kernels(program, target), target)[2]
    slots = {slot.name: slot for slot in plan.slots}
    behind = slots[last.output].offset - slots[first.output].offset
    assert not 0 <= behind < 504
    wanted = run_program(program, bench.values)
    vector = Inference(bench.values, wanted)
    built = TvmBackend().compile(program, target, tmp_path, [vector], "chain").program
    [given] = TvmBackend().run(tmp_path, target, built, [bench.values]).outputs[0]
    np.testing.assert_array_equal(given, wanted[0])

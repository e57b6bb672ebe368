"""int8 kernels of the DSP extension against the NumPy reference: in assembly (emulated Cortex-M) and in C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels.dsp.depthwise import choose_planes, plane_candidates
from irshrink.backends.tvm.kernels.dsp.pairs import Pair, plan_runs, streams
from irshrink.backends.tvm.schedules import plain
from irshrink.program.ops import Addition, ConvInt8, DenseInt8, Op, Requantization, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference.evaluate import run_program
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench
from irshrink.tuning.database import Schedules

SAME = (1, 1, 1, 1)
Array = NDArray[Any]


def requantization(rng: np.random.Generator, channels: int, depth: int) -> Requantization:
    scale = rng.uniform(0.3, 3, channels) * 40 / (74 * 74 * depth**0.5)
    return Requantization(multiplier=scale.astype(np.float32), zero_point=int(rng.integers(-128, 128)))


def weights(rng: np.random.Generator, *shape: int, lowest: float = 0.0) -> Array:
    """Random weights; ``lowest`` of them are -128, which no word of two channels can always hold.

    Some channels are constant: in every second layer few, else most.
    """
    w = rng.integers(-127, 128, shape).astype(np.int8)
    w[rng.random(shape) < lowest] = -128
    w[rng.random(shape[0]) < rng.choice([0.1, 0.7])] = 0
    return w


def layer(rng: np.random.Generator, channels: tuple[int, int], window: Window, groups: int = 1,
          lowest: float = 0.0) -> dict[str, Any]:  # fmt: skip
    """The fields of a convolution; a channel without weights has a bias that only a float32 can hold."""
    ci, co = channels
    w = weights(rng, co, *window.kernel, ci // groups, lowest=lowest)
    bias = rng.integers(-5000, 5000, co).astype(np.int32)
    form = requantization(rng, co, w[0].size)
    dead = ~w.reshape(co, -1).any(axis=1)
    bias[dead], form.multiplier[dead] = -(2**30), 1e-8
    return {
        "weight": w, "bias": bias, "window": window, "groups": groups,
        "input_zero_point": int(rng.integers(-128, 128)), "requantization": form,
    }  # fmt: skip


def addition(rng: np.random.Generator, ties: bool) -> Addition:
    multipliers = (1 << 19, 1 << 18) if ties else (int(rng.integers(1 << 18, 1 << 21)), -777_777)
    zero_point, low = int(rng.integers(-20, 20)), int(rng.choice([-128, -60]))
    return Addition(multipliers=multipliers, shift=20, zero_points=(3, -9), zero_point=zero_point, low=low)


def add(bench: KernelBench, size: tuple[int, int], channels: tuple[int, int], window: Window, groups: int = 1,
        residual: bool = False, ties: bool = False, images: int = 1,
        lowest: float = 0.0) -> None:  # fmt: skip
    fields = layer(bench.rng, channels, window, groups, lowest)
    shape = (images, *window.output(*size), channels[1])
    inputs = [bench.int8(images, *size, channels[0])]
    if residual:
        inputs.append(bench.int8(*shape))
        fields["residual"] = addition(bench.rng, ties)
    bench.add(ConvInt8, *inputs, shape=shape, **fields)


def add_dense(bench: KernelBench, rows: int, depth: int, channels: int, lowest: float = 0.0) -> None:
    w = weights(bench.rng, channels, depth, lowest=lowest)
    bias = bench.rng.integers(-5000, 5000, channels).astype(np.int32)
    form = requantization(bench.rng, channels, depth)
    x = bench.int8(rows, depth)
    bench.add(DenseInt8, x, shape=(rows, channels), weight=w, bias=bias, requantization=form)


def chosen(seed: int = 0) -> KernelBench:
    """What has a path of its own: every source of patches, borders, pixels and channels left over."""
    bench = KernelBench(seed)
    add(bench, (7, 5), (16, 8), Window(kernel=(1, 1)))
    add(bench, (5, 5), (3, 7), Window(kernel=(1, 1)), images=2)
    add(bench, (4, 4), (8, 6), Window(kernel=(1, 1)), residual=True)
    add(bench, (4, 4), (8, 6), Window(kernel=(1, 1)), residual=True, ties=True)
    add(bench, (6, 6), (24, 12), Window(kernel=(1, 1)), lowest=0.02)
    add(bench, (5, 6), (40, 9), Window(kernel=(1, 1)), lowest=0.2)
    add(bench, (8, 8), (16, 16), Window(kernel=(3, 3), pads=SAME), residual=True)
    for _ in range(3):
        add(bench, (5, 5), (16, 24), Window(kernel=(1, 1)))
    add(bench, (4, 4), (16, 22), Window(kernel=(3, 3), pads=SAME), groups=2, residual=True)
    add(bench, (9, 7), (12, 5), Window(kernel=(3, 2), pads=(1, 0, 1, 1)), residual=True)
    add(bench, (12, 12), (3, 8), Window(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)))
    add(bench, (13, 6), (1, 12), Window(kernel=(10, 4), strides=(2, 2), pads=(4, 1, 5, 1)))
    add(bench, (9, 9), (8, 8), Window(kernel=(3, 3), pads=(2, 2, 2, 2), dilations=(2, 2)))
    add(bench, (9, 9), (8, 12), Window(kernel=(3, 3), strides=(2, 2), pads=SAME), groups=2)
    add(bench, (9, 9), (6, 9), Window(kernel=(3, 3), pads=SAME), groups=3, residual=True)
    add(bench, (1, 3), (4, 2), Window(kernel=(1, 1)))
    for rows, depth, channels in ((1, 64, 12), (1, 33, 10), (3, 16, 5), (2, 7, 4), (1, 9, 3), (1, 8, 31)):
        add_dense(bench, rows, depth, channels, lowest=0.005)
    for height, width in ((1, 1), (2, 1), (1, 2), (5, 4), (7, 9), (12, 6)):
        add(bench, (height, width), (8, 8), Window(kernel=(3, 3), pads=SAME), groups=8, lowest=0.05)
        add(bench, (height, width), (4, 4), Window(kernel=(3, 3), strides=(2, 2), pads=SAME), groups=4)
    for height, width in ((3, 3), (4, 6), (9, 8)):
        add(bench, (height, width), (4, 4), Window(kernel=(3, 3)), groups=4, images=2)
        add(bench, (height, width), (4, 4), Window(kernel=(3, 3), strides=(2, 2)), groups=4)
        add(
            bench,
            (height, width),
            (12, 12),
            Window(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
            groups=12,
        )
    return bench


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33", "armv7-linux"])
def test_every_path(target: str, tmp_path: Path) -> None:
    chosen().check(TvmBackend(), load_target(target), tmp_path)


@pytest.mark.parametrize(("name", "planes"), [("cortex-m4", True), ("armv7-linux", False)])
def test_planes_are_chosen_where_their_assembly_is(name: str, planes: bool) -> None:
    program, target = chosen().program, load_target(name)
    convolutions = [op for op in program.ops if isinstance(op, ConvInt8)]
    found = {choose_planes(op, program, target) is not None for op in convolutions}
    assert planes in found
    assert found <= {planes, False}


@settings(deadline=None, max_examples=2, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_layers_nobody_thought_of(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    bench = KernelBench(seed)
    while len(bench.program.ops) < 10:
        depthwise = bench.rng.random() < 0.5
        rows, columns, stride, height, width, ci, co = (
            int(n) for n in bench.rng.integers(1, [5, 5, 3, 14, 14, 20, 20])
        )
        groups = int(bench.rng.choice([4, 8, 12]) if depthwise else 1)
        top, left, bottom, right = (int(p) for p in bench.rng.integers(0, 3, 4))
        kernel = (3, 3) if depthwise else (rows, columns)
        window = Window(kernel=kernel, strides=(stride, stride), pads=(top, left, bottom, right))
        if min(window.output(height, width)) < 1:
            continue
        residual, lowest = not depthwise and bench.rng.random() < 0.3, float(bench.rng.choice([0, 0.01]))
        channels = (groups, groups) if depthwise else (ci, co)
        add(bench, (height, width), channels, window, groups, residual=residual, lowest=lowest)
    bench.check(TvmBackend(), load_target("cortex-m4"), tmp_path_factory.mktemp("layers"))


def chain(rng: np.random.Generator, size: tuple[int, int], channels: int, steps: str) -> Program:
    """Layers that follow each other: d depthwise, D with stride 2, p pointwise, h to half the channels."""
    tensors = {"t0": Tensor("t0", (1, *size, channels))}
    ops: list[Op] = []
    for i, step in enumerate(steps):
        shape, stride = tensors[f"t{i}"].shape, 2 if step == "D" else 1
        window = Window(kernel=(1, 1))
        if step in "dD":
            window = Window(kernel=(3, 3), strides=(stride, stride), pads=SAME)
        co = shape[3] // 2 if step == "h" else shape[3]
        fields = layer(rng, (shape[3], co), window, shape[3] if step in "dD" else 1)
        tensors[f"t{i + 1}"] = Tensor(f"t{i + 1}", (1, *window.output(*shape[1:3]), co))
        ops.append(ConvInt8(name=f"op{i}", origin=(), inputs=(f"t{i}",), output=f"t{i + 1}", **fields))
    last = f"t{len(steps)}"
    inputs, outputs = [Port("x", "t0", tensors["t0"].shape)], [Port("y", last, tensors[last].shape)]
    return Program(tensors, ops, inputs, outputs)


@pytest.mark.parametrize(
    ("size", "channels", "steps"),
    [((25, 5), 16, "dpdhd"), ((14, 13), 8, "DpDpd"), ((31, 9), 8, "dDphDp"), ((5, 5), 24, "pphp")],
)
def test_layers_overwrite_their_inputs(
    size: tuple[int, int], channels: int, steps: str, tmp_path: Path
) -> None:
    from irshrink.backend import Inference

    program, target = chain(np.random.default_rng(3), size, channels, steps), load_target("cortex-m4")
    x = [KernelBench(1).int8(*program.inputs[0].shape)]
    wanted = run_program(program, x)
    artifact = TvmBackend().compile(program, target, tmp_path, [Inference(x, wanted)], "chain")
    result = TvmBackend().run(tmp_path, target, program, [x])
    np.testing.assert_array_equal(result.outputs[0][0], wanted[0])
    assert artifact.plan.nbytes < 2 * size[0] * size[1] * channels


def test_schedules_of_depthwise_agree(tmp_path: Path) -> None:
    """Planes of any number of rows, in place; one layer each."""
    target, bench = load_target("cortex-m4"), KernelBench(4)
    fields = layer(bench.rng, (8, 8), Window(kernel=(3, 3), pads=SAME), groups=8)
    x, wanted = bench.int8(1, 11, 7, 8), [1, 2, 3, 4, 6, 11]
    for _ in wanted:
        bench.add(ConvInt8, x, shape=x.shape, **fields)
    (op, *_) = bench.program.ops
    assert isinstance(op, ConvInt8)
    tiles = plane_candidates(op, bench.program, target)
    assert [tile.rows for tile in tiles] == wanted
    given = {f"op{i}": {**plain(tile), "specialized": False} for i, tile in enumerate(tiles)}
    schedules = Schedules(given=given)
    bench.check(TvmBackend(schedules), target, tmp_path)


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(2, 9),
    lowest=st.sampled_from([0, 0.02, 0.3, 0.9]),
    leave_out=st.booleans(),
)
def test_runs_give_every_channel_last_by_a_pair_that_holds(
    seed: int, channels: int, lowest: float, leave_out: bool
) -> None:
    w = weights(np.random.default_rng(seed), channels, 6, lowest=lowest)
    needed = set(np.flatnonzero(w.any(axis=1)).tolist()) if leave_out else set(range(channels))
    runs = plan_runs(w, leave_out)
    if runs is None:
        assert (w == -128).any() or not needed
        return
    owner: dict[int, tuple[Pair, int]] = {}
    for run in runs:
        assert [p.first for p in run] == list(range(run[0].first, run[0].first + 2 * len(run), 2))
        for pair in run:
            for i in (0, 1):
                owner[pair.first + i] = (pair, i)
    assert needed <= set(owner) <= set(range(channels))
    for pair, i in owner.values():
        assert not (i == 0 and pair.second_only)
        assert not (i == 1 and pair.sign == 0)
        first = 0 if pair.second_only else w[pair.first].astype(int)
        halves = 256 * pair.sign * w[pair.first + 1].astype(int) + first
        assert (np.abs(halves + 0.5) < 32768).all()


def test_channels_that_are_the_same_for_every_input_hold_their_result() -> None:
    w = np.array([[100, -100], [100, -100], [1, 0], [1, 0]], np.int8)[None]
    scales = np.array([1e-9, 1.0, 0.003, 0.004], np.float32)
    bias = np.array([2**30, -(2**24), 0, 0], np.int32)  # 1 ± 0; saturated; less than half a step; more
    packed = streams(w, bias, Requantization(multiplier=scales, zero_point=7))
    assert packed is not None
    runs, at = packed[0], packed[1]
    assert (runs, packed[2:5].tolist()) == (1, [2, 1, 5])  # the pair of the last two is all that is left
    assert packed[at:].view(np.int8).tolist() == [8, -128, 7, 0]


def test_sums_that_do_not_stand_a_factor_of_256_take_another_kernel() -> None:
    w = np.ones((1, 2, 4), np.int8)
    scale = np.full(2, 84.5 / ((1 << 23) - 512), np.float32)  # between two results
    form = Requantization(multiplier=scale, zero_point=0)
    assert streams(w, np.array([0, (1 << 23) - 513], np.int32), form) is not None
    assert streams(w, np.array([0, (1 << 23) - 512], np.int32), form) is None

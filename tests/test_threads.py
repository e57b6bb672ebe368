"""Builds for several threads give the bytes of the reference on any number of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink import Recipe, compile_model, load_build
from irshrink.backends.toolchain import zig
from irshrink.backends.tvm import threads
from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.errors import RecipeError, TargetError, UserError
from irshrink.program import ops
from irshrink.program.ops import Addition, Requantization, Window
from irshrink.target import Target, load_target, with_threads
from irshrink.testing.kernels import KernelBench

MODELS = Path(__file__).parent.parent / "models"
COUNTS = (1, 2, 3, 5)
SAME = (1, 1, 1, 1)
#: kernel, strides, padding, channels in and out, groups, whether a residual is added
CONVOLUTIONS: list[tuple[tuple[int, int], tuple[int, int], tuple[int, ...], int, int, int, bool]] = [
    ((1, 1), (1, 1), (0, 0, 0, 0), 16, 32, 1, False),
    ((1, 1), (1, 1), (0, 0, 0, 0), 8, 24, 1, True),
    ((1, 1), (2, 2), (0, 0, 0, 0), 8, 7, 1, False),
    ((3, 3), (1, 1), SAME, 3, 16, 1, False),
    ((3, 3), (2, 2), (0, 0, 1, 1), 16, 20, 1, False),
    ((3, 2), (1, 1), (1, 0, 1, 1), 6, 10, 2, True),
    ((3, 3), (1, 1), SAME, 32, 32, 32, False),
    ((3, 3), (2, 2), SAME, 20, 20, 20, False),
    ((5, 5), (1, 1), (2, 2, 2, 2), 5, 5, 5, True),
    ((3, 3), (1, 1), SAME, 3, 6, 3, False),
]


def threaded(name: str) -> Target:
    return with_threads(load_target(name), max(COUNTS))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators are split however small they are."""
    monkeypatch.setattr(threads, "_LEAST", 0.001)


def add_convolutions(bench: KernelBench, height: int, width: int, fused: bool) -> None:
    for kernel, strides, pads, channels, out, groups, residual in CONVOLUTIONS:
        window = Window(kernel=kernel, strides=strides, pads=(pads[0], pads[1], pads[2], pads[3]))
        shape = (1, *window.output(height, width), out)
        weight = bench.rng.integers(-127, 128, (out, *kernel, channels // groups)).astype(np.int8)
        bias = bench.rng.integers(-5000, 5000, out).astype(np.int32)
        added: dict[str, Any] = {}
        inputs = [bench.int8(1, height, width, channels)]
        if residual:
            inputs.append(bench.int8(*shape))
            added["residual"] = Addition(
                multipliers=(1 << 19, 1 << 20), shift=20, zero_points=(3, -9), zero_point=4
            )
        bench.add(
            ops.ConvInt8, *inputs, shape=shape, weight=weight, bias=bias, window=window, groups=groups,
            input_zero_point=-3, requantization=requantization(bench, out, prod(weight.shape[1:])), **added,
        )  # fmt: skip
        real = bench.f32(*weight.shape), bench.f32(out)
        bench.add(
            ops.ConvF32, bench.f32(1, height, width, channels), shape=shape, dtype="float32",
            weight=real[0], bias=real[1], window=window, groups=groups, low=-1.0, high=inf, fused=fused,
        )  # fmt: skip


def requantization(bench: KernelBench, channels: int, depth: int) -> Requantization:
    spread = bench.rng.uniform(0.3, 3, channels) * 40 / (74 * 74 * depth**0.5)
    return Requantization(multiplier=spread.astype(np.float32), zero_point=5)


def add_others(bench: KernelBench, n: int, fused: bool) -> None:
    """Dense and matrix products, pools, elements, rows."""
    for rows in (1, n):
        weight = bench.rng.integers(-127, 128, (n + 9, 33)).astype(np.int8)
        bench.add(
            ops.DenseInt8, bench.int8(rows, 33), shape=(rows, n + 9), weight=weight,
            bias=bench.rng.integers(-5000, 5000, n + 9).astype(np.int32),
            requantization=requantization(bench, n + 9, 33),
        )  # fmt: skip
        bench.add(
            ops.DenseF32, bench.f32(rows, 33), shape=(rows, n + 9), dtype="float32",
            weight=bench.f32(n + 9, 33), bias=bench.f32(n + 9), low=-inf, high=inf, fused=fused,
        )  # fmt: skip
    window = Window(kernel=(3, 3), strides=(2, 2), pads=SAME)
    shape = (2, *window.output(n, n), 5)
    bench.add(ops.MaxPool, bench.int8(2, n, n, 5), shape=shape, window=window)
    bench.add(ops.MaxPool, bench.f32(2, n, n, 5), shape=shape, dtype="float32", window=window)
    addition = Addition(multipliers=(2586180, 3565001), shift=22, zero_points=(3, -9), zero_point=-128)
    bench.add(ops.AddInt8, bench.int8(n, 7), bench.int8(n, 7), shape=(n, 7), addition=addition)
    bench.add(ops.AddInt8, bench.int8(n, 7), bench.int8(7), shape=(n, 7), addition=addition)
    bench.add(ops.SoftmaxF32, bench.f32(n, 11), shape=(n, 11), dtype="float32")
    bench.add(
        ops.MatMulF32, bench.f32(3, n, 6), bench.f32(3, 6, 9), shape=(3, n, 9), dtype="float32", fused=fused
    )
    bench.add(ops.Transpose, bench.f32(n, 6, 4), shape=(4, n, 6), dtype="float32", permutation=(2, 0, 1))
    gamma, beta = bench.f32(13), bench.f32(13)
    bench.add(
        ops.LayerNormF32, bench.f32(n, 13), shape=(n, 13), dtype="float32", gamma=gamma, beta=beta,
        epsilon=1e-5,
    )  # fmt: skip


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("target", ["host", "aarch64-linux", "armv7-linux"])
def test_bytes_do_not_depend_on_the_number_of_threads(target: str, tmp_path: Path) -> None:
    backend, bench = TvmBackend(), KernelBench(3)
    if backend.unrunnable(load_target(target)) is not None:
        assert shutil.which("qemu-aarch64") is None or shutil.which("qemu-arm") is None
        return
    fused = load_target(target).has("fma")
    add_convolutions(bench, 7, 6, fused)
    add_others(bench, 10, fused)
    bench.check(backend, threaded(target), tmp_path, threads=COUNTS)
    text = (tmp_path / "src" / "model.c").read_text("utf-8")
    assert text.count("share, shares);") > 2 * len(CONVOLUTIONS)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net for at most three threads."""
    folder = tmp_path_factory.mktemp("threads") / "build"
    recipe = Recipe(
        target="host", calibration=str(MODELS / "kws-samples.npz"), threads=3, prefix="kws", test_inputs=2
    )
    compile_model(MODELS / "kws.onnx", recipe, folder)
    return folder


def test_a_net_on_all_numbers_of_threads(build: Path) -> None:
    builds = [load_build(build, threads=n) for n in (1, 2, 3)]
    rng = np.random.default_rng(0)
    ports = [(p, builds[0].program.tensors[p.tensor]) for p in builds[0].program.inputs]
    inputs = [[rng.integers(-128, 128, p.shape).astype(t.dtype) for p, t in ports] for _ in range(5)]
    wanted = builds[0].reference(inputs)
    for one in builds:
        for x, y in zip(one.run(inputs).outputs, wanted, strict=True):
            assert [a.tobytes() for a in x] == [a.tobytes() for a in y]


def test_the_report_says_that_there_are_threads(build: Path) -> None:
    notes = json.loads((build / "report.json").read_text("utf-8"))["notes"]
    wanted = (
        "kws_threads(3) lets inferences use 3 threads; the test vector gave the same bytes on 1 and on 3."
    )
    assert wanted in notes


@pytest.mark.parametrize("target", ["host", "aarch64-linux", "armv7-linux", "rv64gc-linux"])
def test_the_team_compiles_without_warnings(build: Path, target: str, tmp_path: Path) -> None:
    flags = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    zig.compile_objects([build / "src" / "kws_threads.c"], load_target(target), tmp_path, flags=flags)


def test_more_threads_than_it_was_compiled_for(build: Path) -> None:
    with pytest.raises(UserError, match=r"compiled for at most 3 threads, not 4\. Compile again with --thr"):
        load_build(build, threads=4)
    with pytest.raises(UserError, match="at most 3 threads, not 0"):
        load_build(build, threads=0)


def test_nothing_of_threads_in_other_builds(tmp_path: Path) -> None:
    bench = KernelBench()
    bench.add(ops.SoftmaxF32, bench.f32(4, 5), shape=(4, 5), dtype="float32")
    bench.check(TvmBackend(), load_target("host"), tmp_path)
    for file in [*(tmp_path / "src").iterdir(), *tmp_path.glob("*.*")]:
        text = file.read_text("utf-8")
        assert not any(word in text for word in ("irs_share", "pthread", "_threads")), file


SCRIPT = """
import os, sys, threading
from irshrink_kws import INPUTS, Model, ModelError

def same(model, count=20):
    data = [bytes((i * 7) % 256 for i in range(p.nbytes)) for p in INPUTS]
    return {b"".join(model.run_bytes(data)) for _ in range(count)}

alone = same(Model())
model = Model(threads=3)
assert model.threads == 3
assert same(model) == alone

# others that run meanwhile have arenas of their own, and their caller's thread
models, found = [model, Model(threads=3), Model(threads=3)], []
runs = [threading.Thread(target=lambda m=m: found.append(same(m))) for m in models]
[t.start() for t in runs]
[t.join() for t in runs]
assert found == [alone] * 3

# a fork has none of the threads, and needs none
child = os.fork()
if child == 0:
    os._exit(0 if same(model) == alone else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

assert Model(threads=1).threads == 1
try:
    Model(threads=4)
except ModelError as e:
    assert "compiled for 1 to 3" in str(e)
print("done")
"""


def test_the_loader_runs_on_threads(build: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, cwd=build, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "done\n", done.stderr


def test_threads_are_refused_where_there_are_none() -> None:
    with pytest.raises(
        TargetError, match="'cortex-m4' runs one thread, not 2: more need Linux and a processor"
    ):
        Recipe(target="cortex-m4", threads=2).resolved_target()
    with pytest.raises(TargetError, match="'rv32imc-linux' runs one thread"):
        Recipe(target="rv32imc-linux", threads=4).resolved_target()
    assert Recipe(target="cortex-m4", threads=1).resolved_target().threads == 1
    for threads_wanted in (0, 65):
        with pytest.raises(RecipeError, match=f"threads is {threads_wanted}; it must be 1 to 64"):
            Recipe(target="host", threads=threads_wanted)


def test_small_operators_stay_on_one_thread() -> None:
    bench = KernelBench()
    for n in (8, 1 << 18):
        bench.add(ops.SoftmaxF32, bench.f32(n, 1), shape=(n, 1), dtype="float32")
    target = threaded("host")
    steps = choose_kernels(bench.program, target)
    assert [threads.most_parts(s.op, s.call, bench.program, target) for s in steps] == [1, 5]

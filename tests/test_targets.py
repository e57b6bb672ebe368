"""Every target: real nets give the reference's bytes on every core, and a target's file is checked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from irshrink import load_build
from irshrink.backend import Inference
from irshrink.backends.native import runner as native
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.compiler import compile_model
from irshrink.errors import TargetError
from irshrink.execute import mismatches, open_inputs
from irshrink.ports import encode_inputs
from irshrink.program import ops
from irshrink.program.lower.finish import for_target
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.recipe import Recipe
from irshrink.target import Target, load_target, target_names, with_memory
from irshrink.testing.kernels import KernelBench

MODELS = Path(__file__).parent.parent / "models"
#: tests/test_models.py runs these on 32 inputs.
ELSEWHERE = {"host", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"}
TARGETS = sorted(set(target_names()) - ELSEWHERE)
QEMU = ("qemu-aarch64", "qemu-arm", "qemu-riscv32", "qemu-riscv64", "qemu-system-arm")

needs_qemu = pytest.mark.skipif(
    any(shutil.which(program) is None for program in QEMU),
    reason="QEMU is not installed: apt-get install qemu-user qemu-system-arm",
)

Case = tuple[Program, list[Inference]]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """kws, ic and a float net, quantized once for all targets, with what the reference answers."""
    cases = {}
    for name, inputs in (("kws", 1), ("ic", 1), ("ad", 1)):
        samples, out = MODELS / f"{name}-samples.npz", tmp_path_factory.mktemp(name) / "build"
        calibration = None if name == "ad" else str(samples)
        compile_model(
            MODELS / f"{name}.onnx", Recipe(target="host", calibration=calibration, test_inputs=1), out
        )
        program = load_build(out).program
        feeds = open_inputs(samples, program, None).head(inputs).feeds()
        values = [encode_inputs(program, one) for one in feeds]
        cases[name] = (program, [Inference(x, run_program(program, x)) for x in values])
    return cases


def _for(target: Target, program: Program, tests: list[Inference]) -> Case:
    """The host's program with the float sums of the target, and what the reference answers then."""
    own = for_target(program, target)
    return own, [Inference(test.inputs, run_program(own, list(test.inputs))) for test in tests]


def run(case: Case, target: Target, folder: Path) -> int | None:
    """Build and run, compare every byte; instructions of the first inference."""
    program, tests = _for(target, *case)
    backend = TvmBackend()
    artifact = backend.compile(program, target, folder, tests, "model")
    result = backend.run(folder, target, program, [t.inputs for t in tests])
    compared, differing = mismatches([list(t.outputs) for t in tests], result.outputs)
    assert compared > 0
    assert differing == 0
    assert sum(result.op_instructions.values()) <= (result.instructions or 0)
    assert artifact.flash_bytes == artifact.code_bytes + artifact.weights_bytes
    assert result.stack_bytes is not None
    assert 0 < result.stack_bytes < 65536
    return result.instructions


@needs_qemu
@pytest.mark.parametrize("target", TARGETS)
def test_every_core_gives_the_bytes_of_the_reference(
    target: str, nets: dict[str, Case], tmp_path: Path
) -> None:
    instructions = run(nets["kws"], load_target(target), tmp_path)
    assert instructions is None or instructions > 100_000


@pytest.mark.long
@needs_qemu
@pytest.mark.parametrize("target", ["cortex-a72", "neoverse-n1", "armv7-linux", "cortex-m55"])
def test_a_residual_net_gives_the_bytes_of_the_reference(
    target: str, nets: dict[str, Case], tmp_path: Path
) -> None:
    """One core of some instruction sets; benchmarks/targets.py runs it on all of them."""
    run(nets["ic"], load_target(target), tmp_path)


@needs_qemu
@pytest.mark.parametrize("target", ["cortex-a72", "armv7-linux", "cortex-m55", "rv32imc-linux"])
def test_float_gives_the_bytes_of_the_reference(target: str, nets: dict[str, Case], tmp_path: Path) -> None:
    run(nets["ad"], load_target(target), tmp_path)


@needs_qemu
def test_a_target_file_of_the_users(nets: dict[str, Case], tmp_path: Path) -> None:
    path = tmp_path / "our-board.toml"
    path.write_text(
        """
description = "Our gateway"
triple = "aarch64-linux-musl"
cpu = "cortex_a35"
gcc_flags = ["-mcpu=cortex-a35"]
features = ["fpu", "simd", "neon"]

[emulation]
emulator = "qemu-user"
program = "qemu-aarch64"
cpu = "cortex-a35"
"""
    )
    target = load_target(str(path))
    assert target.name == "our-board"
    run(nets["kws"], target, tmp_path / "build")


@pytest.mark.parametrize(
    ("emulation", "message"),
    [
        ("emulator = 'qemu-user'\ncpu = 'max'", "emulation: qemu-user also needs program."),
        ("cpu = 'cortex-m4'", "emulation: unicorn also needs flash_base and ram_base."),
        (
            "emulator = 'qemu-user'\ncpu = 'max'\nprogram = 'qemu-arm'\nmachine = 'virt'",
            "emulation: qemu-user takes no machine.",
        ),
        ("emulator = 'qemu-user'\ncpu = 'max'\nprogram = 'rm -rf'", "'rm -rf' is no program of QEMU's"),
        ("emulator = 'qemu'\ncpu = 'max'", "'qemu' is not known. Did you mean 'qemu-user'?"),
    ],
)
def test_an_emulation_that_does_not_fit_is_refused(emulation: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(
        f"description = 'x'\ntriple = 'aarch64-linux-musl'\ncpu = 'generic'\n[emulation]\n{emulation}\n"
    )
    with pytest.raises(TargetError, match=re.escape(message)):
        load_target(str(path))


def test_the_host_is_the_machine_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert load_target("host").triple == "aarch64-linux-gnu"
    assert load_target("host").name == "host"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert load_target("host").triple == "x86_64-linux-gnu"


def test_an_arm_machine_runs_what_its_core_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_is_arm_linux", lambda: True)
    monkeypatch.setattr(native, "cpu_flags", lambda: frozenset({"asimd", "asimdhp"}))
    assert native.is_native(load_target("cortex-a72"))
    assert not native.is_native(load_target("neoverse-n1"))  # no dot products here
    assert not native.is_native(load_target("armv7-linux"))
    monkeypatch.setattr(native, "_is_arm_linux", lambda: False)
    assert not native.is_native(load_target("cortex-a72"))
    assert native.is_native(load_target("host"))


@needs_qemu
def test_subnormal_floats_survive_on_32_bit_arm(tmp_path: Path) -> None:
    """NEON would flush them, and Clang takes it for comparisons unless told otherwise."""
    bench = KernelBench()
    small = np.float32(1e-40) * bench.f32(200)
    bench.add(ops.BinaryF32, small, np.zeros_like(small), shape=(200,), dtype="float32", kind="max")
    bench.add(ops.UnaryF32, small, shape=(200,), dtype="float32", kind="sign")
    bench.check(TvmBackend(), load_target("armv7-linux"), tmp_path)


def test_a_limit_says_who_set_it() -> None:
    board = load_target("stm32f103-bluepill")
    assert board.limit("flash") == "the 65,536 of stm32f103-bluepill"
    stated = with_memory(board, 3 << 20, None)
    assert stated.limit("flash") == "the 3,145,728 of --flash 3M"
    assert stated.limit("ram") == "the 20,480 of stm32f103-bluepill"
    assert with_memory(load_target("cortex-m4"), None, 1000).limit("ram") == "the 1,000 of --ram 1000"

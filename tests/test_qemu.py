"""The QEMU runner: what it measures, what it catches, and what it says where QEMU is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from irshrink.backends.package.build import compile_library
from irshrink.backends.package.files import Vector, write_package
from irshrink.backends.qemu import emulator
from irshrink.backends.qemu import runner as qemu
from irshrink.backends.running import Call, Run
from irshrink.compiler import compile_model
from irshrink.errors import ToolError
from irshrink.execute import execute
from irshrink.names import DEFAULT_NAMES
from irshrink.recipe import Recipe
from irshrink.report.page import verdict
from irshrink.report.summary import summary
from irshrink.target import load_target

MODELS = Path(__file__).parent.parent / "models"
needs_qemu = pytest.mark.skipif(
    any(shutil.which(program) is None for program in ("qemu-aarch64", "qemu-arm", "qemu-system-arm")),
    reason="QEMU is not installed: apt-get install qemu-user qemu-system-arm",
)
HEADER = """
#ifndef MODEL_H
#define MODEL_H
#include <stddef.h>
#include <stdint.h>
#define MODEL_ARENA_BYTES 64
#define MODEL_ARENA_ALIGNMENT 16
#define MODEL_INPUT_COUNT 1
#define MODEL_OUTPUT_COUNT 1
int model_run_in(void *arena);
void *model_input_in(void *arena, int i);
void *model_output_in(void *arena, int i);
size_t model_input_bytes(int i);
size_t model_output_bytes(int i);
int model_run(void);
void *model_input(int i);
void *model_output(int i);
#endif
"""
# Input: 16 bytes at 0 of the arena. Output: 16 bytes at 32.
BODY = """
#include "model.h"
static _Alignas(16) uint8_t model_arena[MODEL_ARENA_BYTES];
void *model_input_in(void *arena, int i) { (void)i; return arena; }
void *model_output_in(void *arena, int i) { (void)i; return (uint8_t *)arena + 32; }
size_t model_input_bytes(int i) { return i == 0 ? 16 : 0; }
size_t model_output_bytes(int i) { return i == 0 ? 16 : 0; }
int model_run(void) { return model_run_in(model_arena); }
void *model_input(int i) { return model_input_in(model_arena, i); }
void *model_output(int i) { return model_output_in(model_arena, i); }
"""
INCREMENT = """
__attribute__((noinline)) static void increment(uint8_t *to, const uint8_t *from) {
  for (int i = 0; i < 16; i++) to[i] = (uint8_t)(from[i] + 1);
}
"""
GOOD = INCREMENT + "int model_run_in(void *a) { increment((uint8_t *)a + 32, a); return 0; }"
X, Y, Z = bytes(range(16)), bytes(range(1, 17)), bytes(range(2, 18))


def run(folder: Path, code: str, target_name: str = "cortex-a72", inputs: tuple[bytes, ...] = (X,)) -> Run:
    target, source = load_target(target_name), folder / "src"
    source.mkdir(parents=True)
    (source / "model.h").write_text(HEADER)
    (source / "model.c").write_text(BODY + code)
    write_package(folder, target, ["model.c"], [[Vector((X,), (Y,))]])
    objects = compile_library(folder, target, folder)
    runner = qemu.QemuRunner()
    runner.build(folder, target, objects, "-O2")
    return runner.run(folder, target, Call([[x] for x in inputs], [16]), lambda done: None)


@needs_qemu
@pytest.mark.parametrize("target", ["cortex-a72", "armv7-linux", "cortex-m55"])
def test_many_inputs_are_run_and_the_first_is_counted(target: str, tmp_path: Path) -> None:
    result = run(tmp_path, GOOD, target, (X, Y) * 20)
    assert result.outputs == [[Y], [Z]] * 20
    assert result.stack_bytes is not None
    assert 0 <= result.stack_bytes < 200
    [(function, instructions)] = result.calls
    assert function == "increment"
    assert result.instructions is not None
    assert 5 < instructions < result.instructions < 200
    [blocks] = result.code
    sizes = (4,) if target in ("cortex-a72", "armv7-linux") else (2, 4)
    total = sum(len(code) * times for code, times in blocks.items())
    assert min(sizes) * instructions <= total <= max(sizes) * instructions
    again = run(tmp_path / "again", GOOD, target)
    assert (again.instructions, again.calls) == (result.instructions, result.calls)


@needs_qemu
def test_instructions_are_those_of_unicorn(tmp_path: Path) -> None:
    """The same kernel, the same core, two emulators; unicorn also sees model_run around model_run_in."""
    text = (load_source("cortex-m4")).replace('cpu = "cortex-m4"', _QEMU_M4)
    (tmp_path / "cortex-m4-qemu.toml").write_text(text)
    recipe = {"calibration": str(MODELS / "kws-samples.npz"), "test_inputs": 1}
    counts = []
    for target in ("cortex-m4", str(tmp_path / "cortex-m4-qemu.toml")):
        report = compile_model(
            MODELS / "kws.onnx", Recipe(target=target, **recipe), tmp_path / f"b{len(counts)}"
        )
        counts.append([layer["instructions"] for layer in report["layers"]])
        assert report["emulation"]["mismatched_bytes"] == 0
    assert counts[0] == counts[1]


_QEMU_M4 = 'emulator = "qemu-system"\nprogram = "qemu-system-arm"\nmachine = "mps2-an386"\ncpu = "cortex-m4"'


def load_source(name: str) -> str:
    import irshrink.target

    return (Path(irshrink.target.__file__).parent / "targets" / f"{name}.toml").read_text("utf-8")


@needs_qemu
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("int model_run_in(void *a) { (void)a; return 7; }", "the model reports an error"),
        ("int model_run_in(void *a) { ((volatile char *)a)[64] = 1; return 0; }", "arena overrun"),
        ("int model_run_in(void *a) { ((volatile char *)a)[-1] = 1; return 0; }", "arena underrun"),
        ("int model_run_in(void *a) { (void)a; return *(volatile int *)8; }", "Segmentation fault"),
        ("int model_run_in(void *a) { (void)a; __builtin_trap(); }", "emulated cortex-a72"),
    ],
)
def test_what_a_model_must_not_do_is_caught(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=message):
        run(tmp_path, code)


@needs_qemu
@pytest.mark.parametrize(
    "code",
    [
        "__builtin_trap();",
        '__asm__ volatile("ldrd r2, r3, [%0, #4]" : : "r"((char *)a + 1) : "r2", "r3"); return 0;',
    ],
)
def test_a_fault_of_a_firmware_is_told(code: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="the processor took an exception"):
        run(tmp_path, f"int model_run_in(void *a) {{ (void)a; {code} }}", "cortex-m55")


@needs_qemu
def test_the_program_is_the_packages_test_too(tmp_path: Path) -> None:
    run(tmp_path, GOOD)
    command = ["qemu-aarch64", str(tmp_path / DEFAULT_NAMES.test_program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "PASS\n")


@needs_qemu
def test_without_the_plugin_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise ToolError("no plugins here")

    monkeypatch.setattr(qemu, "Counter", refuse)
    result = run(tmp_path, GOOD)
    assert (result.outputs, result.instructions, result.calls) == ([[Y]], None, ())


def test_without_qemu_a_build_is_written_and_called_unproved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda name: None)
    reason = "qemu-aarch64 is not installed. On Debian and Ubuntu: apt-get install qemu-user."
    out = tmp_path / "build"
    recipe = Recipe(target="cortex-a72", calibration=str(MODELS / "ad-samples.npz"), test_inputs=1)
    report = compile_model(MODELS / "ad.onnx", recipe, out)
    assert report["emulation"]["why_not_run"] == reason
    assert (report["emulation"]["inputs"], report["emulation"]["compared_bytes"]) == (0, 0)
    assert verdict(report) == (False, f"This build was NOT run: {reason}")
    row = next(line for line in summary(report, out).splitlines() if line.startswith("checked"))
    assert "NOT RUN" in row
    assert reason in row
    assert (out / "lib" / "libirshrink_model.so").is_file()
    assert (out / "bin" / "model_test").is_file()
    with pytest.raises(ToolError, match="apt-get install qemu-user"):
        execute(out, MODELS / "ad-samples.npz", samples=1)
    assert emulator.missing(load_target("cortex-m55")) == (
        "qemu-system-arm is not installed. On Debian and Ubuntu: apt-get install qemu-system-arm."
    )


@needs_qemu
def test_a_linux_build_has_the_same_bytes_anywhere(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "elsewhere" / "b"
    for out in (first, second):
        recipe = Recipe(target="cortex-a72", calibration=str(MODELS / "kws-samples.npz"), test_inputs=1)
        compile_model(MODELS / "kws.onnx", recipe, out)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert [f for f in files if (first / f).read_bytes() != (second / f).read_bytes()] == []

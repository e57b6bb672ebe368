"""The product's models on every target: 32 inputs each, emulated = host = NumPy reference, byte for byte.

Instruction counts are exact, so they are tested too: the bounds are CMSIS-NN's on the same nets (its
``arm_*_s8`` functions called directly, arm-none-eabi-gcc 12.2 -O2, softmax included, same emulator).
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import read_elf
from irshrink.backends.unicorn.runner import FIRMWARE
from irshrink.compiler import compile_model
from irshrink.recipe import Recipe
from irshrink.target import load_target

MODELS = Path(__file__).parent.parent / "models"
SAMPLES = {"lenet-5": "mnist-samples.npz", "lenet-300-100": "mnist-samples.npz"}
TARGETS = ("host", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
#: CMSIS-NN: instructions of one inference on Cortex-M4, and bytes of arena with the input in it.
CMSIS_NN = {
    "ad": (579_803, 768),
    "kws": (7_693_499, 16_000),
    "ic": (29_858_619, 49_728),
    "vww": (24_091_963, 55_296),
}


def build(name: str, target: str, out: Path, **options: Any) -> dict[str, Any]:
    samples = MODELS / SAMPLES.get(name, f"{name}-samples.npz")
    recipe = Recipe(target=target, calibration=str(samples), **options)
    return compile_model(MODELS / f"{name}.onnx", recipe, out)


def check(report: dict[str, Any], out: Path, inputs: int, above: float = 1.02) -> None:
    """``above``: how far above its lower bound the arena may be."""
    size, emulation = report["size"], report["emulation"]
    assert emulation["inputs"] == inputs
    assert emulation["mismatched_bytes"] == 0
    assert emulation["compared_bytes"] > 0
    past_the_end = 16  # bytes that a kernel may read as part of a vector
    assert size["arena_bytes"] <= size["arena_lower_bound_bytes"] * above + past_the_end
    if report["target"] == "host":
        return
    arena = read_elf(out / FIRMWARE).symbol("model_arena")
    assert arena.size == size["arena_bytes"]
    assert arena.size <= size["ram_bytes"] < arena.size + 16  # sections are rounded up
    assert size["flash_bytes"] == size["code_bytes"] + size["weights_bytes"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["ad", "kws", "lenet-300-100"])
def test_small_models_are_byte_exact(name: str, target: str, tmp_path: Path) -> None:
    out = tmp_path / "build"
    check(build(name, target, out, test_inputs=32), out, 32)


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["ic", "vww", "lenet-5"])
def test_large_models_are_byte_exact(name: str, target: str, tmp_path: Path) -> None:
    out = tmp_path / "build"
    check(build(name, target, out, test_inputs=32), out, 32)


@pytest.mark.parametrize("name", CMSIS_NN)
def test_fewer_instructions_and_no_more_arena_than_cmsis_nn(name: str, tmp_path: Path) -> None:
    report = build(name, "cortex-m4", tmp_path / "build", test_inputs=1)
    instructions, arena = CMSIS_NN[name]
    assert report["emulation"]["instructions"] <= instructions
    assert report["size"]["arena_bytes"] <= arena
    assert report["choices"]["measured"] > 0 == report["choices"]["by_rule"]  # the database knows them all


@pytest.mark.parametrize(
    ("name", "target"),
    [("kws", "host"), ("kws", "cortex-m4"), ("lenet-300-100", "cortex-m3"), ("lenet-5", "host")],
)
def test_float_builds_are_byte_exact(name: str, target: str, tmp_path: Path) -> None:
    out = tmp_path / "build"
    report = compile_model(MODELS / f"{name}.onnx", Recipe(target=target, test_inputs=2), out)
    # the bound counts what is in use at once; outputs that begin inside their inputs may not fit like that
    check(report, out, 2, above=1.2 if target == "host" else 1.02)
    assert any("--calibration" in note for note in report["notes"])


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "elsewhere" / "b"
    for out in (first, second):
        build("kws", "cortex-m4", out)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert [f for f in files if (first / f).read_bytes() != (second / f).read_bytes()] == []


@pytest.mark.parametrize("name", ["kws", "lenet-5"])
def test_the_package_of_a_dsp_build_passes_its_test_on_the_host(name: str, tmp_path: Path) -> None:
    """`make test`: the same C without the DSP extension, where the portable forms of its helpers count."""
    out, program = tmp_path / "build", tmp_path / "test"
    build(name, "cortex-m4", out)
    sources = [out / "src" / "model.c", out / "test" / "test_main.c"]
    zig.link_program(sources, load_target("host"), program, include=[out / "src", out / "test"])
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "PASS")


def test_names_cannot_leave_their_comment(tmp_path: Path) -> None:
    text = (MODELS / "ad.onnx").read_bytes().replace(b"input", b"x*/;#")
    (tmp_path / "odd.onnx").write_bytes(text)
    compile_model(tmp_path / "odd.onnx", Recipe(target="host", test_inputs=1), tmp_path / "build")
    assert "x*/" not in (tmp_path / "build" / "src" / "model.h").read_text("utf-8")

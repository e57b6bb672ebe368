"""Cycles by llvm-mca: what it is asked, what its answers become, and what is said where it cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.errors import ToolError
from irshrink.target import load_target
from irshrink.tuning.mca import LlvmMca, core, disassembled, unconditional

LDR, ADDS, CALL = bytes([0x08, 0x68]), bytes([0x40, 0x18]), bytes([0x00, 0xF0, 0x01, 0xF8])
#: llvm-mc, on these.
DISASSEMBLER = """
lines = {"0x08 0x68": "ldr\\tr0, [r1]", "0x40 0x18": "adds\\tr0, r0, r1", "0x00 0xf0 0x01 0xf8": "bl\\t#2"}
print("\\t.text")
for line in sys.stdin.read().splitlines():
    for code, text in lines.items():
        if code in line:
            print(f"\\t{text}   @ encoding: [{code.replace(' ', ',')}]")
"""
#: llvm-mca, where a load takes two cycles and everything else one; it keeps what it was asked.
ESTIMATOR = """
import json, pathlib
text = sys.stdin.read()
pathlib.Path(__file__).with_name("asked").write_text(" ".join(sys.argv[1:]) + "\\n" + text)
regions = []
for region in text.split("@ LLVM-MCA-BEGIN ")[1:]:
    name, *code = region.partition("@ LLVM-MCA-END")[0].splitlines()
    cycles = sum(200 if "ldr" in line else 100 for line in code)
    regions.append({"Name": name, "SummaryView": {"TotalCycles": cycles}})
print(json.dumps({"CodeRegions": regions}))
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with our llvm-mc and llvm-mca."""
    for name, code in (("llvm-mc", DISASSEMBLER), ("llvm-mca", ESTIMATOR)):
        tool(tmp_path, name, code)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def tool(folder: Path, name: str, code: str) -> None:
    (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{code}")
    (folder / name).chmod(0o755)


def built(blocks: dict[str, dict[bytes, int]]) -> Any:
    ops = [type("Op", (), {"name": name}) for name in blocks]
    program, run = type("Program", (), {"ops": ops}), type("Run", (), {"op_code": blocks})
    return type("Built", (), {"target": load_target("cortex-m4"), "program": program, "run": run})


def test_cycles_are_those_of_blocks_by_how_often_they_ran(tools: Path) -> None:
    source = LlvmMca()
    assert source.missing(TvmBackend(), load_target("cortex-m4")) is None
    one = built({"op0": {LDR + ADDS: 10, ADDS: 1}, "op1": {CALL: 4}})
    assert source.costs(TvmBackend(), [one]) == [[31.0, 4.0]]
    assert source.whole(TvmBackend(), one) == 35.0
    asked = (tools / "asked").read_text()
    assert "--iterations=100" in asked
    assert "-mtriple=thumb -mcpu=cortex-m4 -mattr=+vfp4d16sp" in asked
    assert "ldr\tr0, [r1]\nadds\tr0, r0, r1" in asked
    assert "\nb\t#2\n" in asked  # what is called has blocks of its own
    (tools / "llvm-mca").unlink()
    assert source.whole(TvmBackend(), one) == 35.0  # known by now


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aarch64-linux-dotprod", "-mtriple=aarch64 -mcpu=generic -mattr=+v8.2a,+neon,+dotprod"),
        ("cortex-a72", "-mtriple=aarch64 -mcpu=cortex-a72"),
        ("cortex-m7", "-mtriple=thumb -mcpu=cortex-m7"),
    ],
)
def test_cores_as_llvm_calls_them(name: str, arguments: str) -> None:
    assert " ".join(core(load_target(name))).startswith(arguments)


def test_what_if_then_covers_counts_as_executed() -> None:
    lines = ["cmp\tr0, r1", "ite\tlt", "movlt\tr0, #0", "ldrbge.w\tr0, [r1]", "it\teq", "vmoveq.f32\ts0, s1"]
    plain = ["cmp\tr0, r1", "mov\tr0, #0", "ldrb.w\tr0, [r1]", "vmov.f32\ts0, s1"]
    assert unconditional([*lines, "movlt\tr0, #0"]) == [*plain, "movlt\tr0, #0"]


def test_what_it_says_where_it_cannot(tools: Path) -> None:
    source, m4 = LlvmMca(), load_target("cortex-m4")
    assert "Use --cost seconds" in str(source.missing(TvmBackend(), load_target("host")))
    assert "is no Arm core" in str(source.missing(TvmBackend(), load_target("rv64gc-linux")))
    with pytest.raises(ToolError, match="llvm-mc cannot read some instruction of cortex-m4"):
        disassembled([bytes([0xFF, 0xFF])], m4)
    with pytest.raises(ToolError, match="counts no blocks here"):
        source.layers(built({}))
    tool(tools, "llvm-mca", "sys.exit('error: unsupported instruction.\\nnote: instruction: \\tssat\\tr0.')")
    message = "llvm-mca: unsupported instruction: instruction: ssat r0."
    assert message in str(source.missing(TvmBackend(), m4))
    tool(tools, "llvm-mca", "print('no JSON')")
    assert "LLVM 13 is the oldest that gives JSON" in str(source.missing(TvmBackend(), m4))
    (tools / "llvm-mca").unlink()
    assert "llvm-mca is not installed. Debian and Ubuntu: apt-get install llvm" in str(
        source.missing(TvmBackend(), m4)
    )

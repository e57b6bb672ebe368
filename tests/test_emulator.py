"""The emulator: bytes, counts, and every way to run over memory, with hand-written stand-ins for a model."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from irshrink.backends.package.build import compile_library
from irshrink.backends.package.files import Vector, write_package
from irshrink.backends.package.measure import library_sizes
from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import read_elf
from irshrink.backends.unicorn import runner
from irshrink.backends.unicorn.firmware import Firmware
from irshrink.backends.unicorn.machine import CortexM, Memory
from irshrink.backends.unicorn.thumb import instructions, stack_change, word_aligned_base
from irshrink.errors import BudgetError, OutputError, TargetError, ToolError
from irshrink.target import Target, load_target, with_memory

CORES = ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")

HEADER = """
#ifndef MODEL_H
#define MODEL_H
#include <stddef.h>
#include <stdint.h>
#define MODEL_ARENA_BYTES 64
#define MODEL_INPUT_COUNT 1
#define MODEL_OUTPUT_COUNT 1
void *model_input(int i);
void *model_output(int i);
size_t model_input_bytes(int i);
size_t model_output_bytes(int i);
int model_run(void);
#endif
"""
# Input: 16 bytes at 0 of the arena. Output: 16 bytes at 32.
BODY = """
#include "model.h"
static _Alignas(16) uint8_t model_arena[MODEL_ARENA_BYTES];
void *model_input(int i) { (void)i; return model_arena; }
void *model_output(int i) { (void)i; return model_arena + 32; }
size_t model_input_bytes(int i) { (void)i; return 16; }
size_t model_output_bytes(int i) { (void)i; return 16; }
"""
INCREMENT = """
__attribute__((noinline)) static void increment(uint8_t *to, const uint8_t *from) {
  for (int i = 0; i < 16; i++) to[i] = (uint8_t)(from[i] + 1);
}
int model_run(void) { increment(model_arena + 32, model_arena); return 0; }
"""
X = bytes(range(16))
Y = bytes(range(1, 17))


def package(folder: Path, target: Target, code: str, expected: bytes = Y) -> Path:
    source = folder / "src"
    source.mkdir(parents=True)
    (source / "model.h").write_text(HEADER)
    (source / "model.c").write_text(BODY + code)
    write_package(folder, target, ["model.c"], [[Vector((X,), (expected,))]])
    return folder


def run(folder: Path, code: str, target: str | Target = "cortex-m4", limit: int = 100_000) -> runner.BuildRun:
    target = load_target(target) if isinstance(target, str) else target
    return runner.run_build(package(folder, target, code), target, [[X]], limit=limit)


def firmware(folder: Path, code: str, target_name: str = "cortex-m4") -> Path:
    target = load_target(target_name)
    runner.build_firmware(package(folder, target, code), target, folder / "firmware.elf")
    return folder / "firmware.elf"


@pytest.mark.parametrize("core", CORES)
def test_bytes_counts_stack_and_arena(core: str, tmp_path: Path) -> None:
    target = load_target(core)
    folder = package(tmp_path, target, INCREMENT)
    done = runner.run_build(folder, target, [[X], [Y], [X]], count_all=True)
    assert done.outputs == [[Y], [bytes(range(2, 18))], [Y]]
    counts = [r.instructions for r in done.results]
    assert counts == [done.instructions] * 3
    assert done.instructions > 16 * 3
    assert done.arena_bytes == 64
    assert done.arena_used_bytes == 48
    assert 0 < done.stack_bytes <= 64
    assert done.sizes.bss == 64
    (name, inner), *others = done.results[0].calls
    assert (name, others) == ("increment", [])
    assert 16 * 3 < inner < done.instructions
    (blocks,) = done.results[0].code
    assert sum(len(instructions(code)) * times for code, times in blocks.items()) == inner
    again = runner.run_build(folder, target, [[X]])
    assert (again.instructions, again.stack_bytes) == (done.instructions, done.stack_bytes)


def test_the_count_is_exact(tmp_path: Path) -> None:
    """The emulator's own limit agrees to the instruction (the loop has none that a condition skips)."""
    image, target = firmware(tmp_path, INCREMENT), load_target("cortex-m4")
    count = Firmware(image, target).run([X]).instructions
    assert count is not None
    assert Firmware(image, target, limit=count).run([X]).instructions == count
    with pytest.raises(ToolError, match=f"model_run did not return within {count - 1} instructions"):
        Firmware(image, target, limit=count - 1).run([X])


def test_uncounted_runs_give_the_same_bytes(tmp_path: Path) -> None:
    emulated = Firmware(firmware(tmp_path, INCREMENT), load_target("cortex-m4"))
    counted, uncounted = emulated.run([X]), emulated.run([X], count=False)
    assert uncounted.outputs == counted.outputs
    assert uncounted.instructions is None
    assert uncounted.stack_bytes <= counted.stack_bytes


DSP = """
static int32_t round_to_int(float x) {
  int32_t y;
  __asm__("vcvtr.s32.f32 %0, %0" : "+t"(x));
  __builtin_memcpy(&y, &x, 4);
  return y;
}
int model_run(void) {
  volatile float half = 2.5f, up = 3.5f;
  int32_t r[4];
  __asm__("qadd %0, %1, %2" : "=r"(r[0]) : "r"(0x7fffffff), "r"(5));
  __asm__("ssat %0, #8, %1" : "=r"(r[1]) : "r"(-1000));
  __asm__("smlad %0, %1, %2, %3" : "=r"(r[2]) : "r"(0x00020003), "r"(0x0005fff9), "r"(1));
  r[3] = round_to_int(half) * 1000 + round_to_int(up) * 100 + round_to_int(-half);
  __builtin_memcpy(model_arena + 32, r, 16);
  return 0;
}
"""


@pytest.mark.parametrize("core", [core for core in CORES if core != "cortex-m3"])
def test_dsp_and_fpu_instructions(core: str, tmp_path: Path) -> None:
    """Saturation, dual multiply-add, and rounding to nearest even as the reset value of FPSCR has it."""
    expected = struct.pack("<4i", 0x7FFFFFFF, -128, 2 * 5 + 3 * -7 + 1, 2 * 1000 + 4 * 100 - 2)
    assert run(tmp_path, DSP, core).outputs == [[expected]]


def test_soft_float_on_m3(tmp_path: Path) -> None:
    code = """
    int model_run(void) {
      for (int i = 0; i < 4; i++) {
        float y = (float)model_arena[i] * 0.1f;
        __builtin_memcpy(model_arena + 32 + 4 * i, &y, 4);
      }
      return 0;
    }
    """
    import numpy as np

    expected = (np.arange(4, dtype=np.float32) * np.float32(0.1)).tobytes()
    assert run(tmp_path, code, "cortex-m3").outputs == [[expected]]


FAULTS = {
    "arena overrun: 1-byte write at 0x[0-9a-f]+, at model_run": """
        volatile uint8_t *p = model_arena; for (int i = 0; i < 100; i++) p[i] = 1; return 0;""",
    "arena underrun: 1-byte write at 0x[0-9a-f]+, at model_run": """
        volatile uint8_t *p = model_arena; p[-1] = 1; return 0;""",
    "model_run did not return within 100,000 instructions": "for (;;) model_arena[0]++;",
    "4-byte read at 0x60000000, where there is no memory": "return *(volatile int *)0x60000000;",
    "4-byte write at 0x60000000, where there is no memory": "*(volatile int *)0x60000000 = 1; return 0;",
    "4-byte write at 0x00000020, which is read-only, at model_run": "*(volatile int *)0x20 = 1; return 0;",
    "jump to 0x20000000, which is not in flash": "((void (*)(void))0x20000001)(); return 0;",
    "jump to an even address: not Thumb code": "void (*volatile f)(void) = 0; f(); return 0;",
    "undefined instruction, at model_run": '__asm__ volatile("udf #0"); return 0;',
    "breakpoint, at model_run": '__asm__ volatile("bkpt #1"); return 0;',
    "model_run reports error 3": "return 3;",
    "stack overrun: 65[0-9]{3} bytes needed, 20[0-9]{3} there": """
        volatile uint8_t frame[65536]; frame[65000 + model_arena[0]] = 1; return 0;""",
    "need a multiple of 4 and got 0x[0-9a-f]+2: the device faults, at model_run": """
        uint32_t a, b;
        __asm__ volatile("ldrd %0, %1, [%2]" : "=r"(a), "=r"(b) : "r"(model_arena + 2));
        return 0;""",
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_sentences(message: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=message):
        run(tmp_path, f"int model_run(void) {{ {FAULTS[message]} }}", "stm32f103-bluepill")


def test_a_deep_recursion_is_a_stack_overrun(tmp_path: Path) -> None:
    code = """
    __attribute__((noinline)) static int dig(volatile uint8_t *from, int depth) {
      volatile uint8_t frame[64];
      frame[depth & 63] = from[0];
      return depth == 0 ? frame[0] : dig(frame, depth - 1) + frame[1];
    }
    int model_run(void) { return dig(model_arena, 1000); }
    """
    with pytest.raises(ToolError, match=r"stack overrun: \d-byte write at 0x2000[0-9a-f]+, at dig"):
        run(tmp_path, code, "stm32f103-bluepill")


def test_alignment_is_checked_in_long_loops(tmp_path: Path) -> None:
    """Checks retire after some thousand executions; the run must go on and end well."""
    code = """
    int model_run(void) {
      uint32_t sum = 0;
      for (int i = 0; i < 9000; i++) {
        uint32_t a, b;
        __asm__ volatile("ldrd %0, %1, [%2]" : "=r"(a), "=r"(b) : "r"(model_arena + (i & 3) * 4));
        sum += a + b;
      }
      __builtin_memcpy(model_arena + 32, &sum, 4);
      return sum == 0;
    }
    """
    image, target = firmware(tmp_path, code), load_target("cortex-m4")
    emulated = Firmware(image, target)
    before = emulated.run([X]).outputs[0][:4]
    emulated.check_alignment([X])
    assert emulated.run([X]).outputs[0][:4] == before


def test_reading_what_was_never_written_shows(tmp_path: Path) -> None:
    code = "int model_run(void) { model_arena[32] = model_arena[60]; return 0; }"
    emulated = Firmware(firmware(tmp_path, code), load_target("cortex-m4"))
    assert emulated.run([X]).outputs[0][0] != emulated.run([X]).outputs[0][0]


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m33"])
def test_the_test_program_passes_and_fails(core: str, tmp_path: Path) -> None:
    target = load_target(core)
    wrong = Y[:12] + bytes([3]) + Y[13:]
    for name, expected, text in (
        ("right", Y, "PASS\n"),
        ("wrong", wrong, "FAIL: model output 0 byte 12: expected 3, got 13 (test vector 0)\n"),
    ):
        folder = package(tmp_path / name, target, INCREMENT, expected)
        runner.build_test(folder, target, folder / "test.elf")
        done = runner.run_program(folder / "test.elf", target)
        assert (done.text, done.status) == (text, int(text != "PASS\n"))
        host = load_target("host")
        sources = [folder / "src/model.c", folder / "test/test_main.c"]
        zig.link_program(sources, host, folder / "host_test")
        native = subprocess.run([folder / "host_test"], capture_output=True, text=True, check=False)
        assert (native.stdout, native.returncode) == (done.text, done.status)


def test_a_program_that_does_not_exit(tmp_path: Path) -> None:
    target = load_target("cortex-m4")
    folder = package(tmp_path, target, "int model_run(void) { for (;;) model_arena[0]++; }")
    runner.build_test(folder, target, folder / "test.elf")
    with pytest.raises(ToolError, match="the program did not exit within 5,000 instructions"):
        runner.run_program(folder / "test.elf", target, limit=5000)


def test_ram_too_small_says_by_how_much(tmp_path: Path) -> None:
    code = "static uint8_t table[4096]; int model_run(void) { table[model_arena[0]]++; return table[5]; }"
    target = with_memory(load_target("cortex-m4"), flash=None, ram=2048)
    with pytest.raises(BudgetError, match=r"does not fit in RAM, the 2,048 of --ram 2K: [\d,]+ bytes too"):
        run(tmp_path, code, target)


def test_inputs_of_the_wrong_size(tmp_path: Path) -> None:
    emulated = Firmware(firmware(tmp_path, INCREMENT), load_target("cortex-m4"))
    assert (emulated.input_bytes, emulated.output_bytes) == ((16,), (16,))
    with pytest.raises(ToolError, match=r"takes inputs of \[16\] bytes, got \[3\]"):
        emulated.run([b"abc"])
    with pytest.raises(ToolError, match="no inputs were given"):
        runner.run_build(tmp_path, load_target("cortex-m4"), [])


def test_what_cannot_be_emulated(tmp_path: Path) -> None:
    image = firmware(tmp_path, INCREMENT)
    host = load_target("host")
    with pytest.raises(TargetError, match="'host' is not emulated: its builds run natively"):
        Firmware(image, host)
    with pytest.raises(TargetError, match="'host' is not emulated"):
        runner.run_program(image, host)
    with pytest.raises(TargetError, match=r"no core 'cortex-m5'. Did you mean 'cortex-m"):
        CortexM(read_elf(image), "cortex-m5", Memory(0, 4096, 0x20000000, 4096))
    with pytest.raises(OutputError, match="no C package for cortex-m4"):
        runner.build_firmware(tmp_path / "test", load_target("cortex-m4"), tmp_path / "x.elf")


@pytest.mark.parametrize(
    ("code", "change", "base"),
    [
        ("b5f0", -20, None),  # push {r4-r7, lr}
        ("b084", -16, None),  # sub sp, #16
        ("b004", 16, None),  # add sp, #16
        ("e92d4ff0", -36, None),  # push.w {r4-r11, lr}
        ("e8bd8ff0", 36, None),  # pop.w {r4-r11, pc}
        ("ed2d8b04", -16, None),  # vpush {d8, d9}
        ("ecbd8b04", 16, None),  # vpop {d8, d9}
        ("f5ad5d80", -4096, None),  # sub.w sp, sp, #4096
        ("f5a05080", 0, None),  # sub.w r0, r0, #4096
        ("f6ad1d04", -2308, None),  # subw sp, sp, #2308
        ("bd10", 8, None),  # pop {r4, pc}
        ("f84d4d08", -8, None),  # str r4, [sp, #-8]!
        ("f85dfb08", 8, None),  # ldr pc, [sp], #8
        ("e96d4502", -8, None),  # strd r4, r5, [sp, #-8]!
        ("ebad0d04", None, None),  # sub.w sp, sp, r4
        ("f1a70d10", None, None),  # sub.w sp, r7, #16
        ("46bd", None, None),  # mov sp, r7
        ("c90c", 0, 1),  # ldm r1, {r2, r3}
        ("e8b1000c", 0, 1),  # ldm.w r1!, {r2, r3}
        ("e9d60100", 0, 6),  # ldrd r0, r1, [r6]
        ("e8f60102", 0, 6),  # ldrd r0, r1, [r6], #8
        ("ed930a00", 0, 3),  # vldr s0, [r3]
        ("ecb30a02", 0, 3),  # vldm r3!, {s0, s1}
        ("ec510b10", 0, None),  # vmov r0, r1, d0
        ("e8d0f001", 0, None),  # tbb [r0, r1]
        ("f8d00001", 0, None),  # ldr.w r0, [r0, #1]
        ("6808", 0, None),  # ldr r0, [r1]
    ],
)
def test_thumb_encodings(code: str, change: int | None, base: int | None) -> None:
    raw = bytes.fromhex(code)
    swapped = b"".join(raw[i : i + 2][::-1] for i in range(0, len(raw), 2))
    nop = b"\x00\xbf"
    found = instructions(nop + swapped + nop)
    assert [offset for offset, _ in found] == [0, 2, 2 + len(raw)]
    assert stack_change(found[1][1]) == change
    assert word_aligned_base(found[1][1]) == base


def test_sizes_of_the_library_alone(tmp_path: Path) -> None:
    """Smaller than the firmware, arena and helpers of compiler-rt included, and no board limits it."""
    code = "int model_run(void) { return (int)(model_arena[0] * 0.5f + 8.0f) / model_arena[1]; }"
    folder = package(tmp_path, load_target("cortex-m3"), code)
    tiny = with_memory(load_target("cortex-m3"), flash=256, ram=600)
    sizes = library_sizes(compile_library(folder, tiny, tmp_path), tiny)
    assert sizes.bss == 64
    assert 200 < sizes.code < 2000  # soft float counts
    runner.build_firmware(folder, load_target("cortex-m3"), tmp_path / "firmware.elf")
    assert sizes.flash < read_elf(tmp_path / "firmware.elf").sizes.flash
    host = load_target("host")
    assert library_sizes(compile_library(folder, host, tmp_path), host).bss == 64

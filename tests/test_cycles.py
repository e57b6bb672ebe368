"""Estimates of cycles: what an instruction is, and what a core's manual says it takes."""

from __future__ import annotations

import struct

import pytest

from irshrink.backends.unicorn.cycles import block_cycles, classify
from irshrink.backends.unicorn.thumb import instructions
from irshrink.target import target_names
from irshrink.tuning.cycles import TABLES, cycle_table


@pytest.mark.parametrize(
    ("code", "kind", "registers"),
    [
        ((0x1840,), "other", 1),  # adds r0, r0, r1
        ((0x6808,), "load", 1),  # ldr r0, [r1]
        ((0x6008,), "store", 1),  # str r0, [r1]
        ((0x5650,), "load", 1),  # ldrsb r0, [r2, r1]
        ((0x5450,), "store", 1),  # strb r0, [r2, r1]
        ((0x4801,), "load", 1),  # ldr r0, [pc, #4]
        ((0xB510,), "multiple", 2),  # push {r4, lr}
        ((0xBD10,), "multiple", 2),  # pop {r4, pc}
        ((0xC806,), "multiple", 2),  # ldmia r0!, {r1, r2}
        ((0xBF18,), "other", 1),  # it ne
        ((0xF851, 0x0B04), "load", 1),  # ldr r0, [r1], #4
        ((0xF841, 0x0B04), "store", 1),  # str r0, [r1], #4
        ((0xE9D0, 0x1200), "multiple", 2),  # ldrd r1, r2, [r0]
        ((0xE8B0, 0x00F0), "multiple", 4),  # ldmia.w r0!, {r4-r7}
        ((0xE8D0, 0xF001), "load", 1),  # tbb [r0, r1]
        ((0xFB20, 0x3001), "other", 1),  # smlad r0, r0, r1, r3
        ((0xFB00, 0x3001), "accumulate", 1),  # mla r0, r0, r1, r3
        ((0xFB00, 0xF001), "other", 1),  # mul r0, r0, r1
        ((0xFB80, 0x0101), "multiply_long", 1),  # smull r0, r1, r0, r1
        ((0xFB90, 0xF0F1), "divide", 1),  # sdiv r0, r0, r1
        ((0xFBB0, 0xF0F1), "divide", 1),  # udiv r0, r0, r1
        ((0xED90, 0x0A00), "load", 1),  # vldr s0, [r0]
        ((0xECB0, 0x0A04), "multiple", 4),  # vldmia r0!, {s0-s3}
        ((0xEE00, 0x0A81), "float_accumulate", 1),  # vmla.f32 s0, s1, s2
        ((0xEEA0, 0x0A81), "float_accumulate", 1),  # vfma.f32 s0, s1, s2
        ((0xEE20, 0x0A81), "other", 1),  # vmul.f32 s0, s1, s2
        ((0xEE80, 0x0A81), "float_divide", 1),  # vdiv.f32 s0, s1, s2
        ((0xEEB1, 0x0AE0), "float_divide", 1),  # vsqrt.f32 s0, s1
        ((0xEE00, 0x0A10), "other", 1),  # vmov s0, r0
    ],
)
def test_kinds(code: tuple[int, ...], kind: str, registers: int) -> None:
    ((_, instruction),) = instructions(struct.pack(f"<{len(code)}H", *code))
    assert classify(instruction) == (kind, registers)


def test_loads_in_a_row_share_the_pipeline() -> None:
    table = cycle_table("cortex-m4")
    assert table is not None
    load, add, push = 0x6808, 0x1840, 0xB510
    assert block_cycles([(0, load), (2, add)], table) == 3
    assert block_cycles([(0, load), (2, load), (4, load)], table) == 4
    assert block_cycles([(0, push), (2, load)], table) == 5


def test_every_table_belongs_to_a_target_and_names_its_source() -> None:
    names = [file.stem for file in TABLES.glob("*.toml")]
    assert {"cortex-m3", "cortex-m4"} <= set(names) <= set(target_names())
    for name in names:
        table = cycle_table(name)
        assert table is not None
        assert "Manual" in table.source
    assert cycle_table("host") is None

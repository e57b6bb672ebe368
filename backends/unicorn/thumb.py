"""As much of the Thumb-2 encoding as counting needs (Armv7-M Architecture Reference Manual, A5 and A7)."""

from __future__ import annotations

import struct


def instructions(code: bytes) -> list[tuple[int, int]]:
    """``(offset in bytes, instruction)`` of a straight piece of code.

    An instruction is a halfword, or a word with its first halfword on top.
    """
    halves = struct.unpack(f"<{len(code) // 2}H", code)
    found = []
    at = 0
    while at < len(halves):
        first = halves[at]
        # A5.1: 0b11101, 0b11110 and 0b11111 in the top bits start a 32-bit instruction.
        if first >> 11 >= 0b11101 and at + 1 < len(halves):
            found.append((2 * at, first << 16 | halves[at + 1]))
            at += 2
        else:
            found.append((2 * at, first))
            at += 1
    return found


def lowers_stack(instruction: int) -> bool:
    """Whether it can lower the stack pointer: PUSH, VPUSH, SUB, MOV, ADD, or a store with writeback."""
    if instruction < 0x10000:
        push = instruction & 0xFE00 == 0xB400
        subtract = instruction & 0xFF80 == 0xB080
        move_or_add = instruction & 0xFF87 in (0x4485, 0x4685)
        return push or subtract or move_or_add
    first, second = instruction >> 16, instruction & 0xFFFF
    store = first in (0xE92D, 0xE96D) or (first == 0xF84D and second & 0x0F00 == 0x0D00)
    vector = first & 0xFFBF == 0xED2D and second & 0x0E00 == 0x0A00
    subtracts = first & 0xFBE0 == 0xF1A0 or first & 0xFBF0 == 0xF2A0 or first & 0xFFE0 == 0xEBA0
    return store or vector or (subtracts and second & 0x0F00 == 0x0D00)


def word_aligned_base(instruction: int) -> int | None:
    """Number of the base register when the processor insists that it is a multiple of 4 (A3.2.1), else None.

    LDM, STM, LDRD, STRD, VLDR, VSTR, VLDM and VSTM, whose offsets are whole words. Bases SP and PC are always
    aligned and are left out; so are the exclusive loads and stores, which no compiler emits by itself.
    """
    if instruction < 0x10000:
        multiple = instruction & 0xF000 == 0xC000
        return instruction >> 8 & 7 if multiple else None
    first, second = instruction >> 16, instruction & 0xFFFF
    multiple = first & 0xFE40 == 0xE800 and first & 0x0180 in (0x0080, 0x0100)
    dual = first & 0xFE40 == 0xE840 and first & 0x0120 != 0
    vector = first & 0xFE00 == 0xEC00 and first & 0x01A0 != 0 and second & 0x0E00 == 0x0A00
    base = first & 0xF
    return base if (multiple or dual or vector) and base not in (13, 15) else None

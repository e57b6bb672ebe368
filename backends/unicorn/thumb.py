"""As much of the Thumb-2 encoding as counting needs (Armv7-M Architecture Reference Manual, A5 and A7)."""

from __future__ import annotations

import struct
from collections.abc import Callable


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


def stack_change(instruction: int) -> int | None:
    """Bytes that it adds to the stack pointer (negative: lowers it); None when registers decide."""
    if instruction < 0x10000:
        return _stack_change_16(instruction)
    first, second = instruction >> 16, instruction & 0xFFFF
    for first_mask, first_bits, second_mask, second_bits, change in _TRANSFERS:
        if first & first_mask == first_bits and second & second_mask == second_bits:
            return change(second)
    return _stack_arithmetic(first, second)


# Loads and stores that write SP back: masks and values of both halfwords, and the change from the second one.
_TRANSFERS: tuple[tuple[int, int, int, int, Callable[[int], int]], ...] = (
    (0xFFFF, 0xE92D, 0x0000, 0x0000, lambda registers: -4 * registers.bit_count()),  # STMDB SP!
    (0xFFFF, 0xE8BD, 0x0000, 0x0000, lambda registers: 4 * registers.bit_count()),  # LDMIA SP!
    (0xFFFF, 0xE96D, 0x0000, 0x0000, lambda words: -4 * (words & 0xFF)),  # STRD [SP, #-n]!
    (0xFFFF, 0xE8FD, 0x0000, 0x0000, lambda words: 4 * (words & 0xFF)),  # LDRD [SP], #n
    (0xFFFF, 0xF84D, 0x0F00, 0x0D00, lambda offset: -(offset & 0xFF)),  # STR [SP, #-n]!
    (0xFFFF, 0xF85D, 0x0F00, 0x0B00, lambda offset: offset & 0xFF),  # LDR [SP], #n
    (0xFFBF, 0xED2D, 0x0E00, 0x0A00, lambda words: -4 * (words & 0xFF)),  # VPUSH
    (0xFFBF, 0xECBD, 0x0E00, 0x0A00, lambda words: 4 * (words & 0xFF)),  # VPOP
)


def _stack_change_16(instruction: int) -> int | None:
    if instruction & 0xFE00 == 0xB400:  # PUSH
        return -4 * (instruction & 0x1FF).bit_count()
    if instruction & 0xFE00 == 0xBC00:  # POP
        return 4 * (instruction & 0x1FF).bit_count()
    if instruction & 0xFF00 == 0xB000:  # ADD SP and SUB SP, immediate
        return 4 * (instruction & 0x7F) * (-1 if instruction & 0x80 else 1)
    return None if instruction & 0xFF87 in (0x4485, 0x4685) else 0  # ADD and MOV to SP


def _stack_arithmetic(first: int, second: int) -> int | None:
    """ADD and SUB to SP in their 32-bit forms."""
    if second & 0x8F00 != 0x0D00:
        return 0
    low = (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    if first & 0xFBEF in (0xF10D, 0xF1AD):
        return _expand_immediate(low) * (-1 if first & 0xFBEF == 0xF1AD else 1)
    if first & 0xFBFF in (0xF20D, 0xF2AD):
        return low * (-1 if first & 0xFBFF == 0xF2AD else 1)
    register = first & 0xFFE0 in (0xEB00, 0xEBA0)
    other_base = first & 0xFBE0 in (0xF100, 0xF1A0) or first & 0xFBF0 in (0xF200, 0xF2A0)
    return None if register or other_base else 0


def _expand_immediate(low: int) -> int:
    """ThumbExpandImm of A5.3.2: 12 bits to a 32-bit constant."""
    byte = low & 0xFF
    if low >> 10 == 0:
        return byte * (1, 0x00010001, 0x01000100, 0x01010101)[low >> 8]
    value, turn = 0x80 | low & 0x7F, low >> 7
    return value >> turn | value << (32 - turn) & 0xFFFFFFFF


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

"""What kind of instruction it is, where cycles differ (Armv7-M Architecture Reference Manual, A5 to A7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from irshrink.tuning.cycles import CycleTable

Kind = Literal[
    "other", "load", "store", "multiple", "divide", "accumulate", "multiply_long", "float_accumulate",
    "float_divide",
]  # fmt: skip


def block_cycles(code: Sequence[tuple[int, int]], table: CycleTable) -> int:
    """Cycles of a straight piece of code, ``(offset, instruction)``; its last branch counts as not taken."""
    total, after_access = 0, False
    for _, instruction in code:
        kind, registers = classify(instruction)
        if kind == "load":
            total += 1 if after_access else table.load
        elif kind == "multiple":
            total += table.multiple + registers
        else:
            total += 1 if kind == "other" else int(getattr(table, kind))
        after_access = kind in ("load", "store")
    return total


def classify(instruction: int) -> tuple[Kind, int]:
    """The kind, and how many registers a ``multiple`` transfers."""
    if instruction < 0x10000:
        return _narrow(instruction)
    first, second = instruction >> 16, instruction & 0xFFFF
    if first & 0xFE00 == 0xF800:
        return ("load" if first & 0x10 else "store"), 1
    if first & 0xFE00 == 0xE800:
        return _multiple(first, second)
    if first & 0xFE00 == 0xEC00 and second & 0x0E00 == 0x0A00:
        return _float_access(first, second)
    if first & 0xFF00 == 0xEE00 and second & 0x0E10 == 0x0A00:
        return _float(first, second), 1
    if first & 0xFF80 == 0xFB80:
        return ("divide" if first & 0x0050 == 0x0010 and second & 0xF0 == 0xF0 else "multiply_long"), 1
    if first & 0xFFF0 == 0xFB00 and second & 0xF000 != 0xF000:
        return "accumulate", 1
    return "other", 1


def _narrow(instruction: int) -> tuple[Kind, int]:
    top = instruction >> 12
    if instruction & 0xF600 == 0xB400:  # PUSH, POP
        return "multiple", (instruction & 0x1FF).bit_count()
    if top == 0xC:  # STM, LDM
        return "multiple", (instruction & 0xFF).bit_count()
    if instruction & 0xF800 == 0x4800:
        return "load", 1
    if top == 5:
        return ("store" if instruction >> 9 & 7 < 3 else "load"), 1
    if top in (6, 7, 8, 9):
        return ("load" if instruction & 0x800 else "store"), 1
    return "other", 1


def _multiple(first: int, second: int) -> tuple[Kind, int]:
    if first & 0x40 == 0:
        return "multiple", second.bit_count()
    if first & 0xFFE0 == 0xE8C0 or first & 0xFF60 == 0xE840 or first & 0xFFE0 == 0xE840:
        return "load", 1  # exclusive accesses and table branches
    return "multiple", 2  # LDRD, STRD


def _float_access(first: int, second: int) -> tuple[Kind, int]:
    if first & 0xFFE0 == 0xEC40:  # two registers to or from the FPU
        return "multiple", 1
    if first & 0x0120 == 0x0100:
        return ("load" if first & 0x10 else "store"), 1
    return "multiple", second & 0xFF


def _float(first: int, second: int) -> Kind:
    operation = first & 0xFFB0
    if operation == 0xEE80 or (operation == 0xEEB0 and first & 0xF == 1 and second & 0xC0 == 0xC0):
        return "float_divide"
    return "float_accumulate" if operation in (0xEE00, 0xEE10, 0xEE90, 0xEEA0) else "other"

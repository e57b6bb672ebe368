"""What a run executed: instructions, calls, stack pointer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from irshrink.backends.toolchain.elf import Elf
from irshrink.backends.unicorn.thumb import instructions, stack_change


@dataclass(frozen=True)
class Trace:
    """What was counted.

    Attributes:
        instructions: executed in all.
        lowest_sp: lowest value of the stack pointer.
        calls: ``(function, instructions)`` of every call out of the functions that were asked for, in order,
            callees included.
        blocks: ``(address, bytes)`` of every basic block that ran.
    """

    instructions: int
    lowest_sp: int
    calls: tuple[tuple[str, int], ...]
    blocks: tuple[tuple[int, int], ...]


# Instructions, whether it belongs to a caller, how far it lowers the stack pointer (0 or negative bytes), and
# whether it moves it by a register, so that only the next block shows how far.
_Block = tuple[int, bool, int, bool]


class Tracer:
    """Counts per basic block: the block's instructions are decoded once and added every time it runs."""

    def __init__(self, uc: Any, elf: Elf, sp: int, initial_sp: int, callers: tuple[str, ...]) -> None:
        symbols = [elf.symbol(name) for name in callers if elf.has(name)]
        self._inside = [(s.address, s.address + s.size) for s in symbols]
        self._uc, self._elf, self._sp = uc, elf, sp
        self._blocks: dict[tuple[int, int], _Block] = {}
        self._count = 0
        self._lowest = initial_sp
        self._check_next = False
        self._was_inside = True
        self._crossings: list[tuple[int, int]] = []  # address and count, at every change of side

    def on_block(self, uc: Any, address: int, size: int, _data: Any) -> None:
        block = self._blocks.get((address, size))
        if block is None:
            block = self._blocks[address, size] = self._decode(address, size)
        count, inside, dip, unknown = block
        if dip or self._check_next:
            self._lowest = min(self._lowest, uc.reg_read(self._sp) + dip)
        self._check_next = unknown
        if inside is not self._was_inside:
            self._crossings.append((address, self._count))
            self._was_inside = inside
        self._count += count

    def finish(self) -> Trace:
        ends = [count for _, count in self._crossings[1:]] + [self._count]
        calls = [
            (self._name(address), end - begin)
            for (address, begin), end in zip(self._crossings[::2], ends[::2], strict=False)
        ]
        return Trace(self._count, self._lowest, tuple(calls) if self._inside else (), tuple(self._blocks))

    def _decode(self, address: int, size: int) -> _Block:
        code = instructions(bytes(self._uc.mem_read(address, size)))
        inside = any(start <= address < end for start, end in self._inside)
        sp = dip = 0
        unknown = False
        for _, instruction in code:
            change = stack_change(instruction)
            unknown |= change is None
            sp += change or 0
            dip = min(dip, sp)
        return len(code), inside, dip, unknown

    def _name(self, address: int) -> str:
        function = self._elf.function_at(address)
        return f"0x{address:08x}" if function is None else function.name

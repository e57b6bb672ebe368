"""What a run executed: instructions, calls, stack pointer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from irshrink.backends.toolchain.elf import Elf
from irshrink.backends.unicorn.thumb import instructions, lowers_stack


@dataclass(frozen=True)
class Trace:
    """What was counted.

    Attributes:
        instructions: executed in all.
        lowest_sp: lowest stack pointer seen between basic blocks.
        calls: ``(function, instructions)`` of every call out of the functions that were asked for, in order,
            callees included.
        blocks: ``(address, bytes)`` of every basic block that ran.
    """

    instructions: int
    lowest_sp: int
    calls: tuple[tuple[str, int], ...]
    blocks: tuple[tuple[int, int], ...]


class Tracer:
    """Counts per basic block: the block's instructions are decoded once and added every time it runs."""

    def __init__(self, uc: Any, elf: Elf, sp: int, initial_sp: int, callers: tuple[str, ...]) -> None:
        symbols = [elf.symbol(name) for name in callers if elf.has(name)]
        self._inside = [(s.address, s.address + s.size) for s in symbols]
        self._uc, self._elf, self._sp = uc, elf, sp
        self._blocks: dict[tuple[int, int], tuple[int, bool, bool]] = {}
        self._count = 0
        self._lowest = initial_sp
        self._look_at_sp = False
        self._was_inside = True
        self._crossings: list[tuple[int, int]] = []  # address and count, at every change of side

    def on_block(self, uc: Any, address: int, size: int, _data: Any) -> None:
        block = self._blocks.get((address, size))
        if block is None:
            block = self._blocks[address, size] = self._decode(address, size)
        count, inside, lowers = block
        if self._look_at_sp:
            self._lowest = min(self._lowest, uc.reg_read(self._sp))
        self._look_at_sp = lowers
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

    def _decode(self, address: int, size: int) -> tuple[int, bool, bool]:
        code = instructions(bytes(self._uc.mem_read(address, size)))
        inside = any(start <= address < end for start, end in self._inside)
        return len(code), inside, any(lowers_stack(instruction) for _, instruction in code)

    def _name(self, address: int) -> str:
        function = self._elf.function_at(address)
        return f"0x{address:08x}" if function is None else function.name

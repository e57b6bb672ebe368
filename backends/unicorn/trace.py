"""What a run executed: instructions, calls, stack pointer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irshrink.backends.toolchain.elf import Elf
from irshrink.backends.unicorn.cycles import block_cycles
from irshrink.backends.unicorn.thumb import instructions, stack_change
from irshrink.tuning.cycles import CycleTable


@dataclass(frozen=True)
class Trace:
    """What was counted.

    Attributes:
        instructions: executed in all.
        lowest_sp: lowest value of the stack pointer.
        calls: ``(function, instructions)`` of every call out of the functions that were asked for, in order,
            callees included.
        blocks: ``(address, bytes)`` of every basic block that ran.
        cycles: an estimate for every one of ``calls``; empty without a table of cycles.
        code: for every one of ``calls`` the machine code of its basic blocks, and how often each ran.
    """

    instructions: int
    lowest_sp: int
    calls: tuple[tuple[str, int], ...]
    blocks: tuple[tuple[int, int], ...]
    cycles: tuple[int, ...] = ()
    code: tuple[Mapping[bytes, int], ...] = ()


# Instructions, whether it belongs to a caller, how far it lowers the stack pointer (0 or negative bytes),
# whether it moves it by a register, so that only the next block shows how far, its cycles, and its code.
_Block = tuple[int, bool, int, bool, int, bytes]


class Tracer:
    """Counts per basic block: the block's instructions are decoded once and added every time it runs."""

    def __init__(
        self,
        uc: Any,
        elf: Elf,
        sp: int,
        initial_sp: int,
        callers: tuple[str, ...],
        table: CycleTable | None = None,
    ) -> None:
        symbols = [elf.symbol(name) for name in callers if elf.has(name)]
        self._inside = [(s.address, s.address + s.size) for s in symbols]
        self._uc, self._elf, self._sp = uc, elf, sp
        self._blocks: dict[tuple[int, int], _Block] = {}
        self._table, self._refill = table, table.refill if table else 0
        self._count = self._cycles = 0
        self._next = 0  # where the code goes on without a branch
        self._lowest = initial_sp
        self._check_next = False
        self._was_inside = True
        # address, count and cycles at every change of side
        self._crossings: list[tuple[int, int, int]] = []
        # since each of them, how often which code ran
        self._runs: Counter[bytes] = Counter()
        self._all_runs: list[Counter[bytes]] = []

    def on_block(self, uc: Any, address: int, size: int, _data: Any) -> None:
        block = self._blocks.get((address, size))
        if block is None:
            block = self._blocks[address, size] = self._decode(address, size)
        count, inside, dip, unknown, cycles, code = block
        if address != self._next:
            self._cycles += self._refill
        self._next = address + size
        if dip or self._check_next:
            self._lowest = min(self._lowest, uc.reg_read(self._sp) + dip)
        self._check_next = unknown
        if inside is not self._was_inside:
            self._crossings.append((address, self._count, self._cycles))
            self._was_inside = inside
            self._runs = Counter()
            self._all_runs.append(self._runs)
        self._runs[code] += 1
        self._count += count
        self._cycles += cycles

    def finish(self) -> Trace:
        ends = [(count, cycles) for _, count, cycles in self._crossings[1:]] + [(self._count, self._cycles)]
        spans = list(zip(self._crossings[::2], ends[::2], strict=False)) if self._inside else []
        return Trace(
            instructions=self._count,
            lowest_sp=self._lowest,
            calls=tuple((self._name(address), end - begin) for (address, begin, _), (end, _) in spans),
            blocks=tuple(self._blocks),
            cycles=tuple(end - begin for (_, _, begin), (_, end) in spans) if self._table else (),
            code=tuple(self._all_runs[::2]) if self._inside else (),
        )

    def _decode(self, address: int, size: int) -> _Block:
        content = bytes(self._uc.mem_read(address, size))
        code = instructions(content)
        inside = any(start <= address < end for start, end in self._inside)
        sp = dip = 0
        unknown = False
        for _, instruction in code:
            change = stack_change(instruction)
            unknown |= change is None
            sp += change or 0
            dip = min(dip, sp)
        cycles = block_cycles(code, self._table) if self._table else 0
        return len(code), inside, dip, unknown, cycles, content

    def _name(self, address: int) -> str:
        function = self._elf.function_at(address)
        return f"0x{address:08x}" if function is None else function.name

"""A Cortex-M core with flash, RAM and nothing else, and someone who watches what it does to them.

Flash can be read and executed, RAM read and written; every other access ends the run with a sentence that
names the instruction. The system control space is plain memory: it takes the write that enables the FPU.
There are no peripherals, no interrupts, no caches and no cycles; instructions are counted exactly, those that
a failed condition turned into nothing included (as QEMU counts).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from irshrink.backends.toolchain.elf import Elf
from irshrink.backends.unicorn.thumb import instructions, word_aligned_base
from irshrink.backends.unicorn.trace import Trace, Tracer
from irshrink.errors import TargetError, ToolError, nearest
from irshrink.tuning.cycles import CycleTable

#: Instructions after which a run is taken for endless.
DEFAULT_LIMIT = 10_000_000_000

_PAGE = 4096
_SYSTEM_CONTROL_SPACE = 0xE000E000
_SEMIHOSTING = 0xBEAB  # bkpt 0xAB
_CORES = {
    **{"cortex-m0": "M0", "cortex-m3": "M3", "cortex-m4": "M4"},
    **{"cortex-m7": "M7", "cortex-m33": "M33"},
}

# Exception numbers of QEMU's Arm core, which unicorn hands through.
_EXCEPTIONS = {
    1: "undefined instruction",
    2: "SVC instruction without a handler",
    3: "instruction fetch fault",
    4: "data access fault",
    7: "breakpoint",
    8: "return from an exception that was never taken",
    17: "coprocessor or FPU instruction while it is disabled",
    18: "jump to an even address: not Thumb code",
    19: "stack overflow",
    21: "unaligned access",
}


def available() -> str | None:
    """None, or why nothing can be emulated and what to install."""
    import importlib.util

    if importlib.util.find_spec("unicorn") is None:
        return "the emulator is missing: pip install unicorn."
    return None


@dataclass(frozen=True)
class Memory:
    """Where flash and RAM lie: addresses and sizes in bytes."""

    flash_base: int
    flash_bytes: int
    ram_base: int
    ram_bytes: int


@dataclass(frozen=True)
class RedZone:
    """Addresses ``start <= a < end`` that nothing may write. ``what`` names a write there."""

    start: int
    end: int
    what: str


class CortexM:
    """One core with an ELF loaded, stopped before its reset handler.

    Args:
        cpu: ``cortex-m0``, ``cortex-m3``, ``cortex-m4``, ``cortex-m7`` or ``cortex-m33``.
        red_zones: watched from the start.

    Raises:
        TargetError: the emulator has no such core.
        ToolError: the emulator is missing, or the image lies outside of the memory.
    """

    def __init__(self, elf: Elf, cpu: str, memory: Memory, red_zones: tuple[RedZone, ...] = ()) -> None:
        missing = available()
        if missing is not None:
            raise ToolError(missing)
        if cpu not in _CORES:
            raise TargetError(f"the emulator has no core '{cpu}'.{nearest(cpu, _CORES)}")
        import unicorn
        from unicorn import arm_const

        self._uc: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_CORTEX_{_CORES[cpu]}"))
        self._api = unicorn
        self._r0, self._r1 = arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R1
        self._registers = [getattr(arm_const, f"UC_ARM_REG_R{n}") for n in range(16)]
        self._sp, self._lr = arm_const.UC_ARM_REG_SP, arm_const.UC_ARM_REG_LR
        self._pc, self._xpsr = arm_const.UC_ARM_REG_PC, arm_const.UC_ARM_REG_XPSR
        self.elf = elf
        self.memory = memory
        self._fault: str | None = None
        self._exit_status: int | None = None
        self._printed: list[bytes] = []
        self._checks: list[_BaseCheck] = []
        self._map()
        self._watch(red_zones)
        vectors: tuple[int, int] = struct.unpack("<II", self.read(memory.flash_base, 8))
        self.initial_sp, self._entry = vectors

    def read(self, address: int, size: int) -> bytes:
        """Memory as it is now.

        Raises:
            ToolError: outside of the memory.
        """
        try:
            return bytes(self._uc.mem_read(address, size))
        except self._api.UcError as e:
            raise ToolError(f"the emulator cannot read {size} bytes at 0x{address:08x}: {e}.") from e

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into memory; red zones do not mind.

        Raises:
            ToolError: outside of the memory.
        """
        try:
            self._uc.mem_write(address, data)
        except self._api.UcError as e:
            raise ToolError(f"the emulator cannot write {len(data)} bytes at 0x{address:08x}: {e}.") from e

    def boot(self, until: str, limit: int = DEFAULT_LIMIT) -> None:
        """Run from reset to the function ``until``.

        Raises:
            ToolError: it faulted, or did not get there.
        """
        self._uc.reg_write(self._sp, self.initial_sp)
        self._start(self._entry, self.elf.symbol(until).address, limit, f"reset did not reach {until}")

    def run_program(self, limit: int = DEFAULT_LIMIT) -> tuple[str, int]:
        """Run from reset until the program exits by semihosting: what it printed and its exit status.

        Raises:
            ToolError: it faulted, or did not exit.
        """
        self._uc.reg_write(self._sp, self.initial_sp)
        self._start(self._entry, 0xFFFFFFFE, limit, "the program did not exit")
        assert self._exit_status is not None
        return b"".join(self._printed).decode("utf-8", "replace"), self._exit_status

    def call(self, function: str, argument: int = 0, *, trap: str, limit: int = DEFAULT_LIMIT) -> int:
        """Call ``function(argument)`` on an empty stack and let it return to ``trap``; its result, unsigned.

        Raises:
            ToolError: it faulted, wrote into a red zone, or took more than ``limit`` instructions.
        """
        start = self.elf.symbol(function).address
        end = self.elf.symbol(trap).address
        self._uc.reg_write(self._sp, self.initial_sp)
        self._uc.reg_write(self._lr, end | 1)
        self._uc.reg_write(self._r0, argument)
        self._start(start | 1, end, limit, f"{function} did not return")
        return int(self._uc.reg_read(self._r0))

    def traced(
        self, run: Callable[[], int], callers: tuple[str, ...] = (), table: CycleTable | None = None
    ) -> tuple[int, Trace]:
        """Count everything that ``run`` (a :meth:`call`) executes; half a microsecond a basic block.

        Args:
            callers: functions whose calls are listed one by one in ``Trace.calls``.
            table: what to estimate cycles by.
        """
        tracer = Tracer(self._uc, self.elf, self._sp, self.initial_sp, callers, table)
        # Code that was translated before does not report its blocks.
        self._uc.ctl_flush_tb()
        hook = self._uc.hook_add(self._api.UC_HOOK_BLOCK, tracer.on_block)
        try:
            result = run()
        finally:
            self._uc.hook_del(hook)
            self._uc.ctl_flush_tb()
        return result, tracer.finish()

    def aligned(self, run: Callable[[], int], blocks: Iterable[tuple[int, int]]) -> int:
        """``run`` (a :meth:`call`), with the word alignment checked that the processor insists on.

        unicorn lets LDM, LDRD, VLDR and their like read anywhere, a Cortex-M faults. Each such instruction of
        ``blocks`` is checked the first few thousand times it runs: enough to see every alignment that a
        kernel's loops step through.

        Raises:
            ToolError: an access is not aligned.
        """
        bases = {
            address + offset: base
            for address, size in blocks
            for offset, instruction in instructions(self.read(address, size))
            if (base := word_aligned_base(instruction)) is not None
        }
        self._uc.ctl_flush_tb()
        for address, base in sorted(bases.items()):
            check = _BaseCheck(self._registers[base])
            check.hook = self._uc.hook_add(
                self._api.UC_HOOK_CODE, self._on_word_access, check, address, address
            )
            self._checks.append(check)
        try:
            return run()
        finally:
            for check in self._checks:
                self._uc.hook_del(check.hook)
            self._checks.clear()
            self._uc.ctl_flush_tb()

    def _map(self) -> None:
        api, memory = self._api, self.memory
        self._uc.mem_map(memory.flash_base, _pages(memory.flash_bytes), api.UC_PROT_READ | api.UC_PROT_EXEC)
        self._uc.mem_map(memory.ram_base, _pages(memory.ram_bytes), api.UC_PROT_READ | api.UC_PROT_WRITE)
        self._uc.mem_map(_SYSTEM_CONTROL_SPACE, _PAGE, api.UC_PROT_READ | api.UC_PROT_WRITE)
        for address, data in self.elf.segments:
            self.write(address, data)

    def _watch(self, red_zones: tuple[RedZone, ...]) -> None:
        api = self._api
        self._uc.hook_add(api.UC_HOOK_MEM_INVALID, self._on_invalid)
        self._uc.hook_add(api.UC_HOOK_INTR, self._on_exception)
        self._uc.hook_add(api.UC_HOOK_INSN_INVALID, self._on_undefined)
        end = self.memory.ram_base + self.memory.ram_bytes
        beyond = RedZone(end, self.memory.ram_base + _pages(self.memory.ram_bytes), "overrun of RAM")
        for zone in (*red_zones, beyond):
            if zone.start < zone.end:
                # unicorn's ranges include their end
                self._uc.hook_add(api.UC_HOOK_MEM_WRITE, self._on_red_zone, zone, zone.start, zone.end - 1)

    def _start(self, begin: int, until: int, limit: int, complaint: str) -> None:
        self._fault = None
        self._exit_status = None
        try:
            self._uc.emu_start(begin, until, count=limit)
            while self._fault is None and self._retire_checks():
                self._uc.emu_start(self._uc.reg_read(self._pc) | 1, until, count=limit)
        except self._api.UcError as e:
            self._fail(f"the emulator stopped: {e}")
        if self._fault is not None:
            raise ToolError(self._fault)
        if self._exit_status is None and self._uc.reg_read(self._pc) & ~1 != until:
            raise ToolError(f"{self.elf.path.name}: {complaint} within {limit:,} instructions.")

    def _fail(self, what: str) -> None:
        """Keep the first fault: later ones follow from it."""
        if self._fault is None:
            at = self.elf.describe(self._uc.reg_read(self._pc) & ~1)
            self._fault = f"{self.elf.path.name}: {what}, at {at}."
        self._uc.emu_stop()

    def _on_invalid(self, _uc: Any, access: int, address: int, size: int, _value: int, _data: Any) -> bool:
        api = self._api
        if access in (api.UC_MEM_FETCH_UNMAPPED, api.UC_MEM_FETCH_PROT):
            self._fail(f"jump to 0x{address:08x}, which is not in flash")
        elif access == api.UC_MEM_WRITE_PROT:
            self._fail(f"{size}-byte write at 0x{address:08x}, which is read-only")
        elif access == api.UC_MEM_WRITE_UNMAPPED:
            self._fail(f"{size}-byte write at 0x{address:08x}, where there is no memory")
        else:
            self._fail(f"{size}-byte read at 0x{address:08x}, where there is no memory")
        return False

    def _on_red_zone(
        self, _uc: Any, _access: int, address: int, size: int, _value: int, zone: RedZone
    ) -> None:
        self._fail(f"{zone.what}: {size}-byte write at 0x{address:08x}")

    def _on_word_access(self, _uc: Any, _address: int, _size: int, check: _BaseCheck) -> None:
        base = self._uc.reg_read(check.register)
        if base & 3:
            self._fail(
                f"LDM, LDRD, VLDR and the like need a multiple of 4 and got 0x{base:08x}: the device faults"
            )
        check.left -= 1
        if check.left == 0:
            self._uc.emu_stop()

    def _retire_checks(self) -> bool:
        """Take out checks that have seen enough: True when the run stopped for one and must go on."""
        enough = [check for check in self._checks if check.left <= 0]
        for check in enough:
            self._uc.hook_del(check.hook)
            self._checks.remove(check)
        return bool(enough)

    def _on_undefined(self, _uc: Any, _data: Any) -> bool:
        thumb = self._uc.reg_read(self._xpsr) & 1 << 24
        self._fail(_EXCEPTIONS[1] if thumb else _EXCEPTIONS[18])
        return False

    def _on_exception(self, _uc: Any, number: int, _data: Any) -> None:
        pc = self._uc.reg_read(self._pc) & ~1
        if number == 7 and self.read(pc, 2) == struct.pack("<H", _SEMIHOSTING):
            self._semihosting(pc)
        else:
            self._fail(_EXCEPTIONS.get(number, f"exception {number}"))

    def _semihosting(self, pc: int) -> None:
        """Operations of Arm's semihosting specification: SYS_WRITE0 and SYS_EXIT_EXTENDED."""
        operation, argument = self._uc.reg_read(self._r0), self._uc.reg_read(self._r1)
        if operation == 0x04:
            self._printed.append(self._string(argument))
            self._uc.reg_write(self._pc, (pc + 2) | 1)
        elif operation == 0x20:
            self._exit_status = struct.unpack("<II", self.read(argument, 8))[1]
            self._uc.emu_stop()
        else:
            self._fail(f"semihosting operation 0x{operation:02x}, which is not supported")

    def _string(self, address: int, longest: int = 4096) -> bytes:
        text = b""
        while len(text) < longest and (byte := self.read(address + len(text), 1)) != b"\0":
            text += byte
        return text


@dataclass
class _BaseCheck:
    """An instruction whose base register must be aligned, and how often it is still looked at."""

    register: int
    hook: int = 0
    left: int = 2000


def _pages(nbytes: int) -> int:
    return -(-nbytes // _PAGE) * _PAGE

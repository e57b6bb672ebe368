"""A model as firmware in the emulator: inputs in, outputs out, and what it cost."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from irshrink.backends.package.files import flash_bytes, memory_bases, ram_bytes
from irshrink.backends.toolchain.elf import Elf, read_elf
from irshrink.backends.unicorn.machine import DEFAULT_LIMIT, CortexM, Memory, RedZone
from irshrink.backends.unicorn.trace import Trace
from irshrink.errors import TargetError, ToolError
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.target import Target
from irshrink.tuning.cycles import cycle_table

#: Size of each red zone, bytes: more than a loop that runs away by a row or two.
GUARD_BYTES = 16384

_TRAP = "emulation_ready"
_STACK_PAINT = struct.pack("<I", 0xC5A35A3A)


@dataclass(frozen=True)
class EmulationResult:
    """One inference.

    Attributes:
        outputs: bytes of every output, in port order.
        instructions: executed by ``model_run``, exact; None when not counted.
        stack_bytes: from the stack pointer at the call of ``model_run`` down to the lowest address that it
            wrote and, when counted, that its stack pointer reached.
        arena_used_bytes: from the start of the arena to the last byte that was written.
        calls: ``(function, instructions)`` of every call out of ``model_run``, in order, callees included;
            empty when not counted.
        cycles: estimates for ``calls``, where there is a table of cycles for the target.
        code: of ``calls``: machine code of basic blocks, and how often each ran.
    """

    outputs: list[bytes]
    instructions: int | None
    stack_bytes: int
    arena_used_bytes: int
    calls: tuple[tuple[str, int], ...] = ()
    cycles: tuple[int, ...] = ()
    code: tuple[Mapping[bytes, int], ...] = ()


class Firmware:
    """One variant of a model in a linked emulator firmware, started and waiting for inputs.

    Arena and stack are painted before every inference, the arena with another value each time: a model that
    reads what it has not written answers differently from run to run.

    Attributes:
        input_bytes, output_bytes: sizes in port order.
        arena_bytes: size of the arena.

    Args:
        names: of the package.
        variant: which of those in ``names``.

    Raises:
        TargetError: the target is not emulated.
        ToolError: the image is no emulator firmware, or it does not start.
    """

    def __init__(
        self,
        path: Path,
        target: Target,
        *,
        limit: int = DEFAULT_LIMIT,
        names: Names = DEFAULT_NAMES,
        variant: int = 0,
    ) -> None:
        emulation = target.emulation
        if emulation is None:
            raise TargetError(f"target '{target.name}' is not emulated: its builds run natively.")
        self.elf: Elf = read_elf(path)
        flash_base, ram_base = memory_bases(target)
        memory = Memory(flash_base, flash_bytes(target), ram_base, ram_bytes(target) + 3 * GUARD_BYTES)
        self._symbol = names.symbols[variant]
        self._arena = self._arena_start(f"{names.prefix}_arena")
        self._static_bytes = self.elf.symbol(f"{names.prefix}_arena").size
        self._stack = self.elf.symbol("__stack_limit").address
        self._machine = CortexM(self.elf, emulation.cpu, memory, self._red_zones())
        self._limit, self._table = limit, cycle_table(target.name)
        self._paint = 0xA5
        self._blocks: set[tuple[int, int]] = set()
        self._machine.boot(_TRAP)
        inputs, outputs, self.arena_bytes = self._counts(variant)
        self._inputs = [self._port("input", i) for i in range(inputs)]
        self._outputs = [self._port("output", i) for i in range(outputs)]
        self.input_bytes = tuple(size for _, size in self._inputs)
        self.output_bytes = tuple(size for _, size in self._outputs)

    def run(self, inputs: Sequence[bytes], *, count: bool = True) -> EmulationResult:
        """One inference.

        Args:
            inputs: the bytes of every input, in port order.
            count: count instructions; without, a run is several times as fast.

        Raises:
            ToolError: inputs of the wrong size, a fault, an overrun of arena or stack, an endless loop, or
                ``model_run`` reports an error.
        """
        if tuple(map(len, inputs)) != self.input_bytes:
            got = [len(data) for data in inputs]
            raise ToolError(f"the model takes inputs of {list(self.input_bytes)} bytes, got {got}.")
        self._prepare(inputs)
        status, trace = self._call_model(count)
        if trace is not None and trace.lowest_sp < self._stack:
            room, needed = self._machine.initial_sp - self._stack, self._machine.initial_sp - trace.lowest_sp
            raise ToolError(f"{self.elf.path.name}: stack overrun: {needed} bytes needed, {room} there.")
        if status != 0:
            raise ToolError(f"{self.elf.path.name}: {self._symbol}_run reports error {status}.")
        self._require_own_arena()
        return EmulationResult(
            outputs=[self._machine.read(address, size) for address, size in self._outputs],
            instructions=trace.instructions if trace else None,
            stack_bytes=self._stack_used(trace),
            arena_used_bytes=self._arena_used(),
            calls=trace.calls if trace else (),
            cycles=trace.cycles if trace else (),
            code=trace.code if trace else (),
        )

    def check_alignment(self, inputs: Sequence[bytes]) -> None:
        """One more inference, with the alignment checked of all code that counted runs went through.

        Raises:
            ToolError: as :meth:`run`, or an access that the device faults on.
        """
        self._prepare(inputs)
        self._machine.aligned(self._model_run, sorted(self._blocks))

    def _prepare(self, inputs: Sequence[bytes]) -> None:
        self._paint ^= 0xFF
        self._machine.write(self._arena, bytes([self._paint]) * self._static_bytes)
        words = (self._machine.initial_sp - self._stack) // 4
        self._machine.write(self._stack, _STACK_PAINT * words)
        for (address, _), data in zip(self._inputs, inputs, strict=True):
            self._machine.write(address, data)

    def _call_model(self, count: bool) -> tuple[int, Trace | None]:
        if not count:
            return self._model_run(), None
        callers = (f"{self._symbol}_run", f"{self._symbol}_run_in")
        status, trace = self._machine.traced(self._model_run, callers, self._table)
        self._blocks.update(trace.blocks)
        return status, trace

    def _model_run(self) -> int:
        return self._machine.call(f"{self._symbol}_run", trap=_TRAP, limit=self._limit)

    def _stack_used(self, trace: Trace | None) -> int:
        top = self._machine.initial_sp
        stack = self._machine.read(self._stack, top - self._stack)
        lowest = self._stack + _painted(stack, _STACK_PAINT)
        if trace is not None:
            lowest = min(lowest, trace.lowest_sp)
        return top - lowest

    def _arena_used(self) -> int:
        arena = self._machine.read(self._arena, self.arena_bytes)
        return len(arena.rstrip(bytes([self._paint])))

    def _require_own_arena(self) -> None:
        """The arena that variants share may be larger than this one's: what is beyond is not its own."""
        beyond = self._machine.read(self._arena + self.arena_bytes, self._static_bytes - self.arena_bytes)
        if beyond != bytes([self._paint]) * len(beyond):
            name, own = self.elf.path.name, self.arena_bytes
            raise ToolError(f"{name}: arena overrun: {self._symbol}_run wrote beyond its {own} bytes.")

    def _arena_start(self, name: str) -> int:
        start, end = self.elf.symbol("__arena_start").address, self.elf.symbol("__arena_end").address
        arena = self.elf.symbol(name)
        if not start <= arena.address < end:
            raise ToolError(f"{self.elf.path.name}: {name} is not between its red zones.")
        return arena.address

    def _red_zones(self) -> tuple[RedZone, ...]:
        zones = (
            ("__red_zone_below_arena", "arena underrun"),
            ("__red_zone_above_arena", "arena overrun"),
            ("__red_zone_below_stack", "stack overrun"),
        )
        starts = [(self.elf.symbol(name).address, what) for name, what in zones]
        return tuple(RedZone(start, start + GUARD_BYTES, what) for start, what in starts)

    def _counts(self, variant: int) -> tuple[int, int, int]:
        counts = self._machine.read(self.elf.symbol("emulation_counts").address + 12 * variant, 12)
        inputs, outputs, arena = struct.unpack("<III", counts)
        return inputs, outputs, arena

    def _port(self, kind: str, index: int) -> tuple[int, int]:
        """Address and size of an input or output."""
        function = f"{self._symbol}_{kind}"
        address = self._machine.call(function, index, trap=_TRAP)
        return address, self._machine.call(f"{function}_bytes", index, trap=_TRAP)


def _painted(stack: bytes, paint: bytes) -> int:
    """Bytes from the low end that still carry the paint."""
    low, high = 0, len(stack) // len(paint)
    whole = paint * high
    if stack.startswith(whole):
        return len(whole)
    while low < high:  # the first word that differs, by halving
        middle = (low + high) // 2
        if stack.startswith(whole[: (middle + 1) * len(paint)]):
            low = middle + 1
        else:
            high = middle
    return low * len(paint)

"""Builds the firmware of a C package and runs it: the emulator's face to the compile flow."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from irshrink import files
from irshrink.backend import Counter
from irshrink.backends.package.build import compile_library
from irshrink.backends.package.files import flash_bytes, linker_script, memory_bases, ram_bytes
from irshrink.backends.running import Call, Run, require_built
from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import Sizes, read_elf
from irshrink.backends.unicorn.firmware import GUARD_BYTES, EmulationResult, Firmware
from irshrink.backends.unicorn.machine import DEFAULT_LIMIT, CortexM, Memory
from irshrink.errors import OutputError, TargetError, ToolError
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.target import Target

#: What is run, in the package.
FIRMWARE = "lib/emulation.elf"
EMULATION_MAIN = Path(__file__).with_name("emulation_main.c")


@dataclass(frozen=True)
class BuildRun:
    """Several inferences of one build.

    Attributes:
        outputs: bytes of every output of every inference.
        instructions: of the first inference, exact.
        stack_bytes, arena_used_bytes: largest of all inferences.
        arena_bytes: size of the arena.
        sizes: of the firmware: the model, start-up code and a main of a few instructions, without red zones.
        results: every inference by itself; only the first is counted unless all were asked for.
    """

    outputs: list[list[bytes]]
    instructions: int
    stack_bytes: int
    arena_used_bytes: int
    arena_bytes: int
    sizes: Sizes
    results: tuple[EmulationResult, ...]


@dataclass(frozen=True)
class ProgramResult:
    """What a bare-metal program printed, and its exit status."""

    text: str
    status: int


class UnicornRunner:
    """Firmware on a core of unicorn's."""

    native: ClassVar[bool] = False

    def missing(self, target: Target) -> str | None:
        from irshrink.backends.unicorn import machine

        return machine.available()

    def build(
        self,
        folder: Path,
        target: Target,
        objects: Sequence[Path],
        optimize: str,
        names: Names = DEFAULT_NAMES,
    ) -> None:
        """``lib/emulation.elf``: the model with red zones around its arena."""
        (folder / FIRMWARE).parent.mkdir(exist_ok=True)
        build_firmware(folder, target, folder / FIRMWARE, optimize=optimize, objects=objects, names=names)

    def run(self, folder: Path, target: Target, call: Call, progress: Counter) -> Run:
        """The first inference is counted and its alignments are checked; all are watched for overruns."""
        firmware = Firmware(require_built(folder / FIRMWARE), target, names=call.names, variant=call.variant)
        results = []
        for done, inputs in enumerate(call.inputs):
            progress(done)
            results.append(firmware.run(inputs, count=done == 0))
        if call.alignment:
            firmware.check_alignment(call.inputs[0])
        return Run(
            outputs=[r.outputs for r in results],
            instructions=results[0].instructions,
            stack_bytes=max(r.stack_bytes for r in results),
            calls=results[0].calls,
            cycles=results[0].cycles,
            code=results[0].code,
        )


def run_build(
    folder: Path,
    target: Target,
    inputs: Sequence[Sequence[bytes]],
    *,
    optimize: str = "-O2",
    count_all: bool = False,
    limit: int = DEFAULT_LIMIT,
) -> BuildRun:
    """Build the package in ``folder`` for the emulator and run every entry of ``inputs``.

    Args:
        folder: the C package: ``src/*.c`` and ``port/cortex-m/startup.c``.
        inputs: for each inference the bytes of every input, in port order; at least one.
        count_all: count instructions in every inference, not only in the first.
        limit: instructions after which an inference is taken for endless.

    Raises:
        BudgetError: flash or RAM of the target are too small.
        ToolError: it does not compile, faults, would fault on the device for an unaligned access, overruns
            arena or stack, or does not end.
    """
    if not inputs:
        raise ToolError("nothing to run: no inputs were given.")
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        image = Path(scratch) / "firmware.elf"
        build_firmware(folder, target, image, optimize=optimize)
        firmware = Firmware(image, target, limit=limit)
        results = tuple(firmware.run(x, count=count_all or i == 0) for i, x in enumerate(inputs))
        firmware.check_alignment(inputs[0])
    assert results[0].instructions is not None
    return BuildRun(
        outputs=[r.outputs for r in results],
        instructions=results[0].instructions,
        stack_bytes=max(r.stack_bytes for r in results),
        arena_used_bytes=max(r.arena_used_bytes for r in results),
        arena_bytes=firmware.arena_bytes,
        sizes=firmware.elf.sizes,
        results=results,
    )


def build_firmware(
    folder: Path,
    target: Target,
    out: Path,
    *,
    optimize: str = "-O2",
    objects: Sequence[Path] | None = None,
    names: Names = DEFAULT_NAMES,
) -> None:
    """Compile and link the model, start-up code and the emulator's main, with red zones.

    Args:
        objects: the model's own, where they are compiled already.
        names: of the package.

    Raises:
        BudgetError: flash or RAM of the target are too small.
        ToolError: it does not compile.
    """
    script = linker_script(target, guard_bytes=GUARD_BYTES, prefix=names.prefix)
    _build(
        folder,
        target,
        out,
        main=EMULATION_MAIN,
        script=script,
        optimize=optimize,
        objects=objects,
        flags=names.defines(),
    )


def build_test(folder: Path, target: Target, out: Path, *, optimize: str = "-O2") -> None:
    """Compile and link the package's own test program with its own linker script, as a user would.

    Raises:
        BudgetError: flash or RAM of the target are too small.
        ToolError: it does not compile.
    """
    script = (folder / "port" / "cortex-m" / "cortex-m.ld").read_text("utf-8")
    main = folder / "test" / "test_main.c"
    _build(folder, target, out, main=main, script=script, optimize=optimize)


def run_program(image: Path, target: Target, *, limit: int = DEFAULT_LIMIT) -> ProgramResult:
    """Run a bare-metal program until it exits by semihosting.

    Raises:
        TargetError: the target is not emulated.
        ToolError: it faulted, or did not exit.
    """
    if target.emulation is None:
        raise TargetError(f"target '{target.name}' is not emulated: its builds run natively.")
    flash_base, ram_base = memory_bases(target)
    memory = Memory(flash_base, flash_bytes(target), ram_base, ram_bytes(target))
    text, status = CortexM(read_elf(image), target.emulation.cpu, memory).run_program(limit)
    return ProgramResult(text, status)


def _build(
    folder: Path,
    target: Target,
    out: Path,
    *,
    main: Path,
    script: str,
    optimize: str,
    objects: Sequence[Path] | None = None,
    flags: Sequence[str] = (),
) -> None:
    source, port = folder / "src", folder / "port" / "cortex-m"
    if not list(source.glob("*.c")) or not (port / "startup.c").is_file():
        raise OutputError(f"{folder}: no C package for {target.name}: src/*.c or port/cortex-m is missing.")
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        work = Path(scratch)
        starts = [port / "startup.c", main]
        around = zig.compile_objects(starts, target, work, include=[source, port], flags=flags)
        if objects is None:
            objects = compile_library(folder, target, work, optimize=optimize)
        files.write_text(work / "link.ld", script)
        zig.link_firmware([*objects, *around], target, work / "link.ld", out)

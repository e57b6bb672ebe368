"""Builds the program that QEMU runs, and runs it: the model behind a few functions that move bytes."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from irshrink import files
from irshrink.backend import Counter as Progress
from irshrink.backends.package.files import linker_script
from irshrink.backends.qemu import emulator
from irshrink.backends.qemu.counter import Count, Counter
from irshrink.backends.running import Call, Run, require_built
from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import read_elf
from irshrink.errors import ToolError
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.target import Target

HERE = Path(__file__).parent
#: What is run on bare metal; for Linux it is the package's test program.
FIRMWARE = "lib/emulation.elf"

#: Seconds after which a run is taken for endless.
PATIENCE = 6 * 3600
#: Inferences in one start of the emulator; progress is told in between.
_AT_ONCE = 16

_TEST_FLAGS = ("-Dmain=model_test", "-DMODEL_TEST_PRINT=port_print")
_FAULTS = {
    1: "the model reports an error",
    2: "arena underrun: it wrote below its arena",
    3: "arena overrun: it wrote above its arena",
    4: "stack overrun",
}


class QemuRunner:
    """Linux programs in qemu-user, firmware on a board of qemu-system."""

    native: ClassVar[bool] = False

    def missing(self, target: Target) -> str | None:
        return emulator.missing(target)

    def build(
        self,
        folder: Path,
        target: Target,
        objects: Sequence[Path],
        optimize: str,
        names: Names = DEFAULT_NAMES,
    ) -> None:
        """``bin/model_test`` for Linux: alone it runs the test vectors, under us inputs; else a firmware."""
        image = folder / image_of(target, names)
        image.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
            work = Path(scratch)
            if zig.is_bare_metal(target):
                _link_firmware(folder, target, objects, work, image, names)
            else:
                _link_program(folder, target, objects, work, image, names)

    def run(self, folder: Path, target: Target, call: Call, progress: Progress) -> Run:
        missing = self.missing(target)
        if missing is not None:
            raise ToolError(missing)
        image = require_built(folder / image_of(target, call.names))
        progress(0)
        replies, count = _first(image, target, call)
        for start in range(1, len(call.inputs), _AT_ONCE):
            progress(start)
            replies += _run(image, target, _asked(call, start, _AT_ONCE))
        outputs, stack_bytes = _parse(replies, call, image)
        made = _kernel_calls(count, call) if count else []
        return Run(
            outputs=outputs,
            instructions=count.instructions if count else None,
            stack_bytes=stack_bytes,
            calls=tuple(one for one, _ in made),
            code=tuple(code for _, code in made),
        )


def image_of(target: Target, names: Names) -> str:
    """What is run: a program for Linux, which also holds the package's test, or a firmware."""
    return FIRMWARE if zig.is_bare_metal(target) else names.test_program


def _link_program(
    folder: Path, target: Target, objects: Sequence[Path], work: Path, image: Path, names: Names
) -> None:
    test = folder / "test"
    sources = [HERE / "main.c", HERE / "port" / "linux.c", test / "test_main.c", *test.glob("*.S")]
    flags = ["-DMODEL_HAS_TEST", *_TEST_FLAGS, *names.defines()]
    if target.threads > 1:
        sources.append(HERE / "port" / "threads.c")
        flags.append(f"-DMODEL_THREADS={names.prefix}_threads")
    around = zig.compile_objects(sources, target, work, include=[folder / "src", HERE / "port"], flags=flags)
    zig.link_executable([*around, *objects], target, HERE / "port" / "linux.ld", image)


def _link_firmware(
    folder: Path, target: Target, objects: Sequence[Path], work: Path, image: Path, names: Names
) -> None:
    port = folder / "port" / "cortex-m"
    sources = [port / "startup.c", HERE / "main.c", HERE / "port" / "semihosting.c"]
    around = zig.compile_objects(
        sources, target, work, include=[folder / "src", HERE / "port", port], flags=names.defines()
    )
    script = work / "link.ld"
    files.write_text(script, linker_script(target, emulated=True))
    zig.link_firmware([*around, *objects], target, script, image)


def _first(image: Path, target: Target, call: Call) -> tuple[bytes, Count | None]:
    """One inference with its instructions counted; without a count where the plugin does not load.

    What several threads execute is not counted: how long they wait for each other is chance.
    """
    if call.threads > 1:
        return _run(image, target, _asked(call, 0, 1)), None
    program = emulator.emulation_of(target).program
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        try:
            counter = Counter(str(program), read_elf(image), f"{call.symbol}_run_in", Path(scratch))
            replies = _run(image, target, _asked(call, 0, 1), counter.argument)
        except ToolError:
            return _run(image, target, _asked(call, 0, 1)), None
        return replies, counter.read()


def _kernel_calls(count: Count, call: Call) -> list[tuple[tuple[str, int], Mapping[bytes, int]]]:
    """What the model called and the code of that, without the question whether there are threads."""
    made = zip(count.calls, count.code, strict=True)
    return [one for one in made if one[0][0] != f"{call.names.prefix}_run_steps"]


def _asked(call: Call, start: int, count: int) -> bytes:
    """Some of the inferences as the program reads them: variant and threads, then every input."""
    how = struct.pack("<HH", call.variant, call.threads)
    return b"".join(part for one in call.inputs[start : start + count] for part in (how, *one))


def _run(image: Path, target: Target, asked: bytes, plugin: str | None = None) -> bytes:
    """What the program answers to some inferences: a program for Linux through pipes, a firmware in files."""
    command = emulator.command(target, image.absolute(), plugin=plugin)
    answers = "printed" if zig.is_bare_metal(target) else "outputs"
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        folder = Path(scratch)
        (folder / "inputs").write_bytes(asked)
        with (folder / "inputs").open("rb") as given, (folder / answers).open("wb") as taken:
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    stdin=given,
                    stdout=taken,
                    stderr=subprocess.PIPE,
                    timeout=PATIENCE,
                    check=False,
                )
            except subprocess.TimeoutExpired as e:
                raise ToolError(f"{image.name} on an emulated {target.name} did not end.") from e
        if done.returncode != 0:
            said = done.stderr + ((folder / "printed").read_bytes() if answers == "printed" else b"")
            raise ToolError(f"{image.name} on an emulated {target.name}: {_reason(said, done.returncode)}")
        return (folder / "outputs").read_bytes()


def _reason(said: bytes, status: int) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[0] if lines else f"it ended with status {status}."


def _parse(replies: bytes, call: Call, image: Path) -> tuple[list[list[bytes]], int]:
    """Outputs of every inference, and the most stack that one of them took, bytes.

    Raises:
        ToolError: an answer is missing, or says that the model did what it must not.
    """
    header = struct.Struct("<II")
    each = header.size + sum(call.output_bytes)
    if len(replies) != each * len(call.inputs):
        raise ToolError(f"{image.name}: {len(replies)} bytes came back, not {each * len(call.inputs)}.")
    outputs, stack_bytes = [], 0
    for at in range(0, len(replies), each):
        status, used = header.unpack_from(replies, at)
        if status != 0:
            raise ToolError(f"{image.name}: {_FAULTS.get(status, f'error {status}')}.")
        stack_bytes = max(stack_bytes, used)
        outputs.append(list(_split(replies[at + header.size : at + each], call.output_bytes)))
    return outputs, stack_bytes


def _split(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size

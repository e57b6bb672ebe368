"""Instructions of one inference under QEMU, counted by a plugin of ours (``counter.c``)."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from irshrink.backends.qemu.emulator import version
from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import Elf, Symbol
from irshrink.target import load_target

SOURCE = Path(__file__).with_name("counter.c")
_CALLER = "emulation_infer"


@dataclass(frozen=True)
class Count:
    """Instructions of one inference, and of every call the model made.

    Attributes:
        calls: ``(function, instructions)``.
        code: of ``calls``: machine code of basic blocks, and how often each ran.
    """

    instructions: int
    calls: tuple[tuple[str, int], ...]
    code: tuple[Mapping[bytes, int], ...]


class Counter:
    """The plugin, built for this machine and the QEMU that is installed, in a folder of the caller's.

    Args:
        model: the function that is counted.

    Raises:
        ToolError: it does not compile.
    """

    def __init__(self, program: str, elf: Elf, model: str, folder: Path) -> None:
        self._elf, self._model, self._out, self._library = elf, model, folder / "count", folder / "counter.so"
        # Version 2 of the interface came with QEMU 8.2 and is the oldest that later ones take.
        wanted = 1 if version(program) < (8, 2) else 2
        flags = [f"-DPLUGIN_VERSION={wanted}", "-Wl,-z,undefs"]  # QEMU itself has what it calls
        zig.link_shared([SOURCE], load_target("host"), self._library, flags=flags)

    @property
    def argument(self) -> str:
        """What ``-plugin`` takes."""
        model, caller = self._elf.symbol(self._model), self._elf.symbol(_CALLER)
        places = {
            "entry": model.address,
            "end": _end(model),
            "caller_begin": caller.address,
            "caller_end": _end(caller),
        }
        return ",".join([str(self._library), f"out={self._out}", *(f"{k}={v}" for k, v in places.items())])

    def read(self) -> Count | None:
        """What was counted; None when the plugin did not see an inference to its end."""
        if not self._out.is_file():
            return None
        calls: list[tuple[str, int]] = []
        code: list[Tally[bytes]] = []
        instructions = None
        for line in self._out.read_text("ascii").splitlines():
            kind, *numbers = line.split()
            if kind == "call":
                calls.append((self._name(int(numbers[0])), int(numbers[1])))
                code.append(Tally())
            elif kind == "block":
                address, size, times = map(int, numbers)
                code[-1][self._elf.read(address, size)] += times
            else:
                instructions = int(numbers[0])
        return None if instructions is None else Count(instructions, tuple(calls), tuple(code))

    def _name(self, address: int) -> str:
        function = self._elf.function_at(address)
        return f"0x{address:x}" if function is None else function.name


def _end(symbol: Symbol) -> int:
    return symbol.address + symbol.size

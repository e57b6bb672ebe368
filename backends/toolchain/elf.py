"""What is in an ELF file: sizes by kind, symbols, and the bytes that go to flash."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from irshrink.errors import ToolError

_WRITE, _ALLOC, _EXECUTE = 1, 2, 4  # SHF_* of the ELF specification

#: Sections of this prefix are guard space of the emulator; they exist on no device.
RED_ZONE = ".red_zone"


@dataclass(frozen=True)
class Symbol:
    """A named address. ``section`` is the section's name, or empty for absolute symbols; sizes in bytes."""

    name: str
    address: int
    size: int
    section: str
    is_function: bool


@dataclass(frozen=True)
class Sizes:
    """Bytes by where they end up.

    Attributes:
        code: machine code, vector table included.
        rodata: constants: weights, tables.
        data: initialized variables; they take flash for their first value and RAM to live in.
        bss: zero-initialized variables, the arena among them.
    """

    code: int = 0
    rodata: int = 0
    data: int = 0
    bss: int = 0

    @property
    def flash(self) -> int:
        """Everything that is loaded in flash."""
        return self.code + self.rodata + self.data

    @property
    def ram(self) -> int:
        """Static RAM; the stack comes on top."""
        return self.data + self.bss


@dataclass(frozen=True)
class Elf:
    """An ELF file in memory.

    Attributes:
        sections: ``{name: bytes}`` of every section that takes memory on the device.
        segments: ``(load address, bytes)`` of everything that is written to memory before the start.
        symbols: every named symbol, by address and name.
    """

    path: Path
    sizes: Sizes
    sections: dict[str, int]
    segments: tuple[tuple[int, bytes], ...]
    symbols: tuple[Symbol, ...]

    @cached_property
    def _by_name(self) -> dict[str, Symbol]:
        return {s.name: s for s in reversed(self.symbols)}

    @cached_property
    def _functions(self) -> list[Symbol]:
        return [s for s in self.symbols if s.is_function]

    @cached_property
    def _starts(self) -> list[int]:
        return [s.address for s in self._functions]

    def has(self, name: str) -> bool:
        return name in self._by_name

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name.

        Raises:
            ToolError: there is none.
        """
        if name not in self._by_name:
            raise ToolError(f"{self.path}: no symbol '{name}'.")
        return self._by_name[name]

    def function_at(self, address: int) -> Symbol | None:
        """The function that contains ``address``, or None."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        found = self._functions[at]
        return found if address < found.address + max(found.size, 1) else None

    def read(self, address: int, size: int) -> bytes:
        """What is there when the program starts.

        Raises:
            ToolError: nothing is loaded there.
        """
        for start, content in self.segments:
            if start <= address and address + size <= start + len(content):
                return content[address - start : address - start + size]
        raise ToolError(f"{self.path}: nothing is loaded at 0x{address:x}.")

    def describe(self, address: int) -> str:
        """``"conv_0+0x1c (0x00000412)"``, or the bare address outside of every function."""
        function = self.function_at(address)
        if function is None:
            return f"0x{address:08x}"
        return f"{function.name}+0x{address - function.address:x} (0x{address:08x})"


def read_elf(path: Path) -> Elf:
    """Read an ELF executable, shared library or relocatable object.

    Raises:
        ToolError: the file is missing or is not ELF.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            file = ELFFile(stream)
            sections = list(file.iter_sections())
            return Elf(
                path=path,
                sizes=_sizes(sections),
                sections=_section_sizes(sections),
                segments=_segments(file),
                symbols=_symbols(file, sections),
            )
    except OSError as e:
        raise ToolError(f"{path}: cannot be read: {e.strerror or e}.") from e
    except ELFError as e:
        raise ToolError(f"{path}: not an ELF file: {e}.") from e


def total(parts: list[Sizes]) -> Sizes:
    """The sum, for example of the objects of a library."""
    return Sizes(
        sum(p.code for p in parts),
        sum(p.rodata for p in parts),
        sum(p.data for p in parts),
        sum(p.bss for p in parts),
    )


def _takes_memory(section: Any) -> bool:
    allocated = bool(section["sh_flags"] & _ALLOC)
    return allocated and section["sh_size"] > 0 and not section.name.startswith(RED_ZONE)


def _sizes(sections: list[Any]) -> Sizes:
    kinds = dict.fromkeys(("code", "rodata", "data", "bss"), 0)
    for section in filter(_takes_memory, sections):
        flags = section["sh_flags"]
        if section["sh_type"] == "SHT_NOBITS":
            kind = "bss"
        elif flags & _EXECUTE:
            kind = "code"
        else:
            kind = "data" if flags & _WRITE else "rodata"
        kinds[kind] += section["sh_size"]
    return Sizes(**kinds)


def _section_sizes(sections: list[Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for section in filter(_takes_memory, sections):
        sizes[section.name] = sizes.get(section.name, 0) + section["sh_size"]
    return sizes


def _segments(file: Any) -> tuple[tuple[int, bytes], ...]:
    return tuple(
        (segment["p_paddr"], segment.data())
        for segment in file.iter_segments()
        if segment["p_type"] == "PT_LOAD" and segment["p_filesz"] > 0
    )


def _symbols(file: Any, sections: list[Any]) -> tuple[Symbol, ...]:
    table = file.get_section_by_name(".symtab")
    if table is None:
        return ()
    found = []
    for entry in table.iter_symbols():
        index = entry["st_shndx"]
        kind = entry["st_info"]["type"]
        # `$t` and `$d` only mark where code and literals start.
        if not entry.name or entry.name.startswith("$") or kind == "STT_FILE" or index == "SHN_UNDEF":
            continue
        section = sections[index].name if isinstance(index, int) else ""
        is_function = kind == "STT_FUNC"
        # Bit 0 of a function's address says Thumb; it is no part of the address.
        address = entry["st_value"] & ~1 if is_function else entry["st_value"]
        found.append(Symbol(entry.name, address, entry["st_size"], section, is_function))
    return tuple(sorted(found, key=lambda s: (s.address, s.name)))

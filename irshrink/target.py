"""Targets and boards: hardware as data.

A target is a processor core (``targets/<name>.toml``); a board is a core with memory sizes
(``boards/<name>.toml``). Both may also be a path to a TOML file of the user's.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from irshrink.cpuinfo import cpu_flags
from irshrink.errors import TargetError, nearest
from irshrink.files import why_no_file
from irshrink.validation import complaint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
HERE = Path(__file__).parent


#: The largest team of threads that a build can have.
MOST_THREADS = 64

#: What each emulator has to be told, besides ``cpu``.
_EMULATORS: dict[str, tuple[str, ...]] = {
    "unicorn": ("flash_base", "ram_base"),
    "qemu-user": ("program",),
    "qemu-system": ("program", "machine", "flash_base", "ram_base"),
}


class Emulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How builds run on a machine that is not the target.

    Attributes:
        cpu: the core, in the emulator's spelling.
        emulator: ``unicorn`` runs Cortex-M and comes with irshrink; ``qemu-user`` runs programs for Linux,
            ``qemu-system`` a board without an operating system.
        program: QEMU's program (``qemu-aarch64``).
        machine: the board that ``qemu-system`` models.
        flash_base, ram_base: addresses of flash and RAM, for what runs without an operating system.
        memory_base: address of a large memory of the machine, where flash and RAM lie instead when they are
            emulated; only the vector table is then left at ``flash_base``.
    """

    cpu: str
    emulator: Literal["unicorn", "qemu-user", "qemu-system"] = "unicorn"
    program: str | None = None
    machine: str | None = None
    flash_base: int | None = None
    ram_base: int | None = None
    memory_base: int | None = None

    def __post_init__(self) -> None:
        needed = _EMULATORS[self.emulator]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.emulator} also needs {' and '.join(missing)}")
        foreign = [
            name
            for name in ("program", "machine", "flash_base", "ram_base")
            if name not in needed and getattr(self, name) is not None
        ]
        if foreign:
            raise ValueError(f"{self.emulator} takes no {' and no '.join(foreign)}")
        if self.program is not None and not re.fullmatch(r"qemu-[a-z0-9-]+", self.program):
            raise ValueError(f"'{self.program}' is no program of QEMU's, such as qemu-aarch64")


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A processor core as the compiler sees it.

    Attributes:
        name: what ``--target`` takes.
        description: one line for ``irshrink targets``.
        triple: target triple of the C compiler.
        cpu: CPU name with feature suffixes, in the C compiler's spelling.
        gcc_flags: the same core in GCC's spelling, for the user's own build.
        features: what kernels may use: ``dsp`` (SMLAD, SXTB16, QADD), ``fpu`` (hardware float32), ``fma``
            (float32 multiply-add with one rounding: changes the last bits of float sums), ``simd``
            (vectors that the C compiler makes of loops), ``thumb1`` (eight registers at hand), and what the
            core has besides: ``neon``, ``mve`` and ``mve_float`` (its float lanes, which kernels requantize
            with), ``dotprod``, ``i8mm``, ``fp16`` (arithmetic of float16), ``avx2``, ``vnni``; ``threads``
            (several cores under Linux, atomic instructions).
        backend: which backend compiles for it.
        emulation: how to emulate it, or None for the machine irshrink itself runs on.
        cpu_flags: what that machine needs, in the words of its /proc/cpuinfo.
        flash_bytes, ram_bytes: budget of the memory, None for no limit; boards set them.
        threads: how many threads a build can use at most; 1 is a build without any.
        memory: ``small`` makes the arena as small as it gets at the price of some instructions, ``fast`` only
            as small as ``ram_bytes`` asks for (docs/memory.md).
        channel_multiple: of how many channels kernels work at a time: pruning leaves multiples of it.
        stated: which of "flash" and "ram" the user limited by an option, whatever the board has.
    """

    name: str
    description: str
    triple: str
    cpu: str
    backend: str = "tvm"
    gcc_flags: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    emulation: Emulation | None = None
    cpu_flags: frozenset[str] = frozenset()
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    memory: Literal["fast", "small"] = "fast"
    board: str | None = None
    threads: int = 1
    channel_multiple: int = 1
    stated: frozenset[str] = frozenset()

    def has(self, feature: str) -> bool:
        return feature in self.features

    def limit(self, memory: Literal["flash", "ram"]) -> str:
        """A limit that there is, and who set it: ``the 65,536 of bluepill``, ``the 1,024 of --flash 1K``."""
        nbytes = self.flash_bytes if memory == "flash" else self.ram_bytes
        assert nbytes is not None, memory
        if memory in self.stated:
            return f"the {nbytes:,} of --{memory} {_size_text(nbytes)}"
        return f"the {nbytes:,} of {self.board or self.name}"


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A target on a board: sizes in bytes, as the data sheet gives them."""

    name: str
    description: str
    target: str
    flash_bytes: int
    ram_bytes: int
    source: str


def target_names() -> list[str]:
    return sorted(p.stem for p in (HERE / "targets").glob("*.toml"))


def board_names() -> list[str]:
    return sorted(p.stem for p in (HERE / "boards").glob("*.toml"))


def load_board(name: str) -> Board:
    return _read(HERE / "boards" / f"{name}.toml", Board)


def load_target(name: str) -> Target:
    """A target by its name, by a board's name, or by the path of a TOML file of either kind.

    Raises:
        TargetError: no such target or board (names the nearest), or the file does not fit.
    """
    if name.endswith(".toml"):
        return _from_file(Path(name))
    if name == "host":
        return _host()
    if name in target_names():
        return _read(HERE / "targets" / f"{name}.toml", Target)
    if name in board_names():
        return _on_board(load_board(name))
    raise TargetError(f"unknown target '{name}'.{nearest(name, [*target_names(), *board_names()])}")


def with_memory(
    target: Target, flash: int | None, ram: int | None, memory: Literal["fast", "small"] | None = None
) -> Target:
    """The target with what is given of memory limits (``--flash``, ``--ram``) and trade (``--memory``)."""
    return msgspec.structs.replace(
        target,
        flash_bytes=target.flash_bytes if flash is None else flash,
        ram_bytes=target.ram_bytes if ram is None else ram,
        memory=memory or target.memory,
        stated=frozenset(name for name, limit in (("flash", flash), ("ram", ram)) if limit is not None),
    )


def with_threads(target: Target, threads: int | None) -> Target:
    """The target for builds that can use so many threads (``--threads``).

    Raises:
        TargetError: it has no threads.
    """
    wanted = target.threads if threads is None else threads
    if wanted > 1 and not target.has("threads"):
        raise TargetError(
            f"target '{target.name}' runs one thread, not {wanted}: more need Linux and a processor with "
            "atomic instructions. Leave --threads out, or add 'threads' to the features of your target file."
        )
    return msgspec.structs.replace(target, threads=wanted)


def parse_size(text: str, what: str = "size") -> int:
    """``"256K"``, ``"1M"``, ``"65536"`` in bytes (K = 1024).

    Raises:
        TargetError: not a size.
    """
    match = re.fullmatch(r"(\d+)\s*([KM]?)(I?B)?", text.strip().upper())
    if match is None:
        raise TargetError(f"{what}: '{text}' is not a size. Write bytes or a unit: 65536, 64K, 1M.")
    return int(match[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[match[2]]


def _size_text(nbytes: int) -> str:
    """The size as :func:`parse_size` takes it, in the largest unit that it is a multiple of."""
    for unit, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if nbytes and nbytes % unit == 0:
            return f"{nbytes // unit}{letter}"
    return str(nbytes)


def _host() -> Target:
    """This machine: of the descriptions that fit it, the one that uses most of it."""
    files = sorted((HERE / "hosts").glob(f"{platform.machine()}*.toml"))
    fitting = [t for t in (_read(file, Target) for file in files) if t.cpu_flags <= cpu_flags()]
    best = max(fitting, key=lambda t: len(t.cpu_flags), default=_read(HERE / "targets" / "host.toml", Target))
    return msgspec.structs.replace(best, name="host")


def _from_file(path: Path) -> Target:
    if not path.is_file():
        raise TargetError(f"{path}: {why_no_file(path)}. Give the TOML file of a target or board.")
    raw = _toml(path)
    if "target" in raw:
        return _on_board(_convert(path, raw, Board))
    return _convert(path, raw, Target)


def _on_board(board: Board) -> Target:
    return msgspec.structs.replace(
        load_target(board.target),
        flash_bytes=board.flash_bytes,
        ram_bytes=board.ram_bytes,
        board=board.name,
    )


def _read(path: Path, kind: type[T]) -> T:
    return _convert(path, _toml(path), kind)


def _toml(path: Path) -> dict[str, object]:
    try:
        values: dict[str, object] = tomllib.loads(path.read_text("utf-8"))
        return values
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise TargetError(f"{path}: not valid TOML: {e}.") from e


def _convert(path: Path, raw: dict[str, object], kind: type[T]) -> T:
    convert: Callable[..., T] = msgspec.convert
    try:
        return convert({"name": path.stem, **raw}, kind)
    except msgspec.ValidationError as e:
        raise TargetError(f"{path}: {complaint(e, kind)}") from e

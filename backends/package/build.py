"""The package's library, built by our toolchain: objects once, then everything that is linked from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from irshrink.backends.toolchain import zig
from irshrink.names import Names
from irshrink.target import Target


def compile_library(
    folder: Path, target: Target, scratch: Path, *, optimize: str = "-O2", flags: Sequence[str] = ()
) -> list[Path]:
    """Objects of everything in ``src/`` that compiles, in ``scratch``, in the order of their names.

    Raises:
        ToolError: it does not compile.
    """
    source = folder / "src"
    sources = sorted([*source.glob("*.c"), *source.glob("*.S")])
    return zig.compile_objects(sources, target, scratch, include=[source], optimize=optimize, flags=flags)


def link_libraries(folder: Path, target: Target, objects: Sequence[Path], names: Names) -> None:
    """Write the shared library and, for another machine than this, the static one.

    Raises:
        ToolError: the linker failed.
    """
    if zig.is_bare_metal(target):
        return
    (folder / "lib").mkdir(exist_ok=True)
    zig.link_library(objects, target, folder / names.shared)
    if target.emulation is not None:
        zig.archive(objects, folder / names.archive)

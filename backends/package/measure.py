"""How much flash and RAM the library of a package takes, without start-up code and test."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from irshrink import files
from irshrink.backends.package.files import linker_script
from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import Sizes, read_elf, total
from irshrink.names import DEFAULT_NAMES, Names, api
from irshrink.target import Target, with_memory

_ENOUGH = 256 << 20


def library_sizes(objects: Sequence[Path], target: Target, names: Names = DEFAULT_NAMES) -> Sizes:
    """Sizes of a model's objects and of what they need from the compiler's library (memcpy, soft float).

    On bare metal the linked sizes, every function of the header being used; elsewhere the sum over the
    objects. The memory of a board does not limit it: the caller compares and can say by how much a model is
    too large.

    Raises:
        ToolError: it does not link.
    """
    if not zig.is_bare_metal(target):
        return total([read_elf(o).sizes for o in objects])
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        script, image = Path(scratch) / "library.ld", Path(scratch) / "library.elf"
        files.write_text(script, linker_script(with_memory(target, _ENOUGH, _ENOUGH)))
        entry, *others = (function for symbol in names.symbols for function in api(symbol))
        zig.link_firmware(objects, target, script, image, entry=entry, keep=others)
        return read_elf(image).sizes

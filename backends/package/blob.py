"""Large constants, linked as the bytes they are: C text of megabytes takes minutes and gigabytes to compile.

``<name>.bin`` holds the bytes, ``<name>.S`` includes them under the symbol ``<name>``. The assembler file is
for GCC, Clang and zig on every target; it names the digest of the bytes, so no cache takes it for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

#: Every constant begins at a multiple of this: a cache line, and more than any vector load asks for.
ALIGNMENT = 64


def joined(parts: Mapping[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """All parts one after the other, aligned, and the offset of each."""
    offsets: dict[str, int] = {}
    pieces: list[bytes] = []
    size = 0
    for name, data in parts.items():
        offsets[name] = size
        padding = -len(data) % ALIGNMENT
        pieces += [data, bytes(padding)]
        size += len(data) + padding
    return b"".join(pieces), offsets


def blob_files(name: str, data: bytes) -> dict[str, str | bytes]:
    """``<name>.bin`` and ``<name>.S``; ``<NAME>_FILE`` may be defined where the assembler looks elsewhere."""
    digest = hashlib.sha256(data).hexdigest()
    macro = f"{name.upper()}_FILE"
    assembly = f"""/* {name}.bin as it is; SHA-256 {digest}. */
#ifndef {macro}
#define {macro} "{name}.bin"
#endif

    .section .rodata.{name}, "a", %progbits
    .balign {ALIGNMENT}
    .globl {name}
    .hidden {name}
    .type {name}, %object
{name}:
    .incbin {macro}
    .size {name}, . - {name}

    .section .note.GNU-stack, "", %progbits
"""
    return {f"{name}.bin": data, f"{name}.S": assembly}


def declaration(name: str) -> str:
    """The C declaration of the symbol."""
    return (
        f'extern const uint8_t {name}[] __attribute__((visibility("hidden"), aligned({ALIGNMENT}))); '
        f"/* {name}.S */\n"
    )

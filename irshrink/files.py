"""Files that appear complete or not at all, and digests of them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from irshrink.errors import OutputError


@contextmanager
def written_beside(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes ``path`` when the block ends without an error.

    It is written beside; the old file stays until the new one is whole.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as e:
        raise OutputError(f"{path}: cannot be written: {e.strerror or e}.") from e


def write_bytes(path: Path, data: bytes) -> None:
    """The whole content at once; see :func:`written_beside`."""
    with written_beside(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """:func:`write_bytes` of UTF-8 with newlines as they are."""
    write_bytes(path, text.encode("utf-8"))


def write(path: Path, content: str | bytes) -> None:
    """:func:`write_text` or :func:`write_bytes`."""
    write_bytes(path, content.encode("utf-8") if isinstance(content, str) else content)


def why_no_file(path: Path) -> str:
    """Half a sentence about a path that is no regular file: what it is instead, or that there is nothing."""
    if path.is_dir():
        return "is a folder"
    if path.is_symlink() and not path.exists():
        return "is a link to a file that does not exist"
    kinds = ((path.is_char_device, "device"), (path.is_block_device, "device"), (path.is_fifo, "pipe"),
             (path.is_socket, "socket"))  # fmt: skip
    kind = next((kind for is_kind, kind in kinds if is_kind()), None)
    return "no such file" if kind is None else f"is a {kind}, not a file"


def sha256(*paths: Path) -> str:
    """Hexadecimal SHA-256 of files, one after the other, read in blocks."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()

"""How the two processes talk: a message is a list of byte strings, each behind its length."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

_NUMBER = struct.Struct("<q")


def write_message(stream: BinaryIO, parts: Sequence[bytes | memoryview]) -> None:
    """Raises BrokenPipeError when nobody reads."""
    stream.write(_NUMBER.pack(len(parts)))
    for part in parts:
        stream.write(_NUMBER.pack(len(part)))
        stream.write(part)
    stream.flush()


def read_message(stream: BinaryIO) -> list[bytes] | None:
    """None when the other side has gone."""
    count = _number(stream)
    if count is None:
        return None
    parts = []
    for _ in range(count):
        length = _number(stream)
        part = None if length is None else stream.read(length)
        if part is None or len(part) != length:
            return None
        parts.append(part)
    return parts


def _number(stream: BinaryIO) -> int | None:
    data = stream.read(_NUMBER.size)
    return int(_NUMBER.unpack(data)[0]) if len(data) == _NUMBER.size else None

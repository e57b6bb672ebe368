"""The rows of a CSV file, one at a time, and what their cells may be."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from irshrink.errors import SamplesError

#: Characters of a row. It is in memory, and a file may be one endless row; a float32 takes about ten.
_LONGEST_ROW = 1 << 25
#: Cells that a message shows in full.
_SHOWN = 24
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def records(path: Path, separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Row number, the first is 1, and cells of every row of a UTF-8 file; of an empty row there are none.

    Raises:
        SamplesError: the file cannot be read, is not UTF-8 text, its quotes are wrong, or a row is endless.
    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = _Lines(path, stream)
            for number, cells in enumerate(csv.reader(lines, delimiter=separator, strict=True), start=1):
                yield number, cells
                lines.held = 0
    except UnicodeDecodeError as e:
        raise SamplesError(
            f"{path}: is not UTF-8 text, in row {number + 1} or soon after. Save the file as UTF-8."
        ) from e
    except csv.Error as e:
        raise SamplesError(f"{path}: row {number + 1} is not CSV: {e}.") from e
    except OSError as e:
        raise SamplesError(f"{path}: cannot be read: {e.strerror or e}.") from e


class _Lines:
    """The lines of a file, as long as a row of them stays within bounds."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self.held = 0
        self._path, self._stream = path, stream

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(_LONGEST_ROW)
        self.held += len(line)
        if not line:
            raise StopIteration
        if self.held >= _LONGEST_ROW:
            raise SamplesError(
                f"{self._path}: a row has more than {_LONGEST_ROW:,} characters. End rows with a line break."
            )
        return line


def is_integer(text: str) -> bool:
    """Whether it is an integer of at most 18 digits, in ASCII."""
    return _INTEGER.fullmatch(text) is not None


def is_index(text: str) -> bool:
    """Whether it is an integer without a sign."""
    return is_integer(text) and text[0].isdecimal()


def is_number(text: str) -> bool:
    """Whether it is a finite number as C writes them: a decimal point, no groups of digits, no words."""
    return _NUMBER.fullmatch(text) is not None


def shown(text: str) -> str:
    """A cell in quotes, shortened."""
    return f"'{text}'" if len(text) <= _SHOWN else f"'{text[:_SHOWN]}...'"

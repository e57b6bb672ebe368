"""Samples from a CSV file: a row each, read and converted row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irshrink.console import plural
from irshrink.errors import SamplesError
from irshrink.samples.columns import Layout, find_layout
from irshrink.samples.labels import Classes, targets
from irshrink.samples.options import CsvOptions
from irshrink.samples.records import is_number, records, shown
from irshrink.samples.source import Array, InputSpec, Role, digest_of

#: Labels are all in memory.
_MOST_ROWS = 1 << 24
#: Characters of a number; more are no number that anybody meant.
_LONGEST = 64
_WORDS = {"tab": "\t", "space": " "}
#: All characters of finite numbers; what else ``float`` and ``int`` take is written with others.
_REAL, _WHOLE = re.compile(r"[0-9eE+\-. ]*"), re.compile(r"[0-9+\- ]*")


@dataclass(frozen=True)
class CsvSource:
    """See :class:`irshrink.samples.Source`."""

    path: Path
    inputs: tuple[InputSpec, ...]
    separator: str
    layout: Layout
    count: int
    labels: Array | None

    @classmethod
    def open(
        cls,
        path: Path,
        inputs: Sequence[InputSpec],
        options: CsvOptions | None,
        role: Role,
        names: Sequence[str] = (),
    ) -> CsvSource:
        """Match the columns, count the rows and read the labels, which are left where nobody asks for them.

        Args:
            names: of the model's classes, if it has any.

        Raises:
            SamplesError: the file is no table, or its columns or labels fit neither the model nor what is
                declared.
        """
        options = options or CsvOptions()
        for spec in inputs:
            if spec.dtype.kind not in "fiub":
                raise SamplesError(f"{path}: the input '{spec.name}' takes {spec.dtype}. Give an .npz.")
        classes = Classes.of(path, options.classes, names)
        separator = _separator(path, options)
        rows = records(path, separator)
        header = next(rows, (1, []))[1]
        if not header:
            raise SamplesError(f"{path}: row 1 is empty; it must name the columns.")
        layout = find_layout(path, header, inputs, options, judged=role == "evaluation")
        columns: list[list[str]] = [[] for _ in layout.labels]
        count = 0
        for number, cells in _full_rows(path, rows, layout):
            count += 1
            if count > _MOST_ROWS:
                raise SamplesError(f"{path}: more than {_MOST_ROWS:,} rows; no more samples are read.")
            for column, place in zip(columns, layout.labels, strict=True):
                column.append(_label(path, cells[place], number, layout.names[place]))
        labels = None
        if columns and count and role != "input":
            labels = _labels(path, columns, classes, layout)
        return cls(path, tuple(inputs), separator, layout, count, labels)

    def rows(self, select: Array) -> Iterator[dict[str, Array]]:
        wanted = iter([*(int(row) for row in select), None])
        row = next(wanted)
        table = records(self.path, self.separator)
        next(table, None)
        for index, (number, cells) in enumerate(_full_rows(self.path, table, self.layout)):
            if row is None:
                return
            if index == row:
                yield {spec.name: self._values(spec, cells, number) for spec in self.inputs}
                row = next(wanted)
        if row is not None:
            raise SamplesError(f"{self.path}: the file became shorter while it was read. Start again.")

    def describe(self, row: int) -> str:
        return f"row {row + 2}"

    def digest(self, select: Array) -> str:
        return digest_of(self.rows(select), self.labels, select)

    def _values(self, spec: InputSpec, cells: Sequence[str], number: int) -> Array:
        places = self.layout.inputs[spec.name]
        texts = [cells[place] for place in places]
        values = _converted(texts, spec)
        if values is not None:
            return values.reshape(spec.sample_shape)
        bad = next(i for i, text in enumerate(texts) if _converted([text], spec) is None)
        raise SamplesError(
            f"{self.path}: row {number}, column '{self.layout.names[places[bad]]}' "
            f"{_complaint(texts[bad].strip(), spec)}"
        )


def _converted(texts: Sequence[str], spec: InputSpec) -> Array | None:
    """Numbers in the input's type, finite; None where a cell is none or does not fit."""
    real = spec.dtype.kind == "f"
    allowed = _REAL if real else _WHOLE
    if allowed.fullmatch("".join(texts)) is None or max(map(len, texts), default=0) > _LONGEST:
        return None
    try:
        if real:
            with np.errstate(over="ignore"):
                values = np.array([float(text) for text in texts], np.float64).astype(spec.dtype)
            return values if np.isfinite(values).all() else None
        integers = [int(text) for text in texts]
    except ValueError:
        return None
    low, high = _limits(spec)
    if integers and not low <= min(integers) <= max(integers) <= high:
        return None
    return np.array(integers, spec.dtype)


def _limits(spec: InputSpec) -> tuple[int, int]:
    if spec.dtype.kind == "b":
        return 0, 1
    limits = np.iinfo(spec.dtype)
    return int(limits.min), int(limits.max)


def _complaint(text: str, spec: InputSpec) -> str:
    """What is wrong with a cell, from the verb on."""
    if not text:
        return "is empty. Give a number, or leave the row out."
    if re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text):
        return f"is {shown(text)}. Write a decimal point, not a comma."
    if not is_number(text) or len(text) > _LONGEST:
        return f"is {shown(text)}, which is no number. Give a finite one, such as -1.5e-3."
    if spec.dtype.kind == "f":
        return f"is {shown(text)}, which is too large for {spec.dtype}."
    low, high = _limits(spec)
    return f"is {shown(text)}; the input '{spec.name}' takes integers from {low} to {high}."


def _full_rows(
    path: Path, rows: Iterator[tuple[int, list[str]]], layout: Layout
) -> Iterator[tuple[int, list[str]]]:
    """Rows with as many cells as the header; empty ones may end the file."""
    empty = 0
    for number, cells in rows:
        if not cells:
            empty = empty or number
            continue
        if empty:
            raise SamplesError(f"{path}: row {empty} is empty. Leave it out.")
        if len(cells) != len(layout.names):
            raise SamplesError(
                f"{path}: row {number} has {plural(len(cells), 'cell')}, the header has {len(layout.names)}."
            )
        yield number, cells


def _separator(path: Path, options: CsvOptions) -> str:
    given = options.separator
    if given is None:
        return "\t" if path.suffix.lower() == ".tsv" else ","
    found = _WORDS.get(given, given)
    if len(found) != 1 or found.isalnum() or found in '"\r\n+-._\0':
        raise SamplesError(
            f"{path}: separator = '{given}' separates nothing. Give a character such as ';', or tab or space."
        )
    return found


def _label(path: Path, cell: str, number: int, column: str) -> str:
    label = cell.strip()
    if not label:
        raise SamplesError(f"{path}: row {number}, column '{column}' is empty. Every sample needs its label.")
    return label


def _labels(path: Path, columns: Sequence[Sequence[str]], classes: Classes, layout: Layout) -> Array:
    """Class indices, int64 [n]; or the numbers of a regression, float64 [n] or [n, columns]."""
    several = len(columns) > 1
    indices = None if several else classes.indices(columns[0])
    if indices is not None:
        return np.array(indices, np.int64)
    if several or not classes.names:
        numbers = targets(columns)
        if numbers is not None:
            return numbers
    if several:
        raise SamplesError(f"{path}: several columns of labels must hold finite numbers, of a regression.")
    row, column = classes.first_wrong(columns[0]) + 2, layout.names[layout.labels[0]]
    raise SamplesError(f"{path}: row {row}, column '{column}': {classes.complaint(columns[0])}")

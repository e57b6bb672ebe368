"""Which column of a table is which number of which input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from irshrink.console import plural
from irshrink.errors import SamplesError, nearest
from irshrink.samples.options import CsvOptions
from irshrink.samples.records import is_number
from irshrink.samples.source import InputSpec

#: Columns that hold labels if nothing is declared.
LABELS = ("y", "label")
_INDICES = re.compile(r"\[ *([0-9]{1,9}(?: *, *[0-9]{1,9})*) *\]|\.([0-9]{1,9}(?:\.[0-9]{1,9})*)")


@dataclass(frozen=True)
class Layout:
    """What the columns of a table are.

    Attributes:
        names: of all columns.
        inputs: places of an input's columns in the order of its values, by its name.
        labels: places of the labels; none where there are none.
    """

    names: tuple[str, ...]
    inputs: Mapping[str, tuple[int, ...]]
    labels: tuple[int, ...]


def find_layout(
    path: Path, header: Sequence[str], inputs: Sequence[InputSpec], options: CsvOptions, *, judged: bool
) -> Layout:
    """Match columns to inputs by their names and by what is declared.

    A column named like an input of one number is that input's; ``x.3``, ``x[3]``, ``x.0.3`` and ``x[0,3]``
    are values of the input ``x``, by index in its sample, flat or by axis. All others fill the one input
    that has none of these.

    Args:
        judged: whether declared columns of labels must be there.

    Raises:
        SamplesError: a column is missing, is too many or fits nothing.
    """
    names = [name.strip() for name in header]
    _check_names(path, names, options)
    by_name = {spec.name: spec for spec in inputs}
    if options.input is not None and options.input not in by_name:
        raise SamplesError(
            f"{path}: input = '{options.input}', which the model has not.{nearest(options.input, by_name)}"
        )
    owned = {n: _owner(path, n, inputs, options) for n in names if n not in options.columns}
    labels = _label_columns(path, names, owned, options, judged)
    given = [n for n in names if n not in options.ignore and n not in labels]
    filled: dict[str, dict[int, str]] = {}
    for name in given:
        owner = owned.get(name)
        if owner is not None:
            _claim(path, filled.setdefault(owner[0], {}), owner, name)
    rest = options.columns or tuple(n for n in given if owned[n] is None)
    _fill(path, filled, rest, inputs, _advice(names, labels, options))
    place = {name: i for i, name in enumerate(names)}
    found = {}
    for spec in inputs:
        column = _complete(path, filled[spec.name], spec)
        found[spec.name] = tuple(place[name] for name in column)
    return Layout(tuple(names), found, tuple(place[name] for name in labels))


def _check_names(path: Path, names: Sequence[str], options: CsvOptions) -> None:
    if names and all(is_number(name) for name in names):
        raise SamplesError(
            f"{path}: row 1 holds numbers; it must name the columns. Put a row of names first."
        )
    for i, name in enumerate(names):
        if not name:
            raise SamplesError(
                f"{path}: column {i + 1} has no name. Name it in row 1, or leave the column out "
                "(of pandas' to_csv with index=False)."
            )
        if len(names) == 1 and (";" in name or "\t" in name or "," in name):
            raise SamplesError(f"{path}: row 1 is one column, {name!r:.60}. Declare the separator.")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SamplesError(f"{path}: two columns are named '{name}'. Give each its own name.")
        seen.add(name)
    for name in options.columns:
        if name not in seen:
            raise SamplesError(f"{path}: columns names '{name}', which is no column.{nearest(name, names)}")
        if options.columns.count(name) > 1:
            raise SamplesError(f"{path}: columns names '{name}' twice.")
        if name in options.ignore:
            raise SamplesError(f"{path}: '{name}' is in columns and in ignore. Leave it out of one.")


def _owner(path: Path, name: str, inputs: Sequence[InputSpec], options: CsvOptions) -> tuple[str, int] | None:
    """The input whose name the column bears, and the flat index in its sample."""
    for spec in sorted(inputs, key=lambda s: len(s.name), reverse=True):
        if spec.name == options.input or not name.startswith(spec.name):
            continue
        shape, size = spec.sample_shape, prod(spec.sample_shape)
        if name == spec.name and size == 1:
            return spec.name, 0
        match = _INDICES.fullmatch(name, len(spec.name))
        if match is None:
            continue
        indices = [int(i) for i in re.findall("[0-9]+", match[0])]
        limits = (size,) if len(indices) == 1 else shape
        if len(indices) != len(limits) or any(i >= n for i, n in zip(indices, limits, strict=True)):
            raise SamplesError(
                f"{path}: column '{name}' is outside of the input '{spec.name}', whose sample has the shape "
                f"{list(shape)}. Indices begin at 0."
            )
        return spec.name, int(np.ravel_multi_index(indices, limits))
    return None


def _label_columns(
    path: Path, names: Sequence[str], owned: Mapping[str, object], options: CsvOptions, judged: bool
) -> tuple[str, ...]:
    if options.label is None:
        found = [n for n in LABELS if owned.get(n, n) is None and n not in options.ignore]
        if len(found) > 1:
            raise SamplesError(
                f"{path}: has the columns 'y' and 'label'. Declare which one holds labels: label = 'y'."
            )
        return tuple(found)
    if options.label in ((), ("none",)) and "none" not in names:
        return ()
    if not judged and not any(name in names for name in options.label):
        return ()
    for name in options.label:
        if name not in names:
            raise SamplesError(f"{path}: label = '{name}', which is no column.{nearest(name, names)}")
        if name in options.columns or name in options.ignore or options.label.count(name) > 1:
            raise SamplesError(f"{path}: the column '{name}' of the labels is declared twice.")
    return options.label


def _claim(path: Path, filled: dict[int, str], owner: tuple[str, int], name: str) -> None:
    if owner[1] in filled:
        raise SamplesError(
            f"{path}: columns '{filled[owner[1]]}' and '{name}' are the same value of '{owner[0]}'."
        )
    filled[owner[1]] = name


def _fill(
    path: Path,
    filled: dict[str, dict[int, str]],
    rest: Sequence[str],
    inputs: Sequence[InputSpec],
    advice: str,
) -> None:
    """Give the columns without an input's name to the input that has none; ``advice`` ends a refusal."""
    still_open = [spec for spec in inputs if spec.name not in filled]
    if not still_open:
        if rest:
            raise SamplesError(
                f"{path}: column '{rest[0]}' belongs to no input. Name it like one, or declare ignore = "
                f"'{rest[0]}'."
            )
        return
    if len(still_open) > 1:
        listed = ", ".join(f"'{spec.name}'" for spec in still_open)
        raise SamplesError(
            f"{path}: the inputs {listed} have no columns of their own. Name columns after their input: "
            f"'{still_open[0].name}.0', '{still_open[0].name}.1' and so on."
        )
    spec = still_open[0]
    size = prod(spec.sample_shape)
    if len(rest) != size:
        held = f", '{rest[0]}' to '{rest[-1]}'" if rest else ""
        raise SamplesError(
            f"{path}: the input '{spec.name}' takes {plural(size, 'number')} and gets "
            f"{plural(len(rest), 'column')}{held}. {advice}"
        )
    filled[spec.name] = dict(enumerate(rest))


def _advice(names: Sequence[str], labels: Sequence[str], options: CsvOptions) -> str:
    """What to declare where the columns that are left for an input are too many or too few."""
    declared = [n for n in (*options.ignore, *(options.label or ())) if n != "none"]
    absent = next((n for n in declared if n not in names), None)
    if absent is not None:
        return f"'{absent}', which is declared, is no column.{nearest(absent, names)}"
    if not labels:
        return "Declare label = NAME for the column of the labels, ignore = NAME for what is no input."
    doubt = f", or label = 'none' if '{labels[0]}' holds no labels" if options.label is None else ""
    return f"Declare ignore = NAME for what is no input{doubt}."


def _complete(path: Path, filled: Mapping[int, str], spec: InputSpec) -> list[str]:
    size = prod(spec.sample_shape)
    for i in range(size):
        if i not in filled:
            raise SamplesError(
                f"{path}: no column '{spec.name}.{i}'; the input '{spec.name}' takes {size} numbers."
            )
    return [filled[i] for i in range(size)]

"""A folder of files, one a sample, and where their labels are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from irshrink.errors import SamplesError
from irshrink.samples.labels import Classes
from irshrink.samples.records import is_index, records
from irshrink.samples.source import Array

LABEL_FILE = "labels.csv"
Kind = Literal["auto", "csv", "folders", "stem", "none"]


def files_in(folder: Path, suffixes: Collection[str]) -> tuple[Path, ...]:
    """All files of these suffixes (lower case) in a folder and those below it, by path."""
    return tuple(sorted(f for f in folder.rglob("*") if f.suffix.lower() in suffixes and f.is_file()))


def labels_of(
    folder: Path, files: Sequence[Path], kind: Kind, classes: Classes | None = None, what: str = "images"
) -> Array | None:
    """Class indices, int64 [files], or None where there are no labels.

    Args:
        kind: see :class:`irshrink.samples.ImageOptions`.
        classes: what classes are called.
        what: the files, in messages.

    Raises:
        SamplesError: a file has no label, or one that is no class.
    """
    classes = classes or Classes()
    if kind == "auto":
        nested = all(len(f.relative_to(folder).parts) > 1 for f in files)
        kind = "csv" if (folder / LABEL_FILE).is_file() else "folders" if nested else "none"
    if kind == "none":
        return None
    if kind == "csv":
        return np.array(_from_csv(folder, files, classes, what), np.int64)
    if kind == "stem":
        return np.array(_from_stems(folder, files, classes), np.int64)
    return np.array(_from_folders(folder, files, classes), np.int64)


def _from_csv(folder: Path, files: Sequence[Path], classes: Classes, what: str) -> list[int]:
    """``file,label`` a line, the label an integer or a class's name; a header line is allowed."""
    path = folder / LABEL_FILE
    if not path.is_file():
        raise SamplesError(f"{path}: no such file. Write one line 'file,label' for each of the {what}.")
    table: dict[str, int] = {}
    for number, line in records(path):
        label = line[1].strip() if len(line) == 2 else ""
        found = classes.indices([label])
        if label and found is not None:
            table[line[0].strip()] = found[0]
        elif line and number > 1:
            named = "a class" if classes.names else "an integer"
            raise SamplesError(f"{path}: line {number} is not 'file,label' with {named} label.")
    names = [f.relative_to(folder).as_posix() for f in files]
    missing = [name for name in names if name not in table]
    if missing:
        raise SamplesError(f"{path}: no label for '{missing[0]}' ({len(missing)} of {len(names)} {what}).")
    return [table[name] for name in names]


def _from_stems(folder: Path, files: Sequence[Path], classes: Classes) -> list[int]:
    stems = [file.stem for file in files]
    found = _indices(stems, classes)
    if found is None:
        named, right = ("a class", classes.names.__contains__) if classes.names else ("a number", is_index)
        wrong = next(file for file in files if not right(file.stem))
        raise SamplesError(f"{folder}: labels = 'stem', but '{wrong.name}' is not {named}.")
    return found


def _from_folders(folder: Path, files: Sequence[Path], classes: Classes) -> list[int]:
    """The class that names the sub-folder: its number, or its place among sorted names if they are words."""
    parts = [f.relative_to(folder).parts for f in files]
    for file, part in zip(files, parts, strict=True):
        if len(part) < 2:
            raise SamplesError(f"{folder}: '{file.name}' is not in a sub-folder that names its class.")
    names = sorted({part[0] for part in parts})
    found = _indices(names, classes)
    if found is None and classes.names:
        raise SamplesError(f"{folder}: a sub-folder's name is no class: {classes.complaint(names)}")
    index = dict(zip(names, range(len(names)) if found is None else found, strict=True))
    return [index[part[0]] for part in parts]


def _indices(names: Sequence[str], classes: Classes) -> list[int] | None:
    if classes.names:
        return classes.indices(names)
    return [int(name) for name in names] if all(map(is_index, names)) else None

"""Samples from an ``.npz`` file, read row by row: never a whole array in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from irshrink.errors import SamplesError, nearest
from irshrink.samples.source import (
    Array,
    InputSpec,
    Role,
    castable,
    digest_of,
    fit,
    may_be_stored,
)

LABELS = "y"
_BLOCK = 1 << 20
#: They are all in memory; a small archive may unpack to any number of them.
_MOST_LABELS = 1 << 24
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class Member:
    """An array inside the archive, as its header describes it. Axis 0 are the samples."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class NpzSource:
    """See :class:`irshrink.samples.Source`."""

    path: Path
    inputs: tuple[InputSpec, ...]
    members: dict[str, Member]
    labels: Array | None

    @classmethod
    def open(cls, path: Path, inputs: Sequence[InputSpec], role: Role) -> NpzSource:
        """Read the headers and the labels.

        Raises:
            SamplesError: not an ``.npz``, or an array is missing, unknown, or of a wrong shape or dtype, or
                of one that leaves open what its numbers mean.
        """
        members = read_headers(path)
        wanted = {spec.name: spec for spec in inputs}
        for spec in inputs:
            if spec.name not in members:
                raise SamplesError(
                    f"{path}: no array '{spec.name}'; arrays are named like the model's inputs."
                    f"{_given(spec.name, [name for name in members if name not in wanted])}"
                )
        for name in members:
            if name not in wanted and name != LABELS:
                raise SamplesError(
                    f"{path}: array '{name}' is neither an input of the model ({_listed(wanted)}) nor the "
                    f"labels '{LABELS}'. Leave it out."
                )
        for spec in inputs:
            _check_member(path, members[spec.name], spec, role)
        count = _count(path, {name: members[name] for name in wanted})
        labels = None
        if LABELS in members and LABELS not in wanted:
            labels = _read_labels(path, members[LABELS], count)
        return cls(path, tuple(inputs), members, labels)

    @property
    def count(self) -> int:
        return self.members[self.inputs[0].name].shape[0]

    def rows(self, select: Array) -> Iterator[dict[str, Array]]:
        for raw in self._raw_rows(select):
            yield {spec.name: fit(raw[spec.name], spec) for spec in self.inputs}

    def describe(self, row: int) -> str:
        return f"sample {row}"

    def digest(self, select: Array) -> str:
        return digest_of(self._raw_rows(select), self.labels, select)

    def _raw_rows(self, select: Array) -> Iterator[dict[str, Array]]:
        try:
            with ExitStack() as stack:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                readers = {
                    spec.name: _row_reader(
                        stack.enter_context(_open(archive, spec.name)), self.members[spec.name]
                    )
                    for spec in self.inputs
                }
                for row in select:
                    yield {name: read(int(row)) for name, read in readers.items()}
        except _DAMAGED as e:
            raise _damaged(self.path) from e


def read_headers(path: Path) -> dict[str, Member]:
    """The arrays of an ``.npz`` by name, none of them read.

    Raises:
        SamplesError: the file is no ``.npz``, damaged, or holds something else than numbers.
    """
    if not zipfile.is_zipfile(path):
        raise SamplesError(
            f"{path}: not an .npz file, or a truncated one. Write it with numpy.savez(path, input=array)."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            return {name: _header(path, archive, name) for name in names}
    except _DAMAGED as e:
        raise _damaged(path) from e


def _header(path: Path, archive: zipfile.ZipFile, name: str) -> Member:
    with archive.open(f"{name}.npy") as stream:
        try:
            shape, fortran, dtype = _read_header(stream)
        except ValueError as e:
            raise SamplesError(f"{path}: array '{name}' is damaged or no NumPy array. Write it again.") from e
    if any(size < 0 for size in shape):
        raise SamplesError(f"{path}: array '{name}' has the impossible shape {list(shape)}. Write it again.")
    if dtype.hasobject or dtype.kind not in "biuf":
        raise SamplesError(f"{path}: array '{name}' is of dtype {dtype}; numbers are needed.")
    if fortran and len(shape) > 1:
        raise SamplesError(
            f"{path}: array '{name}' is stored column by column. Save numpy.ascontiguousarray({name})."
        )
    return Member(name, shape, dtype)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return reader(stream)


def _open(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A member's stream, positioned behind the header."""
    stream = archive.open(f"{name}.npy")
    _read_header(stream)
    return stream


def _row_reader(stream: IO[bytes], member: Member) -> Callable[[int], Array]:
    position = 0

    def read(row: int) -> Array:
        nonlocal position
        _skip(stream, (row - position) * member.row_bytes)
        position = row + 1
        data = _read(stream, member.row_bytes)
        return np.frombuffer(data, member.dtype).reshape(member.shape[1:])

    return read


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _skip(stream: IO[bytes], size: int) -> None:
    while size > 0:
        size -= len(_read(stream, min(size, _BLOCK)))


def _check_member(path: Path, member: Member, spec: InputSpec, role: Role) -> None:
    if may_be_stored(member.dtype, spec.dtype, spec.codes):
        raise SamplesError(
            f"{path}: '{spec.name}' is {member.dtype}: numbers as the model takes them, or quantized ones? "
            f"Save the model's numbers as {spec.dtype}."
            + (
                " If they are quantized as the build stores them, say so with --stored."
                if role == "input"
                else " Of quantized ones these are (values - zero_point) * scale."
            )
        )
    if not castable(member.dtype, spec.dtype):
        raise SamplesError(
            f"{path}: '{spec.name}' is {member.dtype}, the model takes {spec.dtype}, and the conversion "
            f"could change values. Save it as {spec.dtype}."
        )
    expected = spec.sample_shape
    if member.shape[1:] in (expected, (1, *expected)) and member.shape:
        return
    raise SamplesError(
        f"{path}: '{spec.name}' has the shape {list(member.shape)}, expected {_shape(expected)} "
        "(the first axis counts the samples)."
    )


def _count(path: Path, members: dict[str, Member]) -> int:
    counts = {name: member.shape[0] for name, member in members.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise SamplesError(f"{path}: the inputs have different numbers of samples: {listed}.")
    return next(iter(counts.values()))


def _read_labels(path: Path, member: Member, count: int) -> Array:
    classes = member.dtype.kind in "iu"
    if not classes and member.dtype.kind != "f":
        raise SamplesError(
            f"{path}: labels 'y' are {member.dtype}; they must be integers, the class indices, or real "
            "numbers."
        )
    if member.shape[:1] != (count,) or (classes and member.shape not in ((count,), (count, 1))):
        raise SamplesError(
            f"{path}: labels 'y' have the shape {list(member.shape)}, expected [{count}]: one class index "
            "for each sample."
        )
    if prod(member.shape) > _MOST_LABELS:
        raise SamplesError(f"{path}: {prod(member.shape):,} labels; at most {_MOST_LABELS:,} are read.")
    try:
        with zipfile.ZipFile(path) as archive, _open(archive, LABELS) as stream:
            data = _read(stream, prod(member.shape) * member.dtype.itemsize)
    except _DAMAGED as e:
        raise _damaged(path) from e
    labels = np.frombuffer(data, member.dtype)
    if classes:
        return labels.astype(np.int64)
    if not np.isfinite(labels).all():
        raise SamplesError(f"{path}: labels 'y' hold NaN or infinity. Remove or mend these samples.")
    return labels.astype(np.float64).reshape(member.shape)


def _given(name: str, candidates: list[str]) -> str:
    others = [c for c in candidates if c != LABELS]
    return nearest(name, others) if others else " The file has no other array."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _shape(sample: tuple[int, ...]) -> str:
    return "[" + ", ".join(["n", *map(str, sample)]) + "]"


def _damaged(path: Path) -> SamplesError:
    return SamplesError(f"{path}: the file is damaged or truncated. Copy or write it again.")

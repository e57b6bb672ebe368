"""A checked sequence of samples, and where it is checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import is_zipfile

import numpy as np

from irshrink.errors import ModelError, SamplesError
from irshrink.files import why_no_file
from irshrink.graph.quantized import quantization_of
from irshrink.samples.options import AudioOptions, CsvOptions, Reading
from irshrink.samples.source import Array, ImageOptions, InputSpec, Role, Source

if TYPE_CHECKING:
    import onnx_ir as ir

#: Samples read at a time while validating; bounds memory, does not change a result.
_CHUNK = 16


@dataclass(frozen=True)
class Samples:
    """A checked sequence of samples; see :func:`load_samples`."""

    path: Path
    inputs: tuple[InputSpec, ...]
    source: Source
    select: Array

    def __len__(self) -> int:
        return len(self.select)

    @property
    def labels(self) -> Array | None:
        """Class indices, int64 [n], or numbers to be met, float64 [n, ...], or None."""
        labels = self.source.labels
        return None if labels is None else labels[self.select]

    @property
    def classes(self) -> Array | None:
        """Class indices, int64 [n]; None where there are no labels, or other ones."""
        labels = self.labels
        return None if labels is None or labels.dtype.kind == "f" else labels

    def batches(self, size: int) -> Iterator[dict[str, Array]]:
        """Arrays ``[n, *sample_shape]`` by input name, n = ``size`` or less in the last one."""
        rows: list[dict[str, Array]] = []
        for row in self.source.rows(self.select):
            rows.append(row)
            if len(rows) == size:
                yield self._stack(rows)
                rows = []
        if rows:
            yield self._stack(rows)

    def feeds(self) -> Iterator[dict[str, Array]]:
        """One sample at a time in exactly the shapes of the graph's inputs."""
        for row in self.source.rows(self.select):
            yield {spec.name: row[spec.name].reshape(spec.shape) for spec in self.inputs}

    def head(self, count: int) -> Samples:
        """The first ``count`` samples, or all of them."""
        return dataclasses.replace(self, select=self.select[:count])

    def tail(self, start: int) -> Samples:
        """The samples from ``start`` on."""
        return dataclasses.replace(self, select=self.select[start:])

    def spread(self, count: int) -> Samples:
        """At most ``count`` samples at even distances: a sorted folder still gives every class its share."""
        if count >= len(self):
            return self
        return dataclasses.replace(self, select=self.select[np.arange(count) * len(self) // count])

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what the samples hold, independent of path and file format details."""
        return self.source.digest(self.select)

    def _stack(self, rows: Sequence[dict[str, Array]]) -> dict[str, Array]:
        return {spec.name: np.stack([row[spec.name] for row in rows]) for spec in self.inputs}


def load_samples(
    path: Path | str,
    inputs: Sequence[InputSpec],
    *,
    image: ImageOptions | None = None,
    csv: CsvOptions | None = None,
    audio: AudioOptions | None = None,
    role: Role,
    classes: int | None = None,
    class_names: Sequence[str] = (),
) -> Samples:
    """Open an ``.npz`` or CSV file, or a folder of images or recordings, and check every sample in batches.

    Args:
        path: the file (arrays named like the inputs, first axis the samples, ``y`` the labels: class
            indices, or the numbers that a regression is to find) or folder.
        inputs: what the graph wants.
        image: preprocessing, needed for a folder of images.
        csv: what the columns of a CSV file are, where their names do not tell; declared, it makes a file of
            any name one that is not an ``.npz``.
        audio: preprocessing, needed for a folder of ``.wav`` files.
        role: what the samples are for; messages name it.
        classes: number of classes of the model, to check labels against.
        class_names: what the model calls its classes, for labels that are names.

    Raises:
        SamplesError: the data is missing, damaged, does not fit the inputs, holds NaN or infinity, is
            empty or constant, or its labels do not fit.
    """
    path = Path(path)
    names = tuple(class_names)
    if path.is_dir():
        source = _open_folder(path, inputs, role, image, audio, names)
    elif path.is_file():
        source = _open_file(path, inputs, role, csv, names)
    else:
        what = f"{why_no_file(path)}{'' if path.exists() else ' or folder'}"
        raise SamplesError(
            f"{path}: {what}. Give the {role} data as .npz or .csv, or as a folder of images or recordings."
        )
    if source.count == 0:
        raise SamplesError(f"{path}: holds no samples. Give at least one {role} sample.")
    samples = Samples(path, tuple(inputs), source, np.arange(source.count))
    _check_labels(samples, classes)
    _check_values(samples, role)
    return samples


def _open_file(
    path: Path, inputs: Sequence[InputSpec], role: Role, csv: CsvOptions | None, names: Sequence[str]
) -> Source:
    from irshrink.samples.npz import NpzSource
    from irshrink.samples.table import CsvSource

    suffix = path.suffix.lower()
    if suffix == ".wav":
        raise SamplesError(f"{path}: is one recording. Give the folder that it is in, with --audio rate=HZ.")
    if suffix in (".csv", ".tsv") or (csv is not None and suffix != ".npz" and not is_zipfile(path)):
        return CsvSource.open(path, inputs, csv, role, names)
    return NpzSource.open(path, inputs, role)


def _open_folder(
    path: Path,
    inputs: Sequence[InputSpec],
    role: Role,
    image: ImageOptions | None,
    audio: AudioOptions | None,
    names: Sequence[str],
) -> Source:
    """What is declared says what a folder holds; where that leaves it open, the files do."""
    from irshrink.samples import audio as recordings
    from irshrink.samples import images
    from irshrink.samples.folder import files_in

    heard = audio is not None
    if heard == (image is not None):
        heard = bool(files_in(path, recordings.SUFFIXES))
        if heard and files_in(path, images.SUFFIXES):
            raise SamplesError(f"{path}: holds images and recordings. Give a folder of one kind.")
    if heard:
        return recordings.AudioSource.open(path, inputs, audio, role, names)
    return images.ImageSource.open(path, inputs, image)


def unread(reading: Reading, given: Iterable[Samples]) -> list[str]:
    """What was declared about data of a form that none of the samples have, in words."""
    from irshrink.samples.audio import AudioSource
    from irshrink.samples.images import ImageSource
    from irshrink.samples.table import CsvSource

    forms = (
        (reading.get("image"), ImageSource, "a folder of images"),
        (reading.get("csv"), CsvSource, "a CSV file"),
        (reading.get("audio"), AudioSource, "a folder of recordings"),
    )
    sources = [samples.source for samples in given]
    return [
        what
        for declared, kind, what in forms
        if declared is not None and not any(isinstance(source, kind) for source in sources)
    ]


def input_specs(graph: ir.Graph) -> list[InputSpec]:
    """The inputs of a graph that samples must provide.

    Raises:
        ModelError: an input has no static shape, or is not a tensor of numbers.
    """
    specs = []
    for value in graph.inputs:
        if value.name in graph.initializers:
            continue
        if value.shape is None or not value.shape.is_static():
            raise ModelError(
                f"input '{value.name}' has the dynamic shape {value.shape}. Give a static one with --shape."
            )
        if value.dtype is None:
            raise ModelError(f"input '{value.name}' is not a tensor.")
        held = quantization_of(value)
        codes = None if held is None else held.dtype
        specs.append(InputSpec(str(value.name), value.shape.numpy(), value.dtype.numpy(), codes))
    return specs


def _check_labels(samples: Samples, classes: int | None) -> None:
    labels = samples.classes
    if labels is None:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        bad = low if low < 0 else high
        where = samples.source.describe(int(np.flatnonzero(labels == bad)[0]))
        limit = "must not be negative" if classes is None else f"must be 0..{classes - 1}"
        raise SamplesError(f"{samples.path}: {where} has the label {bad}; labels of this model {limit}.")


def _check_values(samples: Samples, role: Role) -> None:
    """Finite, and not one constant: a model calibrated or judged on such data is at chance level."""
    first: dict[str, Array] = {}
    identical = constant = True
    row = 0
    for batch in samples.batches(_CHUNK):
        for name, values in batch.items():
            _check_finite(samples, name, values, row)
            reference = first.setdefault(name, values[0].copy())
            identical = identical and bool((values == reference).all())
            constant = constant and reference.size > 0 and bool((values == reference.flat[0]).all())
        row += len(next(iter(batch.values())))
    if role == "input":
        return
    if constant and any(reference.size > 1 for reference in first.values()):
        value = next(iter(first.values())).flat[0]
        raise SamplesError(
            f"{samples.path}: every value of every sample is {value}. Give real {role} samples."
        )
    if identical and len(samples) > 1:
        raise SamplesError(
            f"{samples.path}: all {len(samples)} samples are the same. Give different {role} samples."
        )


def _check_finite(samples: Samples, name: str, values: Array, row: int) -> None:
    if values.dtype.kind != "f":
        return
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if good.all():
        return
    bad = int(np.flatnonzero(~good)[0])
    kind = "NaN" if np.isnan(values[bad]).any() else "infinity"
    where = samples.source.describe(row + bad)
    raise SamplesError(f"{samples.path}: {where} has {kind} in '{name}'. Remove or mend that sample.")

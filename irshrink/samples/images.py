"""Samples from a folder of images, decoded one by one with declared preprocessing."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irshrink.errors import SamplesError
from irshrink.samples.source import Array, ImageOptions, InputSpec, hash_labels, new_digest

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
LABEL_FILE = "labels.csv"


@dataclass(frozen=True)
class Geometry:
    """What the graph's input means as an image."""

    height: int
    width: int
    channels: int
    layout: str


@dataclass(frozen=True)
class ImageSource:
    """See :class:`irshrink.samples.Source`."""

    folder: Path
    spec: InputSpec
    options: ImageOptions
    geometry: Geometry
    files: tuple[Path, ...]
    labels: Array | None

    @classmethod
    def open(cls, folder: Path, inputs: Sequence[InputSpec], options: ImageOptions | None) -> ImageSource:
        """List the images and read their labels; nothing is decoded.

        Raises:
            SamplesError: preprocessing is not declared or does not fit the input, or labels are wrong.
        """
        if len(inputs) != 1:
            raise SamplesError(
                f"{folder}: a folder of images feeds one input, the model has {len(inputs)}. Give an .npz."
            )
        if options is None:
            raise SamplesError(
                f"{folder}: how images become the input '{inputs[0].name}' is not declared. Give at least "
                "mean and std, value = (pixel * scale - mean) / std, and where they apply resize, channels, "
                "layout and labels."
            )
        geometry = _geometry(folder, inputs[0], options)
        _check_options(folder, options, geometry)
        files = tuple(sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()))
        if not files:
            raise SamplesError(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))}).")
        return cls(folder, inputs[0], options, geometry, files, _labels(folder, files, options))

    @property
    def count(self) -> int:
        return len(self.files)

    def rows(self, select: Array) -> Iterator[dict[str, Array]]:
        for row in select:
            yield {self.spec.name: self._decode(self.files[int(row)])}

    def describe(self, row: int) -> str:
        return f"image {self.files[row].relative_to(self.folder).as_posix()}"

    def digest(self, select: Array) -> str:
        total = new_digest()
        total.update(f"{self.options} {self.geometry} {self.spec.dtype.str} ".encode())
        for row in select:
            total.update(hashlib.sha256(self.files[int(row)].read_bytes()).digest())
        hash_labels(total, self.labels, select)
        return str(total.hexdigest())

    def _decode(self, file: Path) -> Array:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(file) as image:
                pixels = np.asarray(self._resized(image.convert(self._mode()), file), np.float32)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
            raise SamplesError(f"{file}: not a readable image: {e}.") from e
        pixels = pixels.reshape(self.geometry.height, self.geometry.width, self.geometry.channels)
        if self.options.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        mean, std = (np.array(v, np.float32) for v in (self.options.mean, self.options.std))
        values = (pixels * np.float32(self.options.scale) - mean) / std
        if self.geometry.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return self._cast(values, file)

    def _mode(self) -> str:
        return "L" if self.options.channels == "gray" else "RGB"

    def _resized(self, image: Image, file: Path) -> Image:
        from PIL.Image import Resampling

        height, width = self.geometry.height, self.geometry.width
        if image.size == (width, height):
            return image
        if self.options.resize == "none":
            raise SamplesError(
                f"{file}: is {image.width}x{image.height}, the input is {width}x{height}. "
                "Declare resize = 'stretch' or 'crop'."
            )
        if self.options.resize == "stretch":
            return image.resize((width, height), Resampling.BILINEAR)
        target = self.options.shorter_side or max(height, width)
        factor = target / min(image.size)
        scaled = (max(width, round(image.width * factor)), max(height, round(image.height * factor)))
        image = image.resize(scaled, Resampling.BILINEAR)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))

    def _cast(self, values: Array, file: Path) -> Array:
        dtype = self.spec.dtype
        if dtype.kind == "f":
            return np.ascontiguousarray(values, dtype)
        with np.errstate(invalid="ignore"):
            cast = values.astype(dtype)
        if not np.array_equal(cast, values):
            raise SamplesError(
                f"{file}: the input takes {dtype}, but preprocessing gives fractions or values out of range, "
                f"{values.min():g}..{values.max():g}. Declare mean, std and scale that keep integers."
            )
        return np.ascontiguousarray(cast)


def _geometry(folder: Path, spec: InputSpec, options: ImageOptions) -> Geometry:
    shape = spec.sample_shape
    if len(shape) == 2:
        return Geometry(*shape, 1, "NHWC")
    if len(shape) != 3:
        raise SamplesError(f"{folder}: the input '{spec.name}' of shape {list(spec.shape)} is not an image.")
    fitting = {"NCHW": shape[0] in (1, 3), "NHWC": shape[2] in (1, 3)}
    layout = options.layout
    if layout is None:
        if fitting["NCHW"] == fitting["NHWC"]:
            raise SamplesError(
                f"{folder}: the shape {list(spec.shape)} of '{spec.name}' does not tell its layout. "
                "Declare layout = 'NCHW' or 'NHWC'."
            )
        layout = "NCHW" if fitting["NCHW"] else "NHWC"
    if not fitting[layout]:
        raise SamplesError(
            f"{folder}: the shape {list(spec.shape)} of '{spec.name}' is not {layout} with 1 or 3 channels."
        )
    if layout == "NCHW":
        return Geometry(shape[1], shape[2], shape[0], layout)
    return Geometry(shape[0], shape[1], shape[2], layout)


def _check_options(folder: Path, options: ImageOptions, geometry: Geometry) -> None:
    expected = 1 if options.channels == "gray" else 3
    if geometry.channels != expected:
        wanted = "'gray'" if geometry.channels == 1 else "'RGB' or 'BGR'"
        raise SamplesError(
            f"{folder}: channels = '{options.channels}', but the input has {geometry.channels} channels. "
            f"Declare channels = {wanted}."
        )
    for name, values in (("mean", options.mean), ("std", options.std)):
        if len(values) not in (1, geometry.channels):
            raise SamplesError(
                f"{folder}: {name} has {len(values)} numbers; give one, or one for each of the "
                f"{geometry.channels} channels."
            )
    if 0 in options.std:
        raise SamplesError(f"{folder}: std is 0; values are divided by it.")
    if not np.isfinite([*options.mean, *options.std, options.scale]).all():
        raise SamplesError(f"{folder}: mean, std and scale must be finite numbers.")
    if options.shorter_side is not None and options.shorter_side < max(geometry.height, geometry.width):
        raise SamplesError(
            f"{folder}: shorter_side = {options.shorter_side} is smaller than the input's "
            f"{geometry.width}x{geometry.height}."
        )


def _labels(folder: Path, files: Sequence[Path], options: ImageOptions) -> Array | None:
    kind = options.labels
    if kind == "auto":
        nested = all(len(f.relative_to(folder).parts) > 1 for f in files)
        kind = "csv" if (folder / LABEL_FILE).is_file() else "folders" if nested else "none"
    if kind == "none":
        return None
    if kind == "csv":
        return _labels_from_csv(folder, files)
    if kind == "stem":
        return _labels_from_stems(folder, files)
    return _labels_from_folders(folder, files)


def _labels_from_csv(folder: Path, files: Sequence[Path]) -> Array:
    """``file,label`` a line, the label an integer; a header line is allowed."""
    path = folder / LABEL_FILE
    if not path.is_file():
        raise SamplesError(f"{path}: no such file. Write one line 'file,label' for each image.")
    table: dict[str, int] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for number, line in enumerate(csv.reader(stream), start=1):
            if len(line) == 2 and line[1].strip().lstrip("-").isdecimal():
                table[line[0].strip()] = int(line[1])
            elif line and number > 1:
                raise SamplesError(f"{path}: line {number} is not 'file,label' with an integer label.")
    names = [f.relative_to(folder).as_posix() for f in files]
    missing = [name for name in names if name not in table]
    if missing:
        raise SamplesError(f"{path}: no label for '{missing[0]}' ({len(missing)} of {len(names)} images).")
    return np.array([table[name] for name in names], np.int64)


def _labels_from_stems(folder: Path, files: Sequence[Path]) -> Array:
    for file in files:
        if not file.stem.isdecimal():
            raise SamplesError(f"{folder}: labels = 'stem', but '{file.name}' is not a number.")
    return np.array([int(file.stem) for file in files], np.int64)


def _labels_from_folders(folder: Path, files: Sequence[Path]) -> Array:
    """The number that names the sub-folder, or its index among the sorted names when they are words."""
    parts = [f.relative_to(folder).parts for f in files]
    for file, part in zip(files, parts, strict=True):
        if len(part) < 2:
            raise SamplesError(f"{folder}: '{file.name}' is not in a sub-folder that names its class.")
    names = sorted({part[0] for part in parts})
    numbered = all(name.isdecimal() for name in names)
    index = {name: int(name) if numbered else i for i, name in enumerate(names)}
    return np.array([index[part[0]] for part in parts], np.int64)

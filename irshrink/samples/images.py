"""Samples from a folder of images, decoded one by one with declared preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irshrink.errors import SamplesError
from irshrink.samples.folder import files_in, labels_of
from irshrink.samples.source import Array, ImageOptions, InputSpec, hash_labels, new_digest

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


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
        files = files_in(folder, SUFFIXES)
        if not files:
            raise SamplesError(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))}).")
        return cls(folder, inputs[0], options, geometry, files, labels_of(folder, files, options.labels))

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

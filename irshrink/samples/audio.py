"""Samples from a folder of recordings, read one by one with declared preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod
from pathlib import Path

import numpy as np

from irshrink.errors import SamplesError
from irshrink.samples.folder import files_in, labels_of
from irshrink.samples.labels import Classes
from irshrink.samples.options import AudioOptions
from irshrink.samples.source import Array, InputSpec, Role, digest_of
from irshrink.samples.wave import MOST_RATE, MOST_VALUES, read_wave

SUFFIXES = frozenset({".wav"})
#: A shorter axis of two holds channels.
_MOST_CHANNELS = 8
#: Of the ratio of two rates: the filter has 20 taps for each unit of it.
_MOST_TERM = 1 << 17


@dataclass(frozen=True)
class Form:
    """What the graph's input means as a recording.

    Attributes:
        frames: samples of a channel.
        channels: how many.
        used: samples of a recording that are used; zeros are the others.
        first: whether channels are the first axis.
    """

    frames: int
    channels: int
    used: int
    first: bool


@dataclass(frozen=True)
class AudioSource:
    """See :class:`irshrink.samples.Source`."""

    folder: Path
    spec: InputSpec
    options: AudioOptions
    form: Form
    files: tuple[Path, ...]
    labels: Array | None

    @classmethod
    def open(
        cls,
        folder: Path,
        inputs: Sequence[InputSpec],
        options: AudioOptions | None,
        role: Role,
        names: Sequence[str] = (),
    ) -> AudioSource:
        """List the recordings and read their labels, where somebody asks for them; no sound is read.

        Args:
            names: of the model's classes, if it has any.

        Raises:
            SamplesError: preprocessing is not declared or does not fit the input, or labels are wrong.
        """
        if len(inputs) != 1:
            raise SamplesError(
                f"{folder}: a folder of recordings feeds one input, the model has {len(inputs)}. "
                "Give an .npz."
            )
        if options is None:
            raise SamplesError(
                f"{folder}: how recordings become the input '{inputs[0].name}' is not declared. Give at "
                "least rate, the samples a second that the model was trained with, and where they apply "
                "resample, channels, cut, pad, scale and labels."
            )
        form = _form(folder, inputs[0], options)
        files = files_in(folder, SUFFIXES)
        if not files:
            raise SamplesError(f"{folder}: holds no .wav files.")
        labels = None
        if role != "input":
            classes = Classes.of(folder, options.classes, names)
            labels = labels_of(folder, files, options.labels, classes, "recordings")
        return cls(folder, inputs[0], options, form, files, labels)

    @property
    def count(self) -> int:
        return len(self.files)

    def rows(self, select: Array) -> Iterator[dict[str, Array]]:
        for row in select:
            yield {self.spec.name: self._decode(self.files[int(row)])}

    def describe(self, row: int) -> str:
        return f"recording {self.files[row].relative_to(self.folder).as_posix()}"

    def digest(self, select: Array) -> str:
        return digest_of(self.rows(select), self.labels, select)

    def _decode(self, file: Path) -> Array:
        form, sound = read_wave(file)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused with the file's name
            sound = self._resampled(self._mixed(sound, file), form.rate, file)
            sound = self._padded(self._cut(sound, file), file) * self.options.scale
            return _cast(sound.T if self.form.first else sound, self.spec, file)

    def _mixed(self, sound: Array, file: Path) -> Array:
        wanted = self.form.channels
        if self.options.channels == "mix":
            return np.asarray(sound.mean(axis=1, keepdims=True))
        if self.options.channels == "first":
            return sound[:, :1]
        if sound.shape[1] != wanted:
            several = "" if wanted > 1 else " Declare channels = 'mix' or 'first'."
            raise SamplesError(
                f"{file}: the number of channels is {sound.shape[1]}, that of the input is {wanted}.{several}"
            )
        return sound

    def _resampled(self, sound: Array, rate: int, file: Path) -> Array:
        wanted = self.options.rate
        if rate == wanted:
            return sound
        if self.options.resample == "none":
            raise SamplesError(
                f"{file}: has {rate:,} samples a second, the model {wanted:,}. Declare resample = 'poly'."
            )
        if sound.size * wanted > MOST_VALUES * rate:
            raise SamplesError(
                f"{file}: is more than {MOST_VALUES:,} samples at {wanted:,} Hz. Cut it into pieces."
            )
        up, down = wanted // gcd(rate, wanted), rate // gcd(rate, wanted)
        if max(up, down) > _MOST_TERM:
            raise SamplesError(
                f"{file}: {rate:,} Hz cannot be brought to {wanted:,} Hz: {up}/{down} takes too long a "
                "filter. Resample it before."
            )
        from scipy.signal import resample_poly

        return np.asarray(resample_poly(sound, up, down, axis=0))

    def _cut(self, sound: Array, file: Path) -> Array:
        used = self.form.used
        more = len(sound) - used
        if more <= 0:
            return sound
        if self.options.cut == "none":
            raise SamplesError(
                f"{file}: {self._length(sound)} Declare cut = 'start', 'centre' or 'end', what of it stays."
            )
        begin = {"start": 0, "centre": more // 2, "end": more}[self.options.cut]
        return sound[begin : begin + used]

    def _padded(self, sound: Array, file: Path) -> Array:
        missing = self.form.frames - len(sound)
        if missing == 0:
            return sound
        if self.options.pad == "none":
            raise SamplesError(
                f"{file}: {self._length(sound)} Declare pad = 'end', 'start' or 'both', where zeros go."
            )
        before = {"end": 0, "start": missing, "both": missing // 2}[self.options.pad]
        return np.pad(sound, ((before, missing - before), (0, 0)))

    def _length(self, sound: Array) -> str:
        wanted = self.form.used if len(sound) > self.form.used else self.form.frames
        return (
            f"has {len(sound):,} samples at {self.options.rate:,} Hz, the input takes {wanted:,}. If that "
            "holds features such as a spectrogram, compute them and give an .npz."
        )


def _form(folder: Path, spec: InputSpec, options: AudioOptions) -> Form:
    if spec.dtype.kind not in "fiu":
        raise SamplesError(f"{folder}: the input '{spec.name}' takes {spec.dtype}, which is no sound.")
    if not 1 <= options.rate <= MOST_RATE:
        raise SamplesError(f"{folder}: rate = {options.rate}; it must be from 1 to {MOST_RATE:,} Hz.")
    if not np.isfinite(options.scale) or options.scale == 0:
        raise SamplesError(f"{folder}: scale = {options.scale:g}; it must be a finite number and not 0.")
    frames, channels, first = _axes(folder, spec, options)
    if options.channels != "same" and channels != 1:
        raise SamplesError(
            f"{folder}: channels = '{options.channels}' gives one channel, the input has {channels}."
        )
    return Form(frames, channels, _used(folder, frames, options), first)


def _axes(folder: Path, spec: InputSpec, options: AudioOptions) -> tuple[int, int, bool]:
    """Samples, channels, and whether channels come first. Axes of one element say nothing."""
    shape = tuple(size for size in spec.sample_shape if size != 1)
    if len(shape) < 2:
        return prod(shape), 1, False
    likely = [size <= _MOST_CHANNELS for size in shape]
    if len(shape) > 2 or not any(likely):
        raise SamplesError(
            f"{folder}: the input '{spec.name}' of shape {list(spec.shape)} is no recording. Features such "
            "as spectrograms are not computed here, because every framework has its own: compute them as in "
            "training and give an .npz."
        )
    if all(likely) and options.layout is None:
        raise SamplesError(
            f"{folder}: the shape {list(spec.shape)} of '{spec.name}' does not tell its layout. Declare "
            "layout = 'CT' (channels first) or 'TC'."
        )
    first = likely[0] if options.layout is None else options.layout == "CT"
    return (shape[1], shape[0], True) if first else (shape[0], shape[1], False)


def _used(folder: Path, frames: int, options: AudioOptions) -> int:
    if options.samples is not None and options.seconds is not None:
        raise SamplesError(f"{folder}: samples and seconds say the same. Leave one out.")
    if options.samples is None and options.seconds is None:
        return frames
    name, given = ("samples", options.samples) if options.seconds is None else ("seconds", options.seconds)
    wanted = float(given or 0) * (options.rate if name == "seconds" else 1)
    if not np.isfinite(wanted) or not 1 <= round(wanted) <= frames:
        raise SamplesError(
            f"{folder}: {name} = {given} is not in what the input holds: {frames:,} samples, "
            f"{frames / options.rate:g} seconds at {options.rate:,} Hz."
        )
    return round(wanted)


def _cast(sound: Array, spec: InputSpec, file: Path) -> Array:
    """The input's type and shape; integers only of values that are integers."""
    values = sound.astype(spec.dtype)
    if spec.dtype.kind != "f" and not np.array_equal(values, sound):
        raise SamplesError(
            f"{file}: the input takes {spec.dtype}, but preprocessing gives fractions or values out of "
            f"range, {sound.min():g}..{sound.max():g}. Declare a scale that gives integers, and the files' "
            "own rate."
        )
    return np.ascontiguousarray(values).reshape(spec.sample_shape)

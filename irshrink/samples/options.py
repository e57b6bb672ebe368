"""What is declared about tables and recordings; of images see :class:`irshrink.samples.ImageOptions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from irshrink.samples.source import ImageOptions


@dataclass(frozen=True)
class CsvOptions:
    """What the columns of a CSV file are; its first row names them.

    Attributes:
        separator: one character, ``tab`` or ``space``; a comma when not given, a tab in ``.tsv``.
        label: the column of the label, or those of a regression's numbers; when not given ``y`` or ``label``
            if there is one; ``none`` if there is none.
        classes: names of the classes in the order of the model's scores, where labels are names.
        input: the input that columns without an input's name fill, in their order; when not given the only
            one that has no columns of its own.
        columns: the columns that fill it, in this order; others without an input's name are left out.
        ignore: columns that are neither inputs nor labels.
    """

    separator: str | None = None
    label: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    input: str | None = None
    columns: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class AudioOptions:
    """Declared preprocessing of a folder of ``.wav`` files: channels, then rate, then length, then scale.

    A sample is a real number in [-1, 1): PCM divided by 2^(bits - 1), of 8 bits (x - 128) / 128. Floats stay
    as they are.

    Attributes:
        rate: samples a second that the model was trained with.
        resample: of files of another rate: ``none`` refuses them, ``poly`` is SciPy's ``resample_poly`` with
            its default filter, computed in float64.
        channels: ``same`` refuses files with another number than the input's, ``mix`` is the mean of all
            channels, ``first`` the first one.
        layout: of an input of several channels, ``CT`` (channels first) or ``TC``; inferred from its shape
            when that is unambiguous.
        samples, seconds: how much of a recording is used, at most what the input holds; all of that when
            not given.
        cut: what stays of longer recordings: ``start``, ``centre``, ``end``; ``none`` refuses them.
        pad: where shorter ones get zeros: ``end``, ``start``, ``both``; ``none`` refuses them.
        scale: factor of the sample; 32768 gives the numbers of 16-bit PCM.
        labels: as those of images.
        classes: names of the classes in the order of the model's scores, where labels are names; when not
            given sub-folders are sorted.
    """

    rate: int
    resample: Literal["none", "poly"] = "none"
    channels: Literal["same", "mix", "first"] = "same"
    layout: Literal["CT", "TC"] | None = None
    samples: int | None = None
    seconds: float | None = None
    cut: Literal["none", "start", "centre", "end"] = "none"
    pad: Literal["none", "end", "start", "both"] = "none"
    scale: float = 1.0
    labels: Literal["auto", "csv", "folders", "stem", "none"] = "auto"
    classes: tuple[str, ...] = ()


class Reading(TypedDict, total=False):
    """How data is to be read, by its form: keyword arguments of :func:`irshrink.samples.load_samples`."""

    image: ImageOptions | None
    csv: CsvOptions | None
    audio: AudioOptions | None

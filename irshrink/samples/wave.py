"""RIFF/WAVE files: PCM of 8 to 32 bits and floats, also where the header tells them as extensible.

Python's ``wave`` reads no floats, and extensible headers, which most programs write for 24 bits, only from
3.12 on; neither it nor SciPy tells a file that says more than it holds from a good one. The form is that of
"Multimedia Programming Interface and Data Specifications 1.0" (IBM and Microsoft, 1991) and of Microsoft's
WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from irshrink.errors import SamplesError
from irshrink.samples.source import Array

#: The highest rate in use; a filter between two rates grows with them.
MOST_RATE = 768_000
#: Values of a file, which are in memory at once.
MOST_VALUES = 1 << 24
_MOST_CHANNELS, _MOST_CHUNKS = 256, 4096
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
#: What follows the format in the identifier of an extensible header.
_GUID = bytes.fromhex("000000001000800000aa00389b71")
_COMPRESSED = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3"}
_REWRITE = "Write it again as 16-bit PCM (ffmpeg -i IN -c:a pcm_s16le OUT.wav)."


@dataclass(frozen=True)
class Format:
    """What a file's header says.

    Attributes:
        real: samples are floats; else integers, unsigned ones if they are of 8 bits.
        bits: of a sample as it is stored.
    """

    real: bool
    channels: int
    rate: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def read_wave(path: Path) -> tuple[Format, Array]:
    """The format and the samples, float64 [frames, channels]: PCM / 2^(bits - 1), floats as they are.

    Raises:
        SamplesError: no such file, none that can be read, or one whose header contradicts its size.
    """
    try:
        with path.open("rb") as stream:
            return _read(path, stream)
    except OSError as e:
        raise SamplesError(f"{path}: cannot be read: {e.strerror or e}.") from e


def _read(path: Path, stream: IO[bytes]) -> tuple[Format, Array]:
    file_bytes = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        other = ", but a big-endian or 64-bit one" if head[:4] in (b"RIFX", b"RF64") else ""
        raise SamplesError(f"{path}: not a plain wav file{other}. {_REWRITE}")
    end = 8 + int(struct.unpack("<I", head[4:8])[0])
    if end > file_bytes:
        raise SamplesError(
            f"{path}: the header speaks of {end:,} bytes, the file has {file_bytes:,}. It is truncated, or "
            "was never finished. Copy or record it again."
        )
    form = None
    for _ in range(_MOST_CHUNKS):
        chunk = stream.read(8)
        if len(chunk) < 8 or stream.tell() > end:
            break
        name, size = chunk[:4], int(struct.unpack("<I", chunk[4:])[0])
        if stream.tell() + size > end:
            raise SamplesError(
                f"{path}: its {_chunk(name)} chunk has {size:,} bytes by its header, and only "
                f"{end - stream.tell():,} are there. Copy or record it again."
            )
        if name == b"data":
            return _data(path, stream, form, size)
        following = stream.tell() + size + size % 2
        if name == b"fmt ":
            form = _format(path, stream.read(min(size, 40)))
        stream.seek(following)
    raise SamplesError(f"{path}: holds no sound: a wav file needs a chunk 'fmt ' and, behind it, 'data'.")


def _chunk(name: bytes) -> str:
    return f"'{name.decode('ascii', 'replace')}'" if name.isalnum() or name == b"fmt " else "unnamed"


def _format(path: Path, data: bytes) -> Format:
    if len(data) < 16:
        raise SamplesError(f"{path}: its 'fmt ' chunk is too short to say how samples are stored. {_REWRITE}")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", data[:16])
    if tag == _EXTENSIBLE and len(data) >= 40 and data[26:40] == _GUID:
        tag = int(struct.unpack("<H", data[24:26])[0])
    known = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}.get(tag)
    if known is None:
        raise SamplesError(
            f"{path}: its samples are {_COMPRESSED.get(tag, f'of format {tag}')}, neither PCM nor floats. "
            f"{_REWRITE}"
        )
    stored = 8 * frame_bytes // channels if channels else 0
    if not 1 <= channels <= _MOST_CHANNELS or stored not in known or frame_bytes * 8 != stored * channels:
        raise SamplesError(
            f"{path}: its header says {channels} channels of {bits} bits in {frame_bytes} bytes. {_REWRITE}"
        )
    if not stored - 8 < bits <= stored:
        raise SamplesError(f"{path}: its header says {bits} bits in {stored // 8} bytes. {_REWRITE}")
    if not 1 <= rate <= MOST_RATE:
        raise SamplesError(f"{path}: its rate is {rate:,} Hz; from 1 to {MOST_RATE:,} can be read.")
    return Format(tag == _FLOAT, channels, rate, stored)


def _data(path: Path, stream: IO[bytes], form: Format | None, size: int) -> tuple[Format, Array]:
    if form is None:
        raise SamplesError(f"{path}: no 'fmt ' chunk before its samples. {_REWRITE}")
    if size % form.frame_bytes:
        raise SamplesError(
            f"{path}: {size:,} bytes of samples are no multiple of {form.frame_bytes}, one sample of every "
            "channel. It is damaged: copy or record it again."
        )
    if size == 0:
        raise SamplesError(f"{path}: holds no samples. Leave it out.")
    if size * 8 // form.bits > MOST_VALUES:
        minutes = size / form.frame_bytes / form.rate / 60
        raise SamplesError(
            f"{path}: is {minutes:.0f} minutes long; at most {MOST_VALUES:,} samples are read. Cut it."
        )
    data = stream.read(size)
    if len(data) != size:
        raise SamplesError(f"{path}: became shorter while it was read. Start again.")
    return form, _values(data, form).reshape(-1, form.channels)


def _values(data: bytes, form: Format) -> Array:
    if form.real:
        return np.frombuffer(data, f"<f{form.bits // 8}").astype(np.float64)
    if form.bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    if form.bits == 24:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = np.zeros((len(parts), 4), np.uint8)
        whole[:, 1:] = parts  # the upper three of four bytes: the sign is where it belongs
        return whole.reshape(-1).view("<i4").astype(np.float64) / 2.0**31
    return np.frombuffer(data, f"<i{form.bits // 8}").astype(np.float64) / 2.0 ** (form.bits - 1)

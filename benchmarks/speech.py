"""Speech detection of Silero VAD in int8 against float, on labelled sound: what is lost of F1.

    apt-get install espeak-ng
    python benchmarks/speech.py silero_vad_openvino_16k.onnx [--minutes 4] [--keep-float PATTERN ...]

Sentences spoken by espeak-ng stand at known places between pauses, mixed with noise, hum and music of 5 to
25 dB below, and with stretches of the same without speech. A window of 512 samples is speech when its middle
lies inside a sentence (gaps of up to 0.3 s belong to it). Both forms of the model run as a device does:
window after window, 64 samples of the one before in front, the state carried over. Calibration is on other
sound, with states that the float model had there. Convolutions run in int8, the LSTM in float32 with weights
in int8.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.artifact import load_build
from irshrink.compiler import compile_model
from irshrink.recipe import make_recipe

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[dict[str, Array]], Mapping[str, Array]]
RATE, WINDOW, CONTEXT = 16000, 512, 64
THRESHOLD = 0.5
#: Root mean square of 10 ms of clean speech above which somebody speaks.
VOICED, GAP = 0.01, 0.3
CALIBRATION = 200

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Please turn on the light in the kitchen.",
    "She sells sea shells by the sea shore.",
    "What time does the next train to Vienna leave?",
    "I have never been to that part of the city before.",
    "Yes.",
    "Seven hundred and twenty nine.",
    "A gentle breeze moved the leaves of the old oak tree.",
    "Could you repeat that, please?",
    "The meeting was moved from Tuesday to Friday afternoon.",
)
VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3", "de", "fr", "en-us+f4", "es")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--keep-float", action="append", help="names of layers to leave in float32")
    options = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is missing: apt-get install espeak-ng.")
    session = onnxrt.session(options.model)

    def original(feeds: dict[str, Array]) -> Mapping[str, Array]:
        return onnxrt.run(session, feeds)

    sound, labels = recording(np.random.default_rng(1), options.minutes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_calibration(folder / "calibration.npz", original)
        recipe = make_recipe(
            {
                "target": "host",
                "calibration": str(folder / "calibration.npz"),
                "steps": [
                    {"pass": "quantize-int8", "keep_float": options.keep_float or []},
                    {"pass": "quantize-weights-int8"},
                ],
            }
        )
        report = compile_model(options.model, recipe, folder / "build")
        compiled = load_build(folder / "build")
        before, after = (stream(run, sound) for run in (original, compiled))
    kinds = [layer["dtype"] for layer in report["layers"]]
    quantized = f"{kinds.count('int8')} of {len(kinds)} layers in int8"
    print(f"flash {report['size']['flash_bytes']:,} bytes, arena {report['size']['arena_bytes']:,} bytes")
    print(f"{len(labels)} windows, {labels.mean():.0%} of them speech; {quantized}")
    for form, found in (("float, ONNX Runtime", before), ("int8, compiled", after)):
        print(f"{form:20} F1 {f1(found >= THRESHOLD, labels):.4f}")
    lost = f1(before >= THRESHOLD, labels) - f1(after >= THRESHOLD, labels)
    same = np.mean((before >= THRESHOLD) == (after >= THRESHOLD))
    print(f"{'lost':20}    {lost:.4f}; same answer on {same:.2%} of the windows")


def spoken(text: str, voice: str, speed: int, pitch: int) -> Array:
    """A sentence at 16 kHz, peak 0.5."""
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), text]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(data)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
    from scipy.signal import resample_poly

    common = np.gcd(rate, RATE)
    sound = resample_poly(samples, RATE // common, rate // common)
    return np.asarray(sound / max(np.abs(sound).max(), 1.0) * 0.5)


def background(rng: np.random.Generator, samples: int) -> Array:
    """Noise (white or falling with frequency), hum of the mains, or chords; root mean square 1."""
    time = np.arange(samples) / RATE
    kind = rng.integers(4)
    if kind == 0:
        sound = rng.normal(size=samples)
    elif kind == 1:
        spectrum = np.fft.rfft(rng.normal(size=samples))
        sound = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 20), samples)
    elif kind == 2:
        sound = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3, 5, 7))
    else:
        sound = np.zeros(samples)
        for start in range(0, samples, RATE // 2):
            for tone in rng.choice(np.arange(-12, 24), 3, replace=False):
                part = time[start : start + RATE // 2]
                decay = np.exp(-4 * (part - part[0]))
                sound[start : start + RATE // 2] += decay * np.sin(2 * np.pi * 220 * 2 ** (tone / 12) * part)
    return np.asarray(sound / np.sqrt(np.mean(np.square(sound))))


def recording(rng: np.random.Generator, minutes: float) -> tuple[Array, Array]:
    """Sound of about so many minutes, and for each window whether it is speech."""
    parts, clean = [], []
    while sum(map(len, parts)) < minutes * 60 * RATE:
        text, voice = (items[int(rng.integers(len(items)))] for items in (SENTENCES, VOICES))
        speech = spoken(text, voice, int(rng.integers(130, 200)), int(rng.integers(30, 70)))
        speech = speech * rng.uniform(0.2, 1.0)
        if rng.random() < 0.25:
            speech = np.zeros(int(RATE * rng.uniform(1, 4)))
        pauses = [np.zeros(int(RATE * rng.uniform(0.5, 2.0))) for _ in range(2)]
        voiced = np.concatenate([pauses[0], speech, pauses[1]])
        level = 10 ** (-rng.uniform(5, 25) / 20) * 0.06
        parts.append(voiced + level * background(rng, len(voiced)))
        clean.append(voiced)
    sound, voice_only = np.concatenate(parts), np.concatenate(clean)
    return np.clip(sound, -1, 1).astype(np.float32), windows_of_speech(voice_only)


def windows_of_speech(clean: Array) -> Array:
    """Whether the middle of each window lies between the first and the last sound of a sentence."""
    frame = RATE // 100
    frames = clean[: len(clean) // frame * frame].reshape(-1, frame)
    loud = np.sqrt(np.mean(np.square(frames), axis=1)) > VOICED
    reach = int(GAP * 100)
    places = np.flatnonzero(loud)
    for a, b in pairwise(places):
        if b - a <= reach:
            loud[a:b] = True
    middles = np.arange(len(clean) // WINDOW) * WINDOW + WINDOW // 2
    return np.asarray(loud[np.minimum(middles // frame, len(loud) - 1)])


def stream(run: Run, sound: Array, seen: list[dict[str, Array]] | None = None) -> Array:
    """Probability of speech for each window; ``seen`` collects what the model was given."""
    state = np.zeros((2, 1, 128), np.float32)
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    found = []
    for start in range(0, len(sound) - WINDOW + 1, WINDOW):
        feeds = {"input": padded[None, start : start + CONTEXT + WINDOW], "state": state}
        if seen is not None:
            seen.append(feeds)
        outputs = run(feeds)
        state = np.asarray(outputs["stateN"], np.float32)
        found.append(float(outputs["output"].reshape(())))
    return np.array(found)


def save_calibration(path: Path, run: Run) -> None:
    """Windows and states from a minute of other sound."""
    seen: list[dict[str, Array]] = []
    stream(run, recording(np.random.default_rng(2), 1.0)[0], seen)
    chosen = seen[:: max(1, len(seen) // CALIBRATION)]
    np.savez(path, **{name: np.stack([one[name] for one in chosen]) for name in ("input", "state")})


def f1(found: Array, wanted: Array) -> float:
    """Harmonic mean of precision and recall."""
    hits = float(np.sum(found & wanted))
    return 2 * hits / max(float(found.sum() + wanted.sum()), 1.0)


if __name__ == "__main__":
    main()

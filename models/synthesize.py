"""Inputs that look like what the models were made for, from nothing: no recording and no photo is shipped.

They are for choosing scales and for comparing builds. They say nothing about accuracy. Every function
takes a generator and returns 8-bit features, as the models' training data was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Bytes = NDArray[np.uint8]
Signal = NDArray[np.float64]


def speech_features(rng: np.random.Generator, count: int) -> Bytes:
    """Log-mel spectrograms [count, 50, 10, 1] of a second of speech-like sound, 20 ms a frame, 0..224."""
    return np.stack([_speech(rng) for _ in range(count)])[..., None]


def machine_features(rng: np.random.Generator, count: int) -> Bytes:
    """Five neighbouring frames [count, 5, 128, 1] of log-mel spectrograms of running machines, 0..237."""
    return np.stack([_machine(rng) for _ in range(count)])[..., None]


def photos(rng: np.random.Generator, count: int, side: int) -> Bytes:
    """RGB images [count, side, side, 3] by the dead leaves model.

    Occluding discs with power-law radii share the scale invariance, edges and contrast statistics of
    natural images (Lee, Mumford and Huang 2001, "Occlusion models for natural images").
    """
    return np.stack([_dead_leaves(rng, side) for _ in range(count)])


def log_mel(signal: Signal, frames: int, bands: int, width: int, span: float) -> Signal:
    """Log-mel energies [frames, bands], 0..1: the ``span`` decibels below the loudest.

    Args:
        signal: samples at 16 kHz.
        width: samples in a window (Hann).
    """
    starts = np.linspace(0, len(signal) - width, frames).astype(int)
    windows = np.stack([signal[s : s + width] for s in starts]) * np.hanning(width)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    decibel = 10 * np.log10(power @ _mel_filters(bands, width).T + 1e-10)
    return np.clip((decibel - decibel.max() + span) / span, 0, 1)


def _mel_filters(bands: int, width: int) -> Signal:
    """Triangles [bands, width // 2 + 1], evenly spaced on the mel scale from 20 Hz to half the rate."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (20.0, RATE / 2))
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(width, 1 / RATE)[None]
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - left) / (centre - left)
    falling = (right - frequencies) / (right - centre)
    return np.clip(np.minimum(rising, falling), 0, None)


def _speech(rng: np.random.Generator) -> Bytes:
    """One to three voiced syllables with moving formants, fricatives between them, background noise."""
    time = np.arange(RATE) / RATE
    sound = np.zeros(RATE)
    pitch = rng.uniform(85, 260)
    start = rng.uniform(0.05, 0.35)
    for _ in range(rng.integers(1, 4)):
        length = rng.uniform(0.12, 0.3)
        inside = np.clip((time - start) / length, 0, 1)
        envelope = np.sin(np.pi * inside) ** 0.7 * ((time > start) & (time < start + length))
        phase = 2 * np.pi * np.cumsum(pitch * (1 - 0.15 * inside)) / RATE
        voice = np.zeros(RATE)
        formants = rng.uniform((250, 700, 1900), (900, 2400, 3200))
        moved = formants * rng.uniform(0.8, 1.25, 3)
        for harmonic in range(1, int(4000 / pitch)):
            frequency = harmonic * pitch
            where = formants[:, None] + (moved - formants)[:, None] * inside
            gain = (1 / (1 + ((frequency - where) / 90) ** 2)).sum(0) / harmonic**0.4
            voice += gain * np.sin(harmonic * phase)
        sound += envelope * voice
        start += length
        if rng.random() < 0.6:
            burst = (time > start) & (time < start + 0.08)
            hiss = np.diff(rng.standard_normal(RATE + 1))
            sound += burst * hiss * rng.uniform(0.05, 0.4)
            start += 0.08
    sound += rng.standard_normal(RATE) * 10 ** rng.uniform(-3.5, -1)
    return (log_mel(sound, frames=50, bands=10, width=640, span=30) * 224).astype(np.uint8)


def _machine(rng: np.random.Generator) -> Bytes:
    """A rotating shaft's harmonics, amplitude modulated, over coloured noise."""
    time = np.arange(RATE) / RATE
    turn = rng.uniform(20, 180)
    sound = np.zeros(RATE)
    for harmonic in range(1, 40):
        strength = rng.exponential(1) / harmonic**0.8
        sound += strength * np.sin(2 * np.pi * turn * harmonic * time + rng.uniform(0, 2 * np.pi))
    sound *= 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(1, 12) * time)
    spectrum = np.fft.rfft(rng.standard_normal(RATE))
    spectrum /= np.maximum(np.fft.rfftfreq(RATE, 1 / RATE), 50) ** rng.uniform(0.2, 0.9)
    noise = np.fft.irfft(spectrum, RATE)
    sound += noise / noise.std() * rng.uniform(0.1, 1.5)
    features = log_mel(sound, frames=31, bands=128, width=1024, span=80)
    first = rng.integers(0, 26)
    return (features[first : first + 5] * 237).astype(np.uint8)


def _dead_leaves(rng: np.random.Generator, side: int) -> Bytes:
    """Discs from front to back until no pixel is left, each with a shade and a grain of its own."""
    rows, columns = np.mgrid[0:side, 0:side]
    image = np.zeros((side, side, 3))
    free = np.ones((side, side), bool)
    tint = rng.uniform(60, 170) + rng.normal(0, 15, 3)
    smallest, largest = side / 30, side / 1.5
    while free.any():
        # inverse transform of a density proportional to r**-3 between the two radii
        u = rng.random()
        radius = (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5
        y, x = rng.uniform(-radius, side + radius, 2)
        disc = free & ((rows - y) ** 2 + (columns - x) ** 2 < radius**2)
        colour = tint + rng.normal(0, 50) + rng.normal(0, 18, 3)
        slope = rng.normal(0, 0.4, 2) * 40 / side
        shade = (rows - y) * slope[0] + (columns - x) * slope[1]
        image[disc] = colour + shade[disc][:, None] + rng.normal(0, 4, (int(disc.sum()), 1))
        free &= ~disc
    return np.clip(image, 0, 255).astype(np.uint8)

"""What sounds are made of: tones, noise, envelopes, and the main parameter whose middle is kept for evaluation.

Everything is mono at 16 kHz, float64 while it is made and float32 with its peak at 0.5 when it is finished.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from audio_interaction_cli.protocol import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]
Wave = NDArray[np.float64]
Rng = np.random.Generator
RATE = SAMPLE_RATE_HZ
PEAK = 0.5
LONGEST_NOISE = 17  # as a power of two: 131,072 samples
HELD_OUT_BAND = (0.55, 0.75)


def banded(rng: Rng, low: float, high: float, held_out: bool) -> float:
    """A value of the main parameter: from the band kept for evaluation, or from the rest."""
    start, end = HELD_OUT_BAND
    if held_out:
        place = rng.uniform(start, end)
    else:
        place = rng.uniform(0.0, 1.0 - (end - start))
        place += (end - start) if place > start else 0.0
    return float(low + place * (high - low))


def time_axis(seconds: float) -> NDArray[np.float64]:
    return np.arange(max(1, int(seconds * RATE))) / RATE


def glide(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phase of a tone whose frequency moves."""
    return 2 * np.pi * np.cumsum(hertz) / RATE


def harmonics(phase: NDArray[np.float64], weights: NDArray[np.float64] | list[float]) -> NDArray[np.float64]:
    """Sum of weighted sines of the multiples of a phase, each made from the two before it."""
    before, sine, twice = np.zeros_like(phase), np.sin(phase), 2 * np.cos(phase)
    total = np.zeros_like(phase)
    for weight in weights:
        total += weight * sine
        before, sine = sine, twice * sine - before
    return total


def shaped_noise(
    rng: Rng, samples: int, gain: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """White noise through a gain over frequency in Hz; a long one repeats, seamlessly, after eight seconds."""
    size = 1 << min(LONGEST_NOISE, max(4, (samples - 1).bit_length()))
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    hertz = np.linspace(1.0, RATE / 2, len(spectrum))
    return np.resize(np.fft.irfft(spectrum * gain(hertz).astype(np.float32), size), samples)


def band(low: float, high: float, steepness: float = 4.0) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda hertz: 1.0 / ((1 + (low / hertz) ** (2 * steepness)) * (1 + (hertz / high) ** (2 * steepness))) ** 0.5


def resonances(centres: list[float], width: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def gain(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.full_like(hertz, 0.02)
        for n, centre in enumerate(centres):
            total += 1 / (1 + ((hertz - centre) / (width * centre)) ** 2) / (1 + n)
        return total

    return gain


def shaped_like(
    samples: NDArray[np.float64], gain: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    size = 1 << (len(samples) - 1).bit_length()
    hertz = np.linspace(1.0, RATE / 2, size // 2 + 1)
    return np.fft.irfft(np.fft.rfft(samples, size) * gain(hertz), size)[: len(samples)]


def decay(seconds: float, length: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-length / seconds)


def attack(seconds: float, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    n = min(len(samples), max(1, int(seconds * RATE)))
    samples[:n] *= np.linspace(0, 1, n)
    samples[-n:] *= np.linspace(1, 0, n)
    return samples


def normal(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with its peak at 1."""
    scaled: NDArray[np.float64] = samples / max(float(np.abs(samples).max()), 1e-9)
    return scaled


def finished(samples: NDArray[np.float64]) -> Samples:
    peak = float(np.abs(samples).max())
    return (samples * (PEAK / peak if peak > 1e-9 else 0.0)).astype(np.float32)


def placed(pieces: list[tuple[float, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Mix pieces that begin at so many seconds."""
    total = np.zeros(max(int(at * RATE) + len(piece) for at, piece in pieces))
    for at, piece in pieces:
        start = int(at * RATE)
        total[start : start + len(piece)] += piece
    return total


def note(rng: Rng, hertz: float, seconds: float, timbre: int) -> Wave:
    """One note: plucked, organ, piano-like, flute or a square wave."""
    t = time_axis(seconds)
    if timbre == 0:
        weights = [1 / n for n in range(1, 10)]
        return attack(0.003, harmonics(2 * np.pi * hertz * t, weights) * decay(0.3, t))
    if timbre == 1:
        return attack(0.03, harmonics(2 * np.pi * hertz * t, [1, 0.6, 0.1, 0.4, 0, 0.2, 0, 0.2]))
    if timbre == 2:
        weights = [0.8 ** (n * rng.uniform(1, 1.6)) for n in range(8)]
        return attack(0.005, harmonics(2 * np.pi * hertz * t, weights) * decay(0.5, t))
    if timbre == 3:
        vibrato = 1 + 0.006 * np.sin(2 * np.pi * 5 * t)
        breath = 0.05 * shaped_noise(rng, len(t), band(hertz, 4 * hertz, 2))
        return attack(0.06, harmonics(glide(hertz * vibrato), [1, 0.2, 0.1]) + breath)
    return attack(0.01, np.sign(np.sin(2 * np.pi * hertz * t)) * decay(0.8, t))

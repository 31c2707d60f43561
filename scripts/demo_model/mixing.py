"""How sounds come to a microphone: in a room, at some level, over a background, well or badly recorded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import backgrounds
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ
from waves import Samples

TELEPHONE = 0.2  # of the sounds that have another timbre


@dataclass(frozen=True, slots=True)
class Room:
    """How long a place echoes, and how loudly."""

    reverberation_s: float
    wet: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Room":
        """Most have no echo to speak of."""
        return cls(rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.6)) if rng.random() < 0.4 else cls(0.0, 0.0)


def place(rng: np.random.Generator, total: Samples, samples: Samples, at: int, room: Room, *, held_out: bool) -> None:
    """Mix an item into the scene at some level, with the colour and the echo of the room.

    In training half of the items also have another timbre, or come over a telephone, so that voices are many.
    """
    tail = int(room.reverberation_s * SAMPLE_RATE_HZ)
    size = 1 << (len(samples) + tail).bit_length()
    spectrum = np.fft.rfft(samples, size)  # float32 in, complex64 out
    if rng.random() < 0.45:
        spectrum *= _colour(rng, len(spectrum)).astype(np.float32)
    if not held_out and rng.random() < 0.5:
        spectrum *= _timbre(rng, len(spectrum)).astype(np.float32)
    if tail:
        echo = rng.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
        echo *= room.wet / np.sqrt(np.sum(echo**2))
        echo[0] += 1.0
        spectrum *= np.fft.rfft(echo.astype(np.float32), size)
    item = np.fft.irfft(spectrum, size)[: len(samples) + tail]
    level = 0.5 * 10 ** (rng.uniform(-14.0, 0.0) / 20) / max(float(np.abs(item).max()), 1e-6)
    item = item[: len(total) - at] * level
    total[at : at + len(item)] += item.astype(np.float32)


def _colour(rng: np.random.Generator, bins: int) -> NDArray[np.float64]:
    """A tilt, and now and then the lows or the highs cut off."""
    hertz = np.linspace(1.0, SAMPLE_RATE_HZ / 2, bins)
    gain: NDArray[np.float64] = (hertz / 1000.0) ** (rng.uniform(-5.0, 5.0) / 6.02)
    if rng.random() < 0.4:
        gain /= 1.0 + (hertz / rng.uniform(2_500, 7_000)) ** 6
    if rng.random() < 0.4:
        gain /= 1.0 + (rng.uniform(80, 400) / hertz) ** 6
    return gain


def _timbre(rng: np.random.Generator, bins: int) -> NDArray[np.float64]:
    """Some decibels more and less here and there, as of another mouth; or no more than a telephone carries."""
    hertz = np.linspace(1.0, SAMPLE_RATE_HZ / 2, bins)
    if rng.random() < TELEPHONE:
        high, low = hertz / rng.uniform(3_200, 3_800), rng.uniform(100, 300) / hertz
        telephone: NDArray[np.float64] = 1.0 / ((1.0 + high**24) * (1.0 + low**8))
        return telephone
    places = np.geomspace(80, SAMPLE_RATE_HZ / 2, 9)
    gain: NDArray[np.float64] = 10 ** (np.interp(hertz, places, rng.normal(0.0, 4.0, len(places))) / 20)
    return gain


def record(rng: np.random.Generator, samples: Samples, *, held_out: bool, level_db: float | None = None) -> None:
    """Add the background, then the recording level; both from digital silence to much too much."""
    audible = samples[np.abs(samples) > 1e-4]
    reference = float(np.sqrt(np.mean(audible**2))) if len(audible) else 0.1
    if rng.random() < 0.88:
        kind = str(rng.choice(backgrounds.BACKGROUNDS))
        noise = backgrounds.background(kind, len(samples), rng, held_out=held_out)
        loudness = float(np.sqrt(np.mean(noise**2)))
        snr_db = rng.uniform(10.0, 30.0) if held_out else rng.uniform(7.0, 36.0)
        if loudness > 1e-6:
            samples += noise * np.float32(reference / loudness * 10 ** (-snr_db / 20))
    peak = max(float(np.abs(samples).max()), 1e-5)
    if level_db is None:
        level_db = rng.uniform(-26.0, -0.5) if rng.random() < 0.75 else rng.uniform(-46.0, -26.0)
    samples *= np.float32(10 ** (level_db / 20) / peak)
    if rng.random() < 0.03:
        samples *= 2.5
    np.clip(np.round(samples * 32768), -32768, 32767, out=samples)
    samples /= 32768

"""What rooms and streets are full of: noise, machines, weather, voices, music. Made by rule, of any length."""

from collections.abc import Callable

import numpy as np

from quiet_sounds import keyboard
from waves import (
    RATE,
    Rng,
    Samples,
    Wave,
    band,
    banded,
    decay,
    finished,
    glide,
    harmonics,
    normal,
    placed,
    shaped_noise,
    time_axis,
)
from waves import note as played


def _slope(power: float) -> Callable[[Rng, int, bool], Wave]:
    return lambda rng, samples, _: shaped_noise(rng, samples, lambda hertz: np.maximum(hertz, 20.0) ** -power)


def _shaped(rng: Rng, samples: int, held_out: bool) -> Wave:
    knots = np.cumsum(rng.normal(0, 4.0, 12)) + banded(rng, -6, 6, held_out) * np.arange(12) / 3
    return shaped_noise(rng, samples, lambda hertz: 10 ** (np.interp(np.log(hertz), np.linspace(3, 9, 12), knots) / 20))


def _mains(rng: Rng, samples: int, held_out: bool) -> Wave:
    hertz = banded(rng, 48, 62, held_out)
    t = np.arange(samples) / RATE
    return harmonics(
        2 * np.pi * hertz * t, list(rng.uniform(0, 1, 10) / np.arange(1, 11))
    ) + 0.02 * rng.standard_normal(samples)


def _machine(rng: Rng, samples: int, held_out: bool) -> Wave:
    """Fans, vacuum cleaners, fridges, washing machines: a motor's tone, air, and something that turns."""
    t = np.arange(samples) / RATE
    motor = harmonics(2 * np.pi * banded(rng, 40, 320, held_out) * t, list(rng.uniform(0, 1, 8) / np.arange(1, 9)))
    centre = rng.uniform(150, 2500)
    air = shaped_noise(rng, samples, band(centre / 4, centre * 2, 0.7))
    turns = 1 + rng.uniform(0, 0.6) * np.sin(2 * np.pi * rng.uniform(0.3, 8) * t)
    return (rng.uniform(0, 0.6) * motor + air / np.std(air)) * turns


def _rain(rng: Rng, samples: int, held_out: bool) -> Wave:
    noise = shaped_noise(rng, samples, band(banded(rng, 600, 2500, held_out), 7500, 1))
    drops = np.zeros(samples)
    drops[rng.integers(0, samples, samples // 900)] = rng.exponential(1.0, samples // 900)
    return noise / np.std(noise) + 3 * np.convolve(
        drops, rng.standard_normal(60) * np.exp(-np.arange(60) / 12), mode="same"
    )


def _wind(rng: Rng, samples: int, held_out: bool) -> Wave:
    centre = banded(rng, 150, 700, held_out)
    gusts = np.interp(
        np.arange(samples) / RATE,
        np.arange(0, samples / RATE + 1, 0.7),
        rng.uniform(0.2, 1, int(samples / RATE / 0.7) + 3)[: len(np.arange(0, samples / RATE + 1, 0.7))],
    )
    return shaped_noise(rng, samples, band(centre / 2, centre * 1.5, 1)) * gusts


def _traffic(rng: Rng, samples: int, held_out: bool) -> Wave:
    total = shaped_noise(rng, samples, band(40, 500, 0.7))
    total /= np.std(total)
    t = np.arange(samples) / RATE
    for _ in range(int(samples / RATE / 5) + 1):
        at, width = rng.uniform(0, t[-1]), rng.uniform(0.8, 2.5)
        car = shaped_noise(rng, samples, band(100, banded(rng, 800, 2500, held_out), 0.8))
        total += rng.uniform(0.5, 3) * car / np.std(car) * np.exp(-(((t - at) / width) ** 2))
    return total


def _kettle(rng: Rng, samples: int, held_out: bool) -> Wave:
    t = np.arange(samples) / RATE
    roar = shaped_noise(rng, samples, band(300, banded(rng, 1500, 4500, held_out), 1))
    return normal(roar) * (0.2 + np.minimum(1, t / max(float(t[-1]), 1.0)))


def _clock(rng: Rng, samples: int, held_out: bool) -> Wave:
    hertz, period = banded(rng, 1500, 5000, held_out), rng.uniform(0.4, 1.0)
    t = time_axis(0.03)
    pieces = [(0.0, np.zeros(samples))]
    for n in range(int(samples / RATE / period) - 1):
        tick = shaped_noise(rng, len(t), band(hertz / 1.5, hertz * (1.5 if n % 2 else 1.2), 2)) * decay(0.004, t)
        pieces.append((n * period, tick))
    return placed(pieces)[:samples] + 0.003 * rng.standard_normal(samples)


def _crowd(rng: Rng, samples: int, held_out: bool) -> Wave:
    """Many voices at once, none of them to be understood."""
    t = np.arange(samples) / RATE
    total = np.zeros(samples)
    for _ in range(int(rng.integers(3, 7))):
        pitch = banded(rng, 85, 260, held_out) * (
            1
            + 0.15
            * np.interp(
                t,
                np.arange(0, t[-1] + 1, 0.3),
                rng.standard_normal(int(t[-1] / 0.3) + 5)[: len(np.arange(0, t[-1] + 1, 0.3))],
            )
        )
        voice = harmonics(glide(pitch), [1 / n**0.8 for n in range(1, 14)])
        beats = np.arange(0, t[-1] + 1, 0.17)
        syllables = np.interp(t, beats, rng.uniform(0, 1, len(beats)) ** 2)
        shifting = voice * syllables + 0.3 * shaped_noise(rng, samples, band(1500, 6000, 1)) * np.interp(
            t, beats, rng.uniform(0, 1, len(beats)) ** 3
        )
        total += shifting * rng.uniform(0.3, 1)
    return total


def _music(rng: Rng, samples: int, held_out: bool) -> Wave:
    """Chords, a bass, a melody, now and then drums."""
    beat = 60.0 / banded(rng, 60, 160, held_out)
    root = rng.uniform(90, 220)
    lead, pad = (int(n) for n in rng.integers(0, 5, 2))
    drums = rng.random() < 0.4
    scale = [0, 2, 4, 5, 7, 9, 11] if rng.random() < 0.6 else [0, 2, 3, 5, 7, 8, 10]
    cached: dict[tuple[int, int, int], Wave] = {}

    def note(step: int, beats: int, timbre: int) -> Wave:
        key = (step, beats, timbre)
        if key not in cached:
            cached[key] = played(rng, root * 2 ** (step / 12), beat * beats, timbre)
        return cached[key]

    pieces: list[tuple[float, Wave]] = [(0.0, np.zeros(samples))]
    hat = shaped_noise(rng, 800, band(4000, 7900, 2)) * np.exp(-np.arange(800) / 150)
    kick = np.sin(glide(120 * np.exp(-np.arange(2400) / 500) + 45)) * np.exp(-np.arange(2400) / 900)
    for bar in range(int(samples / RATE / beat / 4) + 1):
        at, degree = bar * 4 * beat, int(rng.integers(0, 6))
        chord = [scale[(degree + d) % 7] + 12 * ((degree + d) // 7) for d in (0, 2, 4)]
        pieces += [(at, 0.3 * note(step + 12, 4, pad)) for step in chord]
        pieces += [(at + n * 2 * beat, 0.7 * note(chord[0] - 12, 2, 2)) for n in range(2)]
        for n in range(4):
            if rng.random() < 0.75:
                pieces.append((at + n * beat, 0.6 * note(int(rng.choice(chord)) + 24, 1, lead)))
            if drums:
                pieces += [(at + n * beat, kick if n % 2 == 0 else 0.4 * hat), (at + (n + 0.5) * beat, 0.3 * hat)]
    return placed([(start, piece) for start, piece in pieces if start < samples / RATE])[:samples]


def _drone(rng: Rng, samples: int, held_out: bool) -> Wave:
    t = np.arange(samples) / RATE
    root = banded(rng, 60, 220, held_out)
    total = np.zeros(samples)
    for ratio in (1, 1.5, 2, rng.uniform(2.5, 4)):
        swelling = 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.05, 0.5) * t)
        total += swelling * np.sin(2 * np.pi * root * ratio * t + rng.uniform(0, 6))
    return total


def _static(rng: Rng, samples: int, held_out: bool) -> Wave:
    noise = shaped_noise(rng, samples, band(banded(rng, 200, 1500, held_out), 6000, 1))
    return noise / np.std(noise) * np.where(np.repeat(rng.random(samples // 1600 + 1), 1600)[:samples] < 0.1, 2.5, 1.0)


def _typing(rng: Rng, samples: int, held_out: bool) -> Wave:
    pieces, at = [(0.0, 0.002 * rng.standard_normal(samples))], 0.0
    while at < samples / RATE - 5:
        keys = keyboard(rng, held_out)
        pieces.append((at, keys))
        at += len(keys) / RATE + rng.uniform(0.1, 2.0)
    return placed(pieces)[:samples]


_BACKGROUNDS: dict[str, Callable[[Rng, int, bool], Wave]] = {
    "white": _slope(0.0), "pink": _slope(0.5), "brown": _slope(1.0), "shaped": _shaped, "mains_hum": _mains,
    "machine": _machine, "vacuum": _machine, "rain": _rain, "wind": _wind, "traffic": _traffic, "kettle": _kettle,
    "clock": _clock, "crowd": _crowd, "music": _music, "band": _music, "drone": _drone, "radio_static": _static,
    "typing": _typing, "silence": lambda _rng, samples, _held_out: np.zeros(samples),
}  # fmt: skip
BACKGROUNDS = tuple(_BACKGROUNDS)
COSTLY = ("traffic", "crowd", "machine", "vacuum", "mains_hum")
LONGEST_STRETCH = 12 * RATE  # of the costly ones, which repeat after that


def background(kind: str, samples: int, rng: Rng, *, held_out: bool) -> Samples:
    """So many samples of a background; a long one is made in stretches."""
    stretch = min(samples, LONGEST_STRETCH) if kind in COSTLY else samples
    return np.resize(finished(_BACKGROUNDS[kind](rng, stretch, held_out)), samples)

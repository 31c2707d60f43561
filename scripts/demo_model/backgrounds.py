"""Sounds that are not to be answered: short ones in the foreground, and what a room or a street is full of.

Made by the same rules as the events in `sounds`, with the same band of the main parameter kept for evaluation.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sounds import (
    RATE,
    Rng,
    Samples,
    attack,
    band,
    banded,
    decay,
    finished,
    glide,
    harmonics,
    placed,
    resonances,
    shaped_noise,
    time_axis,
)  # fmt: skip

Wave = NDArray[np.float64]


# --- in the foreground --------------------------------------------------------------------------------------------


def _note(rng: Rng, hertz: float, seconds: float, timbre: int) -> Wave:
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


def _melody(rng: Rng, held_out: bool) -> Wave:
    root, timbre = banded(rng, 130, 700, held_out), int(rng.integers(5))
    gap = rng.uniform(0.15, 0.5)
    steps = rng.choice([-5, -3, 0, 2, 4, 5, 7, 9, 12], size=int(rng.uniform(1.0, 4.0) / gap) + 2)
    return placed(
        [(n * gap, _note(rng, root * 2 ** (s / 12), gap * rng.uniform(0.8, 1.5), timbre)) for n, s in enumerate(steps)]
    )


def _chord(rng: Rng, held_out: bool) -> Wave:
    root, timbre, seconds = banded(rng, 110, 500, held_out), int(rng.integers(5)), rng.uniform(0.6, 3.0)
    steps = [0, rng.choice([3, 4]), 7, rng.choice([10, 11, 12])]
    return np.sum([_note(rng, root * 2 ** (s / 12), seconds, timbre) for s in steps], axis=0)


def _long_tone(rng: Rng, held_out: bool) -> Wave:
    hertz = 80 * 50 ** (banded(rng, 0, 1, held_out))
    return attack(
        0.02,
        harmonics(
            2 * np.pi * hertz * time_axis(rng.uniform(0.6, 4.0)), [1, *rng.uniform(0, 0.5, int(rng.integers(0, 4)))]
        ),
    )


def _sweep(rng: Rng, held_out: bool) -> Wave:
    t = time_axis(rng.uniform(0.5, 4.0))
    low, high = 100.0, banded(rng, 800, 4000, held_out)
    tone = low * (high / low) ** (t / t[-1])
    return attack(0.02, np.sin(glide(tone if rng.random() < 0.5 else tone[::-1])))


def _noise_burst(rng: Rng, held_out: bool) -> Wave:
    t = time_axis(rng.uniform(0.1, 1.5))
    centre = banded(rng, 200, 5000, held_out)
    return attack(rng.uniform(0.005, 0.1), shaped_noise(rng, len(t), band(centre / 2, centre * 2, 2)))


def _drip(rng: Rng, held_out: bool) -> Wave:
    hertz, gap = banded(rng, 600, 2200, held_out), rng.uniform(0.5, 1.2)
    drops = []
    for n in range(int(rng.integers(1, 4))):
        t = time_axis(0.06)
        drops.append((n * gap, np.sin(glide(hertz * (1 + 6 * t))) * decay(0.012, t)))
    return placed(drops)


def _tick(rng: Rng, held_out: bool) -> Wave:
    hertz, gap = banded(rng, 1500, 6000, held_out), rng.uniform(0.25, 1.0)
    t = time_axis(0.03)
    tick = shaped_noise(rng, len(t), band(hertz / 1.5, hertz * 1.5, 2)) * decay(0.004, t)
    return placed([(n * gap, tick) for n in range(int(rng.integers(2, 8)))])


def _hum(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 45, 130, held_out)
    return attack(0.1, harmonics(2 * np.pi * hertz * time_axis(rng.uniform(1.0, 4.0)), [1 / n for n in range(1, 12)]))


def _door_slam(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 40, 110, held_out)
    t = time_axis(rng.uniform(0.4, 0.8))
    thud = np.sin(2 * np.pi * hertz * t) * decay(0.1, t)
    rattle = shaped_noise(rng, len(t), band(60, 1200, 1)) * decay(0.07, t)
    return thud + rng.uniform(0.8, 2) * rattle / np.abs(rattle).max()


def _footsteps(rng: Rng, held_out: bool) -> Wave:
    hertz, gap = banded(rng, 80, 300, held_out), rng.uniform(0.4, 0.7)
    steps = []
    for n in range(int(rng.integers(3, 7))):
        t = time_axis(0.18)
        steps.append(
            (
                n * gap,
                shaped_noise(rng, len(t), band(hertz, hertz * 6, 1)) * decay(0.04, t) * attack(0.015, np.ones(len(t))),
            )
        )
    return placed(steps)


def _keyboard(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 1500, 4500, held_out)
    keys = []
    at = 0.0
    for _ in range(int(rng.integers(4, 22))):
        t = time_axis(0.05)
        press = shaped_noise(rng, len(t), band(hertz / 2, hertz * 1.6, 2)) * decay(0.006, t) * rng.uniform(0.4, 1)
        keys.append((at, press))
        at += rng.uniform(0.07, 0.28)
    return placed(keys)


def _rustle(rng: Rng, held_out: bool) -> Wave:
    low, t = banded(rng, 1000, 3500, held_out), time_axis(rng.uniform(0.5, 2.0))
    noise = shaped_noise(rng, len(t), band(low, 7800, 2))
    flicker = np.repeat(rng.exponential(1.0, len(t) // 200 + 1), 200)[: len(t)]
    return attack(0.05, noise * flicker)


def _coin(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 3000, 6500, held_out)
    pieces = []
    at, gap = 0.0, rng.uniform(0.12, 0.3)
    for _ in range(int(rng.integers(2, 7))):
        t = time_axis(0.2)
        pieces.append(
            (at, (np.sin(2 * np.pi * hertz * t) + 0.6 * np.sin(2 * np.pi * hertz * 1.17 * t)) * decay(0.03, t))
        )
        at += gap
        gap *= 0.7
    return placed(pieces)


def _cough(rng: Rng, held_out: bool) -> Wave:
    centre = banded(rng, 500, 1800, held_out)
    pieces = []
    for n in range(int(rng.integers(1, 4))):
        t = time_axis(rng.uniform(0.15, 0.35))
        noise = shaped_noise(rng, len(t), resonances([centre, centre * 2.1, centre * 3.5], 0.4))
        pieces.append((n * rng.uniform(0.35, 0.5), noise * np.minimum(1, t / 0.01) * decay(0.09, t)))
    return placed(pieces)


def _birds(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 2500, 6000, held_out)
    pieces, at = [], 0.0
    for _ in range(int(rng.integers(3, 14))):
        t = time_axis(rng.uniform(0.04, 0.16))
        end = hertz * rng.uniform(0.7, 1.3)
        pieces.append((at, attack(0.01, np.sin(glide(np.linspace(hertz * rng.uniform(0.8, 1.2), end, len(t)))))))
        at += t[-1] + rng.uniform(0.03, 0.35)
    return placed(pieces)


def _engine(rng: Rng, held_out: bool) -> Wave:
    rate, t = banded(rng, 25, 90, held_out), time_axis(rng.uniform(1.0, 4.0))
    sweep = rate * (1 + rng.uniform(0, 1.2) * np.sin(np.pi * t / t[-1]))
    return attack(0.1, harmonics(glide(sweep), list(rng.uniform(0.2, 1, 16))) * (1 + 0.2 * rng.standard_normal(len(t))))


def _pour(rng: Rng, held_out: bool) -> Wave:
    centre, t = banded(rng, 500, 2000, held_out), time_axis(rng.uniform(1.0, 3.5))
    bubbles = 1 + 0.6 * np.sin(glide(rng.uniform(8, 20) * (1 + 0.3 * rng.standard_normal(len(t)))))
    return attack(0.1, shaped_noise(rng, len(t), resonances([centre, centre * 1.9, centre * 3.1], 0.2)) * bubbles)


def _whistle(rng: Rng, held_out: bool) -> Wave:
    hertz, t = banded(rng, 900, 2600, held_out), time_axis(rng.uniform(0.4, 2.0))
    knots = np.interp(t, np.linspace(0, t[-1], 6), hertz * 2 ** (rng.uniform(-6, 6, 6) / 12))
    return attack(0.04, np.sin(glide(knots)) + 0.05 * shaped_noise(rng, len(t), band(hertz, hertz * 2, 2)))


def _hiss(rng: Rng, held_out: bool) -> Wave:
    low, t = banded(rng, 2500, 5000, held_out), time_axis(rng.uniform(0.4, 3.0))
    return attack(rng.uniform(0.01, 0.3), shaped_noise(rng, len(t), band(low, 7900, 3)))


_QUIET: dict[str, Callable[[Rng, bool], Wave]] = {
    "melody": _melody, "chord": _chord, "long_tone": _long_tone, "sweep": _sweep, "noise_burst": _noise_burst,
    "drip": _drip, "tick": _tick, "hum": _hum, "door_slam": _door_slam, "footsteps": _footsteps,
    "keyboard": _keyboard, "rustle": _rustle, "coin": _coin, "cough": _cough, "birds": _birds, "engine": _engine,
    "pour": _pour, "whistle": _whistle, "hiss": _hiss,
}  # fmt: skip
QUIET_SOUNDS = tuple(_QUIET)


def quiet_sound(kind: str, rng: Rng, *, held_out: bool) -> Samples:
    """A sound in the foreground that is not to be answered, 0.05 to 5 s."""
    return finished(_QUIET[kind](rng, held_out))


# --- behind everything --------------------------------------------------------------------------------------------


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
    return roar / np.std(roar) * (0.2 + np.minimum(1, t / max(t[-1], 1)))


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
            cached[key] = _note(rng, root * 2 ** (step / 12), beat * beats, timbre)
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
        keys = _keyboard(rng, held_out)
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

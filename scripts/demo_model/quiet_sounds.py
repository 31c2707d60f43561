"""Short sounds in the foreground that are not to be answered, made by rule as the events in `sounds` are."""

from collections.abc import Callable

import numpy as np

from waves import (
    Rng,
    Samples,
    Wave,
    attack,
    band,
    banded,
    decay,
    finished,
    glide,
    harmonics,
    normal,
    note,
    placed,
    resonances,
    shaped_noise,
    time_axis,
)


def _melody(rng: Rng, held_out: bool) -> Wave:
    root, timbre = banded(rng, 130, 700, held_out), int(rng.integers(5))
    gap = rng.uniform(0.15, 0.5)
    steps = rng.choice([-5, -3, 0, 2, 4, 5, 7, 9, 12], size=int(rng.uniform(1.0, 4.0) / gap) + 2)
    return placed(
        [(n * gap, note(rng, root * 2 ** (s / 12), gap * rng.uniform(0.8, 1.5), timbre)) for n, s in enumerate(steps)]
    )


def _chord(rng: Rng, held_out: bool) -> Wave:
    root, timbre, seconds = banded(rng, 110, 500, held_out), int(rng.integers(5)), rng.uniform(0.6, 3.0)
    steps = [0, rng.choice([3, 4]), 7, rng.choice([10, 11, 12])]
    return placed([(0.0, note(rng, root * 2 ** (s / 12), seconds, timbre)) for s in steps])


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
    return thud + rng.uniform(0.8, 2) * normal(rattle)


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


def keyboard(rng: Rng, held_out: bool) -> Wave:
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
    "keyboard": keyboard, "rustle": _rustle, "coin": _coin, "cough": _cough, "birds": _birds, "engine": _engine,
    "pour": _pour, "whistle": _whistle, "hiss": _hiss,
}  # fmt: skip
QUIET_SOUNDS = tuple(_QUIET)


def quiet_sound(kind: str, rng: Rng, *, held_out: bool) -> Samples:
    """A sound in the foreground that is not to be answered, 0.05 to 5 s."""
    return finished(_QUIET[kind](rng, held_out))

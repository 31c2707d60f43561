"""Sounds that are reported and sounds that are counted, made by rule.

Each kind comes in several builds, and has a main parameter of which a band is kept for evaluation.
"""

from collections.abc import Callable

import numpy as np

from waves import (
    RATE,
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
    placed,
    resonances,
    shaped_like,
    shaped_noise,
    time_axis,
)

EVENTS = ("alarm", "doorbell", "bark", "knock", "glass", "siren", "phone", "clap", "meow", "horn")
COUNTED = ("bark1", "knock1", "beep1")


def _alarm(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 2300, 3700, held_out)
    weights = [1.0, rng.uniform(0, 0.4), rng.uniform(0, 0.2)]
    kind = rng.integers(4)
    if kind == 0:  # three pulses and a pause
        on = rng.uniform(0.35, 0.55)
        pulse = attack(0.005, harmonics(2 * np.pi * hertz * time_axis(on), weights))
        period = on + rng.uniform(0.3, 0.5)
        starts = [n * period + (n // 3) * rng.uniform(0.6, 1.2) for n in range(int(rng.integers(3, 5)))]
        return placed([(at, pulse) for at in starts])
    if kind == 1:  # fast beeping
        on = rng.uniform(0.06, 0.16)
        pulse = attack(0.004, harmonics(2 * np.pi * hertz * time_axis(on), weights))
        period = on * rng.uniform(1.6, 2.4)
        return placed([(n * period, pulse) for n in range(int(rng.uniform(1.6, 3.0) / period))])
    length = time_axis(rng.uniform(1.6, 3.2))
    if kind == 2:  # two tones
        rate, other = rng.uniform(3, 9), rng.uniform(0.75, 0.9)
        tone = np.where((length * rate) % 1 < 0.5, hertz, hertz * other)
    else:  # fast sweep up
        rate, low = rng.uniform(2.5, 8), rng.uniform(0.55, 0.75)
        tone = hertz * (low + (1 - low) * ((length * rate) % 1))
    return attack(0.005, harmonics(glide(tone), weights))


def _bell_tone(rng: Rng, hertz: float, seconds: float, ring: float) -> Wave:
    t = time_axis(seconds)
    partials = [(1.0, 1.0), (2.0, rng.uniform(0.1, 0.5)), (rng.uniform(2.7, 3.1), rng.uniform(0.1, 0.5)),
                (rng.uniform(4.0, 5.6), rng.uniform(0.0, 0.3))]  # fmt: skip
    tone = np.sum([w * np.sin(2 * np.pi * hertz * r * t) * decay(ring / r**0.5, t) for r, w in partials], axis=0)
    return attack(0.004, tone)


def _doorbell(rng: Rng, held_out: bool) -> Wave:
    hertz, ring = banded(rng, 450, 950, held_out), rng.uniform(0.35, 0.9)
    kind = rng.integers(4)
    if kind <= 1:  # ding-dong
        interval = 2 ** (-rng.choice([3, 4, 5]) / 12)
        gap = rng.uniform(0.4, 0.75)
        notes = [(0.0, hertz), (gap, hertz * interval)]
        if rng.random() < 0.3:
            notes += [(at + 2.2 * gap, f) for at, f in notes]
        return placed([(at, _bell_tone(rng, f, 1.4, ring)) for at, f in notes])
    if kind == 2:  # three or four notes down a chord
        steps = list(rng.permutation([0, 4, 7, 12]))[: int(rng.integers(3, 5))]
        gap = rng.uniform(0.22, 0.4)
        return placed([(n * gap, _bell_tone(rng, hertz * 2 ** (s / 12), 1.0, ring)) for n, s in enumerate(steps)])
    t = time_axis(rng.uniform(0.8, 1.8))  # a buzzer: mains hum chopped
    buzz = harmonics(2 * np.pi * banded(rng, 48, 62, held_out) * 2 * t, [1 / n**0.6 for n in range(1, 28)])
    return attack(0.01, buzz * (1 + 0.3 * rng.standard_normal(len(t))))


def _woof(rng: Rng, hertz: float) -> Wave:
    t = time_axis(rng.uniform(0.13, 0.3))
    shape = np.sin(np.pi * (t / t[-1]) ** rng.uniform(0.4, 0.7)) ** 1.2
    pitch = hertz * (0.75 + 0.6 * np.sin(np.pi * t / t[-1]))
    voice = harmonics(glide(pitch), [1 / n**0.7 for n in range(1, 13)])
    centre = hertz * rng.uniform(2.0, 3.5)
    noise = shaped_noise(rng, len(t), resonances([centre, centre * 2.2, centre * 4], 0.3))
    size = 1 << (len(t) - 1).bit_length()
    spectrum = np.fft.rfft(voice, size) * resonances([centre, centre * 2.2], 0.35)(
        np.linspace(1, RATE / 2, size // 2 + 1)
    )
    voice = np.fft.irfft(spectrum, size)[: len(t)]
    mix = rng.uniform(0.3, 0.8)
    woof: Wave = shape * (normal(voice) + mix * normal(noise))
    return woof


def _bark(rng: Rng, held_out: bool) -> Wave:
    hertz, gap = banded(rng, 200, 620, held_out), rng.uniform(0.3, 0.65)
    return placed([
        (n * gap * rng.uniform(0.92, 1.08), _woof(rng, hertz * rng.uniform(0.93, 1.07)) * rng.uniform(0.7, 1))
        for n in range(int(rng.integers(2, 6)))
    ])  # fmt: skip


def _rap(rng: Rng, hertz: float) -> Wave:
    t = time_axis(rng.uniform(0.06, 0.14))
    body = np.sum([np.sin(2 * np.pi * hertz * r * t) * decay(0.02 / r, t) * w for r, w in
                   ((1, 1.0), (rng.uniform(1.7, 2.6), 0.6), (rng.uniform(3.2, 5.0), 0.3))], axis=0)  # fmt: skip
    click = shaped_noise(rng, len(t), band(hertz, 5000, 1.5)) * decay(0.006, t)
    rap: Wave = body + rng.uniform(0.3, 1.0) * normal(click)
    return rap


def _knock(rng: Rng, held_out: bool) -> Wave:
    hertz, gap = banded(rng, 120, 480, held_out), rng.uniform(0.14, 0.32)
    raps = [(n * gap * rng.uniform(0.95, 1.05), _rap(rng, hertz * rng.uniform(0.96, 1.04)) * rng.uniform(0.7, 1))
            for n in range(int(rng.integers(2, 6)))]  # fmt: skip
    if rng.random() < 0.3:
        raps += [(at + raps[-1][0] + rng.uniform(0.5, 0.9), piece) for at, piece in raps]
    return placed(raps)


def _glass(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 2200, 5200, held_out)
    t = time_axis(rng.uniform(1.2, 2.2))
    crash = shaped_noise(rng, len(t), band(hertz * 0.5, 7800, 2)) * decay(rng.uniform(0.05, 0.16), t)
    pieces = [(0.0, crash / np.abs(crash).max())]
    for _ in range(int(rng.integers(15, 45))):
        at = float(rng.exponential(0.28))
        if at < t[-1] - 0.2:
            tt = time_axis(rng.uniform(0.05, 0.25))
            f = min(hertz * rng.uniform(0.5, 2.0), 7500)
            tink = np.sin(2 * np.pi * f * tt) + 0.5 * np.sin(2 * np.pi * min(f * rng.uniform(1.3, 1.8), 7800) * tt)
            pieces.append((at, tink * decay(rng.uniform(0.01, 0.06), tt) * rng.uniform(0.1, 0.7) * np.exp(-at)))
    return placed(pieces)


def _siren(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 450, 950, held_out)
    t = time_axis(rng.uniform(2.2, 4.0))
    kind = rng.integers(3)
    if kind == 0:  # hi-lo
        rate = rng.uniform(0.9, 2.2)
        tone = np.where((t * rate) % 1 < 0.5, hertz, hertz * rng.uniform(1.25, 1.5))
        tone = np.convolve(tone, np.ones(160) / 160, mode="same")
        tone[:160], tone[-160:] = tone[160], tone[-161]
    else:  # wail, yelp
        rate = rng.uniform(0.25, 0.6) if kind == 1 else rng.uniform(1.5, 4.0)
        top = rng.uniform(1.5, 2.2)
        phase = (t * rate + rng.uniform(0, 0.2)) % 1
        tone = hertz * (1 + (top - 1) * (0.5 - 0.5 * np.cos(2 * np.pi * phase)))
    weights = [1 / n ** rng.uniform(0.7, 1.5) for n in range(1, 7)]
    return attack(0.03, harmonics(glide(tone), weights))


def _phone(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 800, 1700, held_out)
    kind = rng.integers(3)
    if kind == 0:  # a bell struck twenty times a second
        rate = rng.uniform(16, 28)
        ring = [(n / rate, _bell_tone(rng, hertz * (1 if n % 2 else rng.uniform(1.18, 1.22)), 0.25, 0.12))
                for n in range(int(rng.uniform(0.8, 1.4) * rate))]  # fmt: skip
        burst = placed(ring)
    elif kind == 1:  # electronic warble
        t = time_axis(rng.uniform(0.7, 1.2))
        tone = np.where((t * rng.uniform(10, 20)) % 1 < 0.5, hertz, hertz * rng.uniform(1.18, 1.35))
        burst = attack(0.01, harmonics(glide(tone), [1, rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.4)]))
    else:  # a fast little tune, again and again
        steps = rng.choice([0, 2, 4, 7, 9, 12], size=int(rng.integers(4, 7)))
        gap = rng.uniform(0.1, 0.16)
        burst = placed([(n * gap, _bell_tone(rng, hertz * 2 ** (s / 12), 0.3, 0.12)) for n, s in enumerate(steps)])
        return placed([(n * len(burst) / RATE, burst) for n in range(3)])
    return placed([(n * (len(burst) / RATE + rng.uniform(0.25, 0.9)), burst) for n in range(2)])


def _clap(rng: Rng, held_out: bool) -> Wave:
    rate = banded(rng, 3.0, 5.5, held_out)
    people, seconds = int(rng.choice([1, 2, 4, 10, 25])), rng.uniform(1.6, 3.2)
    pieces = []
    for _ in range(people):
        centre, own, at = (
            rng.uniform(700, 2200),
            rate * rng.uniform(0.85, 1.15),
            rng.uniform(0, 0.3 if people > 1 else 0.01),
        )
        t = time_axis(0.05)
        clap = shaped_noise(rng, len(t), resonances([centre, centre * 2.3], 0.5)) * decay(rng.uniform(0.006, 0.014), t)
        loud = rng.uniform(0.4, 1.0)
        while at < seconds:
            pieces.append((at, clap * loud * rng.uniform(0.7, 1)))
            at += rng.normal(1, 0.05) / own
    return placed(pieces)


def _meow(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 420, 850, held_out)
    pieces, at = [], 0.0
    for _ in range(int(rng.integers(1, 3)) + 1):
        t = time_axis(rng.uniform(0.5, 1.0))
        x = t / t[-1]
        pitch = hertz * (0.8 + rng.uniform(0.3, 0.6) * np.sin(np.pi * x ** rng.uniform(0.5, 0.9)))
        voice = harmonics(glide(pitch * (1 + 0.01 * np.sin(2 * np.pi * 7 * t))), [1, 0.9, 0.6, 0.45, 0.3, 0.2, 0.1])
        low = shaped_like(voice, resonances([rng.uniform(700, 1000), rng.uniform(2400, 3200)], 0.3))
        high = shaped_like(voice, resonances([rng.uniform(1100, 1700), rng.uniform(2600, 3600)], 0.3))
        mouth = np.sin(np.pi * x)
        shape = np.minimum(1, x / 0.12) * np.minimum(1, (1 - x) / 0.35)
        pieces.append((at, ((1 - mouth) * low + mouth * high) * shape))
        at += t[-1] + rng.uniform(0.15, 0.6)
    return placed(pieces)


def _horn(rng: Rng, held_out: bool) -> Wave:
    hertz, other = banded(rng, 300, 520, held_out), rng.uniform(1.18, 1.3)
    honks = int(rng.integers(1, 4))
    pieces, at = [], 0.0
    for _ in range(honks):
        t = time_axis(rng.uniform(0.25, 0.7) if honks > 1 else rng.uniform(0.9, 2.0))
        weights = [1 / n**0.5 for n in range(1, 12)]
        pieces.append(
            (
                at,
                attack(
                    0.02, harmonics(2 * np.pi * hertz * t, weights) + harmonics(2 * np.pi * hertz * other * t, weights)
                ),
            )
        )
        at += t[-1] + rng.uniform(0.1, 0.35)
    return placed(pieces)


def _beep1(rng: Rng, held_out: bool) -> Wave:
    hertz = banded(rng, 700, 2500, held_out)
    return attack(
        0.006,
        harmonics(2 * np.pi * hertz * time_axis(rng.uniform(0.1, 0.3)), [1, rng.uniform(0, 0.4), rng.uniform(0, 0.3)]),
    )


_EVENTS: dict[str, Callable[[Rng, bool], Wave]] = {
    "alarm": _alarm, "doorbell": _doorbell, "bark": _bark, "knock": _knock, "glass": _glass, "siren": _siren,
    "phone": _phone, "clap": _clap, "meow": _meow, "horn": _horn,
    "bark1": lambda rng, held_out: _woof(rng, banded(rng, 200, 620, held_out)),
    "knock1": lambda rng, held_out: _rap(rng, banded(rng, 120, 480, held_out)),
    "beep1": _beep1,
}  # fmt: skip


def event(kind: str, rng: Rng, *, held_out: bool) -> Samples:
    """A sound that is reported (`EVENTS`, 1-4 s) or counted (`COUNTED`, under half a second)."""
    return finished(_EVENTS[kind](rng, held_out))

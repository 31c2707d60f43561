"""Speech in another rhythm: sounds held or hurried, at the same pitch. Knows samples and labels, not voices.

Overlap and add of windows taken where they continue each other best (WSOLA, Verhelst and Roelands 1993).
"""

import numpy as np
from numpy.typing import NDArray

from audio_interaction_cli.protocol import HOP_SAMPLES
from waves import Samples

WINDOW = 3 * HOP_SAMPLES  # samples, 30 ms: whole periods of the deepest voices
REACH = WINDOW // 4  # how far from its place a window may be taken
SPREAD = 0.4  # of the logarithm of how much longer a sound is held
MOST = 1.0  # of that logarithm
COLUMNS = (5, 19)  # how long a stretch of one pace is, in columns of 10 ms


def vary(rng: np.random.Generator, samples: Samples, labels: NDArray[np.uint8]) -> tuple[Samples, NDArray[np.uint8]]:
    """Samples and their labels, one for each column, with every stretch of a few sounds at a pace of its own."""
    factors: list[float] = []
    while len(factors) < len(labels):
        factor = float(np.exp(np.clip(rng.normal(0.0, SPREAD), -MOST, MOST)))
        factors += [factor] * int(rng.integers(*COLUMNS))
    return stretched(samples, labels, np.array(factors[: len(labels)]))


def stretched(
    samples: Samples, labels: NDArray[np.uint8], factors: NDArray[np.float64]
) -> tuple[Samples, NDArray[np.uint8]]:
    """Samples and labels with each column held `factors` times as long."""
    ends = np.concatenate([[0.0], np.cumsum(factors * HOP_SAMPLES)])
    columns = int(ends[-1]) // HOP_SAMPLES
    places = np.interp((np.arange(columns) + 0.5) * HOP_SAMPLES, ends, np.arange(len(ends)) * float(HOP_SAMPLES))
    padded = np.pad(samples, (WINDOW, 2 * WINDOW + HOP_SAMPLES))
    window = (np.hanning(WINDOW + 1)[:-1] / 1.5).astype(np.float32)
    out = np.zeros(columns * HOP_SAMPLES + WINDOW, np.float32)
    at = int(places[0]) + WINDOW // 2
    for column, place in enumerate(places):
        if column:
            ideal = int(place) + WINDOW // 2  # in `padded`, of a window around that place
            follows = padded[at + HOP_SAMPLES : at + HOP_SAMPLES + WINDOW]
            near = padded[ideal - REACH : ideal + REACH + WINDOW]
            energy = np.correlate(near**2, np.ones(WINDOW, np.float32), "valid")
            likeness = np.correlate(near, follows, "valid") / np.sqrt(energy + 1e-6)
            at = ideal - REACH + int(likeness.argmax())
        start = column * HOP_SAMPLES
        out[start : start + WINDOW] += window * padded[at : at + WINDOW]
    out = out[HOP_SAMPLES : HOP_SAMPLES + columns * HOP_SAMPLES]
    return out, labels[np.minimum(places.astype(int) // HOP_SAMPLES, len(labels) - 1)]

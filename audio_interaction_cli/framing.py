"""Blocks of any size in, whole chunks out. Knows samples and chunks, nothing of what they sound like."""

import numpy as np
from numpy.typing import NDArray

from audio_interaction_cli.protocol import CHUNK_SAMPLES

Samples = NDArray[np.float32]
"""Mono, 16 kHz, full scale 1."""

SILENCE_DB = -120.0  # what is quieter counts as this


def level_db(samples: Samples) -> float:
    """Mean power of float32 [n] in decibels, 0 for a square wave of full scale."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(SILENCE_DB, 10 * float(np.log10(power))) if power > 0 else SILENCE_DB


class Framer:
    """Collects samples until they fill chunks; no sample is lost, doubled or reordered."""

    def __init__(self) -> None:
        self._blocks: list[Samples] = []
        self._waiting_samples = 0

    @property
    def whole_chunks(self) -> int:
        """Chunks that `take` could give now."""
        return self._waiting_samples // CHUNK_SAMPLES

    def push(self, block: Samples) -> None:
        """Add mono samples, float32 [n] at 16 kHz; n may be 0. They are copied: sources reuse their buffers."""
        self._blocks.append(block.copy())
        self._waiting_samples += len(block)

    def pad(self) -> None:
        """Fill the chunk begun, if any, with zeros: the input has ended."""
        missing = -self._waiting_samples % CHUNK_SAMPLES
        self.push(np.zeros(missing, np.float32))

    def take(self, limit: int) -> Samples:
        """Remove and return up to `limit` whole chunks, float32 [n, 6400]."""
        wanted = min(limit, self.whole_chunks) * CHUNK_SAMPLES
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.zeros(0, np.float32), *self._blocks])]
        samples = self._blocks[0]
        rest = samples[wanted:]
        self._blocks = [rest.copy() if len(rest) < CHUNK_SAMPLES else rest]  # not to keep all for the sake of a little
        self._waiting_samples -= wanted
        return samples[:wanted].reshape(-1, CHUNK_SAMPLES)

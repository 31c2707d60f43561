"""Speech in another rhythm, as the demo model's training voices have it."""

import numpy as np
import pytest

import rhythm

RATE = 16_000
COLUMNS = 100
TONE = (0.5 * np.sin(2 * np.pi * 200 * np.arange(COLUMNS * 160) / RATE)).astype(np.float32)
LABELS = np.arange(COLUMNS, dtype=np.uint8)


def test_its_own_pace_changes_nothing() -> None:
    samples, labels = rhythm.stretched(TONE, LABELS, np.ones(COLUMNS))
    assert list(labels) == list(LABELS)
    assert samples[800:-800] == pytest.approx(TONE[800:-800], abs=0.01)


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_another_pace_keeps_pitch_and_loudness(factor: float) -> None:
    samples, labels = rhythm.stretched(TONE, LABELS, np.full(COLUMNS, factor))
    assert len(labels) == pytest.approx(COLUMNS * factor, abs=1)
    assert len(samples) == 160 * len(labels)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * RATE / len(samples) == pytest.approx(200, abs=4)
    assert np.std(samples[800:-800]) == pytest.approx(np.std(TONE), rel=0.05)


def test_labels_stay_with_their_sound() -> None:
    noise_first = np.where(np.arange(len(TONE)) < len(TONE) // 2, 0.01, 1.0).astype(np.float32) * TONE
    loud = (np.arange(COLUMNS) >= COLUMNS // 2).astype(np.uint8)
    samples, labels = rhythm.vary(np.random.default_rng(3), noise_first, loud)
    heard = np.abs(samples.reshape(-1, 160)).max(axis=1) > 0.1
    assert 0.3 < labels.mean() < 0.7
    assert (heard == labels).mean() > 0.95

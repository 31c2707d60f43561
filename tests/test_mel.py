"""The streaming mel spectrum against `whisper.log_mel_spectrogram` of everything at once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_interaction_cli.framing import Samples
from audio_interaction_cli.mel import FileMel, LiveMel, MelMaximum, silence_mel
from audio_interaction_cli.protocol import CHUNK_SAMPLES

SPLITS = st.lists(st.integers(0, 5), max_size=8)


@pytest.fixture(scope="module")
def reference() -> Callable[[Samples], torch.Tensor]:
    """openai-whisper's function; importing the package is slow."""
    from whisper import log_mel_spectrogram

    return lambda samples: log_mel_spectrogram(torch.from_numpy(samples), n_mels=128)


def noise_with_bursts(chunks: int, seed: int) -> Samples:
    """Sound whose maximum moves: each chunk has its own level, some are digital silence."""
    rng = np.random.default_rng(seed)
    levels = rng.choice([0.0, 1e-4, 1e-2, 0.3, 1.0], size=(chunks, 1))
    return (rng.standard_normal((chunks, CHUNK_SAMPLES)) * levels).astype(np.float32)


@given(seed=st.integers(0, 10_000), chunks=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_live_equals_recomputing_all_heard_so_far(reference, seed, chunks):
    sound = noise_with_bursts(chunks, seed)
    live = LiveMel()
    for n in range(chunks):
        expected = reference(sound[: n + 1].reshape(-1))[:, -40:]
        torch.testing.assert_close(live.push(sound[n : n + 1])[0], expected, atol=2e-5, rtol=0)
    assert live.finish().shape == (0, 128, 40)


def test_live_maximum_forgets_a_mirrored_column_that_was_too_loud(reference):
    # A click whose mirror image doubles it: loud only as long as the future is unknown.
    sound = np.zeros((3, CHUNK_SAMPLES), np.float32)
    sound[0, -20:] = 1.0
    sound[1, :40] = -1.0
    sound[2] = 1e-6
    live = LiveMel()
    for n in range(3):
        expected = reference(sound[: n + 1].reshape(-1))[:, -40:]
        torch.testing.assert_close(live.push(sound[n : n + 1])[0], expected, atol=2e-5, rtol=0)


@given(seed=st.integers(0, 10_000), chunks=st.integers(1, 12), splits=SPLITS)
@settings(max_examples=25, deadline=None)
def test_file_equals_whole_however_it_is_split(reference, seed, chunks, splits):
    sound = noise_with_bursts(chunks, seed)
    expected = reference(sound.reshape(-1))
    maximum = MelMaximum()
    bounds = [*np.cumsum(splits).clip(max=chunks), chunks]
    pieces = [sound[a:b] for a, b in zip([0, *bounds[:-1]], bounds, strict=True)]
    for piece in pieces:
        maximum.push(piece)
    maximum.finish()
    mel = FileMel(maximum.value)
    got = torch.cat([*(mel.push(piece) for piece in pieces), mel.finish()])
    assert got.shape == (chunks, 128, 40)
    torch.testing.assert_close(torch.cat(list(got), dim=1), expected, atol=2e-5, rtol=0)


def test_silence_as_a_file_of_its_own(reference):
    zeros = np.zeros((3, CHUNK_SAMPLES), np.float32)
    mel = silence_mel()
    got = torch.cat([mel.push(zeros), mel.finish()])
    torch.testing.assert_close(torch.cat(list(got), dim=1), reference(zeros.reshape(-1)))


def test_nothing_heard():
    maximum = MelMaximum()
    maximum.push(np.zeros((0, CHUNK_SAMPLES), np.float32))
    maximum.finish()
    assert maximum.value == -10.0
    assert FileMel(0.0).finish().shape == (0, 128, 40)
    assert LiveMel().push(np.zeros((0, CHUNK_SAMPLES), np.float32)).shape == (0, 128, 40)

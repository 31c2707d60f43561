"""Log-mel spectrum of a stream, chunk by chunk, equal to `whisper.log_mel_spectrogram` of the whole.

A column is centred on its hop and reaches 200 samples to either side, so a chunk's last column needs the
next chunk's first 40 samples. All columns share one reference, the loudest value, below which 8 decades
are kept. The two forms differ in both:

- `FileMel`: true right-hand neighbours (the newest chunk waits for the next one) and the maximum of the
  whole file, found beforehand by `MelMaximum`.
- `LiveMel`: no waiting. The newest column's right edge is mirrored, and the reference is the maximum of all
  heard so far. A mirrored column counts only until its true neighbours arrive.

The filter bank is openai-whisper's own file, read without importing that package (which costs seconds).
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.protocol import CHUNK_COLUMNS, CHUNK_SAMPLES, HOP_SAMPLES, N_FFT_SAMPLES, N_MELS

EDGE_SAMPLES = N_FFT_SAMPLES // 2
FUTURE_SAMPLES = EDGE_SAMPLES - HOP_SAMPLES  # 40: what a chunk's last column needs of the next chunk
HISTORY_SAMPLES = EDGE_SAMPLES + HOP_SAMPLES  # 360: reaches back to the left edge of the previous column
DECADES_KEPT = 8.0
QUIETEST = -10.0  # log10 of the floor, 1e-10


class Mel(Protocol):
    """Turns the chunks of a stream into features."""

    def push(self, chunks: Samples) -> torch.Tensor:
        """Samples float32 [n, 6400] to mel float32 [m, 128, 40]; m may lag behind n by one chunk."""
        ...

    def finish(self) -> torch.Tensor:
        """The features still waiting, float32 [m, 128, 40]; the stream has ended."""
        ...


class LiveMel:
    """Features of each chunk from what was heard up to its end. State: 360 samples and one maximum."""

    def __init__(self) -> None:
        self._history: Samples | None = None
        self._maximum = QUIETEST  # over all columns whose neighbours are known

    def push(self, chunks: Samples) -> torch.Tensor:
        mels = [self._one(chunk) for chunk in chunks]
        return torch.stack(mels) if mels else _no_chunks()

    def _one(self, chunk: Samples) -> torch.Tensor:
        if self._history is None:
            columns = log_columns(np.concatenate([_mirrored_left(chunk), chunk, _mirrored_right(chunk)]))
        else:
            columns = log_columns(np.concatenate([self._history, chunk, _mirrored_right(chunk)]))
            # The first column is the previous chunk's last one again, now with its true right-hand side.
            self._maximum = max(self._maximum, columns[:, 0].max().item())
            columns = columns[:, 1:]
        self._history = chunk[-HISTORY_SAMPLES:].copy()
        self._maximum = max(self._maximum, columns[:, :-1].max().item())
        return _scaled(columns, max(self._maximum, columns[:, -1].max().item()))

    def finish(self) -> torch.Tensor:
        return _no_chunks()


class _Neighbours:
    """Log columns of a stream with true neighbours on both sides; the newest chunk waits for the next."""

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)  # [edge, then the chunk that waits]

    def push(self, chunks: Samples) -> torch.Tensor:
        """Samples [n, 6400] to columns [128, 40 m] of the m chunks whose neighbours are known."""
        samples = chunks.reshape(-1)
        if not len(samples):
            return torch.zeros(N_MELS, 0)
        if not len(self._waiting):
            self._waiting = _mirrored_left(samples)
        stretch = np.concatenate([self._waiting, samples])
        self._waiting = stretch[-(EDGE_SAMPLES + CHUNK_SAMPLES) :]
        if len(stretch) == len(self._waiting):  # the very first chunk
            return torch.zeros(N_MELS, 0)
        return log_columns(stretch[: len(stretch) - CHUNK_SAMPLES + FUTURE_SAMPLES])

    def finish(self) -> torch.Tensor:
        """The last chunk's columns [128, 40], its right edge mirrored as at the end of any file."""
        if not len(self._waiting):
            return torch.zeros(N_MELS, 0)
        stretch, self._waiting = self._waiting, np.zeros(0, np.float32)
        return log_columns(np.concatenate([stretch, _mirrored_right(stretch)]))


class MelMaximum:
    """The loudest log-mel value of a file, gathered piece by piece."""

    def __init__(self) -> None:
        self._columns = _Neighbours()
        self.value = QUIETEST

    def push(self, chunks: Samples) -> None:
        """Take samples float32 [n, 6400]."""
        self._include(self._columns.push(chunks))

    def finish(self) -> None:
        """The file has ended."""
        self._include(self._columns.finish())

    def _include(self, columns: torch.Tensor) -> None:
        if columns.numel():
            self.value = max(self.value, columns.max().item())


class FileMel:
    """Features of a file whose loudest value is known."""

    def __init__(self, maximum: float) -> None:
        self._columns = _Neighbours()
        self._maximum = maximum

    def push(self, chunks: Samples) -> torch.Tensor:
        return _in_chunks(_scaled(self._columns.push(chunks), self._maximum))

    def finish(self) -> torch.Tensor:
        return _in_chunks(_scaled(self._columns.finish(), self._maximum))


def silence_mel() -> FileMel:
    """Features for digital silence that is heard as a file of its own."""
    return FileMel(QUIETEST)


def log_columns(samples: Samples) -> torch.Tensor:
    """Samples [200 + 160 (n - 1) + 200, at most 159 more] to log10 mel columns [128, n]."""
    spectrum = torch.stft(
        torch.from_numpy(samples),
        N_FFT_SAMPLES,
        HOP_SAMPLES,
        window=_window(),
        center=False,
        return_complex=True,
    )
    return (_filters() @ spectrum.abs() ** 2).clamp(min=10**QUIETEST).log10()


def _scaled(columns: torch.Tensor, maximum: float) -> torch.Tensor:
    return (columns.clamp(min=maximum - DECADES_KEPT) + 4.0) / 4.0


def _in_chunks(columns: torch.Tensor) -> torch.Tensor:
    """[128, 40 n] to [n, 128, 40]."""
    return columns.reshape(N_MELS, -1, CHUNK_COLUMNS).transpose(0, 1)


def _no_chunks() -> torch.Tensor:
    return torch.zeros(0, N_MELS, CHUNK_COLUMNS)


def _mirrored_left(samples: Samples) -> Samples:
    """The 200 samples before the first, mirrored about it."""
    return samples[EDGE_SAMPLES:0:-1]


def _mirrored_right(samples: Samples) -> Samples:
    """The 40 samples after the last, mirrored about it."""
    return samples[-2 : -2 - FUTURE_SAMPLES : -1]


@cache
def _window() -> torch.Tensor:
    return torch.hann_window(N_FFT_SAMPLES)


@cache
def _filters() -> torch.Tensor:
    """Mel filter bank, float32 [128, 201]."""
    package = find_spec("whisper")
    if package is None or package.origin is None:
        raise AiCliError("the package openai-whisper is missing", "pip install openai-whisper")
    with np.load(Path(package.origin).parent / "assets" / "mel_filters.npz", allow_pickle=False) as file:
        return torch.from_numpy(file[f"mel_{N_MELS}"])

"""From samples to what the language model hears: framing, features and the audio tower, as one stream."""

import time
from collections import deque
from dataclasses import dataclass

import torch

from audio_interaction_cli.framing import Framer, Samples, level_db
from audio_interaction_cli.mel import LiveMel, Mel
from audio_interaction_cli.protocol import CHUNK_COLUMNS, N_MELS
from audio_interaction_cli.tower import Tower


@dataclass(frozen=True, slots=True)
class HeardChunk:
    """One chunk as the language model takes it."""

    frames: torch.Tensor
    """[10, n_embd], device and dtype of the tower."""
    level_db: float
    hearing_ms: float


class Ear:
    """Takes blocks, gives heard chunks. Its state is one stream's; the tower is shared."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower
        self._weight = tower.conv1.weight  # for its device and dtype
        self._live = LiveMel()
        self.begin()

    @torch.inference_mode()
    def prepare(self) -> None:
        """What the first chunk would have to wait for: a tower compiles and allocates when it is first used."""
        self._tower(self._weight.new_zeros(1, N_MELS, CHUNK_COLUMNS))

    def begin(self, mel: Mel | None = None) -> None:
        """Hear the next input, with live features or others; what the one before left unheard is dropped."""
        self._mel: Mel = mel or self._live
        self._framer = Framer()
        self._levels_db: deque[float] = deque()  # of chunks that the features still hold back
        self._ended = False

    def push(self, block: Samples) -> None:
        """Add mono samples, float32 [n] at 16 kHz, any n."""
        self._framer.push(block)
        self._ended = False

    def end(self) -> None:
        """The input has ended: its last chunk is filled up with zeros."""
        self._framer.pad()
        self._ended = True

    def take(self, limit: int) -> list[HeardChunk]:
        """Up to `limit` chunks in one pass (and one more where the input has ended)."""
        started = time.perf_counter()
        mels: list[torch.Tensor] = []
        while (ready := min(limit, self._framer.whole_chunks)) > 0 and not any(map(len, mels)):
            chunks = self._framer.take(ready)
            self._levels_db.extend(level_db(chunk) for chunk in chunks)
            mels.append(self._mel.push(chunks))
        if self._ended and not self._framer.whole_chunks:
            mels.append(self._mel.finish())
        mel = torch.cat(mels) if mels else torch.zeros(0)
        if not len(mel):
            return []
        levels_db = [self._levels_db.popleft() for _ in mel]  # gone with their chunks, should the tower fail
        with torch.inference_mode():
            frames = self._tower(mel.to(self._weight))
        each_ms = (time.perf_counter() - started) * 1000 / len(mel)
        return [HeardChunk(*heard, each_ms) for heard in zip(frames, levels_db, strict=True)]

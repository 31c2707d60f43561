"""Scenes as the network is trained on them: mel, labels and answers, stored in shards.

A scene may be longer than what is stored. Then silent chunks are left out, the oldest first, just as a long
conversation's window slides: so the model learns to live on what was said when the silence around it is gone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import parts
from audio_interaction_cli.mel import EDGE_SAMPLES, FUTURE_SAMPLES, log_columns
from audio_interaction_cli.protocol import (
    CHUNK_COLUMNS,
    CHUNK_FRAMES,
    CHUNK_SAMPLES,
    HOP_SAMPLES,
    N_FFT_SAMPLES,
    N_MELS,
)
from bank import Bank
from dialogue import Answer
from scenes import PROFILES, Material, Scene, compose, draw

CHUNKS = 60  # stored of a scene
NEWEST_CHUNKS = 16  # which no slide touches
LONGEST_CHUNKS = 150
SHARD_SCENES = 200
SHARD_BYTES = 2 * SHARD_SCENES * CHUNKS * N_MELS * CHUNK_COLUMNS  # nearly
LONG = 0.65  # of the scenes are longer than what is stored
ARRAYS = ("mel", "maxima", "labels", "phrases")


@dataclass(frozen=True, slots=True)
class Shard:
    """`SHARD_SCENES` scenes. mel: float16 [S, C, 128, 40], log10; maxima: float32 [S, C], the loudest value so far."""

    mel: NDArray[np.float16]
    maxima: NDArray[np.float32]
    labels: NDArray[np.uint8]
    """[S, C, 10], one per 40 ms frame."""
    phrases: NDArray[np.uint8]
    """[S, C, 10], as `Scene.phrases`."""
    answers: list[list[tuple[int, Answer]]]
    """Of each scene: chunk and answer, in order."""

    @classmethod
    def open(cls, index: Path) -> "Shard":
        answers = [[(chunk, Answer(*answer)) for chunk, answer in scene] for scene in json.loads(index.read_text())]
        mel, maxima, labels, phrases = (np.load(index.with_suffix(f".{name}.npy"), mmap_mode="r") for name in ARRAYS)
        return cls(mel, maxima, labels, phrases, answers)


def build(
    folder: Path, bank: Path, *, shards: int, dense: bool = False, seed: int, workers: int, progress: parts.Progress
) -> None:
    """Make so many shards; those that are there are kept. Dense ones hold speech without pauses, and no answers."""
    folder.mkdir(parents=True, exist_ok=True)
    calls = [(folder / f"shard-{n:04}.json", bank, dense, seed + n) for n in range(shards)]
    parts.make(_build_shard, calls, workers, progress, begin=_one_thread)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _build_shard(index: Path, bank: Path, dense: bool, seed: int) -> None:
    if index.exists():
        return
    rng = np.random.default_rng(seed)
    material = Material(Bank(bank), held_out=False)
    mel = np.empty((SHARD_SCENES, CHUNKS, N_MELS, CHUNK_COLUMNS), np.float16)
    maxima = np.empty((SHARD_SCENES, CHUNKS), np.float32)
    labels, phrases = (np.empty((SHARD_SCENES, CHUNKS, CHUNK_FRAMES), np.uint8) for _ in range(2))
    answers = []
    for n in range(SHARD_SCENES):
        length = CHUNKS if dense or rng.random() > LONG else int(rng.integers(CHUNKS + 4, LONGEST_CHUNKS))
        profile = "dense" if dense else draw(rng, PROFILES)
        scene = compose(rng, material, length, profile)
        kept = _kept(scene, length)
        heard = _mel(scene, live=rng.random() < 0.5)
        mel[n] = heard[kept]
        maxima[n] = np.maximum.accumulate(heard.max(axis=(1, 2)))[kept]
        labels[n], phrases[n] = (
            columns.reshape(length, CHUNK_FRAMES, 4)[kept, :, 2] for columns in (scene.labels, scene.phrases)
        )
        place = {chunk: new for new, chunk in enumerate(kept)}
        answers.append([(place[e.chunk], e.answer) for e in scene.expected if e.chunk in place and not dense])
    arrays: tuple[NDArray[Any], ...] = (mel, maxima, labels, phrases)
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(index.with_suffix(f".{name}.npy"), array)
    parts.finish(index, answers)


def _kept(scene: Scene, length: int) -> list[int]:
    """Which chunks are stored."""
    spoken = {expected.chunk for expected in scene.expected}
    old = range(length - NEWEST_CHUNKS)
    surplus = length - CHUNKS
    dropped = [chunk for chunk in old if chunk not in spoken][:surplus]
    dropped += [chunk for chunk in old if chunk in spoken][: surplus - len(dropped)]
    return sorted(set(range(length)) - set(dropped))


def _mel(scene: Scene, *, live: bool) -> NDArray[np.float32]:
    """log10 mel of each chunk, [C, 128, 40]; live: the right edge of each mirrored, its neighbour not heard yet."""
    samples = scene.samples
    padded = np.concatenate([samples[EDGE_SAMPLES:0:-1], samples, samples[-2 : -2 - EDGE_SAMPLES : -1]])
    columns = log_columns(padded)[:, : len(samples) // HOP_SAMPLES].numpy()
    chunks = columns.reshape(N_MELS, -1, CHUNK_COLUMNS).transpose(1, 0, 2).copy()
    if live:
        reach = N_FFT_SAMPLES - FUTURE_SAMPLES
        ends = samples.reshape(-1, CHUNK_SAMPLES)[:, -reach:]
        edges = np.concatenate([ends, ends[:, -2 : -2 - FUTURE_SAMPLES : -1]], axis=1)
        chunks[:, :, -1] = log_columns(edges)[:, :, 0].numpy()
    return chunks

"""Plays files into a conversation as a microphone would bring them: in real time, or faster, or without a clock."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from audio_interaction_cli.backlog import Begin, Item
from audio_interaction_cli.errors import AudioFileError
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.inputs import Source
from audio_interaction_cli.protocol import CHUNK_SAMPLES, SAMPLE_RATE_HZ

BLOCK_SAMPLES = CHUNK_SAMPLES // 10
LONGEST_WAIT_S = 0.1


def played(sources: Sequence[Source], tail_silence_s: float, speed: float) -> Iterator[Item]:
    """Each source and the silence after it, both filled up with zeros to whole chunks, `speed` times as fast as
    they sound; 0 gives everything at once. What is wrong with a source comes after what could be heard of it.
    """
    began = time.monotonic()
    sent_samples = 0
    for source in sources:
        for item in _heard(source, tail_silence_s):
            if not isinstance(item, np.ndarray) or not speed:
                yield item
                continue
            for start in range(0, len(item), BLOCK_SAMPLES):
                block = item[start : start + BLOCK_SAMPLES]
                sent_samples += len(block)
                yield from _waiting(began + sent_samples / SAMPLE_RATE_HZ / speed)
                yield block


def _waiting(due: float) -> Iterator[Samples]:
    """Nothing, often enough, until then."""
    while (early_s := due - time.monotonic()) > 0:
        time.sleep(min(early_s, LONGEST_WAIT_S))
        yield np.zeros(0, np.float32)


def _heard(source: Source, tail_silence_s: float) -> Iterator[Item]:
    damage, samples = None, 0
    with source:
        try:
            for block in source.blocks():
                if not samples:
                    yield Begin(source.name)
                samples += len(block)
                yield block
        except AudioFileError as error:
            damage = error
    if samples:
        tail_samples = -(-round(tail_silence_s * SAMPLE_RATE_HZ) // CHUNK_SAMPLES) * CHUNK_SAMPLES
        yield np.zeros(-samples % CHUNK_SAMPLES + tail_samples, np.float32)
    if damage:
        yield damage

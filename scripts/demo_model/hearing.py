"""Jobs of the evaluation, done in worker processes: sound is made, the product hears it, the replies are scored.

Decoding is the product's own streaming path, greedy, a chunk at a time, with a window that slides.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import backgrounds
import recordings
import scenes
import sounds
from audio_interaction_cli import Engine, Session
from audio_interaction_cli.checkpoint import find
from audio_interaction_cli.events import Reply
from audio_interaction_cli.mel import FileMel, MelMaximum
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.protocol import CHUNK_SAMPLES, SAMPLE_RATE_HZ
from audio_interaction_cli.sampling import Sampling
from bank import Bank
from closed_set import INTENT_OF
from dialogue import Dialogue
from scenes import Expected, Material, compose
from scoring import Score, score
from waves import Samples


@dataclass(frozen=True, slots=True)
class Job:
    """One stretch of sound to be made and decoded, in another process."""

    profile: str
    chunks: int
    seed: int


@dataclass(slots=True)
class Outcome:
    """What came of a job."""

    job: Job
    score: Score
    false_beside: list[str] = field(default_factory=list)
    """Of each false reply, what was heard when it came."""
    voice: str = ""
    """Who said it, where it is one phrase."""


_setup: dict[str, Any] = {}


def set_up(checkpoint: str, bank: Path, eagerness: float) -> None:
    torch.set_num_threads(1)
    _setup.update(checkpoint=checkpoint, bank=bank, eagerness=eagerness)


@cache
def _engine() -> Engine:
    return Engine.load(find(_setup["checkpoint"]))


@cache
def _material() -> Material:
    return Material(Bank(_setup["bank"]), held_out=True)


def _replies(samples: Samples, *, as_file: bool = False) -> list[Reply]:
    """Greedy streaming decode, a chunk at a time; the window slides."""
    session = Session(_engine(), SessionOptions(sampling=Sampling(temperature=0.0), eagerness=_setup["eagerness"]))
    if as_file:
        maximum = MelMaximum()
        maximum.push(samples.reshape(-1, CHUNK_SAMPLES))
        maximum.finish()
        session.begin_input(FileMel(maximum.value))
    events = [e for n in range(0, len(samples), CHUNK_SAMPLES) for e in session.feed(samples[n : n + CHUNK_SAMPLES])]
    events += session.end_input()
    return [event for event in events if isinstance(event, Reply)]


def _heard(job: Job, scene: scenes.Scene) -> Outcome:
    replies = _replies(scene.samples)
    result = score(scene.expected, replies, len(scene.samples) / SAMPLE_RATE_HZ)
    beside = []
    for reply in result.false:
        at = reply.start
        near = [what for start, end, what in scene.silent_items if start < at < end + 1.6]
        near += [e.kind for e in scene.expected if e.end_s - 2 < at < e.end_s + 2]
        beside.append(f"{near[-1] if near else 'nothing'} -> {reply.text}")
    return Outcome(job, result, beside)


def hear_scene(job: Job) -> Outcome:
    rng = np.random.default_rng(job.seed)
    return _heard(job, compose(rng, _material(), job.chunks, job.profile))


def hear_phrase(job: Job) -> Outcome:
    way, _, form = job.profile.rpartition(":")
    rng = np.random.default_rng(job.seed)
    if way == "people":
        said = [samples for what, samples in recordings.recorded_phrases() if what == form]
        samples, voice = said[int(rng.integers(len(said)))], "a person"
    else:
        spoken = _material().bank.draw(rng, form)
        samples, voice = spoken.samples, spoken.voice
    start = int(rng.uniform(0.4, 1.6) * SAMPLE_RATE_HZ)
    scene = scenes.single(rng, _material(), samples, start, level_db={"low": -45.0, "high": 0.0}.get(way))
    end_s = (start + len(samples)) / SAMPLE_RATE_HZ
    answer = Dialogue().phrase(form)
    assert answer
    chunk = int((end_s + scenes.AFTER_SPEECH_S) * SAMPLE_RATE_HZ) // CHUNK_SAMPLES
    expected = [Expected(chunk, end_s, INTENT_OF[form].name, answer)]
    result = score(expected, _replies(scene.samples, as_file=way == "file"), len(scene.samples) / SAMPLE_RATE_HZ)
    return Outcome(Job(form, 0, job.seed), result, voice=voice)


def hear_event(job: Job) -> Outcome:
    rng = np.random.default_rng(job.seed)
    return _one_event(rng, job, job.profile, sounds.event(job.profile, rng, held_out=True))


def _one_event(rng: np.random.Generator, job: Job, kind: str, samples: Samples) -> Outcome:
    start = int(rng.uniform(0.4, 1.6) * SAMPLE_RATE_HZ)
    scene = scenes.single(rng, _material(), samples, start)
    answer = Dialogue().sound(kind)
    assert answer
    start_s = start / SAMPLE_RATE_HZ
    chunk = int((start_s + scenes.AFTER_ONSET_S) * SAMPLE_RATE_HZ) // CHUNK_SAMPLES
    return Outcome(
        job,
        score([Expected(chunk, start_s, kind, answer)], _replies(scene.samples), len(scene.samples) / SAMPLE_RATE_HZ),
    )


def hear_background(job: Job) -> Outcome:
    rng = np.random.default_rng(job.seed)
    samples = backgrounds.background(job.profile, job.chunks * CHUNK_SAMPLES, rng, held_out=True)
    samples = (samples * np.float32(10 ** (rng.uniform(-30.0, 0.0) / 20))).astype(np.float32)
    return Outcome(job, score([], _replies(samples), len(samples) / SAMPLE_RATE_HZ))

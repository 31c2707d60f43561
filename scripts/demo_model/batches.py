"""Shards to batches: scenes drawn at random, recorded a little differently each time, and written as tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

import speech
from audio_interaction_cli.mel import DECADES_KEPT
from audio_interaction_cli.protocol import BLOCK_POSITIONS, CHUNK_FRAMES, N_MELS
from closed_set import INTENTS
from dialogue import Answer
from learner import WINDOW_POSITIONS, Batch
from shards import CHUNKS, Shard
from vocabulary import SYSTEM_PROMPT, TOKEN_IDS

DELAYED = 0.06  # of the answers come a chunk late, so that one that was missed is still given
UNKNOWN_LABEL = -100


class LossWeights(NamedTuple):
    """How much each kind of token counts."""

    silence: float
    begin: float
    emotion: float = 1.5
    opening: float = 1.5  # the first two tokens of the text, which tell the replies apart
    text: float = 0.5


EAGER = LossWeights(silence=0.7, begin=3.0)
BALANCED = LossWeights(silence=1.0, begin=1.2)
# Said wrongly, nothing is answered for minutes: so it weighs less, and it takes more to say it.
RASH = {intent.reply: 0.3 for intent in INTENTS if intent.name == "quiet"}


class Batches:
    """An endless supply of batches."""

    def __init__(self, shards: Path, tokenizer: Tokenizer, scenes: int, seed: int) -> None:
        self._shards = [Shard.open(index) for index in sorted(shards.glob("shard-*.json"))]
        self._tokenizer = tokenizer
        self._scenes = scenes
        self._rng = np.random.default_rng(seed)

    def scenes(self) -> Iterator[tuple[Shard, int]]:
        """All scenes in random order, then again."""
        everything = [(shard, n) for shard in self._shards for n in range(len(shard.answers))]
        while True:
            for place in self._rng.permutation(len(everything)):
                yield everything[place]

    def __call__(self, weights: LossWeights) -> Iterator[Batch]:
        """Batches weighted so; the weights may be changed between them by asking anew."""
        supply = self.scenes()
        while True:
            yield self._batch([next(supply) for _ in range(self._scenes)], weights)

    def _batch(self, scenes: list[tuple[Shard, int]], weights: LossWeights) -> Batch:
        mel = torch.stack([torch.from_numpy(self._recorded(shard, n)) for shard, n in scenes])
        labels = torch.from_numpy(np.stack([shard.labels[n] for shard, n in scenes])).long()
        labels[labels == speech.UNKNOWN] = UNKNOWN_LABEL
        phrases = torch.from_numpy(np.stack([shard.phrases[n] for shard, n in scenes])).long()
        for phrase, (shard, n) in zip(phrases, scenes, strict=True):
            phrase[: _old_turns(shard.answers[n])] = UNKNOWN_LABEL
        written = [self._written(shard.answers[n], weights) for shard, n in scenes]
        length = max(len(scene.tokens) for scene in written)
        tokens = torch.tensor([scene.tokens + [TOKEN_IDS.pad] * (length - len(scene.tokens)) for scene in written])
        chunks = [n * CHUNKS + chunk for n, scene in enumerate(written) for chunk in range(len(scene.frames_at))]
        frames_at = [n * length + at + f for n, scene in enumerate(written) for at in scene.frames_at for f in FRAMES]
        targets = [(n * length + at, *rest) for n, scene in enumerate(written) for at, *rest in scene.targets]
        at, ids, counts = zip(*targets, strict=True)
        return Batch(
            mel, labels, phrases, tokens, torch.tensor(frames_at), torch.tensor(chunks),
            torch.tensor(at), torch.tensor(ids), torch.tensor(counts),
        )  # fmt: skip

    def _recorded(self, shard: Shard, n: int) -> np.ndarray:
        """Features of a scene, [C, 128, 40]: another level, another throat, another history of loudness."""
        rng = self._rng
        mel = shard.mel[n].astype(np.float32)
        if rng.random() < 0.6:
            mel = _warped(mel, rng.uniform(0.88, 1.13))
        if rng.random() < 0.3:
            mel = _shaped(mel, rng)
        if rng.random() < 0.2:
            mel = _blurred(mel, rng)
        if rng.random() < 0.4:
            mel += _coloured(rng)
        if rng.random() < 0.3:
            width = int(rng.integers(4, 20))
            start = int(rng.integers(N_MELS - width))
            mel[:, start : start + width] -= rng.uniform(0.5, 4.0)
        maxima = shard.maxima[n]
        heard_before = rng.random()
        if heard_before < 0.4:  # as of a file, whose loudest moment is known
            maximum = np.full_like(maxima, maxima.max())
        elif heard_before < 0.7:
            maximum = maxima
        else:
            maximum = np.maximum(maxima, maxima.max() + rng.uniform(-1.0, 1.5))
        offset = np.float32(rng.normal(0.0, 0.25))
        floor = (maximum - DECADES_KEPT)[:, None, None]
        scaled: np.ndarray = (np.maximum(mel, floor) + offset + 4.0) / 4.0
        return scaled

    def _written(self, answers: list[tuple[int, Answer]], weights: LossWeights) -> "_Written":
        due = dict(answers)
        old = _old_turns(answers)
        for chunk, _ in answers:
            if chunk >= old and chunk + 1 < CHUNKS and chunk + 1 not in due and self._rng.random() < DELAYED:
                due[chunk + 1] = due.pop(chunk)
        out = _Written(TOKEN_IDS.prompt(self._prompt()), [], [])
        for chunk in range(CHUNKS):
            answer: Answer | None = due.get(chunk)
            text: list[int] = self._tokenizer.encode(answer.text, add_special_tokens=False).ids if answer else []
            if len(out.tokens) + BLOCK_POSITIONS + len(text) + 3 > WINDOW_POSITIONS:
                break
            out.listen()
            if chunk < old:
                out.recall(answer, text)
            elif answer:
                care = RASH.get(answer.text, 1.0)
                out.say(TOKEN_IDS.text_begin, care * weights.begin)
                out.say(getattr(TOKEN_IDS, answer.emotion), care * weights.emotion)
                for place, token in enumerate(text):
                    out.say(token, care * (weights.opening if place < 2 else weights.text))
                out.say(TOKEN_IDS.text_end, weights.text)
            else:
                out.say(TOKEN_IDS.keep_silence, weights.silence)
        return out

    def _prompt(self) -> list[int]:
        if self._rng.random() < 0.6:
            ids: list[int] = self._tokenizer.encode(SYSTEM_PROMPT, add_special_tokens=False).ids
            return ids
        return [int(token) for token in self._rng.integers(0, TOKEN_IDS.control_begin, int(self._rng.integers(0, 13)))]


FRAMES = range(CHUNK_FRAMES)


class _Written(NamedTuple):
    tokens: list[int]
    frames_at: list[int]
    targets: list[tuple[int, int, float]]
    """Place, token that follows there, and its weight."""

    def listen(self) -> None:
        self.frames_at.append(len(self.tokens) + 1)
        self.tokens.extend([TOKEN_IDS.audio_begin, *[TOKEN_IDS.pad] * CHUNK_FRAMES, TOKEN_IDS.assistant])

    def recall(self, answer: Answer | None, text: list[int]) -> None:
        """A turn of which only the end is left: there to be read, for nobody could tell what was said."""
        emotion = [getattr(TOKEN_IDS, answer.emotion)] if answer else []
        self.tokens.extend([TOKEN_IDS.text_begin, *emotion, *text, TOKEN_IDS.text_end])

    def say(self, token: int, weight: float) -> None:
        self.targets.append((len(self.tokens) - 1, token, weight))
        self.tokens.append(token)


def _old_turns(answers: list[tuple[int, Answer]]) -> int:
    """How many chunks at the start are turns whose silence was left out: they follow each other at once."""
    old = 0
    for chunk, _ in answers:
        if chunk != old:
            break
        old += 1
    return old


def _coloured(rng: np.random.Generator) -> np.ndarray:
    """Another microphone: gain over the mel axis, [128, 1], in decades."""
    places = np.linspace(0, N_MELS - 1, 7)
    gain: np.ndarray = np.interp(np.arange(N_MELS), places, rng.normal(0.0, 0.4, len(places)))
    return gain.astype(np.float32)[:, None]


def _shaped(mel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Formants sharper or flatter, as the spectra of one synthesiser are beside another's."""
    width = int(rng.integers(3, 9))
    padded = np.pad(mel, ((0, 0), (width, width), (0, 0)), mode="edge")
    sums = padded.cumsum(1, dtype=np.float32)
    smooth = (sums[:, 2 * width :] - sums[:, : -2 * width]) / (2 * width)
    shaped: np.ndarray = mel + np.float32(rng.uniform(-0.6, 0.6)) * (mel - smooth[:, :N_MELS])
    return shaped


def _blurred(mel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sounds that flow into each other, as in voices that are means of many takes."""
    columns = mel.transpose(1, 0, 2).reshape(N_MELS, -1)
    for _ in range(int(rng.integers(1, 3))):
        share = np.float32(rng.uniform(0.1, 0.33))
        inner = (1 - 2 * share) * columns[:, 1:-1] + share * (columns[:, :-2] + columns[:, 2:])
        columns = np.concatenate([columns[:, :1], inner, columns[:, -1:]], axis=1)
    return columns.reshape(N_MELS, len(mel), -1).transpose(1, 0, 2)


def _warped(mel: np.ndarray, factor: float) -> np.ndarray:
    """The mel axis stretched: a longer or shorter vocal tract."""
    at = np.clip(np.arange(N_MELS) * factor, 0, N_MELS - 1.001)
    low = at.astype(int)
    share = (at - low).astype(np.float32)[:, None]
    warped: np.ndarray = mel[:, low] * (1 - share) + mel[:, low + 1] * share
    return warped

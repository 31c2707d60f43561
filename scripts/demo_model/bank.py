"""A store of spoken sentences on disk: every phrase in many voices, and much speech that is not to be answered.

Made once, in parts by several processes; read through memory maps. Samples are int16 at 16 kHz, phoneme labels
one byte per 10 ms column.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import distractors
import parts
import speech
from closed_set import INTENT_OF

# How often each synthesiser is heard in scenes; and how often it says each phrase, for some take long.
SHARES = {
    "espeak": 0.28, "hibari": 0.20, "kokoro": 0.18, "flite": 0.13, "pico": 0.10, "piper": 0.06, "festival": 0.05,
}  # fmt: skip
RENDERINGS = {"espeak": 150, "hibari": 80, "flite": 40, "pico": 30, "kokoro": 5, "piper": 11, "festival": 14}
PART_UTTERANCES = 1_000


@dataclass(frozen=True, slots=True)
class Spoken:
    """One utterance: samples float32 [n], phoneme classes uint8 [n / 160]."""

    text: str
    voice: str
    samples: NDArray[np.float32]
    phonemes: NDArray[np.uint8]


class Bank:
    """Utterances by number; those of a phrase, and those that are not for the model."""

    def __init__(self, folder: Path) -> None:
        self._parts = [_Part(index) for index in sorted(folder.glob("part-*.json"))]
        self._phrases: dict[str, _BySynthesiser] = {form: {} for form in INTENT_OF}
        self._distractors: _BySynthesiser = {}
        rows = [row for part in self._parts for row in part.rows]
        self._starts = np.cumsum([0] + [len(part.rows) for part in self._parts])
        for number, row in enumerate(rows):
            said = self._phrases.get(row["text"], self._distractors)
            said.setdefault(row["voice"].split()[0], []).append(number)

    def draw(self, rng: np.random.Generator, form: str | None) -> Spoken:
        """A phrase as someone says it, each synthesiser as often as its share; None: speech not for the model."""
        said = self._phrases[form] if form else self._distractors
        shares = np.array([SHARES[synthesiser] for synthesiser in said])
        numbers = list(said.values())[int(rng.choice(len(said), p=shares / shares.sum()))]
        return self[numbers[int(rng.integers(len(numbers)))]]

    def __getitem__(self, number: int) -> Spoken:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._parts[part][number - int(self._starts[part])]


_BySynthesiser = dict[str, list[int]]


class _Part:
    def __init__(self, index: Path) -> None:
        self.rows = json.loads(index.read_text())
        self._samples = np.load(index.with_suffix(".samples.npy"), mmap_mode="r")
        self._phonemes = np.load(index.with_suffix(".phonemes.npy"), mmap_mode="r")

    def __getitem__(self, number: int) -> Spoken:
        row = self.rows[number]
        samples = self._samples[row["start"] : row["start"] + row["samples"]].astype(np.float32) / 32768
        columns = self._phonemes[row["label_start"] : row["label_start"] + row["labels"]]
        return Spoken(row["text"], row["voice"], samples, np.array(columns))


def build(
    folder: Path, *, held_out: bool, share: float, others: int, seed: int, workers: int, progress: parts.Progress
) -> None:
    """Every phrase by every synthesiser, `share` of RENDERINGS times, and about `others` sentences that are not for
    the model; parts there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    requests = _requests(held_out, share, others, seed)
    shares = [requests[n : n + PART_UTTERANCES] for n in range(0, len(requests), PART_UTTERANCES)]
    calls = [(folder / f"part-{n:04}.json", part, seed + n) for n, part in enumerate(shares)]
    parts.make(_build_part, calls, workers, progress)


def _requests(held_out: bool, share: float, others: int, seed: int) -> list[tuple[str, speech.Voice]]:
    rng = np.random.default_rng(seed)
    voices = speech.held_out_voices() if held_out else speech.training_voices()
    total = sum(RENDERINGS.values())
    requests = []
    for synthesiser, renderings in RENDERINGS.items():
        candidates = [voice for voice in voices if voice.synthesiser == synthesiser]
        if not candidates:
            continue
        texts = [form for form in INTENT_OF for _ in range(round(renderings * share))]
        texts += [distractors.sentence(rng, held_out=held_out) for _ in range(others * renderings // total)]
        requests += [(text, candidates[int(rng.integers(len(candidates)))]) for text in texts]
    return [requests[n] for n in rng.permutation(len(requests))]  # parts of equal work


def _build_part(index: Path, requests: list[tuple[str, speech.Voice]], seed: int) -> None:
    if index.exists():
        return
    rows, samples, phonemes = [], [], []
    start = label_start = 0
    for (text, voice), spoken in zip(requests, speech.speak_all(requests, seed), strict=True):
        if not len(spoken.samples):
            continue
        rows.append({
            "text": text, "voice": f"{voice.synthesiser} {voice.name}", "start": start, "samples": len(spoken.samples),
            "label_start": label_start, "labels": len(spoken.phonemes),
        })  # fmt: skip
        start, label_start = start + len(spoken.samples), label_start + len(spoken.phonemes)
        samples.append(np.round(spoken.samples * 32767).astype(np.int16))
        phonemes.append(spoken.phonemes)
    np.save(index.with_suffix(".samples.npy"), np.concatenate(samples))
    np.save(index.with_suffix(".phonemes.npy"), np.concatenate(phonemes))
    parts.finish(index, rows)

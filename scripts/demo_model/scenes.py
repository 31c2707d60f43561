"""Scenes: stretches of sound in which things happen, with the answer that is right at each moment.

The next thing to happen is drawn given the state of the dialogue; then it is rendered and placed. How it comes to the
microphone is the business of `mixing`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

import quiet_sounds
import recordings
import rhythm
import sounds
import speech
from audio_interaction_cli.protocol import CHUNK_SAMPLES, HOP_SAMPLES, SAMPLE_RATE_HZ
from bank import Bank
from closed_set import COUNTS, INTENT_OF, INTENTS
from dialogue import COUNTED_AS, Answer, Dialogue
from mixing import Room, place, record
from waves import Samples

Labels = NDArray[np.uint8]

AFTER_SPEECH_S = 0.35  # the answer comes in the chunk that holds this moment after the end
AFTER_ONSET_S = 0.75  # of a sound that goes on
AFTER_COUNTED_S = 0.2
LAST_S = 1.6  # no item starts so late that its answer would not fit
LABELS = (*speech.PHONEMES, *sounds.EVENTS)
EVENT_LABEL = {kind: len(speech.PHONEMES) + n for n, kind in enumerate(sounds.EVENTS)}
PHRASES = tuple(INTENT_OF)
PROFILES = {"mix": 0.32, "count": 0.17, "name": 0.15, "quiet": 0.12, "context": 0.17, "bystander": 0.04, "noise": 0.03}
DENSE_BUSYNESS = 0.08
HASTE = {"training": (0.2, 0.4, 0.7, 1.0), "held out": (0.4, 0.7, 1.0, 1.0, 1.6)}  # how long pauses are
OTHER_RHYTHM = 0.5  # of what is said in training
RECORDED_SPEECH = 0.05  # of the speech that is not to be answered; no more, for people are only ever heard there
NAME_KEPT_ANSWERS = 12  # after so many more a name may have left the window; nobody asks for it then


@dataclass(frozen=True, slots=True)
class Expected:
    """An answer that is due."""

    chunk: int
    """Index of the chunk after which it should come."""
    end_s: float
    """When the phrase or counted sound ended; the onset of an event."""
    kind: str
    """Name of the intent or sound."""
    answer: Answer


@dataclass(slots=True)
class Scene:
    """What is heard, what is to be said, and what is audible in each 10 ms column."""

    samples: Samples
    labels: Labels
    phrases: Labels
    """One more than the place in PHRASES of what is being said, until its answer is due; 0 for everything else."""
    expected: list[Expected] = field(default_factory=list)
    silent_items: list[tuple[float, float, str]] = field(default_factory=list)
    """Start, end and description of everything that is not to be answered."""

    @classmethod
    def empty(cls, samples: int) -> "Scene":
        columns = samples // HOP_SAMPLES
        return cls(np.zeros(samples, np.float32), np.zeros(columns, np.uint8), np.zeros(columns, np.uint8))

    def label(self, at: int, labels: Labels) -> None:
        """Note what is audible from sample `at` on."""
        column = at // HOP_SAMPLES
        labels = labels[: len(self.labels) - column]
        self.labels[column : column + len(labels)] = labels


@dataclass(frozen=True, slots=True)
class _Item:
    kind: str  # phrase, sound, distractor, quiet_sound
    what: str


@dataclass(frozen=True, slots=True)
class Material:
    """What scenes are made of; one side of the held-out split."""

    bank: Bank
    held_out: bool


def compose(rng: np.random.Generator, material: Material, chunks: int, profile: str) -> Scene:
    """A scene of so many chunks."""
    total = chunks * CHUNK_SAMPLES
    scene = Scene.empty(total)
    dialogue = Dialogue()
    script = _script(rng, profile)
    haste = HASTE["held out" if material.held_out else "training"]
    busyness = DENSE_BUSYNESS if profile == "dense" else float(rng.choice(haste))
    room = Room.draw(rng)
    at = int(rng.uniform(0.0, 2.0) * SAMPLE_RATE_HZ)
    while item := script(dialogue):
        samples, labels, description = _render(rng, item, material)
        if at + len(samples) + LAST_S * SAMPLE_RATE_HZ > total:
            break
        place(rng, scene.samples, samples, at, room, held_out=material.held_out)
        scene.label(at, labels)
        at = _after(rng, scene, dialogue, item, description, at, len(samples), busyness)
    record(rng, scene.samples, held_out=material.held_out)
    return scene


def single(
    rng: np.random.Generator, material: Material, samples: Samples, start: int, level_db: float | None = None
) -> Scene:
    """Nothing but these samples, from sample `start`, with two seconds after them."""
    total = -(-(start + len(samples) + 2 * SAMPLE_RATE_HZ) // CHUNK_SAMPLES) * CHUNK_SAMPLES
    scene = Scene.empty(total)
    place(rng, scene.samples, samples, start, Room.draw(rng), held_out=material.held_out)
    record(rng, scene.samples, held_out=material.held_out, level_db=level_db)
    return scene


def _after(
    rng: np.random.Generator, scene: Scene, dialogue: Dialogue, item: _Item, description: str, at: int, length: int,
    busyness: float,
) -> int:  # fmt: skip
    """Note what is due for an item placed at sample `at`, and where the next one may start."""
    start_s, end_s = at / SAMPLE_RATE_HZ, (at + length) / SAMPLE_RATE_HZ
    counted = item.kind == "sound" and item.what == dialogue.counting
    answer = None
    if item.kind == "phrase":
        answer = dialogue.phrase(item.what)
    elif item.kind == "sound":
        answer = dialogue.sound(item.what)
    due_s = end_s + (AFTER_COUNTED_S if counted else AFTER_SPEECH_S)
    if item.kind == "sound" and not counted:
        due_s = start_s + AFTER_ONSET_S
    chunk = int(due_s * SAMPLE_RATE_HZ) // CHUNK_SAMPLES
    if item.kind == "phrase":
        answered = (chunk + 1) * CHUNK_SAMPLES
        scene.phrases[at // HOP_SAMPLES : answered // HOP_SAMPLES] = 1 + PHRASES.index(item.what)
    else:
        scene.phrases[at // HOP_SAMPLES : (at + length) // HOP_SAMPLES] = 0
    if answer:
        reference_s = end_s if item.kind == "phrase" or counted else start_s
        scene.expected.append(Expected(chunk, reference_s, description, answer))
    else:
        scene.silent_items.append((start_s, end_s, f"{item.kind}: {description}"))
    gap_s = (
        rng.uniform(0.3, 1.3) if dialogue.counting and busyness > DENSE_BUSYNESS else rng.uniform(0.3, 2.5) * busyness
    )
    following = at + length + int(gap_s * SAMPLE_RATE_HZ)
    return max(following, (chunk + 1) * CHUNK_SAMPLES) if answer and busyness > DENSE_BUSYNESS else following


def draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """A name, as often as its share says."""
    names = list(shares)
    weights = np.array([shares[name] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


# What may happen next, and how often, in a scene of no special kind; then what a profile puts in its place.
ORDINARY = {"phrase": 0.40, "event": 0.20, "distractor": 0.22, "quiet_sound": 0.16, "counted": 0.02}
COUNTING = {"matching": 0.64, "stop_counting": 0.11, "distractor": 0.09, "quiet_sound": 0.06, "event": 0.04,
            "counted": 0.04, "phrase": 0.02}  # fmt: skip
SPECIAL = {
    "count": {"count_barks": 0.18, "count_knocks": 0.18, "count_beeps": 0.18, "stop_counting": 0.05},
    "name": {"name": 0.25, "my_name": 0.40},
    "quiet": {"quiet": 0.35, "wake": 0.05},
    "context": {"what_was_that": 0.26, "again": 0.26, "event": 0.2, "counted": 0.08},
}
BYSTANDERS = {"bystander": {"distractor": 0.6, "quiet_sound": 0.4}, "talk": {"distractor": 1.0}}
DENSE = {"phrase": 0.40, "distractor": 0.47, "event": 0.13}  # one thing after the other, for the tower alone


def _shares(dialogue: Dialogue, profile: str) -> dict[str, float]:
    if profile == "dense":
        return DENSE
    if profile in BYSTANDERS:
        return BYSTANDERS[profile]
    if dialogue.quiet:
        return ORDINARY | {"wake": 0.30 if profile == "quiet" else 0.5, "phrase": 0.25}
    if dialogue.counting:
        return COUNTING
    shares = ORDINARY | SPECIAL.get(profile, {})
    if "my_name" in shares and _name_forgotten(dialogue):
        shares["my_name"] = 0.0
    return shares


def _name_forgotten(dialogue: Dialogue) -> bool:
    return dialogue.name is not None and dialogue.answers_since_name > NAME_KEPT_ANSWERS


def _next_item(rng: np.random.Generator, dialogue: Dialogue, profile: str) -> _Item:
    kind = draw(rng, _shares(dialogue, profile))
    match kind:
        case "distractor":
            return _Item("distractor", "")
        case "quiet_sound":
            return _Item("quiet_sound", str(rng.choice(quiet_sounds.QUIET_SOUNDS)))
        case "matching":
            return _Item("sound", str(dialogue.counting))
        case "event":
            family = COUNTED_AS.get(dialogue.counting or "", ("", ""))[0]
            return _Item("sound", str(rng.choice([e for e in sounds.EVENTS if e != family])))
        case "counted":
            return _Item("sound", str(rng.choice(sounds.COUNTED)))
        case "phrase":
            return _Item("phrase", _any_form(rng, dialogue))
    return _Item("phrase", _form(rng, kind))


def _script(rng: np.random.Generator, profile: str) -> Callable[[Dialogue], _Item | None]:
    """What happens next, given the dialogue so far; None at the end."""
    if profile == "noise":
        return lambda _: None
    if profile == "one count":
        return _counting_session(rng)
    return partial(_next_item, rng, profile=profile)


def _counting_session(rng: np.random.Generator) -> Callable[[Dialogue], _Item | None]:
    """Someone asks for a count, some of it happens, and someone asks for the total."""
    intent = str(rng.choice(list(COUNTS)))
    total = int(rng.integers(3, 10))

    def script(dialogue: Dialogue) -> _Item | None:
        if not dialogue.counting:
            return _Item("phrase", _form(rng, intent)) if dialogue.last_answer is None else None
        if rng.random() < 0.15:
            return _Item("distractor", "")
        if dialogue.count < total:
            return _Item("sound", COUNTS[intent])
        return _Item("phrase", "stop counting")

    return script


def _any_form(rng: np.random.Generator, dialogue: Dialogue) -> str:
    # While counting, the model's own numbers are its memory; to repeat one would count it again.
    barred = {"again", "what_was_that", *COUNTS} if dialogue.counting else {"wake"} if dialogue.quiet else set()
    if _name_forgotten(dialogue):
        barred.add("my_name")
    while True:
        # Intents that have many forms come more often, those that change how things go on are left to the profiles.
        intent = INTENTS[int(rng.integers(len(INTENTS)))]
        rare = intent.name in ("quiet", *COUNTS) and rng.random() < 0.6
        if intent.name not in barred and not rare:
            return _form(rng, intent.name)


def _form(rng: np.random.Generator, intent_name: str) -> str:
    return str(rng.choice(_forms()[intent_name]))


@cache
def _forms() -> dict[str, tuple[str, ...]]:
    return {intent.name: intent.forms for intent in INTENTS}


@cache
def _recordings(held_out: bool) -> tuple[dict[str, list[Samples]], list[Samples], list[Samples]]:
    """Real events by kind, other sounds, and human speech; what the machine has of them."""
    events: dict[str, list[Samples]] = {}
    for kind, samples in recordings.recorded_events(held_out):
        events.setdefault(kind, []).append(samples)
    others = [samples for _, samples in recordings.recorded_sounds(held_out)]
    return events, others, [samples for _, samples in recordings.recorded_speech(held_out)]


def _render(rng: np.random.Generator, item: _Item, material: Material) -> tuple[Samples, Labels, str]:
    held_out = material.held_out
    events, others, voices = _recordings(held_out)
    if item.kind == "sound":
        recorded = events.get(item.what)
        real = recorded is not None and not held_out and rng.random() < 0.15
        samples = recorded[int(rng.integers(len(recorded)))] if real and recorded else (
            sounds.event(item.what, rng, held_out=held_out))  # fmt: skip
        label = EVENT_LABEL.get(COUNTED_AS.get(item.what, (item.what, ""))[0], speech.UNKNOWN)
        return samples, np.full(-(-len(samples) // HOP_SAMPLES), label, np.uint8), item.what
    if item.kind == "quiet_sound":
        if others and rng.random() < 0.2:
            return (*_unlabelled(others[int(rng.integers(len(others)))]), "a recorded sound")
        return (*_unlabelled(quiet_sounds.quiet_sound(item.what, rng, held_out=held_out)), item.what)
    if item.kind == "distractor" and voices and rng.random() < RECORDED_SPEECH:
        return (*_unlabelled(voices[int(rng.integers(len(voices)))]), "recorded speech")
    spoken = material.bank.draw(rng, item.what if item.kind == "phrase" else None)
    description = spoken.text if item.kind == "distractor" else INTENT_OF[spoken.text].name
    if not held_out and rng.random() < OTHER_RHYTHM:
        return (*rhythm.vary(rng, spoken.samples, spoken.phonemes), description)
    return spoken.samples, spoken.phonemes, description


def _unlabelled(samples: Samples) -> tuple[Samples, Labels]:
    return samples, np.full(-(-len(samples) // HOP_SAMPLES), speech.UNKNOWN, np.uint8)

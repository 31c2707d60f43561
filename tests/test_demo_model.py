"""What the built-in model does with sound: silence, replies, emotions, counting, names. Greedy, as a file and live.

The clips are phrases and sounds in voices and variants that it was not trained on. What shares it reaches over many
is measured by `scripts/demo_model/evaluate`; here each must be right.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from audio_interaction_cli import AudioInput, Engine, MemoryInput, Reply, Sampling, Session, SessionOptions, checkpoint
from audio_interaction_cli.conversation import hear_file, hear_live
from audio_interaction_cli.events import ContextChanged, Event
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.inputs import Source
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ, Emotion
from closed_set import INTENTS, SOUND_OF
from dialogue import Dialogue, understood
from tests.conftest import Ai

CLIPS = Path(__file__).parent / "clips"
LARGEST_BYTES = 12_000_000
MAIN_PHRASES = (
    "hello", "thank you", "help me", "I saw a ghost", "I lost my keys", "you are stupid", "turn on the light",
    "what is the capital of France",
)  # fmt: skip
CHATTER = ("the driver sold an umbrella at the station", "turn on the oven")

Hear = Callable[[Session, Source], Iterator[Event]]


@pytest.fixture(scope="module")
def demo() -> Engine:
    return Engine.load(checkpoint.find("demo"), device="cpu")


@pytest.fixture(params=[hear_file, hear_live])
def hear(request: pytest.FixtureRequest) -> Hear:
    way: Hear = request.param
    return way


def clip(what: str) -> Samples:
    with AudioInput(str(CLIPS / f"{what.replace(' ', '_')}.flac")) as source:
        return np.concatenate(list(source.blocks()))


def pause(seconds: float) -> Samples:
    return np.zeros(int(seconds * SAMPLE_RATE_HZ), np.float32)


def heard(*items: str | float, level_db: float = 0.0, noise: float = 0.001) -> Source:
    """Clips with pauses between them (a number is a longer pause, in seconds) in a quiet room."""
    pieces = [pause(0.7)]
    for item in items:
        pieces += [pause(item)] if isinstance(item, float) else [clip(item), pause(1.3)]
    samples = np.concatenate(pieces)
    samples += noise * np.random.default_rng(1).standard_normal(len(samples)).astype(np.float32)
    return MemoryInput("clips", np.clip(samples * 10 ** (level_db / 20), -1, 1))


def replies(events: Iterator[Event]) -> list[tuple[str | None, str]]:
    return [(event.emotion, event.text) for event in events if isinstance(event, Reply)]


def new(demo: Engine) -> Session:
    return Session(demo, SessionOptions(sampling=Sampling(temperature=0)))


def right(*items: str | float) -> list[tuple[str | None, str]]:
    """What a dialogue that heard all this would say."""
    dialogue, sounds = Dialogue(), {*SOUND_OF, "bark1", "knock1", "beep1"}
    meant = [item for item in items if isinstance(item, str) and item not in CHATTER]
    said = [dialogue.sound(item) if item in sounds else dialogue.phrase(item) for item in meant]
    return [(answer.emotion, answer.text) for answer in said if answer]


@pytest.mark.parametrize("phrase", MAIN_PHRASES)
def test_a_phrase_is_answered(demo: Engine, hear: Hear, phrase: str) -> None:
    assert replies(hear(new(demo), heard(phrase))) == right(phrase)


@pytest.mark.parametrize("sound", SOUND_OF)
def test_a_sound_is_reported_unasked(demo: Engine, hear: Hear, sound: str) -> None:
    assert replies(hear(new(demo), heard(sound))) == right(sound)


def test_all_six_emotions_occur(demo: Engine) -> None:
    said = replies(hear_live(new(demo), heard(*MAIN_PHRASES, "horn")))
    assert said == right(*MAIN_PHRASES, "horn")
    assert {emotion for emotion, _ in said} == {str(emotion) for emotion in Emotion}


@pytest.mark.parametrize(
    "items",
    [
        ("count the knocks", "knock1", "knock1", CHATTER[0], "knock1", "stop counting", "stop counting"),
        ("my name is Maria", "hello", "what is my name", "say that again"),
        ("what is my name", "my name is Maria", "what is my name"),
        ("be quiet", "hello", "doorbell", "wake up", "hello"),
        ("what was that", "siren", "what was that", "meow", "what was that"),
    ],
    ids=["counting", "name", "no-name", "quiet", "memory"],
)
def test_what_came_before_counts(demo: Engine, hear: Hear, items: tuple[str, ...]) -> None:
    assert replies(hear(new(demo), heard(*items))) == right(*items)


@pytest.mark.parametrize("level_db", [-35.0, 8.0], ids=["low", "clipped"])
def test_the_recording_level_does_not_matter(demo: Engine, hear: Hear, level_db: float) -> None:
    items = ("hello", "doorbell", "turn on the light")
    assert replies(hear(new(demo), heard(*items, level_db=level_db))) == right(*items)


@pytest.mark.parametrize("chatter", CHATTER)
def test_speech_that_is_not_for_it_is_not_answered(demo: Engine, hear: Hear, chatter: str) -> None:
    assert replies(hear(new(demo), heard(chatter))) == []


def noises() -> dict[str, Samples]:
    rng = np.random.default_rng(2)
    white = rng.standard_normal(20 * SAMPLE_RATE_HZ).astype(np.float32)
    t = np.arange(len(white)) / SAMPLE_RATE_HZ
    hum = np.sum([np.sin(2 * np.pi * 50 * n * t) / n for n in range(1, 8)], axis=0)
    notes = np.concatenate([np.sin(2 * np.pi * 220 * 2 ** (n / 12) * t[:6_400]) for n in (0, 4, 7, 12, 7, 4) * 8])
    return {
        "nothing": np.zeros_like(white),
        "white": 0.1 * white,
        "brown": 0.003 * np.cumsum(white - white.mean(), dtype=np.float32),
        "hum": (0.1 * hum).astype(np.float32),
        "tune": (0.2 * notes).astype(np.float32),
    }


@pytest.mark.parametrize("name", noises())
def test_noise_is_not_answered(demo: Engine, hear: Hear, name: str) -> None:
    assert replies(hear(new(demo), MemoryInput(name, noises()[name]))) == []


@pytest.mark.parametrize(
    "items",
    [
        ("hello", 60.0, "turn on the light", "doorbell"),
        ("be quiet", 60.0, "hello", "doorbell", "wake up", "hello"),
    ],
    ids=["answers", "quiet"],
)
def test_slides_of_the_window_are_lived_through(demo: Engine, items: tuple[str | float, ...]) -> None:
    said = list(hear_live(new(demo), heard(*items)))
    assert any(isinstance(event, ContextChanged) and event.action == "slide" for event in said)
    assert replies(iter(said)) == right(*items)


def test_the_recordings_in_the_package(ai: Ai) -> None:
    shown = ai("run", "--demo", "--checkpoint", "demo")
    assert shown.status == 0
    assert shown.out.splitlines() == [
        "1-hello.ogg: Hello! How can I help?",
        "1-hello.ogg: Nice to meet you, Maria.",
        "1-hello.ogg: Your name is Maria.",
        "2-sounds.ogg: Someone is at the door.",
        "2-sounds.ogg: Smoke alarm! Please check now.",
        "2-sounds.ogg: That was an alarm.",
        "3-counting.ogg: Okay, counting barks.",
        "3-counting.ogg: One.",
        "3-counting.ogg: Two.",
        "3-counting.ogg: Three.",
        "3-counting.ogg: I counted three.",
        "4-memory.ogg: Moo!",
        "4-memory.ogg: Moo!",
        "4-memory.ogg: Okay, I will be quiet.",
        "4-memory.ogg: I am listening again.",
        "5-feelings.ogg: A ghost? I did not expect that!",
        "5-feelings.ogg: Oh no. Where did you last see them?",
        "5-feelings.ogg: That is not a nice thing to say.",
        "5-feelings.ogg: Glass broke! Be careful.",
        "5-feelings.ogg: You are welcome!",
    ]


def test_it_says_what_it_understands(ai: Ai) -> None:
    facts = json.loads(ai("info", "demo", "--json").out)
    assert facts["understands"] == understood()
    assert len(facts["understands"]["phrases"]) == len(INTENTS) >= 45


def test_it_stays_small() -> None:
    files = [file for file in checkpoint.DEMO_FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < LARGEST_BYTES

"""A plausible session as events, for the tests of everything that shows or stores events."""

from dataclasses import replace

from audio_interaction_cli.events import (
    ChunkDecided,
    ContextChanged,
    Event,
    Failure,
    Lag,
    Reply,
    RoundStarted,
    SamplingFacts,
    SessionStarted,
    Summary,
    TextPiece,
)
from audio_interaction_cli.protocol import Emotion

PIECES = ("Hello", " there! ", "你好，", "世界 🌍")
HELLO = "".join(PIECES)

SESSION = SessionStarted(
    version="0.1.0",
    checkpoint="demo",
    device="cpu",
    dtype="float32",
    quantize="none",
    context_tokens=4096,
    sampling=SamplingFacts(temperature=0.3, top_k=3, top_p=1.0, seed=1337, eagerness=0.0),
)
ROUND = RoundStarted(t=0.0, round=1, file="a.wav", duration_s=4.0, chunks=12)
CHUNK = ChunkDecided(
    t=0.4, round=1, chunk=0, decision="silence", p_speak=0.01, level_db=-40.0, positions=64, step_ms=50.0
)
REPLY = Reply(
    t=4.0,
    round=1,
    file="a.wav",
    reply=1,
    start=4.0,
    emotion=Emotion.HAPPY,
    text=HELLO,
    tokens=(151_614, 9_707),
    truncated=False,
    first_text_ms=80.0,
    total_ms=450.0,
)
TRUNCATED = replace(REPLY, t=8.0, start=8.0, reply=2, emotion=None, text="And then\nthey", truncated=True)
SLIDE = ContextChanged(t=6.0, action="slide", dropped_chunks=40, positions=3500)
LAG = Lag(t=7.0, behind_s=3.25, dropped_s=1.5)
FAILURE = Failure(t=8.8, message="cannot read b.mp3: no audio in it", hint="Is it an audio file?", file="b.mp3")
SUMMARY = Summary(
    rounds=1,
    chunks=22,
    silent=20,
    replies=2,
    audio_s=8.8,
    wall_s=2.25,
    real_time_factor=0.2557,
    median_step_ms=31.25,
    p95_step_ms=48.0,
    illegal_tops=0,
    peak_memory_bytes=6_800_000_000,
)


def chunks(first: int, last: int) -> list[Event]:
    """Silent chunks, numbered from `first` up to but not including `last`, of varying loudness."""
    return [replace(CHUNK, t=0.4 * (n + 1), chunk=n, level_db=-60.0 + 7.0 * (n % 9)) for n in range(first, last)]


def story() -> list[Event]:
    """Silence, a reply in four pieces, silence, what is out of the ordinary, a truncated reply, the end."""
    spoke = replace(CHUNK, t=4.0, chunk=9, decision="speak", p_speak=0.97, level_db=-20.0, step_ms=50.0)
    again = replace(spoke, t=8.0, chunk=19)
    pieces = [TextPiece(t=4.0, reply=1, emotion=Emotion.HAPPY, text=piece) for piece in PIECES]
    cut = TextPiece(t=8.0, reply=2, emotion=None, text=TRUNCATED.text)
    first = [SESSION, ROUND, *chunks(0, 9), spoke, *pieces, REPLY]
    return [*first, *chunks(10, 19), SLIDE, LAG, again, cut, TRUNCATED, *chunks(20, 22), FAILURE, SUMMARY]


UNTIL_SPOKEN = 2 + 9 + 1 + len(PIECES)  # the story's events before its first Reply

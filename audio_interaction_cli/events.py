"""What a session tells the world: a closed set of immutable events.

`t` is seconds of audio since the session began. Field names are those of the JSON Lines output
(docs/cli.md); `type` is the name of the line.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from audio_interaction_cli.protocol import Emotion

SCHEMA = 1

Decision = Literal["silence", "speak"]
ContextAction = Literal["slide", "reset", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingFacts:
    """How tokens are drawn in this session."""

    temperature: float
    top_k: int
    top_p: float
    seed: int
    eagerness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """A conversation begins with an empty memory."""

    type: ClassVar[str] = "session"
    t: float = 0.0
    schema: int = SCHEMA
    version: str
    checkpoint: str
    device: str
    dtype: str
    quantize: str
    context_tokens: int
    sampling: SamplingFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundStarted:
    """The next input is about to be heard. `file` is null for a microphone; lengths are null if unknown."""

    type: ClassVar[str] = "round"
    t: float
    round: int
    file: str | None
    duration_s: float | None
    chunks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkDecided:
    """One chunk was heard and the model chose. `t` is the chunk's end; `chunk` counts within the round."""

    type: ClassVar[str] = "chunk"
    t: float
    round: int
    chunk: int
    decision: Decision
    p_speak: float
    """Probability of speaking against staying silent, at temperature 1, `eagerness` included."""
    level_db: float
    """Root mean square of the chunk in dB below full scale, -120 for digital silence."""
    positions: int
    """Of the window, in use after this chunk."""
    step_ms: float
    """Time from samples to decision; chunks decided in one pass share its time equally."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """The next whole characters of a reply. The pieces of a reply, joined, are its text."""

    type: ClassVar[str] = "text"
    t: float
    reply: int
    emotion: Emotion | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A finished reply. `start` is the end of the chunk that it answers, in seconds like `t`."""

    type: ClassVar[str] = "reply"
    t: float
    round: int
    file: str | None
    reply: int
    start: float
    emotion: Emotion | None
    text: str
    tokens: tuple[int, ...]
    """Ids between TEXT_BEGIN and TEXT_END, the emotion's included."""
    truncated: bool
    """The reply was cut: by its length limit, the end of the window, or an interruption."""
    first_text_ms: float | None
    """From the start of the chunk's step, as in `step_ms`, to the first text; None if there was none."""
    total_ms: float
    """The same to the reply's end."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextChanged:
    """The window was full, or a reset was asked for: what was done, chunks forgotten, positions in use afterwards."""

    type: ClassVar[str] = "context"
    t: float
    action: ContextAction
    dropped_chunks: int
    positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Processing is behind the audio, and how much audio had to be left out since the last such event."""

    type: ClassVar[str] = "lag"
    t: float
    behind_s: float
    dropped_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something failed; the session goes on where it can."""

    type: ClassVar[str] = "error"
    t: float
    message: str
    hint: str | None
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a command's whole conversation. Only the error that ended it, if one did, comes after."""

    type: ClassVar[str] = "summary"
    rounds: int
    chunks: int
    silent: int
    replies: int
    audio_s: float
    wall_s: float
    real_time_factor: float | None
    """Seconds of work for a second of audio: below 1 is faster than real time."""
    median_step_ms: float | None
    p95_step_ms: float | None
    """Of the `step_ms` of the last hour of chunks, half and 95 of 100 are below; None if there were none."""
    illegal_tops: int
    """Steps in which the model's first choice was not allowed by the protocol."""
    peak_memory_bytes: int | None


Event = SessionStarted | RoundStarted | ChunkDecided | TextPiece | Reply | ContextChanged | Lag | Failure | Summary

"""What the display knows: one immutable value, and how each event changes it. Not how it looks."""

from dataclasses import dataclass, replace

from audio_interaction_cli.events import (
    ChunkDecided,
    ContextChanged,
    Event,
    Failure,
    Reply,
    RoundStarted,
    SessionStarted,
    TextPiece,
)
from audio_interaction_cli.protocol import Emotion

TIMELINE_CHUNKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A live input, as it is this moment."""

    name: str
    level_db: float
    behind_s: float
    muted: bool
    recording: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that the live region shows. `update` makes the next one from an event."""

    machine: tuple[str, ...] = ()  # device and number type
    reading: str | None = None  # an input being looked through before it is heard
    file: str | None = None
    round: int = 0
    round_chunks: int | None = None
    round_heard_chunks: int = 0
    heard_chunks: int = 0
    positions: int = 0
    window_positions: int | None = None
    input: Input | None = None
    timeline: tuple[ChunkDecided, ...] = ()  # the latest chunks
    replies: int = 0
    work_ms: float = 0.0
    speaking_since: float | None = None  # `start` of the reply in progress, None while listening
    emotion: Emotion | None = None
    text: str = ""


def update(view: View, event: Event) -> View:
    """The view after an event."""
    match event:
        case SessionStarted():
            machine = (event.device, event.dtype)
            return replace(view, machine=machine, positions=0, window_positions=event.context_tokens)
        case RoundStarted():
            return replace(
                view,
                reading=None,
                file=event.file,
                round=event.round,
                round_chunks=event.chunks,
                round_heard_chunks=0,
            )
        case ChunkDecided():
            return replace(
                view,
                positions=event.positions,
                timeline=(*view.timeline, event)[-TIMELINE_CHUNKS:],
                round_heard_chunks=view.round_heard_chunks + 1,
                heard_chunks=view.heard_chunks + 1,
                work_ms=view.work_ms + event.step_ms,
                speaking_since=event.t if event.decision == "speak" else None,
                emotion=None,
                text="",
            )
        case TextPiece():
            return replace(view, emotion=event.emotion, text=view.text + event.text)
        case Reply():
            step_ms = view.timeline[-1].step_ms if view.timeline else 0.0  # counted with its chunk
            work_ms = view.work_ms + max(0.0, event.total_ms - step_ms)
            return replace(view, work_ms=work_ms, replies=view.replies + 1, speaking_since=None, emotion=None, text="")
        case ContextChanged():
            return replace(view, positions=event.positions)
        case Failure():
            return replace(view, reading=None)
        case _:
            return view

"""Events as plain lines: replies for standard output, notes for standard error, and their wording.

Knows no colours and no cursor. The live display uses the same words.
"""

from typing import TextIO

from audio_interaction_cli.events import (
    ContextChanged,
    Event,
    Lag,
    Reply,
    RoundStarted,
    SessionStarted,
    Summary,
)
from audio_interaction_cli.protocol import CHUNK_S
from audio_interaction_cli.quantities import clock, ratio, size
from audio_interaction_cli.sinks import one_line, without_controls, write


class PlainReplies:
    """One line for each reply, after its file's name if asked. A reply without text gives no line."""

    def __init__(self, stream: TextIO, prefix_file: bool = False) -> None:
        self._stream = stream
        self._prefix_file = prefix_file

    def handle(self, event: Event) -> None:
        if not isinstance(event, Reply) or not without_controls(event.text).strip():
            return
        prefix = f"{event.file}: " if self._prefix_file and event.file else ""
        line = one_line(prefix + event.text)
        write(self._stream, (without_controls(line) if self._stream.isatty() else line) + "\n")

    def close(self) -> None:
        """Nothing to release: the stream is the caller's."""


class PlainNotes:
    """What people should know beside the replies, a line each. Failures are told by the caller."""

    def __init__(self, stream: TextIO, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose

    def handle(self, event: Event) -> None:
        text = note(event) or (detail(event) if self._verbose else None)
        if isinstance(event, Summary):
            text = ", ".join(summary_items(event))
        if text:
            write(self._stream, without_controls(one_line(text)) + "\n")

    def close(self) -> None:
        """Nothing to release: the stream is the caller's."""


def note(event: Event) -> str | None:
    """The words for what is out of the ordinary, None for all else."""
    match event:
        case ContextChanged(action="reset", t=t):
            return f"note: at {clock(t)} the context was cleared; the conversation starts afresh"
        case ContextChanged(action="stop", t=t):
            return f"note: at {clock(t)} the context was full; stopped, as asked"
        case Lag(behind_s=behind, dropped_s=dropped):
            left_out = f", {dropped:.1f} s of audio left out" if dropped else ""
            where = f"{behind:.1f} s behind the audio" if behind >= CHUNK_S else "caught up with the audio"
            return f"note: {where}{left_out}"
        case Reply(truncated=True, start=start):
            return f"note: the reply at {clock(start)} was cut short"
        case _:
            return None


def detail(event: Event) -> str | None:
    """The words for what only the curious want to know, None for all else."""
    match event:
        case SessionStarted():
            quantize = "" if event.quantize == "none" else f" {event.quantize}"
            return f"session: {event.checkpoint} on {event.device}, {event.dtype}{quantize}"
        case RoundStarted(file=str(file)):
            length = "" if event.duration_s is None else f", {clock(event.duration_s)}"
            return f"round {event.round}: {file}{length}"
        case ContextChanged(action="slide", t=t, dropped_chunks=dropped):
            return f"context: full at {clock(t)}, forgot {dropped * CHUNK_S:.1f} s of the oldest"
        case Reply(first_text_ms=float(first)):
            return f"reply {event.reply}: first text after {first:.0f} ms, all after {event.total_ms:.0f} ms"
        case _:
            return None


def summary_items(summary: Summary) -> list[str]:
    """The summary in a few words each, the most telling first."""
    factor = summary.real_time_factor
    peak = summary.peak_memory_bytes
    half, most = summary.median_step_ms, summary.p95_step_ms
    return [
        _count(summary.replies, "reply", "replies"),
        _count(summary.rounds, "round", "rounds"),
        f"{clock(summary.audio_s)} of audio in {clock(summary.wall_s)}",
        *([] if factor is None else [f"real-time factor {ratio(factor)}"]),
        *([] if half is None or most is None else [f"decides in {half:.0f} ms (95 %: {most:.0f} ms)"]),
        *([] if peak is None else [f"peak memory {size(peak)}"]),
    ]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

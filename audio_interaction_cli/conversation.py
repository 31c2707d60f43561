"""Joins an input and a session: how a file is heard from start to end, with the silence after it.

A file and its silence are padded to whole chunks each. This is the one loop behind `run`, `interactive` and
`run_inference`.
"""

import platform
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np

from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import AudioFileError, WindowFullError
from audio_interaction_cli.events import ChunkDecided, Event, Summary
from audio_interaction_cli.framing import Framer, Samples
from audio_interaction_cli.inputs import Source
from audio_interaction_cli.mel import FileMel, MelMaximum, silence_mel
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.protocol import CHUNK_SAMPLES, SAMPLE_RATE_HZ
from audio_interaction_cli.session import Session, Tally

TAIL_SILENCE_S = 1.0
LATEST_CHUNKS = 9_000  # an hour


def hear_file(session: Session, source: Source, tail_silence_s: float = TAIL_SILENCE_S) -> Iterator[Event]:
    """Hear a source as one round, with the features of a whole file.

    The source is read twice: first for its loudest value and length. A source that breaks off is answered as
    far as it goes; then its AudioFileError is raised. WindowFullError if the session ends before the source.
    """
    if session.ended:
        _tell_what_is_missing(session, source, session.t, None)
    samples, mel = _survey(source)
    tail = _silence(tail_silence_s)
    chunks = _chunks(samples) + _chunks(len(tail))
    yield session.begin_round(source.name, duration_s=samples / SAMPLE_RATE_HZ, chunks=chunks)
    began_s = session.t
    session.begin_input(mel)
    damage = yield from _heard(session, source)
    session.begin_input(silence_mel())
    yield from session.feed(tail)
    yield from session.end_input()
    _tell_what_is_missing(session, source, began_s, damage)


def hear_live(session: Session, source: Source, tail_silence_s: float = TAIL_SILENCE_S) -> Iterator[Event]:
    """Hear a source as one round, with the features of a microphone: nothing of its future is known.

    Errors as for `hear_file`.
    """
    yield session.begin_round(source.name)
    began_s = session.t
    session.begin_input()
    damage = yield from _heard(session, source)
    yield from session.feed(_silence(tail_silence_s))
    yield from session.end_input()
    _tell_what_is_missing(session, source, began_s, damage)


def _tell_what_is_missing(session: Session, source: Source, began_s: float, damage: AudioFileError | None) -> None:
    """Raise the error for what of the source was not heard, if anything."""
    if session.ended:
        raise WindowFullError(
            f"{source.name}: {session.t - began_s:.1f} s of it were heard, "
            f"then the session's window of {session.context_tokens} positions was full",
            file=source.name,
        )
    if damage:
        raise damage


def _heard(session: Session, source: Source) -> Generator[Event, None, AudioFileError | None]:
    """Hear a source to its end, or to the session's; returns the error that the source ended with, if any."""
    damage = None
    try:
        for block in source.blocks():
            yield from session.feed(block)
            if session.ended:
                return None
    except AudioFileError as error:
        damage = error
    yield from session.end_input()
    return damage


def _survey(source: Source) -> tuple[int, FileMel]:
    """Length in samples, and features that know the loudest value."""
    framer, maximum, samples = Framer(), MelMaximum(), 0
    try:
        for block in source.blocks():
            samples += len(block)
            framer.push(block)
            maximum.push(framer.take(framer.whole_chunks))
    except AudioFileError:
        if not samples:
            raise
    framer.pad()
    maximum.push(framer.take(1))
    maximum.finish()
    return samples, FileMel(maximum.value)


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


def _chunks(samples: int) -> int:
    return -(-samples // CHUNK_SAMPLES)


class Conversation:
    """The sessions of one command: one over all its inputs, or a fresh one for each.

    Use it in a `with` statement: leaving it, also by an exception, gives the reply in progress and the summary.
    Errors as for `Session`.
    """

    def __init__(
        self,
        engine: Engine,
        options: SessionOptions,
        emit: Callable[[Event], None],
        *,
        separate: bool = False,
        tail_silence_s: float = TAIL_SILENCE_S,
    ) -> None:
        self.session = Session(engine, options, tally := Tally())
        """The one going on."""
        self._engine = engine
        self._options = options
        self._emit = emit
        self._separate = separate
        self._tail_silence_s = tail_silence_s
        self._tally = tally
        self._wall_s = 0.0  # spent hearing, not waiting for the next input
        self._steps_ms: deque[float] = deque(maxlen=LATEST_CHUNKS)

    def hear(self, source: Source) -> None:
        """Hear one input; see `hear_file` for the errors raised."""
        if self._separate and self.session.t:
            self._close_session()
            self.session = Session(self._engine, self._options, self._tally)
            self._emit(self.session.started())
        self.tell(hear_file(self.session, source, self._tail_silence_s))

    def tell(self, events: Iterable[Event]) -> None:
        """Hand on events as they come; until the last of them, time counts as work."""
        began = time.perf_counter()
        try:
            for event in events:
                if isinstance(event, ChunkDecided):
                    self._steps_ms.append(event.step_ms)
                self._emit(event)
        finally:
            self._wall_s += time.perf_counter() - began

    def reset(self) -> None:
        """Forget what was said and heard."""
        self._emit(self.session.reset())

    def __enter__(self) -> Self:
        self._emit(self.session.started())
        return self

    def __exit__(self, *_: object) -> None:
        self._close_session()
        tally, wall_s = self._tally, self._wall_s
        self._emit(
            Summary(
                rounds=tally.rounds,
                chunks=tally.chunks,
                silent=tally.silent,
                replies=tally.replies,
                audio_s=tally.audio_s,
                wall_s=wall_s,
                real_time_factor=wall_s / tally.audio_s if tally.chunks else None,
                median_step_ms=median(self._steps_ms) if self._steps_ms else None,
                p95_step_ms=sorted(self._steps_ms)[len(self._steps_ms) * 95 // 100] if self._steps_ms else None,
                illegal_tops=tally.illegal_tops,
                peak_memory_bytes=peak_memory_bytes(),
            )
        )

    def _close_session(self) -> None:
        for event in self.session.close():
            self._emit(event)


def peak_memory_bytes() -> int | None:
    """The most memory that this process has had resident; None where the system does not tell."""
    system = platform.system()
    if system == "Linux":  # getrusage would count what the parent had before it started us
        with suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
            return int(found[1]) * 1024 if found else None
    if system == "Windows":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if system == "Darwin" else peak * 1024

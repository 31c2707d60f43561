"""One conversation: samples in, events out. Opens no device, prints nothing; its time is that of its audio.

    samples -> chunk [6400] -> mel [128, 40] -> frames [10, D] -> language model -> legal token -> event

A state machine that can be left and entered between any two events: nothing is lost or done twice when the
iteration over the events stops half-way.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from audio_interaction_cli import __version__
from audio_interaction_cli.decoding import AUDITED_STEPS, Decoder
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import UsageError
from audio_interaction_cli.events import (
    ChunkDecided,
    ContextAction,
    ContextChanged,
    Event,
    Reply,
    RoundStarted,
    SamplingFacts,
    SessionStarted,
    TextPiece,
)
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.hearing import Ear, HeardChunk
from audio_interaction_cli.mel import Mel
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.protocol import CHUNK_POSITIONS, Emotion, seconds
from audio_interaction_cli.text import Detokenizer
from audio_interaction_cli.turns import Kind

LOUDEST = 1e4  # far above full scale, far below what overflows


@dataclass(slots=True)
class Tally:
    """What has happened so far; sessions that share one go on counting."""

    rounds: int = 0
    chunks: int = 0
    silent: int = 0
    replies: int = 0
    illegal_tops: int = 0
    """Complete once the sessions are closed."""

    @property
    def audio_s(self) -> float:
        """Seconds of audio decided upon."""
        return seconds(self.chunks)


@dataclass(slots=True)
class _ReplyInProgress:
    number: int
    start_s: float
    began: float  # on the process's clock
    detokenizer: Detokenizer
    tokens: list[int] = field(default_factory=list)
    emotion: Emotion | None = None
    text: str = ""
    first_text_ms: float | None = None


class Session:
    """A conversation with an engine. Feed it blocks, and iterate over the events that they cause.

    It hears with live features unless `begin_input` gives it others. Samples fed are kept at once; the work
    is done as the events are iterated over. UsageError if the options ask for a window that cannot hold the prompt
    and a chunk or is larger than the model's; CheckpointError if the model's own cannot; OutOfMemoryError if its
    cache does not fit.
    """

    def __init__(self, engine: Engine, options: SessionOptions | None = None, tally: Tally | None = None) -> None:
        self.options = options or SessionOptions()
        self.tally = tally or Tally()
        self.ended = False
        """The window is full and the session was asked to stop there; it hears nothing any more."""
        told = engine.system_prompt if self.options.system_prompt is None else self.options.system_prompt
        prompt = engine.token_ids.prompt(engine.tokenizer.encode(told))
        self.context_tokens = self.options.window(len(prompt), engine.lm.config.block_size)
        self.decoder = Decoder(engine, prompt, self.context_tokens, self.options.sampling, self.options.eagerness)
        self._engine = engine
        self._ear = Ear(engine.tower)
        self._heard: deque[HeardChunk] = deque()
        self._lookahead_chunks = 1
        self._events: deque[Event] = deque()
        self._reply: _ReplyInProgress | None = None
        self._chunks = 0  # in this session
        self._chunks_before_round = 0
        self._file: str | None = None

    @property
    def t(self) -> float:
        """Seconds of audio decided upon since the session began."""
        return seconds(self._chunks)

    def prepare(self) -> None:
        """Do now what the first chunk and the first reply would have to wait for; what is told stays the same."""
        self._ear.prepare()
        self.decoder.prepare()

    def started(self) -> SessionStarted:
        """The facts of this session, its first event."""
        sampling = self.options.sampling
        return SessionStarted(
            version=__version__,
            checkpoint=self._engine.name,
            device=str(self._engine.device),
            dtype=self._engine.dtype_name,
            quantize=self._engine.quantize,
            context_tokens=self.context_tokens,
            sampling=SamplingFacts(
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                seed=sampling.seed,
                eagerness=self.options.eagerness,
            ),
        )

    def begin_round(
        self, file: str | None = None, *, duration_s: float | None = None, chunks: int | None = None
    ) -> RoundStarted:
        """Name what is heard next; its lengths are passed on for displays."""
        self.tally.rounds += 1
        self._file = file
        self._chunks_before_round = self._chunks
        return RoundStarted(t=self.t, round=self.tally.rounds, file=file, duration_s=duration_s, chunks=chunks)

    def begin_input(self, mel: Mel | None = None) -> None:
        """Hear what follows with these features, None for live ones; what was fed and not decided is dropped."""
        self._ear.begin(mel)
        self._heard.clear()

    def feed(self, block: Samples) -> Iterator[Event]:
        """Hear mono samples, float32 [n] at 16 kHz, any n.

        UsageError for another shape or dtype, and for values that are not finite or far beyond full scale. Iterating
        raises CheckpointError where the model computes numbers that are not finite.
        """
        if block.ndim != 1 or block.dtype != np.float32:
            raise UsageError(f"samples must be float32 [n], not {block.dtype} {list(block.shape)}")
        if len(block) and not np.abs(block).max() <= LOUDEST:  # which NaN is not either
            raise UsageError("samples must be finite, with full scale at 1")
        if not self.ended:
            self._ear.push(block)
        return self._work()

    def end_input(self) -> Iterator[Event]:
        """The input has ended: fill its last chunk with zeros and hear what was held back."""
        self._ear.end()
        return self._work()

    def reset(self) -> ContextChanged:
        """Forget the conversation but for the prompt, and go on if it had ended; the clock runs on.

        A reply in progress is cut; it is told with the next events.
        """
        self.end_reply()
        self.ended = False
        return self._context_changed("reset", self.decoder.reset())

    def end_reply(self) -> None:
        """Cut a reply in progress; it is told with the next events."""
        self._events += self._cut_reply()

    def close(self) -> Iterator[Event]:
        """Give a reply in progress as far as it came, and complete the tally; the session may go on later."""
        self.end_reply()
        self.decoder.audit()
        self.tally.illegal_tops += self.decoder.illegal_tops
        self.decoder.illegal_tops = 0
        yield from self._told()

    def _work(self) -> Iterator[Event]:
        while True:
            yield from self._told()
            self.decoder.audit(AUDITED_STEPS)  # once the decisions are told
            if self._reply:
                self._events += self._say(self._reply)
                continue
            if self.ended:
                return
            if (room := self._lookahead_chunks - len(self._heard)) > 0:
                self._heard.extend(self._ear.take(room))
            if not self._heard:
                return
            if self.decoder.fitting_chunks < 1:
                self._events.append(self._window_full())
            else:
                self._events += self._listen()

    def _told(self) -> Iterator[Event]:
        """What happened and was not told yet; it waits here where an iteration was left half-way."""
        while self._events:
            yield self._events.popleft()

    def _window_full(self) -> ContextChanged:
        if self.options.on_full == "slide":
            return self._context_changed("slide", self.decoder.slide())
        if self.options.on_full == "reset":
            return self.reset()
        self.ended = True
        return self._context_changed("stop", 0)

    def _context_changed(self, action: ContextAction, dropped: int) -> ContextChanged:
        return ContextChanged(t=self.t, action=action, dropped_chunks=dropped, positions=self.decoder.positions)

    def _listen(self) -> list[Event]:
        """Decide on the chunks heard, up to the first that is answered."""
        began = time.perf_counter()
        count = min(len(self._heard), self._lookahead_chunks, self.decoder.fitting_chunks)
        decisions = self.decoder.listen([self._heard[n].frames for n in range(count)])
        decided = len(decisions.p_speak)
        step_ms = (time.perf_counter() - began) * 1000 / decided
        told = [
            self._decided(self._heard.popleft(), decisions.speaks and not later, p_speak, step_ms, later)
            for later, p_speak in zip(reversed(range(decided)), decisions.p_speak, strict=True)
        ]
        # Whoever speaks often makes work beyond the first reply in vain; whoever is silent does not.
        longer = min(2 * self._lookahead_chunks, self.options.lookahead_chunks)
        self._lookahead_chunks = 1 if decisions.speaks else longer
        if decisions.speaks:
            self.tally.replies += 1
            detokenizer = Detokenizer(self._engine.tokenizer)
            began_step = time.perf_counter() - told[-1].step_ms / 1000
            self._reply = _ReplyInProgress(self.tally.replies, self.t, began_step, detokenizer)
        return [*told]

    def _decided(self, chunk: HeardChunk, speaks: bool, p_speak: float, step_ms: float, later: int) -> ChunkDecided:
        """A chunk of a pass that decided on `later` more."""
        self._chunks += 1
        self.tally.chunks += 1
        self.tally.silent += not speaks
        return ChunkDecided(
            t=self.t,
            round=self.tally.rounds,
            chunk=self._chunks - self._chunks_before_round,
            decision="speak" if speaks else "silence",
            p_speak=p_speak,
            level_db=chunk.level_db,
            positions=self.decoder.positions - later * CHUNK_POSITIONS,
            step_ms=chunk.hearing_ms + step_ms,
        )

    def _say(self, reply: _ReplyInProgress) -> list[Event]:
        """One token more of the reply, or its end."""
        if not self.decoder.fits_token:
            dropped = self.decoder.slide() if self.options.on_full == "slide" else 0
            return [self._context_changed("slide", dropped)] if dropped else self._cut_reply()
        token, kind = self.decoder.say()
        if kind is Kind.END:
            return self._finish_reply(reply, truncated=False)
        if len(reply.tokens) == self.options.max_reply_tokens:
            return self._cut_reply(keep_last=False)
        reply.tokens.append(token)
        if kind is Kind.EMOTION:
            reply.emotion = self._engine.token_ids.emotions[token]
            return []
        return self._piece(reply, reply.detokenizer.push(token))

    def _piece(self, reply: _ReplyInProgress, text: str) -> list[Event]:
        if not text:
            return []
        reply.text += text
        if reply.first_text_ms is None:
            reply.first_text_ms = (time.perf_counter() - reply.began) * 1000
        return [TextPiece(t=self.t, reply=reply.number, emotion=reply.emotion, text=text)]

    def _cut_reply(self, *, keep_last: bool = True) -> list[Event]:
        if not self._reply:
            return []
        self.decoder.cut_reply(keep_last=keep_last)
        return self._finish_reply(self._reply, truncated=True)

    def _finish_reply(self, reply: _ReplyInProgress, *, truncated: bool) -> list[Event]:
        pieces = self._piece(reply, reply.detokenizer.finish())
        self._reply = None
        finished = Reply(
            t=self.t,
            round=self.tally.rounds,
            file=self._file,
            reply=reply.number,
            start=reply.start_s,
            emotion=reply.emotion,
            text=reply.text,
            tokens=tuple(reply.tokens),
            truncated=truncated,
            first_text_ms=reply.first_text_ms,
            total_ms=(time.perf_counter() - reply.began) * 1000,
        )
        return [*pieces, finished]

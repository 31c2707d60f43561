"""One sequence of positions: what the model was fed, and the legal tokens it draws from it.

Knows tokens, not time, text or events. The token drawn last is fed together with what follows it, so a silent
chunk is one pass of 13 positions.

Where several chunks are already there, silence is assumed for them all: one pass, then the decisions are read
in order, drawn as usual, and at the first that speaks the cache is cut back to it (*speculative silence*). The
result is that of going one by one, up to the rounding of the dtype; a single chunk is the special case.

A full window can slide: chunks are forgotten and the rest of the sequence moves together behind the prompt.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.lm import Cache
from audio_interaction_cli.memory import enough_memory
from audio_interaction_cli.protocol import BLOCK_POSITIONS, CHUNK_FRAMES, CHUNK_POSITIONS
from audio_interaction_cli.sampling import Sampler, Sampling
from audio_interaction_cli.steps import Steps
from audio_interaction_cli.turns import Kind, State
from audio_interaction_cli.window import Window

AUDITED_STEPS = 32  # how many listening steps are checked for illegal first choices at once


class Decisions(NamedTuple):
    """What the model made of the chunks it was given, up to the first that it answers."""

    p_speak: list[float]
    """Of each chunk decided upon: probability of speaking against staying silent, at temperature 1."""
    speaks: bool
    """Whether the last of them is answered; all others are silent."""


class Decoder:
    """The model's side of one conversation."""

    def __init__(
        self, engine: Engine, prompt: Sequence[int], capacity: int, sampling: Sampling, eagerness: float
    ) -> None:
        self.illegal_tops = 0
        """Steps in which the model's first choice was not legal; complete after `audit`."""
        self.observe: Callable[[torch.Tensor], object] | None = None
        """Called with the hidden state [n_embd] behind every token drawn, in order."""
        self._engine = engine
        self._lm = engine.lm
        self._ids = engine.token_ids
        self._eagerness = eagerness
        self._prompt = list(prompt)
        with enough_memory(Cache.size_bytes(engine.lm.config, capacity, engine.dtype), engine.device):
            self._cache = Cache(engine.lm.config, capacity, engine.device, engine.dtype)
        self._step = Steps(engine.lm, self._cache)
        self._window = Window(capacity, len(prompt))
        self._pending = list(prompt)  # decided, not yet fed
        self._sampler = Sampler(sampling)
        self._state = State.LISTENING
        self._unaudited: list[torch.Tensor] = []

    @property
    def positions(self) -> int:
        """Positions in use."""
        return self._cache.length

    @property
    def fitting_chunks(self) -> int:
        """How many more chunks the window can take."""
        free = self._cache.capacity - self._cache.length - len(self._pending)
        return (free + 1) // CHUNK_POSITIONS  # the last one's decision is not fed yet

    @property
    def fits_token(self) -> bool:
        """Whether the window can take what a reply's next token needs."""
        return self._cache.length + len(self._pending) <= self._cache.capacity

    @torch.inference_mode()
    def prepare(self) -> None:
        """Feed what is pending but for the last token, then a chunk and a token that are forgotten again.

        So passes of these lengths are compiled or recorded, and the first decision waits for none of it.
        """
        *known, last = self._pending
        if known and self._cache.length + len(known) + CHUNK_POSITIONS <= self._cache.capacity:
            self._step(self._lm.embed(known))
            self._pending = [last]
            length = self._cache.length
            self._step(self._lm.embed([self._ids.pad] * CHUNK_POSITIONS))
            self._cache.crop(length)
            self._lm.logits(self._step(self._lm.embed([self._ids.pad])))
            self._cache.crop(length)

    def reset(self) -> int:
        """Forget everything but the prompt; how many chunks it were."""
        self._state = State.LISTENING
        self._cache.crop(min(self._cache.length, len(self._prompt)))
        self._pending = self._prompt[self._cache.length :]
        return self._window.clear()

    @torch.inference_mode()
    def slide(self) -> int:
        """Forget the oldest chunks, see `window`; how many, 0 if there are none beside a reply in progress."""
        fed = self._cache.length
        end = fed + len(self._pending)
        chunks = len(self._window)
        runs = self._window.slide(end, speaking=self._state is not State.LISTENING)
        if runs[-1].stop < end:  # the newest chunk is gone as well, and with it what was to follow
            self._pending = []
        self._cache.keep([range(run.start, min(run.stop, fed)) for run in runs])
        return chunks - len(self._window)

    @torch.inference_mode()
    def listen(self, chunks: Sequence[torch.Tensor]) -> Decisions:
        """Decide on chunks, each [10, n_embd], in one pass; at most `fitting_chunks`."""
        first = len(self._pending) + BLOCK_POSITIONS - 1  # the row of the first decision
        base = self._cache.length
        hidden = self._step(self._blocks(chunks))[first::CHUNK_POSITIONS]
        logits = (hidden.float() @ self._engine.decision_rows.T).cpu()
        self._check_finite(logits, base)
        logits[:, 1] += self._eagerness
        speaks = next((n for n, pair in enumerate(logits) if self._sampler.choose(pair) == 1), None)
        decided = len(chunks) if speaks is None else speaks + 1

        self._window.add(base + len(self._pending), decided, speaks=speaks is not None)
        self._cache.crop(base + first + 1 + (decided - 1) * CHUNK_POSITIONS)
        self._choose(self._ids.keep_silence if speaks is None else self._ids.text_begin)
        self._unaudited += hidden[:decided]
        if self.observe:
            for row in hidden[:decided]:
                self.observe(row)
        return Decisions(logits.softmax(-1)[:decided, 1].tolist(), speaks is not None)

    def _blocks(self, chunks: Sequence[torch.Tensor]) -> torch.Tensor:
        """Embeddings [n, n_embd] of what is pending and of the chunks, silence assumed between them."""
        block = [self._ids.audio_begin, *[self._ids.pad] * CHUNK_FRAMES, self._ids.assistant]
        between = [self._ids.keep_silence, *block]
        embeddings = self._lm.embed([*self._pending, *block, *between * (len(chunks) - 1)])
        for n, frames in enumerate(chunks):
            start = len(self._pending) + 1 + n * CHUNK_POSITIONS
            embeddings[start : start + CHUNK_FRAMES] = frames
        return embeddings

    @torch.inference_mode()
    def say(self) -> tuple[int, Kind]:
        """Draw the next token of the reply that was begun, and what it is."""
        base = self._cache.length
        hidden = self._step(self._lm.embed(self._pending))[-1]
        logits = self._lm.logits(hidden).cpu()
        self._check_finite(logits, base)
        if self.observe:
            self.observe(hidden)
        mask = self._engine.masks[self._state]
        self.illegal_tops += bool(mask[logits.argmax()] < 0)
        return self._choose(self._sampler.choose(logits + mask))

    def cut_reply(self, *, keep_last: bool = True) -> None:
        """Close the reply here, with or without the token drawn last."""
        kept = self._pending if keep_last else []
        self._choose(self._ids.text_end)
        self._pending = [*kept, *self._pending]

    def _choose(self, token: int) -> tuple[int, Kind]:
        self._state = self._engine.grammar.next(self._state, token)
        self._pending = [token]
        return token, self._engine.grammar.kinds[token]

    @torch.inference_mode()
    def audit(self, least: int = 1) -> None:
        """Count the listening steps whose first choice among all tokens was not a legal one, if there are so many.

        A decision needs two rows of the head; the whole head is read for many steps at once.
        """
        if len(self._unaudited) >= least:
            tops = self._lm.logits(torch.stack(self._unaudited)).argmax(-1).cpu()
            self.illegal_tops += int((self._engine.masks[State.LISTENING][tops] < 0).sum())
            self._unaudited = []

    def _check_finite(self, logits: torch.Tensor, length: int) -> None:
        """CheckpointError if they are not; then nothing beyond `length` has been fed."""
        if not logits.isfinite().all():
            self._cache.crop(length)
            raise CheckpointError(
                "the model computes numbers that are not finite",
                "its weights are damaged, or need a wider format: try --dtype float32",
            )

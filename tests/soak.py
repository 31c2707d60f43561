"""Hours of generated sound through the live path at full speed, with the demo checkpoint: does it stay as it began?

    scripts/soak [--hours H] [--seed N] > /dev/null

Phrases, sounds and speech that is not for it, at random moments in changing noise, each answered by itself. Says for
each hour on stderr what memory is in use, what a chunk costs, and which replies were right; stdout has the replies.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from psutil import Process

from audio_interaction_cli.capture import Capture
from audio_interaction_cli.checkpoint import find
from audio_interaction_cli.conversation import Conversation
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.events import ChunkDecided, Event, Reply
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.inputs import AudioInput, Source
from audio_interaction_cli.live import Interruption, LiveConversation
from audio_interaction_cli.lm import Cache
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.output import Output
from audio_interaction_cli.playback import played
from audio_interaction_cli.protocol import CHUNK_POSITIONS, SAMPLE_RATE_HZ
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.settings import Settings
from audio_interaction_cli.sinks import write
from closed_set import SOUND_OF
from dialogue import Dialogue

CLIPS = Path(__file__).parent / "clips"
PHRASES = ("hello", "thank you", "help me", "I saw a ghost", "I lost my keys", "you are stupid", "turn on the light",
           "what is the capital of France")  # fmt: skip
CHATTER = ("the driver sold an umbrella at the station", "turn on the oven")
ANSWERED_WITHIN_S = 3.0


class Room(Source):
    """Sound without end, or nearly so; the same for the same seed."""

    name = "room"

    def __init__(self, hours: float, seed: int) -> None:
        self._samples = int(hours * 3_600 * SAMPLE_RATE_HZ)
        self._draw = np.random.default_rng(seed)
        self.said: list[tuple[float, str | None]] = []
        """When each clip ended, in seconds, and the reply that it asks for, if any; until its period is over."""

    def blocks(self) -> Iterator[Samples]:
        """Of clips with what comes before each."""
        what = [*PHRASES, *SOUND_OF, *CHATTER]
        clips = {name: _clip(name) for name in what}
        at = 0
        while at < self._samples:
            name = what[self._draw.integers(len(what))]
            level = 10 ** (self._draw.uniform(-20, 0) / 20)
            quiet = np.zeros(int(self._draw.uniform(2, 15) * SAMPLE_RATE_HZ), np.float32)
            block = np.concatenate([quiet, level * clips[name]])
            noise = level * 10 ** (self._draw.uniform(-70, -40) / 20)
            block += (noise * self._draw.standard_normal(len(block))).astype(np.float32)
            at += len(block)
            self.said.append((at / SAMPLE_RATE_HZ, _answer(name)))
            yield np.clip(block, -1, 1).astype(np.float32)


def _clip(name: str) -> Samples:
    with AudioInput(CLIPS / f"{name.replace(' ', '_')}.flac") as source:
        return np.concatenate(list(source.blocks()))


def _answer(name: str) -> str | None:
    if name in CHATTER:
        return None
    answer = Dialogue().sound(name) if name in SOUND_OF else Dialogue().phrase(name)
    return answer.text if answer else None


@dataclass
class Period:
    """What was measured in an hour."""

    reference_ms: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    replies: list[tuple[float, str]] = field(default_factory=list)
    resident_bytes: int = 0


def soak(
    hours: float,
    seed: int,
    period_s: float = 3_600.0,
    told: Callable[[dict[str, float]], None] = lambda _: None,
) -> list[dict[str, float]]:
    """Hear it all; figures of each period, each told as soon as it is over."""
    room = Room(hours, seed)
    engine = Engine.load(find("demo"), device="cpu")
    reference_ms = _reference(engine)
    figures: list[dict[str, float]] = []
    period = Period()

    def finish() -> None:
        nonlocal period
        figures.append(_figures(len(figures), period, room, period_s))
        told(figures[-1])
        period = Period()

    def tally(event: Event) -> None:
        if isinstance(event, ChunkDecided):
            if event.t > (len(figures) + 1) * period_s:
                finish()
            period.step_ms.append(event.step_ms)
            if len(period.step_ms) % 50 == 0:
                period.reference_ms.append(reference_ms())
                period.resident_bytes = max(period.resident_bytes, Process().memory_info().rss)
        if isinstance(event, Reply):
            period.replies.append((event.start, event.text))
        output.emit(event)

    with Output(Settings(quiet=True)) as output, Interruption() as interruption:
        options = SessionOptions(sampling=Sampling(temperature=0))
        conversation = Conversation(engine, options, tally)
        with conversation, Capture(played([room], 0.0, 0.0), lossy=False, duration_s=3_600 * hours) as capture:
            LiveConversation(
                conversation, capture, output, keys=lambda: "", interruption=interruption, name="room"
            ).run()
    finish()
    return figures


def _reference(engine: Engine) -> Callable[[], float]:
    """Times a pass over a cache that never changes: what else the machine does makes it as slow as a chunk."""
    cache = Cache(engine.lm.config, engine.lm.config.block_size, engine.device, engine.dtype)
    x = torch.zeros(CHUNK_POSITIONS, engine.lm.config.n_embd, dtype=engine.dtype)

    def timed() -> float:
        cache.length = cache.capacity // 2
        began = perf_counter()
        with torch.inference_mode():
            engine.lm(x, cache)
        return 1_000 * (perf_counter() - began)

    return timed


def _figures(n: int, period: Period, room: Room, period_s: float) -> dict[str, float]:
    asked = [(end, answer) for end, answer in room.said if end <= (n + 1) * period_s]
    room.said = room.said[len(asked) :]
    replies = list(period.replies)
    right = 0
    for end, answer in asked:
        found = next((r for r in replies if -2 <= r[0] - end <= ANSWERED_WITHIN_S and r[1] == answer), None)
        if found:
            replies.remove(found)
            right += 1
    wanted = sum(answer is not None for _, answer in asked)
    return {
        "period": n + 1,
        "asked": wanted,
        "right": right,
        "share": round(right / max(1, wanted), 4),
        "others": len(replies),
        "median_step_ms": round(median(period.step_ms), 3),
        "step_to_reference": round(median(period.step_ms) / median(period.reference_ms or [math.nan]), 4),
        "resident_mb": round(period.resident_bytes / 1e6, 1),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    soak(asked.hours, asked.seed, told=lambda figures: write(sys.stderr, json.dumps(figures) + "\n"))


if __name__ == "__main__":
    main()

"""The live loop: what comes in is heard, keys are obeyed, delays are told; and `mic --from`, which is the same loop."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audio_interaction_cli.backlog import Begin, Gap, Item, Note
from audio_interaction_cli.capture import LONGEST_S, Capture
from audio_interaction_cli.conversation import Conversation
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import AudioDeviceError, ExitCode
from audio_interaction_cli.events import ChunkDecided, ContextChanged, Event, Failure, Lag, Reply, Summary, TextPiece
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.inputs import MemoryInput
from audio_interaction_cli.live import Interruption, LiveConversation
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.output import Output
from audio_interaction_cli.playback import played
from audio_interaction_cli.recording import Recording
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.settings import Settings
from audio_interaction_cli.sinks import MemorySink
from tests.conftest import GOLDEN, Ai, golden_cases

CASE: dict[str, Any] = next(case.values[0] for case in golden_cases() if case.id == "live-one-file")
BARK = GOLDEN / "audio" / "sample02_02.wav"
GREEDY = SessionOptions(sampling=Sampling(temperature=0))


class Told(Output):
    """An output that keeps the events and shows nothing else."""

    def __init__(self) -> None:
        super().__init__(Settings(quiet=True))
        self.memory = MemorySink()
        self._sinks.append(self.memory)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.memory.events if isinstance(event, kind)]


class SlowConversation(Conversation):
    """A model that takes so many seconds for each of its first chunks."""

    delays: tuple[int, float] = (0, 0.0)

    def tell(self, events: Iterator[Event]) -> None:  # type: ignore[override]
        super().tell(self._delayed(events))

    def _delayed(self, events: Iterator[Event]) -> Iterator[Event]:
        chunks, delay_s = self.delays
        for event in events:
            if isinstance(event, ChunkDecided) and self.session.tally.chunks <= chunks:
                time.sleep(delay_s)
            yield event


def converse(
    engine: Engine,
    items: Iterator[Item],
    *,
    lossy: bool = False,
    keys: Callable[[Told], str] = lambda _told: "",
    delays: tuple[int, float] = (0, 0.0),
    interruption: Interruption | None = None,
    **capturing: Any,
) -> Told:
    told = Told()
    with ExitStack() as stack:
        conversation = stack.enter_context(SlowConversation(engine, GREEDY, told.emit))
        conversation.delays = delays
        if interruption:
            stack.enter_context(interruption)
        capture = stack.enter_context(Capture(items, lossy=lossy, **capturing))
        LiveConversation(conversation, capture, told, keys=lambda: keys(told), interruption=interruption).run()
    return told


def noise(seconds: float, seed: int = 1) -> Samples:
    generator = np.random.default_rng(seed)
    return generator.uniform(-0.5, 0.5, round(seconds * 16_000)).astype(np.float32)


def test_a_file_played_in_equals_the_recorded_live_case(ai: Ai) -> None:
    assert CASE["files"] == [BARK.name]
    done = ai("mic", "--from", BARK, "--speed", "0", "--json", "--events", "all")
    assert done.status == 0
    turns = []
    for line in done.lines:
        if line["type"] == "chunk" and line["decision"] == "silence":
            turns.append([151_605])
        if line["type"] == "reply":
            turns.append([151_644, *line["tokens"], 151_643])
    assert turns == CASE["turns"]
    assert not done.of("lag")
    (summary,) = done.of("summary")
    steps_ms = sorted(line["step_ms"] for line in done.of("chunk"))
    assert steps_ms[0] <= summary["median_step_ms"] <= summary["p95_step_ms"] <= steps_ms[-1]


def test_plain_lines_duration_recording_and_transcript(ai: Ai, tmp_path: Path) -> None:
    record, transcript = tmp_path / "heard.flac", tmp_path / "said.txt"
    arguments = ["--speed", 0, "--duration", 4, "--record", record, "--transcript", transcript]
    done = ai("mic", "--from", BARK, "--from", BARK, *arguments)
    assert done.status == 0
    samples, rate = soundfile.read(record, dtype="float32")
    assert (len(samples), rate) == (64_000, 16_000)
    heard, _ = soundfile.read(BARK, dtype="float32")
    np.testing.assert_allclose(samples[: len(heard)], heard[:64_000], atol=1e-4)
    assert done.out
    assert all(line.startswith(f"{BARK}: ") for line in done.out.splitlines())
    assert len(transcript.read_text().splitlines()) == len(done.out.splitlines())


def test_what_cannot_be_read_is_told_and_the_rest_is_heard(ai: Ai, tmp_path: Path) -> None:
    missing = [tmp_path / "none.wav", tmp_path / "nor this.wav"]
    done = ai("mic", "--from", missing[0], "--from", BARK, "--from", missing[1], "--speed", 0, "--json")
    assert done.status == ExitCode.FAILED
    for error, path in zip(done.of("error"), missing, strict=True):
        assert (error["message"], error["file"]) == (f"{path}: no such file", str(path))
    assert [line["file"] for line in done.of("round")] == [str(BARK)]
    assert done.of("summary")[0]["chunks"] == len(CASE["turns"])


def test_a_slow_model_lags_loses_only_beyond_thirty_seconds_and_recovers(engine: Engine) -> None:
    speed, seconds = 100.0, 60.0
    source = MemoryInput("noise", np.concatenate([noise(1), np.zeros(round(seconds * 16_000) - 16_000, np.float32)]))
    told = converse(engine, played([source], 0.0, speed), lossy=True, delays=(4, 0.12))
    lags = told.of(Lag)
    lost_s = sum(lag.dropped_s for lag in lags)
    (summary,) = told.of(Summary)
    assert lags[0].behind_s >= 2.0
    assert lost_s > 0
    assert max(lag.behind_s for lag in lags) <= LONGEST_S + 3.6  # and what is being worked on
    assert lags[-1].behind_s < 0.8
    assert summary.audio_s == pytest.approx(seconds - lost_s, abs=0.41)


def test_a_delay_of_less_than_thirty_seconds_loses_nothing(engine: Engine) -> None:
    told = converse(engine, played([MemoryInput("noise", noise(20))], 0.0, 100.0), lossy=True, delays=(2, 0.3))
    assert told.of(Lag)
    assert sum(lag.dropped_s for lag in told.of(Lag)) == 0
    assert told.of(Summary)[0].audio_s == pytest.approx(20.0)


def endless(block: Samples) -> Iterator[Item]:
    yield Begin(None)
    while True:
        time.sleep(0.002)
        yield block


def test_keys(engine: Engine) -> None:
    def keys(told: Told) -> str:
        chunks = len(told.of(ChunkDecided))
        if chunks > 12:
            return "q"
        return "R" if chunks > 5 and not told.of(ContextChanged) else "x"

    told = converse(engine, endless(noise(0.1)), keys=keys)
    (reset,) = told.of(ContextChanged)
    assert reset.action == "reset"
    assert told.of(Summary)[0].chunks >= 13


def test_a_reply_can_be_ended(engine: Engine) -> None:
    whole = converse(engine, played([MemoryInput("noise", noise(8))], 0.0, 0.0)).of(Reply)
    longest = max(whole, key=lambda reply: len(reply.tokens))
    assert len(longest.tokens) > 3

    def keys(told: Told) -> str:
        now = [piece for piece in told.of(TextPiece) if piece.reply == longest.reply]
        return "s" if now and not [reply for reply in told.of(Reply) if reply.reply == longest.reply] else ""

    cut = converse(engine, played([MemoryInput("noise", noise(8))], 0.0, 0.0), keys=keys).of(Reply)
    assert cut[longest.reply - 1].truncated
    assert len(cut[longest.reply - 1].tokens) < len(longest.tokens)
    assert longest.text.startswith(cut[longest.reply - 1].text)
    assert not cut[-1].truncated or len(cut) == longest.reply  # it goes on as before


def test_muted_means_that_nothing_is_heard_or_recorded(engine: Engine, tmp_path: Path) -> None:
    def keys(told: Told) -> str:
        levels = [chunk.level_db for chunk in told.of(ChunkDecided)]
        if levels[-5:] == [-120] * 5:
            return "q"
        return typed.pop() if len(levels) >= 3 and typed else ""

    typed = ["m"]
    recording = Recording(tmp_path / "heard.wav")
    told = converse(engine, endless(noise(0.1)), keys=keys, recording=recording)
    levels = [chunk.level_db for chunk in told.of(ChunkDecided)]
    samples, _ = soundfile.read(tmp_path / "heard.wav")
    loud = np.flatnonzero(samples)
    assert levels[0] > -20
    assert levels[-1] == -120
    assert not samples[loud[-1] + 1 :].any()
    assert len(samples) - loud[-1] > 16_000


def test_what_was_not_heard_is_told(engine: Engine) -> None:
    def items() -> Iterator[Item]:
        yield Begin(None)
        yield noise(2)
        yield Gap(3_600.0)
        yield noise(2)

    told = converse(engine, items(), lossy=True)
    assert sum(lag.dropped_s for lag in told.of(Lag)) == 3_600
    assert told.of(Summary)[0].audio_s == pytest.approx(4)
    assert told.status == ExitCode.OK


def test_a_device_that_fails_ends_it_with_what_was_said(engine: Engine) -> None:
    def items() -> Iterator[Item]:
        yield Begin(None)
        yield noise(2)
        yield Note("odd")
        raise AudioDeviceError("the microphone was lost", "plug it in")

    told = converse(engine, items())
    assert told.status == ExitCode.NO_AUDIO_DEVICE
    kinds = [type(event) for event in told.memory.events]
    assert kinds[-2:] == [Failure, Summary]
    assert told.of(Summary)[0].chunks == 5


def test_a_fault_while_capturing_is_told(engine: Engine) -> None:
    def items() -> Iterator[Item]:
        yield noise(1)
        raise ZeroDivisionError

    (failure,) = converse(engine, items()).of(Failure)
    assert "ZeroDivisionError" in failure.message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_it_after_the_step(engine: Engine, number: int) -> None:
    def keys(told: Told) -> str:
        if len(told.of(ChunkDecided)) == 5:
            signal.raise_signal(number)
        return ""

    before, told = signal.getsignal(number), None
    with pytest.raises(KeyboardInterrupt):
        told = converse(engine, endless(noise(0.1)), keys=keys, interruption=Interruption())
    assert told is None
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_it_at_once() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        interruption.asked = False  # or its end would be one as well


def test_the_hour_costs_no_more_at_its_end(engine: Engine) -> None:
    """Positions stay within the window, and nothing piles up."""
    told = converse(engine, played([MemoryInput("noise", np.tile(noise(4) * 0.01, 30))], 0.0, 0.0))
    assert max(chunk.positions for chunk in told.of(ChunkDecided)) <= engine.lm.config.block_size
    assert told.of(Summary)[0].audio_s == pytest.approx(120.0)

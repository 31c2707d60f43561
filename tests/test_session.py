"""A conversation as a state machine: what is heard, said, counted, cut and forgotten."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_interaction_cli import checkpoint
from audio_interaction_cli.conversation import hear_file, hear_live
from audio_interaction_cli.decoding import Decisions, Decoder
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import CheckpointError, UsageError, WindowFullError
from audio_interaction_cli.events import ChunkDecided, ContextChanged, Event, Reply, TextPiece
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.inputs import AudioInput, MemoryInput
from audio_interaction_cli.mel import FileMel
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.protocol import CHUNK_POSITIONS, CHUNK_SAMPLES, PUBLISHED_TOKEN_IDS
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.session import Session, Tally
from tests.conftest import GOLDEN

IDS = PUBLISHED_TOKEN_IDS
GREEDY = Sampling(temperature=0)
LoadEngine = Callable[..., Engine]


def sound(chunks: float, seed: int = 0) -> Samples:
    """Noise that swells and fades, so that decisions differ from chunk to chunk."""
    samples = np.random.default_rng(seed).standard_normal(round(chunks * CHUNK_SAMPLES))
    swell = np.abs(np.sin(np.arange(len(samples)) / 9_000 + seed)) ** 3
    return (samples * swell * 0.3).astype(np.float32)


def heard(session: Session, *blocks: Samples) -> list[Event]:
    """All events of one round of these blocks."""
    events: list[Event] = [session.begin_round("a.wav")]
    for block in blocks:
        events += session.feed(block)
    events += session.end_input()
    return [*events, *session.close()]


def without_times(events: list[Event]) -> list[Event]:
    """The events with what a clock measured, and what rounding may change, left out."""
    timeless = []
    for event in events:
        measured = {"step_ms", "first_text_ms", "total_ms"} & {field.name for field in dataclasses.fields(event)}
        zeros: dict[str, Any] = dict.fromkeys(measured, 0.0)
        if isinstance(event, ChunkDecided):
            zeros["p_speak"] = round(event.p_speak, 3)
        timeless.append(dataclasses.replace(event, **zeros))
    return timeless


def replies(events: list[Event]) -> list[Reply]:
    return [event for event in events if isinstance(event, Reply)]


def contexts(events: list[Event]) -> list[ContextChanged]:
    return [event for event in events if isinstance(event, ContextChanged)]


def test_it_speaks_and_stays_silent(engine: Engine) -> None:
    session = Session(engine, SessionOptions(sampling=GREEDY))
    events = heard(session, sound(12.5))
    chunks = [event for event in events if isinstance(event, ChunkDecided)]
    assert {chunk.decision for chunk in chunks} == {"silence", "speak"}
    assert [chunk.chunk for chunk in chunks] == list(range(1, 14))
    assert [chunk.t for chunk in chunks] == pytest.approx([0.4 * n for n in range(1, 14)])
    assert all((chunk.p_speak > 0.5) == (chunk.decision == "speak") for chunk in chunks)
    spoken = [chunk.t for chunk in chunks if chunk.decision == "speak"]
    assert [reply.start for reply in replies(events)] == spoken
    assert session.tally == Tally(rounds=1, chunks=13, silent=13 - len(spoken), replies=len(spoken))
    assert session.t == pytest.approx(5.2)


def test_what_was_prepared_hears_the_same(engine: Engine) -> None:
    plain, prepared = (Session(engine, SessionOptions(sampling=GREEDY)) for _ in range(2))
    prepared.prepare()
    assert prepared.decoder.positions > plain.decoder.positions == 0
    assert prepared.decoder.fitting_chunks == plain.decoder.fitting_chunks
    for seed in range(2):
        expected = heard(plain, sound(20, seed))
        assert without_times(heard(prepared, sound(20, seed))) == without_times(expected)
        assert replies(expected)
        prepared.prepare()  # there is nothing to prepare any more
        assert prepared.reset() == plain.reset()


def test_pieces_joined_are_the_reply(engine: Engine) -> None:
    events = heard(Session(engine, SessionOptions(sampling=GREEDY)), sound(30))
    assert replies(events)
    for reply in replies(events):
        pieces = [event for event in events if isinstance(event, TextPiece) and event.reply == reply.reply]
        assert "".join(piece.text for piece in pieces) == reply.text
        assert {piece.emotion for piece in pieces} == {reply.emotion} != {None}
        assert IDS.emotions[reply.tokens[0]] is reply.emotion
        assert reply.text == engine.tokenizer.decode(reply.tokens[1:])
        step = next(event for event in events if isinstance(event, ChunkDecided) and event.t == reply.start)
        assert 0 < step.step_ms < (reply.first_text_ms or 0) <= reply.total_ms


@given(cuts=st.lists(st.integers(0, 10 * CHUNK_SAMPLES), max_size=10), lookahead=st.sampled_from([1, 2, 3, 8]))
@settings(max_examples=15, deadline=None)
def test_chunking_and_lookahead_never_matter(engine: Engine, cuts: list[int], lookahead: int) -> None:
    samples = sound(10, seed=1)
    whole = heard(Session(engine, SessionOptions(lookahead_chunks=8, max_reply_tokens=6)), samples)
    blocks = [samples[a:b] for a, b in pairwise([0, *sorted(cuts), len(samples)])]
    cut = heard(Session(engine, SessionOptions(lookahead_chunks=lookahead, max_reply_tokens=6)), *blocks)
    assert without_times(cut) == without_times(whole)


def test_sample_by_sample(engine: Engine) -> None:
    samples = sound(2.2, seed=2)
    whole = heard(Session(engine), samples)
    single = heard(Session(engine), *samples.reshape(-1, 1))
    assert without_times(single) == without_times(whole)


@pytest.mark.parametrize("live", [True, False])
def test_speculative_equals_sequential_when_sampling(engine: Engine, live: bool) -> None:
    results = []
    for lookahead in (1, 8):
        sampling = Sampling(temperature=2.0, top_k=20, seed=5)
        options = SessionOptions(sampling=sampling, lookahead_chunks=lookahead, max_reply_tokens=20)
        session = Session(engine, options)
        if not live:
            session.begin_input(FileMel(0.5))
        results.append(without_times(heard(session, sound(40, seed=3))))
    assert results[0] == results[1]
    assert len(replies(results[0])) > 2


def test_two_interleaved_sessions_equal_two_separate_ones(engine: Engine) -> None:
    options = SessionOptions(sampling=Sampling(temperature=1.5, top_k=10), max_reply_tokens=20)
    sounds = [sound(16, seed=4), sound(16, seed=5)]
    separate = [heard(Session(engine, options), samples) for samples in sounds]

    sessions = [Session(engine, options) for _ in sounds]
    together: list[list[Event]] = [[session.begin_round("a.wav")] for session in sessions]

    def working() -> list[Iterator[Event]]:
        return [session.feed(samples) for session, samples in zip(sessions, sounds, strict=True)]

    running = list(enumerate(working()))
    while running:  # an event of the one, an event of the other
        for index, events in list(running):
            event = next(events, None)
            if event is None:
                running.remove((index, events))
            else:
                together[index].append(event)
    for session, told in zip(sessions, together, strict=True):
        told += [*session.end_input(), *session.close()]
    assert [without_times(told) for told in together] == [without_times(events) for events in separate]


def test_leaving_half_way_loses_nothing(engine: Engine) -> None:
    whole = heard(Session(engine), sound(12, seed=6))
    session = Session(engine)
    session.begin_round("a.wav")
    kept: list[Event] = []
    work = session.feed(sound(12, seed=6))
    while True:  # take one event only, then drop the iterator and begin another
        event = next(work, None)
        if event is None:
            break
        kept.append(event)
        if isinstance(event, Reply | TextPiece):
            work = session.feed(np.zeros(0, np.float32))
    assert replies(without_times(kept)) == replies(without_times(whole))


@pytest.mark.parametrize("mel", [None, 0.5])
def test_what_was_fed_and_not_worked_on_is_heard_at_the_end(engine: Engine, mel: float | None) -> None:
    session = Session(engine)
    session.begin_input(None if mel is None else FileMel(mel))
    session.feed(sound(5))
    assert [event.chunk for event in session.end_input() if isinstance(event, ChunkDecided)] == [1, 2, 3, 4, 5]


def test_the_coldest_temperatures_are_greedy(engine: Engine) -> None:
    def tokens(temperature: float) -> list[tuple[int, ...]]:
        options = SessionOptions(sampling=Sampling(temperature=temperature))
        return [reply.tokens for reply in replies(heard(Session(engine, options), sound(20)))]

    assert tokens(1e-300) == tokens(1e-7) == tokens(0)


def test_the_same_seed_gives_the_same_replies(engine: Engine) -> None:
    def tokens(seed: int) -> list[tuple[int, ...]]:
        options = SessionOptions(sampling=Sampling(temperature=2.0, top_k=50, seed=seed))
        return [reply.tokens for reply in replies(heard(Session(engine, options), sound(20)))]

    assert tokens(1) == tokens(1) != tokens(2)


def test_eagerness_moves_the_threshold(engine: Engine) -> None:
    def spoken(eagerness: float) -> int:
        session = Session(engine, SessionOptions(sampling=GREEDY, eagerness=eagerness, max_reply_tokens=2))
        heard(session, sound(15))
        return session.tally.replies

    assert spoken(-50.0) == 0
    assert spoken(50.0) == 15


def test_a_long_reply_is_cut_and_marked(engine: Engine) -> None:
    full = replies(heard(Session(engine, SessionOptions(sampling=GREEDY)), sound(12)))[0]
    assert not full.truncated
    length = len(full.tokens)
    for limit in (1, length - 1, length, length + 1):
        options = SessionOptions(sampling=GREEDY, max_reply_tokens=limit)
        reply = replies(heard(Session(engine, options), sound(12)))[0]
        assert reply.tokens == full.tokens[:limit]
        assert reply.truncated == (limit < length)


def test_closing_gives_the_reply_so_far(engine: Engine) -> None:
    session = Session(engine, SessionOptions(sampling=GREEDY))
    piece = next(event for event in session.feed(sound(12)) if isinstance(event, TextPiece))
    (reply,) = session.close()
    assert isinstance(reply, Reply)
    assert reply.truncated
    assert reply.text == piece.text
    assert list(session.close()) == []


def test_an_illegal_first_choice_never_ends_a_session(load_engine: LoadEngine) -> None:
    engine = load_engine("--seed", "1", "--silence-bias=0")
    options = SessionOptions(sampling=GREEDY, max_reply_tokens=30)
    before = Session(engine, options)
    expected = heard(before, sound(14))
    head = engine.lm.lm_head.weight
    saved = head[[IDS.pad, IDS.audio_begin]].clone()
    try:  # two control tokens that win every step, wherever the model is
        head[IDS.pad] = head[[IDS.keep_silence, IDS.text_begin]].sum(0) * 3
        head[IDS.audio_begin] = head[IDS.text_end] * 4
        after = Session(engine, options)
        events = heard(after, sound(14))
    finally:
        head[[IDS.pad, IDS.audio_begin]] = saved
    assert without_times(events) == without_times(expected)
    steps = after.tally.chunks + sum(len(reply.tokens) + 1 for reply in replies(events))
    assert before.tally.illegal_tops == 0
    assert after.tally.chunks <= after.tally.illegal_tops <= steps


def test_the_window_stops_or_starts_afresh(engine: Engine) -> None:
    window = 46 + 8 * CHUNK_POSITIONS  # the prompt and eight silent chunks
    silent: dict[str, Any] = {"sampling": GREEDY, "eagerness": -50.0, "context_tokens": window}
    stopping = Session(engine, SessionOptions(**silent, on_full="stop"))
    events = heard(stopping, sound(20))
    assert stopping.ended
    assert stopping.tally.chunks == 8
    assert [(e.action, e.dropped_chunks) for e in contexts(events)] == [("stop", 0)]
    assert list(stopping.feed(sound(3))) == []
    assert list(stopping.end_input()) == []

    resetting = Session(engine, SessionOptions(**silent, on_full="reset"))
    events = heard(resetting, sound(20))
    assert resetting.tally.chunks == 20
    assert [(e.action, e.dropped_chunks, e.positions) for e in contexts(events)] == [("reset", 8, 46)] * 2


def test_a_reply_at_the_end_of_the_window_is_cut(engine: Engine) -> None:
    window = 46 + 2 * CHUNK_POSITIONS + 10
    options = SessionOptions(sampling=GREEDY, eagerness=50.0, context_tokens=window, on_full="reset")
    session = Session(engine, options)
    events = heard(session, sound(6))
    assert session.tally.chunks == 6
    assert any(reply.truncated for reply in replies(events))
    assert contexts(events)
    assert session.decoder.positions <= window


def test_after_a_reset_it_is_as_new(engine: Engine) -> None:
    def rest(session: Session) -> list[tuple[int, ...]]:
        session.begin_input(FileMel(0.5))  # features that depend on nothing heard before
        events = [*session.feed(sound(10, seed=8)), *session.end_input()]
        return [reply.tokens for reply in replies(events)]

    used = Session(engine, SessionOptions(sampling=GREEDY))
    heard(used, sound(9, seed=7))
    changed = used.reset()
    assert (changed.action, changed.dropped_chunks, changed.positions) == ("reset", 9, 46)
    assert rest(used) == rest(Session(engine, SessionOptions(sampling=GREEDY))) != []


def test_a_reset_revives_a_session_that_had_ended(engine: Engine) -> None:
    session = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0, context_tokens=160, on_full="stop"))
    with pytest.raises(WindowFullError):
        list(hear_file(session, MemoryInput("long.wav", sound(40, seed=1))))
    session.reset()
    again = list(hear_file(session, MemoryInput("short.wav", sound(3, seed=2))))
    fresh = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0, context_tokens=160))
    expected = list(hear_file(fresh, MemoryInput("short.wav", sound(3, seed=2))))
    assert probabilities(again) == pytest.approx(probabilities(expected), abs=1e-4)
    assert len(probabilities(again)) == 6


def test_a_reset_during_a_reply_cuts_it(engine: Engine) -> None:
    session = Session(engine, SessionOptions(sampling=GREEDY))
    next(event for event in session.feed(sound(12)) if isinstance(event, TextPiece))
    session.reset()
    events = [*session.feed(sound(4)), *session.end_input()]
    assert replies(events)[0].truncated
    assert session.tally.chunks == 16


def test_live_after_a_file_is_live(engine: Engine) -> None:
    mixed = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0))
    list(hear_file(mixed, MemoryInput("file.wav", sound(4))))
    mixed.reset()
    alone = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0))
    p_speak = [
        probabilities(list(hear_live(session, MemoryInput("live.wav", sound(9, seed=3))))) for session in (mixed, alone)
    ]
    assert p_speak[0] == pytest.approx(p_speak[1], abs=1e-4)
    assert len(p_speak[0]) == 12


def test_a_file_left_half_way_leaves_nothing_behind(engine: Engine) -> None:
    session = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0))
    for event in hear_file(session, MemoryInput("left.wav", sound(20.5))):
        if isinstance(event, ChunkDecided):
            break
    quiet = MemoryInput("quiet.wav", np.zeros(2 * CHUNK_SAMPLES, np.float32))
    rest = [event for event in hear_file(session, quiet, 0.0) if isinstance(event, ChunkDecided) and event.round == 2]
    assert [(event.chunk, event.level_db) for event in rest][-2:] == [
        (rest[-2].chunk, -120.0),
        (rest[-1].chunk, -120.0),
    ]
    assert sum(event.level_db == -120.0 for event in rest) == 2


def test_a_file_is_heard_several_chunks_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    listen = Decoder.listen

    def counting(decoder: Decoder, chunks: list[torch.Tensor]) -> Decisions:
        passes.append(len(chunks))
        return listen(decoder, chunks)

    monkeypatch.setattr(Decoder, "listen", counting)
    session = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0))
    with AudioInput(GOLDEN / "audio" / "sample02_02.wav") as source:
        list(hear_file(session, source))
    assert sum(passes) == session.tally.chunks == 31
    assert len(passes) <= 10
    assert passes[:5] == [1, 2, 4, 8, 8]


def probabilities(events: list[Event]) -> list[float]:
    return [event.p_speak for event in events if isinstance(event, ChunkDecided)]


def test_samples_of_another_kind_are_refused(engine: Engine) -> None:
    session = Session(engine)
    for wrong in (np.zeros(5), np.zeros(5, np.int16), np.zeros((5, 2), np.float32)):
        with pytest.raises(UsageError, match="float32"):
            session.feed(wrong)  # type: ignore[arg-type]
    for value in (np.nan, np.inf, 1e30):
        with pytest.raises(UsageError, match="finite"):
            session.feed(np.full(5, value, np.float32))
    buffer = sound(3, seed=9)
    kept = buffer.copy()
    session.feed(buffer)
    buffer[:] = 0  # as a microphone reuses its buffer
    fresh = Session(engine)
    assert without_times(list(session.feed(kept))) == without_times([*fresh.feed(kept), *fresh.feed(kept)])


def test_weights_that_are_not_numbers_are_told(make_checkpoint: Callable[..., Any]) -> None:
    engine = Engine.load(checkpoint.read(make_checkpoint("--seed", "1", "--silence-bias=0"), "copy"), dtype="float32")
    engine.lm.transformer.ln_f.weight.data.fill_(torch.nan)
    for sampling in (GREEDY, Sampling()):
        session = Session(engine, SessionOptions(sampling=sampling))
        with pytest.raises(CheckpointError, match="not finite"):
            list(session.feed(sound(3)))
        assert session.decoder.positions == 0  # nothing is remembered of it


def test_a_window_that_makes_no_sense_is_refused(engine: Engine) -> None:
    for positions, word in ((0, "small"), (50, "small"), (5_000, "more than")):
        with pytest.raises(UsageError, match=word):
            Session(engine, SessionOptions(context_tokens=positions))
    impossible: list[dict[str, Any]] = [
        {"eagerness": float("nan")},
        {"eagerness": 1e39},
        {"max_reply_tokens": 0},
        {"lookahead_chunks": 0},
        {"on_full": "forget"},
        {"system_prompt": "\udcff"},
    ]
    for wrong in impossible:
        with pytest.raises(UsageError):
            SessionOptions(**wrong)


def test_facts_of_the_session(engine: Engine) -> None:
    started = Session(engine, SessionOptions(eagerness=0.5)).started()
    assert (started.device, started.dtype, started.context_tokens) == ("cpu", "float32", 4_096)
    assert started.sampling.eagerness == 0.5


def test_bfloat16_runs_and_mostly_agrees(make_checkpoint: Callable[..., object], engine: Engine) -> None:
    folder = make_checkpoint("--seed", "1", "--silence-bias=0")
    half = Engine.load(checkpoint.read(folder, "half"), device="cpu", dtype="bfloat16")  # type: ignore[arg-type]
    assert half.dtype is half.lm.transformer.wte.weight.dtype is torch.bfloat16
    decisions = []
    for model in (engine, half):
        events = heard(Session(model, SessionOptions(sampling=GREEDY, max_reply_tokens=4)), sound(20))
        decisions.append([event.p_speak for event in events if isinstance(event, ChunkDecided)])
    np.testing.assert_allclose(decisions[0][:4], decisions[1][:4], atol=0.2)
    passes = [SessionOptions(sampling=GREEDY, max_reply_tokens=4, lookahead_chunks=n) for n in (1, 8)]
    single, batched = (probabilities(heard(Session(half, options), sound(8))) for options in passes)
    np.testing.assert_allclose(single[:4], batched[:4], atol=0.05)


def test_a_source_is_not_heard_on_after_the_session_has_ended(engine: Engine) -> None:
    given = 0

    class Counted(MemoryInput):
        def blocks(self) -> Iterator[Samples]:
            nonlocal given
            given = 0
            for block in super().blocks():
                given += 1
                yield block

    session = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0, context_tokens=200, on_full="stop"))
    source = Counted("long.wav", sound(400))
    with pytest.raises(WindowFullError, match=r"^long.wav: 4\.\d s of it were heard"):
        list(hear_file(session, source))
    assert given < 30
    with pytest.raises(WindowFullError, match=r"^next.wav: 0\.0 s"):
        list(hear_file(session, MemoryInput("next.wav", sound(3))))
    assert session.tally.rounds == 1

"""A window that slides: what is forgotten, what stays, and that the session never notices how it was fed."""

import copy
import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_interaction_cli.decoding import Decoder
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.protocol import CHUNK_POSITIONS, CHUNK_SAMPLES
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.session import Session
from audio_interaction_cli.window import Window
from tests.test_session import GREEDY, contexts, heard, replies, sound, without_times

PROMPT = 20
SILENT, SPOKEN = CHUNK_POSITIONS, 30


def filled(capacity: int, spoke: list[bool]) -> tuple[Window, int]:
    """A window with such chunks, and where they end."""
    window, end = Window(capacity, PROMPT), PROMPT
    for speaks in spoke:
        window.add(end, 1, speaks=speaks)
        end += SPOKEN if speaks else SILENT
    return window, end


def kept(capacity: int, story: str, *, speaking: bool = False) -> str:
    """What a full window keeps of a story: `.` a silent chunk, a letter a spoken one."""
    window, end = filled(capacity, [sign != "." for sign in story])
    bounds = {}
    for n, sign in enumerate(story):
        bounds[PROMPT + sum(SILENT if s == "." else SPOKEN for s in story[:n])] = sign
    runs = window.slide(end, speaking=speaking)
    assert runs[0] == range(PROMPT)
    assert len(window) == len(runs) - 1
    return "".join(bounds[run.start] for run in runs[1:])


def test_silence_goes_before_turns_and_the_oldest_first() -> None:
    assert kept(20 + 8 * 13, "........") == "....."  # 31 positions of 124
    assert kept(20 + 11 * 13 + 2 * 30, "...a..b......") == "ab......"  # 56 of 223, so five silent ones
    assert kept(20 + 11 * 13 + 2 * 30 + 5, "...a..b......") == "a.b......"  # five are free: four and 52 of 228


def test_the_newest_quarter_is_left_alone_while_there_are_turns_to_forget() -> None:
    capacity = 20 + 5 * 30 + 4 * 13  # a quarter is 56: the last four chunks lie in it
    assert kept(capacity, "abcde....") == "cde...."
    assert kept(capacity, "ab.cde...") == "cde..."  # one silent chunk is old enough, but does not suffice


def test_a_turn_in_progress_is_never_forgotten() -> None:
    assert kept(20 + 13 + 30, ".a", speaking=True) == "a"
    assert kept(20 + 30, "a", speaking=True) == "a"
    assert kept(20 + 30, "a") == ""


@given(spoke=st.lists(st.booleans(), min_size=1, max_size=40), speaking=st.booleans(), slack=st.integers(0, 12))
@settings(deadline=None)
def test_a_quarter_becomes_free_or_nothing_is_left(spoke: list[bool], speaking: bool, slack: int) -> None:
    speaking = speaking and spoke[-1]
    end = filled(1, spoke)[1]
    capacity = end + slack
    window, _ = filled(capacity, spoke)
    runs = window.slide(end, speaking=speaking)
    assert all(a.stop <= b.start for a, b in pairwise(runs))
    free = capacity - sum(map(len, runs))
    assert free >= max(capacity / 4, CHUNK_POSITIONS) or len(runs) == 1 + speaking
    if speaking:
        assert runs[-1].stop == end
    again = window.slide(capacity - free, speaking=speaking)  # the chunks kept lie side by side now
    assert [len(run) for run in again] in ([len(run) for run in runs], [PROMPT], [PROMPT, len(runs[-1])])
    assert all(a.stop <= b.start for a, b in pairwise(again))


def one_layer(engine: Engine) -> Engine:
    """The engine with the first layer alone, in which keys and values depend on nothing but their own token."""
    lm = copy.deepcopy(engine.lm)
    lm.transformer.h = lm.transformer.h[:1]
    lm.config = dataclasses.replace(lm.config, n_layer=1)
    return dataclasses.replace(engine, lm=lm)


def test_with_one_layer_a_slid_decoder_equals_a_fresh_one(engine: Engine) -> None:
    shallow = one_layer(engine)
    prompt = shallow.token_ids.prompt([11, 12, 13])
    window = len(prompt) + 8 * CHUNK_POSITIONS

    def decoder() -> tuple[Decoder, list[torch.Tensor]]:
        made = Decoder(shallow, prompt, window, GREEDY, -50.0)
        hidden: list[torch.Tensor] = []
        made.observe = hidden.append
        return made, hidden

    frames = torch.randn(10, 10, shallow.lm.config.n_embd, generator=torch.Generator().manual_seed(1))
    (slid, slid_hidden), (fresh, fresh_hidden) = decoder(), decoder()
    slid.listen(list(frames[:8]))
    assert slid.fitting_chunks == 0
    assert slid.slide() == 3  # 28 positions
    assert slid.fitting_chunks == 3
    slid.listen(list(frames[8:]))
    fresh.listen(list(frames[3:]))
    assert slid.positions == fresh.positions
    torch.testing.assert_close(torch.stack(slid_hidden[8:]), torch.stack(fresh_hidden[5:]), atol=1e-4, rtol=1e-4)


def test_a_session_goes_on_for_many_windows_in_constant_memory(engine: Engine) -> None:
    window = 46 + 8 * CHUNK_POSITIONS
    session = Session(engine, SessionOptions(sampling=GREEDY, eagerness=-50.0, context_tokens=window))
    keys = session.decoder._cache.keys
    events = heard(session, sound(80))
    assert session.tally.chunks == 80
    assert session.tally.illegal_tops == 0
    assert not session.ended
    slides = contexts(events)
    assert {(slide.action, slide.dropped_chunks) for slide in slides} == {("slide", 3)}  # a quarter is 38 positions
    assert len(slides) == (80 - 8 + 2) // 3
    assert {slide.positions for slide in slides} == {46 + 5 * CHUNK_POSITIONS - 1}  # the last decision is fed later
    assert session.decoder._cache.keys is keys
    assert len(session.decoder._window) <= 8
    changed = session.reset()
    assert (changed.dropped_chunks, changed.positions) == (80 - 3 * len(slides), 46)


@given(cuts=st.lists(st.integers(0, 20 * CHUNK_SAMPLES), max_size=10), lookahead=st.sampled_from([1, 2, 3, 8]))
@settings(max_examples=5, deadline=None)
def test_chunking_and_lookahead_never_matter_to_a_slide(engine: Engine, cuts: list[int], lookahead: int) -> None:
    samples = sound(20, seed=1)
    options: dict[str, Any] = {"sampling": Sampling(temperature=1.5), "max_reply_tokens": 4, "context_tokens": 130}
    whole = heard(Session(engine, SessionOptions(**options)), samples)
    assert contexts(whole)
    assert replies(whole)
    blocks = [samples[a:b] for a, b in pairwise([0, *sorted(cuts), len(samples)])]
    cut = heard(Session(engine, SessionOptions(**options, lookahead_chunks=lookahead)), *blocks)
    assert without_times(cut) == without_times(whole)


@pytest.fixture
def endless(engine: Engine) -> Iterator[Engine]:
    """A model that begins a reply and does not end it."""
    head, ids = engine.lm.lm_head.weight, engine.token_ids
    saved = head[ids.text_end].clone()
    head[ids.text_end] = 0
    yield engine
    head[ids.text_end] = saved


def test_a_reply_without_room_slides_and_goes_on(endless: Engine) -> None:
    window = 46 + 4 * CHUNK_POSITIONS
    options = SessionOptions(sampling=GREEDY, eagerness=50.0, context_tokens=window, max_reply_tokens=15)
    session = Session(endless, options)
    events = heard(session, sound(6))
    assert [len(reply.tokens) for reply in replies(events)] == [15] * 6
    kinds = [event.type for event in events if event.type != "text"]
    assert any(triple == ("chunk", "context", "reply") for triple in zip(kinds, kinds[1:], kinds[2:], strict=False))
    assert session.decoder.positions <= window


def test_a_reply_as_long_as_the_window_is_cut(endless: Engine) -> None:
    options = SessionOptions(sampling=GREEDY, eagerness=50.0, context_tokens=46 + 4 * CHUNK_POSITIONS)
    session = Session(endless, options)
    events = heard(session, sound(3))
    assert session.tally.chunks == 3
    assert all(reply.truncated for reply in replies(events))
    # Beside its chunk and TEXT_BEGIN, a reply has the window for itself; its last token is never fed.
    assert [len(reply.tokens) for reply in replies(events)] == [3 * CHUNK_POSITIONS + 1] * 3
    assert [event.dropped_chunks for event in contexts(events)] == [1] * 2


@pytest.mark.parametrize("on_full", ["reset", "stop"])
def test_nothing_slides_unasked(engine: Engine, on_full: Any) -> None:
    session = Session(engine, SessionOptions(sampling=GREEDY, context_tokens=150, on_full=on_full))
    assert {event.action for event in contexts(heard(session, sound(30)))} == {on_full}

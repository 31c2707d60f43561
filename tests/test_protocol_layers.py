"""Framing, the turn table, sampling and text: the small rooms below the model."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_interaction_cli.errors import CheckpointError, UsageError
from audio_interaction_cli.framing import Framer
from audio_interaction_cli.protocol import CHUNK_SAMPLES, PUBLISHED_TOKEN_IDS, Emotion
from audio_interaction_cli.sampling import Sampler, Sampling
from audio_interaction_cli.text import Detokenizer, TextTokenizer
from audio_interaction_cli.turns import TABLE, Grammar, Kind, State, diagram
from tests.conftest import GOLDEN

IDS = PUBLISHED_TOKEN_IDS


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(GOLDEN / "tokenizer" / "tokenizer.json")


@pytest.fixture(scope="module")
def grammar(tokenizer: TextTokenizer) -> Grammar:
    return Grammar(IDS, tokenizer.text_ids(), 151_936)


@given(cuts=st.lists(st.integers(0, 30_000), max_size=12), takes=st.integers(1, 3))
def test_framer_neither_loses_nor_doubles_a_sample(cuts: list[int], takes: int) -> None:
    samples = np.arange(30_000, dtype=np.float32)
    framer = Framer()
    chunks = []
    for start, end in pairwise([0, *sorted(cuts), 30_000]):
        framer.push(samples[start:end])
        chunks += list(framer.take(takes))
    framer.pad()
    chunks += list(framer.take(1_000))
    joined = np.concatenate(chunks)
    assert len(joined) == 5 * CHUNK_SAMPLES
    np.testing.assert_array_equal(joined[:30_000], samples)
    assert not joined[30_000:].any()
    assert framer.whole_chunks == 0
    framer.pad()
    assert framer.take(1).shape == (0, CHUNK_SAMPLES)


# Every state and every kind of token: where it leads, None where it is not legal.
EVERY_STEP = {
    (State.LISTENING, Kind.SILENCE): State.LISTENING,
    (State.LISTENING, Kind.BEGIN): State.OPENING,
    (State.LISTENING, Kind.EMOTION): None,
    (State.LISTENING, Kind.TEXT): None,
    (State.LISTENING, Kind.END): None,
    (State.LISTENING, Kind.CONTROL): None,
    (State.OPENING, Kind.SILENCE): None,
    (State.OPENING, Kind.BEGIN): None,
    (State.OPENING, Kind.EMOTION): State.SPEAKING,
    (State.OPENING, Kind.TEXT): State.SPEAKING,
    (State.OPENING, Kind.END): State.LISTENING,
    (State.OPENING, Kind.CONTROL): None,
    (State.SPEAKING, Kind.SILENCE): None,
    (State.SPEAKING, Kind.BEGIN): None,
    (State.SPEAKING, Kind.EMOTION): None,
    (State.SPEAKING, Kind.TEXT): State.SPEAKING,
    (State.SPEAKING, Kind.END): State.LISTENING,
    (State.SPEAKING, Kind.CONTROL): None,
}
EXAMPLE = {
    Kind.SILENCE: IDS.keep_silence,
    Kind.BEGIN: IDS.text_begin,
    Kind.EMOTION: IDS.urgent,
    Kind.TEXT: 100,
    Kind.END: IDS.text_end,
    Kind.CONTROL: IDS.pad,
}


def test_the_table_of_steps_is_complete() -> None:
    assert set(EVERY_STEP) == {(state, kind) for state in State for kind in Kind}


@pytest.mark.parametrize(("state", "kind"), EVERY_STEP)
def test_every_state_and_kind_of_token(state: State, kind: Kind, grammar: Grammar) -> None:
    token, target = EXAMPLE[kind], EVERY_STEP[state, kind]
    assert grammar.kinds[token] is kind
    assert grammar.legal(state)[token] == (target is not None)
    if target is None:
        with pytest.raises(KeyError):
            grammar.next(state, token)
    else:
        assert grammar.next(state, token) is target


def test_control_ids_and_special_tokens_are_never_text(grammar: Grammar) -> None:
    text = {token for token, kind in enumerate(grammar.kinds) if kind is Kind.TEXT}
    assert text == set(range(151_643)) - set(range(151_601, 151_620))
    assert sum(grammar.legal(State.LISTENING)) == 2
    opening = grammar.legal(State.OPENING)
    assert {emotion for token, emotion in IDS.emotions.items() if opening[token]} == set(Emotion)


def test_diagram_has_an_arrow_for_every_entry() -> None:
    assert diagram().count("-->") == len(TABLE) + 1


@given(st.lists(st.one_of(st.integers(0, 151_600), st.integers(0, 255)), max_size=20))
@settings(max_examples=300, deadline=None)
def test_pieces_joined_are_decode_of_all(tokenizer: TextTokenizer, ids: list[int]) -> None:
    detokenizer = Detokenizer(tokenizer)
    pieces = [*(detokenizer.push(token) for token in ids), detokenizer.finish()]
    assert "".join(pieces) == tokenizer.decode(ids)


@given(st.text(max_size=30))
def test_valid_text_never_shows_a_replacement_character(tokenizer: TextTokenizer, text: str) -> None:
    detokenizer = Detokenizer(tokenizer)
    # A token for each byte: the worst a tokenizer could do to a character of several bytes.
    token_of = {tokenizer.bytes_of(token): token for token in range(256)}
    written = text.replace("\ufffd", "").encode()
    pieces = [*(detokenizer.push(token_of[bytes([byte])]) for byte in written), detokenizer.finish()]
    assert "".join(pieces).encode() == written
    assert not any("\ufffd" in piece for piece in pieces)


def test_broken_and_foreign_tokenizers_are_told(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text('{"model": ')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        TextTokenizer(broken)
    foreign = (
        '{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}'
    )
    broken.write_text(foreign)
    with pytest.raises(CheckpointError, match="byte-level"):
        TextTokenizer(broken)


def frequencies(sampling: Sampling, logits: torch.Tensor, draws: int = 4_000) -> list[float]:
    sampler = Sampler(sampling)
    counts = np.bincount([sampler.choose(logits) for _ in range(draws)], minlength=len(logits))
    return list(counts / draws)


def test_sampling_follows_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    expected = (logits / 0.7).softmax(-1).numpy()
    np.testing.assert_allclose(frequencies(Sampling(temperature=0.7, top_k=0), logits), expected, atol=0.03)


def test_greedy_top_k_and_top_p() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert frequencies(Sampling(temperature=0), logits, 20) == [0, 0, 0, 1]
    assert frequencies(Sampling(temperature=1, top_k=2), logits)[:2] == [0, 0]
    # The likeliest has 0.64, the first two 0.88 together.
    assert frequencies(Sampling(temperature=1, top_k=0, top_p=0.5), logits)[3] == 1
    assert frequencies(Sampling(temperature=1, top_k=0, top_p=0.7), logits)[:2] == [0, 0]
    assert min(frequencies(Sampling(temperature=1, top_k=0, top_p=1.0), logits)) > 0


def test_extreme_logits_and_temperatures_still_draw() -> None:
    logits = torch.tensor([-1e30, 5.0, 1e30, 4.0, -torch.inf])
    for temperature in (1e-40, 1e-5, 1e5):
        assert Sampler(Sampling(temperature=temperature)).choose(logits) == 2


def test_the_same_seed_draws_the_same() -> None:
    logits = torch.zeros(50)
    draws = [[sampler.choose(logits) for _ in range(20)] for sampler in
             (Sampler(Sampling(top_k=0, seed=seed)) for seed in (1, 1, 2))]  # fmt: skip
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1},
                                   {"top_p": 0.0}, {"top_p": 1.1}, {"seed": -1}])  # fmt: skip
def test_sampling_without_a_meaning(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Sampling(**wrong)  # type: ignore[arg-type]

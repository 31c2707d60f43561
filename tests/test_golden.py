"""Token for token what the model's reference code gave, recorded in tests/golden."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from audio_interaction_cli.conversation import hear_file, hear_live
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.events import ChunkDecided, Reply
from audio_interaction_cli.hearing import Ear, HeardChunk
from audio_interaction_cli.inputs import AudioInput
from audio_interaction_cli.linear import PackedLinear, linear_layers, prepare_layer
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.protocol import PUBLISHED_TOKEN_IDS as IDS
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.session import Session
from tests.conftest import GOLDEN, golden_cases

GREEDY = Sampling(temperature=0)
LoadEngine = Callable[..., Engine]


def replayed(
    case: dict[str, Any], engine: Engine, lookahead: int
) -> tuple[list[list[int]], list[torch.Tensor], list[str]]:
    """Tokens by turn, logits by step, and reply texts of our own run of a case."""
    session = Session(engine, SessionOptions(sampling=GREEDY, lookahead_chunks=lookahead))
    logits: list[torch.Tensor] = []
    session.decoder.observe = lambda hidden: logits.append(engine.lm.logits(hidden))
    turns: list[list[int]] = []
    texts: list[str] = []
    hear = hear_file if case["mode"] == "file" else hear_live
    with torch.inference_mode():
        for name in case["files"]:
            with AudioInput(str(GOLDEN / "audio" / name)) as source:
                for event in hear(session, source, case["silence_after_each_file_s"]):
                    if isinstance(event, ChunkDecided) and event.decision == "silence":
                        turns.append([IDS.keep_silence])
                    if isinstance(event, Reply):
                        turns.append([IDS.text_begin, *event.tokens, IDS.text_end])
                        texts.append(event.text)
    return turns, logits, texts


def packed(engine: Engine) -> Engine:
    """The engine with the layers that large models have on a CPU."""
    tower, lm = copy.deepcopy((engine.tower, engine.lm))
    for module in (tower, lm):
        for path, _ in list(linear_layers(module)):
            prepare_layer(module, path)
    return dataclasses.replace(engine, tower=tower, lm=lm)


@pytest.mark.parametrize(("lookahead", "form"), [(1, "plain"), (8, "plain"), (8, "packed")])
@pytest.mark.parametrize("case", golden_cases())
def test_every_token_text_and_logit(case: dict[str, Any], lookahead: int, form: str, load_engine: LoadEngine) -> None:
    engine = load_engine(*case["meta"]["make_checkpoint"].split())
    if form == "packed":
        engine = packed(engine)
        assert isinstance(engine.lm.lm_head, PackedLinear)
    turns, logits, texts = replayed(case, engine, lookahead)
    assert turns == case["turns"]
    assert texts == case["reply_texts"]
    assert len(logits) == len(case["top4_logits_per_step"])
    for row, recorded in zip(logits, case["top4_logits_per_step"], strict=True):
        ids, values = zip(*recorded, strict=True)
        np.testing.assert_allclose(row[list(ids)].numpy(), values, atol=1e-3)


@pytest.mark.parametrize("case", golden_cases())
def test_every_encoder_frame(case: dict[str, Any], load_engine: LoadEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine(*case["meta"]["make_checkpoint"].split())
    frames: list[torch.Tensor] = []
    take = Ear.take

    def taking(ear: Ear, limit: int) -> list[HeardChunk]:
        heard = take(ear, limit)
        frames.extend(chunk.frames for chunk in heard)
        return heard

    monkeypatch.setattr(Ear, "take", taking)
    replayed(case, engine, lookahead=8)
    recorded = [probe for file in case["frame_probe_per_chunk"] for probe in file]
    got = [torch.cat([chunk[0, :3], chunk[-1, :3]]).tolist() for chunk in frames]
    np.testing.assert_allclose(got, recorded, atol=1e-3)

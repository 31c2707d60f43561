"""How far the fast number formats are from float32, on the demo checkpoint with its own recordings."""

import functools
from collections.abc import Callable

import pytest
import torch

from audio_interaction_cli import checkpoint
from audio_interaction_cli.conversation import hear_file
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.events import ChunkDecided, Event
from audio_interaction_cli.inputs import AudioInput
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.session import Session

FORMATS = {"float32": ("float32", "none"), "bfloat16": ("bfloat16", "none"), "int8": ("bfloat16", "int8")}
LARGEST_ERROR = {"float32": 0.0, "bfloat16": 0.005, "int8": 0.01}  # of logits, relative, median
LEAST_AGREEMENT = {"float32": 1.0, "bfloat16": 0.98, "int8": 0.96}  # of decisions


@functools.cache
def heard(format_: str, eagerness: float) -> tuple[list[Event], torch.Tensor]:
    """Events and logits [chunks, vocabulary] of all recordings of the demo."""
    dtype, quantize = FORMATS[format_]
    engine = Engine.load(checkpoint.find("demo"), device="cpu", dtype=dtype, quantize=quantize)
    session = Session(engine, SessionOptions(sampling=Sampling(temperature=0), eagerness=eagerness))
    logits: list[torch.Tensor] = []
    session.decoder.observe = lambda hidden: logits.append(engine.lm.logits(hidden))
    events: list[Event] = []
    with torch.inference_mode():
        for file in sorted(checkpoint.samples().glob("*.ogg")):
            with AudioInput(str(file)) as source:
                events += hear_file(session, source)
    return events, torch.stack(logits)


@pytest.mark.parametrize("format_", FORMATS)
def test_logits_and_decisions_are_near_those_of_float32(
    format_: str, record_property: Callable[[str, object], None]
) -> None:
    _, exact = heard("float32", eagerness=-1_000.0)  # silent throughout, so that all hear the same
    _, logits = heard(format_, eagerness=-1_000.0)
    errors = (logits - exact).norm(dim=1) / exact.norm(dim=1)
    record_property("relative error of logits, median and largest", (errors.median().item(), errors.max().item()))
    assert errors.median() <= LARGEST_ERROR[format_]

    expected, got = (
        [event.decision for event in heard(f, 0.0)[0] if isinstance(event, ChunkDecided)] for f in ("float32", format_)
    )
    agreement = sum(a == b for a, b in zip(expected, got, strict=True)) / len(expected)
    record_property("decisions that agree", agreement)
    assert agreement >= LEAST_AGREEMENT[format_]

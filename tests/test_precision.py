"""How far the fast number formats are from float32, on the demo checkpoint and on a random one of the golden cases."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audio_interaction_cli import checkpoint
from audio_interaction_cli.conversation import hear_file
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.events import ChunkDecided
from audio_interaction_cli.inputs import AudioInput
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.session import Session
from tests.conftest import GOLDEN, CheckpointMaker

FORMATS = {"float32": ("float32", "none"), "bfloat16": ("bfloat16", "none"), "int8": ("bfloat16", "int8")}
RECORDINGS = {"demo": checkpoint.samples(), "golden": GOLDEN / "audio"}
LARGEST_ERROR = {  # of logits, relative, median
    "demo": {"float32": 0.0, "bfloat16": 0.005, "int8": 0.01},
    "golden": {"float32": 0.0, "bfloat16": 0.01, "int8": 0.025},
}
LEAST_AGREEMENT = {  # of decisions
    "demo": {"float32": 1.0, "bfloat16": 0.98, "int8": 0.96},
    "golden": {"float32": 1.0, "bfloat16": 0.95, "int8": 0.85},  # random weights: each decision is a near thing
}


@functools.cache
def heard(name: str, folder: Path, format_: str, eagerness: float) -> tuple[list[str], torch.Tensor]:
    """Decisions and logits [chunks, vocabulary] of all recordings that go with a checkpoint."""
    dtype, quantize = FORMATS[format_]
    engine = Engine.load(checkpoint.read(folder, name), device="cpu", dtype=dtype, quantize=quantize)
    options = SessionOptions(sampling=Sampling(temperature=0), eagerness=eagerness, max_reply_tokens=16)
    session = Session(engine, options)
    logits: list[torch.Tensor] = []
    session.decoder.observe = lambda hidden: logits.append(engine.lm.logits(hidden))
    decisions: list[str] = []
    with torch.inference_mode():
        for file in sorted(file for file in RECORDINGS[name].iterdir() if file.suffix in (".ogg", ".mp3", ".wav")):
            with AudioInput(str(file)) as source:
                decisions += [event.decision for event in hear_file(session, source) if isinstance(event, ChunkDecided)]
    return decisions, torch.stack(logits)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", ["demo", pytest.param("golden", marks=pytest.mark.slow)])
def test_logits_and_decisions_are_near_those_of_float32(
    name: str, format_: str, make_checkpoint: CheckpointMaker, record_property: Callable[[str, object], None]
) -> None:
    folder = checkpoint.DEMO_FOLDER if name == "demo" else make_checkpoint("--seed", "1", "--silence-bias=0")
    _, exact = heard(name, folder, "float32", eagerness=-1_000.0)  # silent throughout, so that all hear the same
    _, logits = heard(name, folder, format_, eagerness=-1_000.0)
    errors = (logits - exact).norm(dim=1) / exact.norm(dim=1)
    record_property("relative error of logits, median and largest", (errors.median().item(), errors.max().item()))
    assert errors.median() <= LARGEST_ERROR[name][format_]

    (expected, _), (got, _) = (heard(name, folder, f, 0.0) for f in ("float32", format_))
    agreement = sum(a == b for a, b in zip(expected, got, strict=True)) / len(expected)
    record_property("decisions, share that agrees", (len(got), agreement))
    assert agreement >= LEAST_AGREEMENT[name][format_]

"""Training of the demo model: a few steps on noise."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import train
import vocabulary
from audio_interaction_cli.protocol import CHUNK_COLUMNS, CHUNK_FRAMES, N_MELS
from shards import CHUNKS
from train import FROM_NOTHING, FURTHER, KEPT, Course

SCENES = 4
A_FEW_STEPS = 0.03  # minutes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One shard of scenes without pauses, and one of scenes with an answer each."""
    rng = np.random.default_rng(1)
    vocabulary.build(tmp_path / "vocabulary", seed=1)
    for name in ("dense", "shards"):
        shard = tmp_path / name / "shard-0000.json"
        shard.parent.mkdir()
        mel = rng.normal(-2.0, 1.0, (SCENES, CHUNKS, N_MELS, CHUNK_COLUMNS)).astype(np.float16)
        labels = rng.integers(0, 3, (SCENES, CHUNKS, CHUNK_FRAMES)).astype(np.uint8)
        arrays = {
            "mel": mel, "maxima": mel.max((2, 3)).astype(np.float32), "labels": labels,
            "phrases": np.zeros_like(labels),
        }  # fmt: skip
        for what, array in arrays.items():
            np.save(shard.with_suffix(f".{what}.npy"), array)
        shard.write_text(json.dumps([[(20, ("happy", "Hello!"))]] * SCENES))
    return tmp_path


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SCENES_A_BATCH", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one network, and no setting changed for other tests


def run(folder: Path, course: Course, minutes: float) -> tuple[int, float]:
    """How many steps it has come to, and in how many minutes."""
    train.train(folder, course, minutes, 1, torch.device("cpu"), Console(file=io.StringIO()))
    state = torch.load(folder / course.file, weights_only=True)
    return state["steps"], state["seconds"] / 60


@pytest.mark.slow
def test_training_goes_on_where_it_stopped_and_further_training_keeps_a_share_of_its_start(folder: Path) -> None:
    first, minutes = run(folder, FROM_NOTHING, A_FEW_STEPS)
    assert first > 0
    assert run(folder, FROM_NOTHING, A_FEW_STEPS) == (first, minutes)  # its time is over
    second, minutes = run(folder, FROM_NOTHING, minutes + A_FEW_STEPS)
    assert second > first
    began = train.trained(folder)
    assert run(folder, FURTHER, A_FEW_STEPS)[0] > 0
    further = torch.load(folder / FURTHER.file, weights_only=True)["weights"]
    mean = train.trained(folder)
    assert mean.keys() == began.keys() == further.keys()
    assert any(not torch.equal(further[name], began[name]) for name in began)
    for name, weights in mean.items():
        torch.testing.assert_close(weights, KEPT * began[name] + (1 - KEPT) * further[name])
    with pytest.raises(FileExistsError, match=r"further\.pt began with weights that this would change"):
        run(folder, FROM_NOTHING, minutes + A_FEW_STEPS)
    assert all(torch.equal(weights, mean[name]) for name, weights in train.trained(folder).items())


@pytest.mark.parametrize("course", [FROM_NOTHING, FURTHER])
def test_the_rate_is_held_then_falls_and_never_ends(course: Course) -> None:
    assert course.rate(0.0) == course.rate(course.falls_from) == course.first_rate
    rates = [course.rate(done) for done in np.linspace(course.falls_from, 1.0, 9)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(train.LAST_RATE)

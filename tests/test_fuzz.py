"""Some damaged inputs of every parser, all that ever failed, and inputs made to take everything."""

import json
import struct
import time
from pathlib import Path

import pytest

from audio_interaction_cli import checkpoint
from audio_interaction_cli.errors import CheckpointError
from tests.fuzzing import CORPUS, TARGETS, inputs, tried, warm_up

FAILED_ONCE = [
    pytest.param(file.parent.name, file, id=f"{file.parent.name}-{file.name}") for file in CORPUS.glob("*/*")
]


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_end_in_errors_for_people(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_interaction_cli.settings.settings_file", lambda: tmp_path / "config.toml")
    target = TARGETS[name]()
    warm_up(target, tmp_path)
    for data in inputs(target, 20 if name in ("keys", "lines") else 60, seed=7):
        tried(target, data, tmp_path)


@pytest.mark.parametrize(("name", "file"), FAILED_ONCE)
def test_what_failed_once(name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_interaction_cli.settings.settings_file", lambda: tmp_path / "config.toml")
    target = TARGETS[name]()
    warm_up(target, tmp_path)
    tried(target, file.read_bytes(), tmp_path)


def laughs() -> bytes:
    """A yaml of anchors that stands for 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join([*lines, "n_layer: *a9"]).encode()


def million_shards() -> bytes:
    return json.dumps({"weight_map": {f"t{n}": f"model-{n}.safetensors" for n in range(1_000_000)}}).encode()


BOMBS = {
    checkpoint.LM_CONFIG: laughs,
    checkpoint.LM_INDEX: million_shards,
    "model.safetensors": lambda: struct.pack("<Q", 1 << 60) + b"{}",
    checkpoint.PROTOCOL: lambda: b"[" * 1_000_000,
    checkpoint.TOWER_CONFIGS[0]: lambda: b'{"thinker_config": {"audio_config": {"d_model": 1' + b"0" * 4_000 + b"}}}",
    checkpoint.TOKENIZER: lambda: b'{"model": {"vocab": ' + b'{"a":' * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_soon(name: str, tmp_path: Path) -> None:
    target = TARGETS[f"checkpoint-{Path(name).name}"]()
    warm_up(target, tmp_path)  # which lays the folder out
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(BOMBS[name]())
    began = time.monotonic()
    with pytest.raises(CheckpointError):
        target.parse((tmp_path / name).read_bytes(), tmp_path)
    assert time.monotonic() - began < 60  # of days

"""Shared fixtures: real checkpoints written once a run, and the recorded cases that they answer to."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audio_interaction_cli import checkpoint
from audio_interaction_cli.engine import Engine

GOLDEN = Path(__file__).parent / "golden"

CheckpointMaker = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_settings_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the person at this machine has set is not under test."""
    for name in [name for name in os.environ if name.startswith("AI_CLI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointMaker:
    """Writes a small random checkpoint, once for each set of arguments; tests must not change it."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*arguments: str) -> Path:
        if arguments not in made:
            folder = tmp_path_factory.mktemp("checkpoint")
            script = [sys.executable, str(GOLDEN / "make_checkpoint.py"), str(folder)]
            subprocess.run([*script, "--tokenizer", str(GOLDEN / "tokenizer"), *arguments], check=True)
            made[arguments] = folder
        return made[arguments]

    return make


@pytest.fixture(scope="session")
def load_engine(make_checkpoint: CheckpointMaker) -> Callable[..., Engine]:
    """A float32 engine on a small random checkpoint, loaded once for each set of arguments."""
    loaded: dict[tuple[str, ...], Engine] = {}

    def load(*arguments: str) -> Engine:
        if arguments not in loaded:
            folder = make_checkpoint(*arguments)
            loaded[arguments] = Engine.load(checkpoint.read(folder, "golden"), device="cpu", dtype="float32")
        return loaded[arguments]

    return load


@pytest.fixture(scope="session")
def engine(load_engine: Callable[..., Engine]) -> Engine:
    """An engine that stays silent and replies in turn."""
    return load_engine("--seed", "1", "--silence-bias=0")


def golden_cases() -> list[Any]:
    """The recorded cases, as pytest parameters."""
    files = sorted((GOLDEN / "cases").glob("*.json"))
    return [pytest.param(json.loads(file.read_text("utf-8")), id=file.stem) for file in files]

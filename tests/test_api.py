"""The Python interface, and every Python example of the README as it stands."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import audio_interaction_cli
from audio_interaction_cli import (
    AudioInput,
    Engine,
    Event,
    MemoryInput,
    Sampling,
    Session,
    SessionOptions,
    hear_file,
    run_inference,
)
from audio_interaction_cli.errors import AudioFileError, CheckpointError, UsageError
from audio_interaction_cli.events import Reply
from tests.conftest import GOLDEN, golden_cases

SPEECH = GOLDEN / "audio" / "sample01_01.mp3"
BARK = GOLDEN / "audio" / "sample02_02.wav"
EXPECTED = next(case.values[0] for case in golden_cases() if case.id == "file-three-rounds")["reply_texts"]
GREEDY = SessionOptions(sampling=Sampling(temperature=0))
README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint("--seed", "1", "--silence-bias=0")


def test_published_signature(folder: Path) -> None:
    seen: list[Event] = []
    replies = run_inference(
        checkpoint_dir=folder, audio_paths=[SPEECH, BARK], device="cpu", options=GREEDY, on_event=seen.append
    )
    assert str(replies[0]) == EXPECTED[0]
    assert replies == [event for event in seen if isinstance(event, Reply)]
    assert {reply.file for reply in replies} <= {str(SPEECH), str(BARK)}


def test_asking_for_paths(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines").write_text(f"nowhere.wav\n-\n{SPEECH}\n{BARK}\n{BARK}\n")
    with (tmp_path / "lines").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        replies = run_inference(checkpoint_dir=str(folder), rounds=2, options=GREEDY)
    assert replies[0].text == EXPECTED[0]
    assert max(reply.round for reply in replies) <= 2
    out, err = capsys.readouterr()
    assert out.startswith(f"{SPEECH}: {EXPECTED[0]}\n")
    assert "nowhere.wav: no such file" in err
    assert "standard input is where the paths come from" in err


def test_errors_are_exceptions(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        run_inference(checkpoint_dir=tmp_path, audio_paths=[SPEECH])
    with pytest.raises(UsageError):
        run_inference(checkpoint_dir=folder, audio_paths=[SPEECH], device="abacus")
    with pytest.raises(AudioFileError, match=r"nowhere\.wav") as caught:
        run_inference(checkpoint_dir=folder, audio_paths=[SPEECH, "nowhere.wav"], options=GREEDY)
    assert [str(reply) for reply in caught.value.replies] == EXPECTED  # nothing said is lost
    with pytest.raises(UsageError, match="list"):
        run_inference(checkpoint_dir=folder, audio_paths=str(SPEECH))


def test_samples_in_memory_are_heard_like_a_file(engine: Engine) -> None:
    samples = np.concatenate(list(AudioInput(str(SPEECH)).blocks()))
    texts = [
        [event.text for event in hear_file(Session(engine, GREEDY), source) if isinstance(event, Reply)]
        for source in (AudioInput(str(SPEECH)), MemoryInput("speech", samples))
    ]
    assert texts[0] == texts[1] == EXPECTED


def test_every_public_name_is_there() -> None:
    for name in audio_interaction_cli.__all__:
        assert getattr(audio_interaction_cli, name).__doc__ or name == "Event"
    with pytest.raises(AttributeError, match="nothing"):
        _ = audio_interaction_cli.nothing


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_readme_has_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_readme(example: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to(folder)
    shutil.copy(SPEECH, tmp_path / "a.wav")
    shutil.copy(SPEECH, tmp_path / "b.mp3")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "surprise" in done.stdout

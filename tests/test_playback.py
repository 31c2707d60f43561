import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from audio_interaction_cli.backlog import Begin
from audio_interaction_cli.errors import AudioFileError
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.inputs import AudioInput, MemoryInput
from audio_interaction_cli.playback import played
from tests.conftest import GOLDEN

SOUND = np.linspace(-1, 1, 10_000, dtype=np.float32)


def joined(items: Sequence[object]) -> Samples:
    return np.concatenate([item for item in items if isinstance(item, np.ndarray)])


@pytest.mark.parametrize("speed", [0.0, 1_000.0])
def test_files_and_silences_fill_whole_chunks(speed: float) -> None:
    items = list(played([MemoryInput("a", SOUND), MemoryInput("b", SOUND[:6_400])], 0.5, speed))
    assert [item for item in items if isinstance(item, Begin)] == [Begin("a"), Begin("b")]
    second = next(n for n, item in enumerate(items) if isinstance(item, Begin) and item.name == "b")
    a, b = joined(items[:second]), joined(items[second:])
    assert len(a) == 2 * 6_400 + 2 * 6_400  # 0.5 s of silence take two chunks
    assert len(b) == 6_400 + 2 * 6_400
    assert a[:10_000].tolist() == SOUND.tolist()
    assert not a[10_000:].any()


def test_real_time_is_kept() -> None:
    began = time.monotonic()
    blocks = list(played([MemoryInput("a", SOUND[:6_400])], 0.4, 4.0))
    assert time.monotonic() - began >= 0.8 / 4 - 0.001  # a wait may be longer than asked, never shorter
    assert len(joined(blocks)) == 12_800
    assert max(len(block) for block in blocks if isinstance(block, np.ndarray)) == 640


def test_it_lets_itself_be_ended_while_it_waits() -> None:
    items = played([MemoryInput("a", SOUND)], 0.0, 0.001)
    assert next(items) == Begin("a")
    began = time.monotonic()
    waiting = next(items)
    assert isinstance(waiting, np.ndarray)
    assert len(waiting) == 0
    assert time.monotonic() - began < 5  # not the 40 s until the first block


def test_what_is_wrong_comes_after_what_could_be_heard(tmp_path: Path) -> None:
    whole = (GOLDEN / "audio" / "sample02_02.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.wav").write_text("no sound")
    names = [str(tmp_path / name) for name in ("cut.wav", "text.wav", "none.wav")]
    items = list(played([AudioInput(name) for name in names], 0.0, 0.0))
    errors = [item for item in items if isinstance(item, AudioFileError)]
    assert items[0] == Begin(names[0])
    assert items[-3:] == errors
    assert [name in error.message for name, error in zip(names, errors, strict=True)] == [True] * 3
    assert len(joined(items)) % 6_400 == 0
    assert joined(items).any()

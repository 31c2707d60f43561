"""What people may name is found, and what cannot be heard is told when its turn comes, never before."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_interaction_cli.audio import BLOCK_SAMPLES
from audio_interaction_cli.errors import AudioFileError, UsageError
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.inputs import AudioInput, MemoryInput, Source, expand

GOLDEN = Path(__file__).parent / "golden" / "audio"
MP3 = GOLDEN / "sample01_01.mp3"
WAV = GOLDEN / "sample02_04.wav"


def heard(source: Source) -> Samples:
    return np.concatenate([*source.blocks()])


def problem(source: Source) -> AudioFileError:
    with pytest.raises(AudioFileError) as caught:
        heard(source)
    assert caught.value.message.isprintable()  # so it is one line, and no terminal is led astray
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two sounds, a text, a hidden sound and a folder."""
    for name in ("b.WAV", "a.wav", ".hidden.wav", "notes.txt"):
        (tmp_path / name).write_bytes(WAV.read_bytes())
    (tmp_path / "c.wav.d").mkdir()
    return tmp_path


def test_a_file_is_heard_as_often_as_one_likes_even_by_two_at_once() -> None:
    source = AudioInput(str(MP3))
    once = heard(source)
    for first, second in zip(source.blocks(), source.blocks(), strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(once, heard(source))
    assert len(once) == round(16_000 * 3.34367)
    assert source.name == str(MP3)


@pytest.mark.parametrize("path", [MP3, WAV], ids=lambda path: path.suffix)
def test_standard_input_takes_any_container_and_is_heard_twice(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    with AudioInput("-") as source:
        np.testing.assert_array_equal(heard(source), heard(AudioInput(str(path))))
        np.testing.assert_array_equal(heard(source), heard(AudioInput(str(path))))
    assert "cannot be read" in problem(source).message  # it is closed
    source.close()


def test_a_real_pipe() -> None:
    code = "from audio_interaction_cli.inputs import *; print(sum(map(len, AudioInput('-').blocks())))"
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", code]
    result = subprocess.run(command, input=MP3.read_bytes(), capture_output=True, check=True)
    assert int(result.stdout) == len(heard(AudioInput(str(MP3))))
    assert result.stderr == b""


def test_a_named_pipe_and_a_file_descriptor(tmp_path: Path) -> None:
    named = tmp_path / "pipe.mp3"
    os.mkfifo(named)
    read, write = os.pipe()
    for path, writable in ((named, named), (Path(f"/dev/fd/{read}"), write)):

        def feed(writable: Path | int = writable) -> None:
            with open(writable, "wb") as pipe:
                pipe.write(MP3.read_bytes())

        feeder = threading.Thread(target=feed)
        feeder.start()
        with AudioInput(str(path)) as source:
            np.testing.assert_array_equal(heard(source), heard(source))
            assert len(heard(source)) == len(heard(AudioInput(str(MP3))))
        feeder.join()
    os.close(read)


def test_a_terminal_is_not_audio() -> None:
    controller, terminal = os.openpty()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # who has no terminal yet takes this one, and loses it
    try:
        error = problem(AudioInput(os.ttyname(terminal)))
    finally:
        os.close(controller)
        os.close(terminal)
        signal.signal(signal.SIGHUP, before)
    assert "is a terminal" in error.message
    assert error.hint
    assert "ai-cli run -" in error.hint


def test_standard_input_that_is_closed_or_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert problem(AudioInput("-")).message == "standard input: is closed"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with AudioInput("-") as source:
        assert problem(source).message == "standard input: is empty"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Lay down the powers of an administrator, if these tests have them."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    locked = tmp_path / "locked.wav"
    locked.write_bytes(WAV.read_bytes())
    locked.chmod(0)
    with as_nobody():
        assert "no permission" in problem(AudioInput(str(locked))).message
    assert problem(AudioInput(str(tmp_path / "none.wav"))).message == f"{tmp_path}/none.wav: no such file"
    assert "is a folder" in problem(AudioInput(str(tmp_path))).message
    assert "cannot be read" in problem(AudioInput(str(WAV) + "/more.wav")).message
    assert "cannot be read" in problem(AudioInput("zero\0byte.wav")).message
    assert "''" in problem(AudioInput("")).message
    loop = tmp_path / "loop.wav"
    loop.symlink_to(loop)
    assert "cannot be read" in problem(AudioInput(str(loop))).message


def test_names_of_any_bytes_are_opened_and_errors_stay_on_a_line(tmp_path: Path) -> None:
    for name in ("with space.wav", "--help.wav", "http:x.wav", "100%d.wav", os.fsdecode(b"caf\xe9.wav"), "a\nb.wav"):
        path = tmp_path / name
        path.write_bytes(WAV.read_bytes())
        assert len(heard(AudioInput(str(path))))
        path.write_bytes(b"")
        assert "is empty" in problem(AudioInput(str(path))).message


def test_expand_keeps_order_and_never_raises(folder: Path) -> None:
    sources = expand([str(MP3), str(folder), "none.wav", "-"])
    assert [source.name for source in sources] == [
        str(MP3),
        f"{folder}/a.wav",
        f"{folder}/b.WAV",
        "none.wav",
        "-",
    ]
    assert len(heard(sources[0])) == 53_499
    assert len(heard(sources[1])) == 51_200
    assert problem(sources[3]).message == "none.wav: no such file"


def test_standard_input_is_given_once() -> None:
    first, second, third = expand(["-", "-", "-"])
    assert isinstance(first, AudioInput)
    for source in (second, third):
        assert source.name == "-"
        assert "only once" in problem(source).message


def test_a_dash_is_standard_input_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").mkdir()
    (tmp_path / "-" / "a.wav").touch()
    assert [source.name for source in expand(["-", "./-"])] == ["-", "./-/a.wav"]


def test_a_folder_is_shown_as_it_was_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for typed in (folder.name, folder.name + "/"):
        assert [source.name for source in expand([typed])] == [f"{folder.name}/a.wav", f"{folder.name}/b.WAV"]
    assert expand([]) == []


def test_a_sequence_has_its_own_order_and_may_repeat_and_err(folder: Path) -> None:
    (folder / "sequence.json").write_text(
        json.dumps(["b.WAV", "notes.txt", "b.WAV", "../none.wav", str(MP3)]), "utf-16"
    )
    sources = expand([str(folder)])
    assert [source.name for source in sources] == [
        *(f"{folder}/{name}" for name in ("b.WAV", "notes.txt", "b.WAV", "../none.wav")),
        str(MP3),
    ]
    assert [len(heard(source)) for source in sources[:3]] == [51_200] * 3
    assert "no such file" in problem(sources[3]).message


@pytest.mark.parametrize(
    "content",
    [b"", b"[", b"{}", b'"a.wav"', b"[]", b"[1]", b'["a.wav", null]', b"\xff\xfe\xff", b"[" * 100_000, b"[[]]"],
    ids=lambda content: content[:9],
)
def test_a_broken_sequence_is_an_error_of_its_folder_only(folder: Path, content: bytes) -> None:
    (folder / "sequence.json").write_bytes(content)
    broken, fine = expand([str(folder), str(WAV)])
    assert broken.name == str(folder)
    assert f"{folder}: sequence.json" in problem(broken).message
    assert len(heard(fine)) == 51_200


def test_folders_that_hold_nothing_to_hear(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (error,) = (problem(source) for source in expand([str(tmp_path)]))
    assert "no audio files" in error.message
    assert ".wav" in (error.hint or "")
    (tmp_path / "sequence.json").mkdir()
    (source,) = expand([str(tmp_path)])
    assert "sequence.json in it cannot be read" in problem(source).message
    (tmp_path / "sequence.json").rmdir()
    tmp_path.chmod(0)
    with as_nobody():
        (source,) = expand([str(tmp_path)])
        assert "no permission" in problem(source).message
    tmp_path.chmod(0o700)


@settings(deadline=None)
@given(st.integers(0, 250_000), st.sampled_from([np.float16, np.float32, np.float64]))
def test_samples_in_memory(length: int, kind: type[np.floating]) -> None:
    samples = np.linspace(-1, 1, length).astype(kind)
    source = MemoryInput("memory", samples)
    for _ in range(2):
        blocks = [*source.blocks()]
        assert all(block.dtype == np.float32 and 0 < len(block) <= BLOCK_SAMPLES for block in blocks)
        np.testing.assert_array_equal(np.concatenate([np.zeros(0), *blocks]), samples.astype(np.float32))
    source.close()


@pytest.mark.parametrize(
    "samples",
    [np.zeros((2, 4)), np.zeros(4, np.int16), np.array([0, np.nan]), np.array([np.inf]), np.zeros(2, complex)],
)
def test_arrays_that_are_not_sound(samples: np.ndarray) -> None:
    with pytest.raises(UsageError, match="one row of finite"):
        MemoryInput("memory", samples)

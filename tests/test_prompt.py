"""The prompt of `interactive`: what a line means, and a real terminal with completion and history."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from audio_interaction_cli.prompt import path_of
from tests.conftest import GOLDEN


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("a.wav", "a.wav"),
        ("two words.wav", "two words.wav"),
        ("'two words.wav'", "two words.wav"),
        ('"two words.wav"', "two words.wav"),
        (r"two\ words.wav", "two words.wav"),
        ("it's.wav", "it's.wav"),
        ("not there.wav", "not there.wav"),
        ("'open quote", "'open quote"),
        ("x" * 300, "x" * 300),
        ("~nobody-of-this-name/a.wav", "~nobody-of-this-name/a.wav"),
    ],
)
def test_a_line_means_a_path(here: Path, line: str, path: str) -> None:
    for name in ("a.wav", "two words.wav", "it's.wav"):
        (here / name).touch()
    assert path_of(line) == path


def test_home_is_expanded(here: Path) -> None:
    assert path_of("~/a.wav") == str(here / "a.wav")
    for name in ("two words.wav", "it's.wav"):  # as completion has them
        (here / name).touch()
        assert path_of(f"~/{name}") == str(here / name)


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self._unread = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read until `text` has appeared after what was waited for last."""
        end = time.monotonic() + seconds
        while text not in self._unread:
            if not select.select([self._master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} did not appear, but {self._unread[-2000:]!r}")
            try:
                self._unread += os.read(self._master, 65_536).decode("utf-8", "replace")
            except OSError as error:
                raise AssertionError(f"it ended with {self._unread[-2000:]!r}") from error
        self._unread = self._unread.partition(text)[2]


ASKING = "from audio_interaction_cli.prompt import asked_lines\nfor line in asked_lines(): print('heard', line)"


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_prompts_never_go_to_a_redirected_standard_output(tmp_path: Path, term: str) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": term, "XDG_STATE_HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "1"}
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", ASKING], stdin=slave, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        os.close(slave)
        end = time.monotonic() + 60
        while "file>" not in (tmp_path / "err").read_text() and time.monotonic() < end:
            time.sleep(0.05)
        os.write(master, b"a.wav\r")
        time.sleep(0.5)
        os.write(master, b"\x04")
        assert process.wait(timeout=60) == 0
    os.close(master)
    assert (tmp_path / "out").read_text() == "heard a.wav\n"


@pytest.mark.slow
def test_a_conversation_on_a_terminal(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_checkpoint("--seed", "1", "--silence-bias=0")
    command = [sys.executable, "-m", "audio_interaction_cli", "interactive", "--checkpoint", str(folder)]
    command += ["--temperature", "0"]
    environment = {**os.environ, "TERM": "xterm-256color", "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    environment["PROMPT_TOOLKIT_NO_CPR"] = "1"  # this terminal does not tell where its cursor is
    speech = GOLDEN / "audio" / "sample01_01.mp3"

    with Terminal(command, environment) as terminal:
        terminal.wait_for("file>")
        terminal.type(str(speech)[:-4] + "\t")  # completion
        terminal.wait_for(".mp3")
        terminal.type("\r")
        terminal.wait_for("享受")
        terminal.wait_for("file>")
        terminal.type("nowhere.wav\r")
        terminal.wait_for("no such file")
        terminal.wait_for("file>")
        terminal.type(":help\r")
        terminal.wait_for(":quit")
        terminal.wait_for("file>")
        terminal.type("\x04")  # end of input
        terminal.wait_for("SUMMARY")
        assert terminal.process.wait(timeout=60) == 1  # one path was wrong
    assert str(speech) in (tmp_path / "ai-cli" / "history").read_text("utf-8")

    with Terminal(command, environment) as terminal:
        terminal.wait_for("file>")
        terminal.type("\x1b[A\x1b[A\x1b[A\r")  # up to the first line of the time before
        terminal.wait_for("享受")
        terminal.wait_for("file>")
        terminal.type("\x03")  # Ctrl-C
        assert terminal.process.wait(timeout=60) == 130

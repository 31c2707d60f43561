"""`ai-cli mic` on a terminal of its own: what is drawn, which keys do what, how it ends, and what is left behind."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest
import soundfile

from audio_interaction_cli.checkpoint import samples
from audio_interaction_cli.inputs import AudioInput

HELLO = str(Path(samples()) / "1-hello.ogg")
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
)
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
PATIENCE_S = 60.0


class Terminal:
    """A program on a terminal that we type into, and all that it shows."""

    def __init__(self, arguments: list[str], columns: int = 80, **environ: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(columns)
        self._sent = b""
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environ}
        command = [sys.executable, "-c", OWN_TERMINAL, sys.executable, *arguments]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment
        )
        self._slave = slave
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self._sent += data
        except OSError:  # how Linux tells that the other end is closed
            pass

    @property
    def sent(self) -> str:
        return self._sent.decode("utf-8", "ignore")

    @property
    def text(self) -> str:
        """All that was shown, without colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.sent)

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def shows(self, text: str) -> bool:
        """Wait until that was shown."""
        end = time.monotonic() + PATIENCE_S
        while text not in self.text and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1)
        return text in self.text

    def ends(self) -> int:
        status = self.process.wait(PATIENCE_S)
        time.sleep(0.1)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        self._reader.join(5)
        os.close(self.master)


@contextmanager
def mic(*arguments: str, columns: int = 80, **environ: str) -> Iterator[Terminal]:
    command = ["-m", "audio_interaction_cli", "mic", "--checkpoint", "demo", "--temperature", "0", *arguments]
    with closing(Terminal(command, columns, **environ)) as terminal:
        yield terminal


def assert_restored(terminal: Terminal) -> None:
    assert terminal.echoes
    assert terminal.sent.rindex(SHOW_CURSOR) > terminal.sent.rindex(HIDE_CURSOR)


def test_a_conversation(tmp_path: Path) -> None:
    with mic("--from", HELLO, "--record", str(tmp_path / "heard.wav")) as terminal:
        assert terminal.shows("LISTENING")
        assert not terminal.echoes
        assert terminal.shows("Hello! How can I help?")
        assert "happy" in terminal.text
        assert "● REC" in terminal.text
        assert "m mute  r reset  s stop reply  q quit" in terminal.text
        terminal.type("m")
        assert terminal.shows("MUTED")
        terminal.resize(44)
        assert terminal.shows("│ m r s q ")
        terminal.type("r")
        assert terminal.shows("the context was cleared")
        terminal.type("q")
        assert terminal.ends() == 0
        assert "SUMMARY" in terminal.text
        assert_restored(terminal)


def test_keys_are_read_again_after_a_stop() -> None:
    code = (
        "import os, signal, time\nfrom audio_interaction_cli.keys import pressed_keys\n"
        "with pressed_keys() as keys:\n    print('ready', flush=True)\n    got = ''\n"
        "    while not got:\n        got += keys()\n        time.sleep(0.01)\n    print('got', got, flush=True)\n"
    )
    with closing(Terminal(["-c", code])) as terminal:
        assert terminal.shows("ready")
        terminal.process.send_signal(signal.SIGSTOP)
        ways = termios.tcgetattr(terminal._slave)
        ways[3] |= termios.ICANON | termios.ECHO  # as a shell does
        termios.tcsetattr(terminal._slave, termios.TCSANOW, ways)
        terminal.process.send_signal(signal.SIGCONT)
        while terminal.echoes and terminal.process.poll() is None:
            time.sleep(0.01)
        terminal.type("m")
        assert terminal.shows("got m")
        assert terminal.ends() == 0


@pytest.mark.slow
def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_back() -> None:
    shell = "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"
    with closing(Terminal(["-c", shell], PS1="ready> ")) as terminal:
        assert terminal.shows("ready> ")
        terminal.type(f"{sys.executable} -m audio_interaction_cli mic --checkpoint demo --from {HELLO}\n")
        assert terminal.shows("LISTENING")
        terminal.type("\x1a")
        assert terminal.shows("Stopped")
        assert terminal.sent.rindex(SHOW_CURSOR) > terminal.sent.rindex(HIDE_CURSOR)
        terminal.type("fg\n")
        assert terminal.shows("Hello! How can I help?")
        assert terminal.sent.rindex(HIDE_CURSOR) > terminal.sent.index("Stopped")
        terminal.type("q")
        assert terminal.shows("SUMMARY")
        terminal.type("exit\n")
        assert terminal.ends() == 0
        assert_restored(terminal)


@pytest.mark.slow
def test_without_colour_and_in_ascii() -> None:
    with mic("--from", HELLO, "--speed", "0", NO_COLOR="1", PYTHONIOENCODING="ascii") as terminal:
        assert terminal.ends() == 0
        assert "[happy]" in terminal.text
        assert "+- SUMMARY -" in terminal.text
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.sent)
        terminal.text.encode("ascii")


def test_ctrl_c_ends_it_with_everything_kept(tmp_path: Path) -> None:
    record, transcript = tmp_path / "heard.flac", tmp_path / "said.txt"
    with mic("--from", HELLO, "--record", str(record), "--transcript", str(transcript)) as terminal:
        assert terminal.shows("Hello! How can I help?")
        terminal.type("\x03")
        assert terminal.ends() == 130
        assert "SUMMARY" in terminal.text
        assert_restored(terminal)
    assert transcript.read_text().endswith("[happy] Hello! How can I help?\n")
    assert soundfile.info(record).frames > 16_000


@pytest.mark.slow
def test_ctrl_c_twice_ends_it_at_once() -> None:
    with mic("--from", HELLO) as terminal:
        assert terminal.shows("LISTENING")
        terminal.type("\x03")
        terminal.type("\x03")
        assert terminal.ends() == 130
        assert "Traceback" not in terminal.text
        assert_restored(terminal)


@pytest.mark.slow
def test_a_terminal_that_is_closed_loses_nothing(tmp_path: Path) -> None:
    record, transcript = tmp_path / "heard.wav", tmp_path / "said.srt"
    with mic("--from", HELLO, "--record", str(record), "--transcript", str(transcript)) as terminal:
        assert terminal.shows("Hello! How can I help?")
        os.close(terminal._slave)
        os.close(terminal.master)  # as a window that is closed: the program gets SIGHUP, and cannot write any more
        status = terminal.process.wait(PATIENCE_S)
        terminal.master, terminal._slave = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
    assert status == 130
    assert "Hello! How can I help?" in transcript.read_text()
    with AudioInput(str(record)) as source:
        assert sum(map(len, source.blocks())) > 16_000


@pytest.mark.slow
def test_a_killed_one_keeps_what_was_recorded(tmp_path: Path) -> None:
    with mic("--from", HELLO, "--record", str(tmp_path / "heard.wav")) as terminal:
        assert terminal.shows("Hello! How can I help?")
        terminal.process.send_signal(signal.SIGKILL)
        assert terminal.ends() == -signal.SIGKILL
    with AudioInput(str(tmp_path / "heard.wav")) as source:
        assert sum(map(len, source.blocks())) > 16_000


@pytest.mark.parametrize("ending", ["1 / 0", "raise KeyboardInterrupt", "pass"])
def test_keys_are_read_and_the_terminal_is_restored_however_it_ends(ending: str) -> None:
    code = (
        "import time\nfrom audio_interaction_cli.keys import pressed_keys\n"
        "with pressed_keys() as keys:\n    print('ready', flush=True)\n    got = ''\n"
        "    while len(got) < 2:\n        got += keys()\n        time.sleep(0.01)\n"
        f"    print('got', got, flush=True)\n    {ending}\n"
    )
    with closing(Terminal(["-c", code])) as terminal:
        assert terminal.shows("ready")
        assert not terminal.echoes
        terminal.type("\x1b[A\x1bOQ\x1b[1;2Q\x1bqm\x1b[15~é")  # arrow up, F2, Shift and F2, Alt and q, F5 between them
        assert terminal.shows("got mé")
        terminal.ends()
        assert terminal.echoes

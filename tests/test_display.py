import io
import os
import pty
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Thread

import pytest
from rich.console import Console

from audio_interaction_cli.display import REDRAWS_PER_S, LiveDisplay, is_live, load_progress
from tests.story import CHUNK, FAILURE, ROUND, SUMMARY, UNTIL_SPOKEN, story

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A pseudo terminal and all that was sent to it."""

    def __init__(self, slave: int, master: int) -> None:
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self.console = Console(file=self.file, width=80, height=24, _environ={"TERM": "xterm-256color"})
        self._sent = b""
        self._master = master
        self._thread = Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._sent += data
        except OSError:  # how Linux tells that the other end is closed
            os.close(self._master)

    @property
    def sent(self) -> str:
        return self._sent.decode("utf-8", "ignore")

    def shows(self, text: str) -> bool:
        """Wait until the terminal was sent that text."""
        end = time.monotonic() + 5
        while text not in self.sent and time.monotonic() < end:
            time.sleep(0.01)
        return text in self.sent

    def close(self) -> None:
        self.file.close()
        self._thread.join()


@contextmanager
def terminal() -> Iterator[Terminal]:
    master, slave = pty.openpty()
    with closing(Terminal(slave, master)) as opened:
        yield opened


def test_live_text_streams_and_the_terminal_is_restored() -> None:
    stderr = sys.stderr
    with terminal() as term:
        assert is_live(term.console)
        with closing(LiveDisplay(term.console)) as display:
            for event in story()[:UNTIL_SPOKEN]:
                display.handle(event)
            assert term.shows("世界 🌍")  # while the main thread does nothing for the display
            assert term.sent.rindex(HIDE_CURSOR) > term.sent.rfind(SHOW_CURSOR)
            for event in story()[UNTIL_SPOKEN:]:
                display.handle(event)
        display.close()
    assert term.sent.rindex(SHOW_CURSOR) > term.sent.rindex(HIDE_CURSOR)
    end = term.sent[term.sent.rindex("SUMMARY") :]
    assert "6.8 GB" in end
    assert "LISTENING" not in end
    assert sys.stderr is stderr


def test_the_terminal_is_restored_after_an_interruption() -> None:
    def interrupted() -> None:
        with closing(display):
            display.handle(ROUND)
            raise KeyboardInterrupt

    with terminal() as term:
        display = LiveDisplay(term.console)
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert term.shows(SHOW_CURSOR)
        display.handle(CHUNK)  # a closed display wakes up for more, as `interactive` needs between its rounds
        assert term.shows("heard")
        display.close()
    assert term.sent.count(HIDE_CURSOR) == 2
    assert term.sent.rindex(SHOW_CURSOR) > term.sent.rindex(HIDE_CURSOR)


def test_nothing_to_show_leaves_the_terminal_alone() -> None:
    with terminal() as term, closing(LiveDisplay(term.console)) as display:
        display.handle(FAILURE)
        display.handle(SUMMARY)
    assert HIDE_CURSOR not in term.sent
    assert "no audio in it" in term.sent


def test_redraws_are_few_however_many_the_events() -> None:
    with terminal() as term, closing(LiveDisplay(term.console)) as display:
        start = time.monotonic()
        while time.monotonic() < start + 0.5:
            display.handle(CHUNK)
        time.sleep(0.4)
        count = term.sent.count("LISTENING")
        elapsed_s = time.monotonic() - start
        time.sleep(0.3)
        assert term.sent.count("LISTENING") == count  # nothing new, nothing drawn
    assert 2 <= count <= elapsed_s * REDRAWS_PER_S + 1


def test_loading_shows_a_bar_on_a_terminal() -> None:
    with terminal() as term:
        with load_progress(term.console, "Audio-Interaction") as show:
            show(3_100_000_000, 6_800_000_000)
            assert term.shows("3.1/6.8 GB")
        assert re.search(r"loading Audio-Interaction ━+", re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", term.sent))
    assert term.sent.rindex(SHOW_CURSOR) > term.sent.rindex(HIDE_CURSOR)


@pytest.mark.parametrize("environ", [{}, {"FORCE_COLOR": "1"}])
def test_off_a_terminal_nothing_moves(environ: dict[str, str]) -> None:
    console = Console(file=io.StringIO(), _environ=environ)
    assert not is_live(console)
    with load_progress(console) as show:
        callback: Callable[[int, int], None] = show
        callback(1, 2)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_dumb_terminal_is_not_live() -> None:
    with terminal() as term:
        assert not is_live(Console(file=term.file, _environ={"TERM": "dumb"}))


def test_the_curious_are_told_more() -> None:
    for verbose in (False, True):
        with terminal() as term, closing(LiveDisplay(term.console, verbose)) as display:
            for event in story():
                display.handle(event)
        assert ("first text after" in term.sent) == verbose

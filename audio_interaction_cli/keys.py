"""Single keys of a terminal, without waiting for them. Knows terminals, not what a key means."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# What a terminal sends for keys that are no characters: arrows, F1, Alt with a letter. Its letters were not typed.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)


@contextmanager
def pressed_keys() -> Iterator[Callable[[], str]]:
    """A function that returns the characters typed since it was last asked; the terminal's ways are restored after.

    Ctrl-C stays a signal. Where standard input is no terminal, or one that belongs to another job, there are no keys.
    """
    if not sys.stdin.isatty():
        yield lambda: ""
    elif sys.platform == "win32":
        yield _windows_keys
    else:
        with _unix_keys() as keys:
            yield keys


@contextmanager
def _unix_keys() -> Iterator[Callable[[], str]]:
    import select
    import termios
    import tty

    terminal = sys.stdin.fileno()
    if _in_background(terminal):  # where asking would stop us
        yield lambda: ""
        return
    before = termios.tcgetattr(terminal)

    def keys() -> str:
        with suppress(OSError):  # the terminal has gone
            if select.select([terminal], [], [], 0)[0]:
                return _SEQUENCE.sub("", os.read(terminal, 1024).decode("utf-8", "ignore"))
        return ""

    def listen(*_: object) -> None:
        with suppress(termios.error):  # the terminal has gone, of which a program is told by SIGHUP and SIGCONT
            if not _in_background(terminal):
                tty.setcbreak(terminal, termios.TCSANOW)

    continued = signal.signal(signal.SIGCONT, listen)  # a shell gives the terminal its own ways when we are stopped
    try:
        listen()
        yield keys
    finally:
        signal.signal(signal.SIGCONT, continued)
        with suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _in_background(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:  # a terminal that is not in charge of us, so it does not stop us
        return False


def _windows_keys() -> str:
    import msvcrt

    typed = ""
    while msvcrt.kbhit():  # type: ignore[attr-defined]
        key = msvcrt.getwch()  # type: ignore[attr-defined]
        if key in "\0\xe0":  # what follows is the number of a key that is no character
            msvcrt.getwch()  # type: ignore[attr-defined]
        else:
            typed += key
    return typed

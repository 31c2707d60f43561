"""Asks for one path after another: with completion and history on a terminal, a line each from a pipe."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from audio_interaction_cli.errors import UsageError
from audio_interaction_cli.settings import APP_NAME
from audio_interaction_cli.sinks import write

if TYPE_CHECKING:
    from prompt_toolkit.output import Output

PROMPT = "file> "
HELP = """\
Type the path of an audio file, or of a folder of them. Tab completes, arrow up recalls.
  :reset   forget what was said and heard
  :help    show this
  :quit    leave (as does the end of input)"""


def asked_lines() -> Iterator[str]:
    """Lines as people enter them, until the end of input; empty ones are left out."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a path may be any bytes, here as in an argument
    lines = typed_lines() if sys.stdin.isatty() else sys.stdin
    for line in lines:
        if line.strip():
            yield line.strip()


def typed_lines(output: "Output | None" = None) -> Iterator[str]:
    """Lines as they are typed at a prompt, until the end of input; on another `output` than the terminal if given.

    Nothing of it goes to a standard output that is no terminal.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import PathCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.output import create_output
    from prompt_toolkit.utils import is_dumb_terminal

    if is_dumb_terminal():
        yield from _plainly_typed_lines()
        return
    history: History = InMemoryHistory()
    with suppress(OSError):  # a home that cannot be written to only costs the history
        folder = user_state_path(APP_NAME, ensure_exists=True)
        (folder / "history").touch()
        history = FileHistory(str(folder / "history"))
    prompt: PromptSession[str] = PromptSession(
        history=history,
        completer=PathCompleter(expanduser=True),
        complete_while_typing=False,
        output=output or create_output(stdout=sys.stdout if sys.stdout.isatty() else sys.stderr),
    )
    with suppress(EOFError):
        while True:
            yield prompt.prompt(PROMPT)


def _plainly_typed_lines() -> Iterator[str]:
    """The same where the cursor cannot be moved: without history and completion."""
    write(sys.stderr, PROMPT)
    while line := sys.stdin.readline():
        yield line
        write(sys.stderr, PROMPT)


def path_of(line: str) -> str:
    """The path that a line means: as it stands, or as a shell or a terminal's drag and drop would quote it.

    UsageError for `-`, for standard input may be where the lines come from.
    """
    if line == "-":
        raise UsageError("standard input is where the paths come from", "name a file")
    if os.path.exists(line):  # which, other than Path.exists, is false for what may not be looked at
        return line
    if os.path.exists(home := os.path.expanduser(line)):
        return home
    with suppress(ValueError):  # an open quote
        words = shlex.split(line)
        if len(words) == 1:
            return os.path.expanduser(words[0])
    return line

"""Where events go. Sinks know events and nothing of what makes them.

Here are also the few things that every writing sink needs: flushed writes whose failures are
explained, and texts made safe for one line or for a terminal.
"""

from typing import Protocol, TextIO

from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.events import Event

_CONTROLS = {**dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)]), ord("\t"): " "}


class Sink(Protocol):
    """Takes each event as it happens. `close` is called once, also after an interruption."""

    def handle(self, event: Event) -> None: ...

    def close(self) -> None: ...


class MemorySink:
    """Keeps every event, for tests and for programs that want them afterwards."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def handle(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing to release."""


def one_line(text: str) -> str:
    """The text with every line break made a space."""
    return " ".join(text.splitlines())


def without_controls(text: str) -> str:
    """The text without control characters, so that it cannot send escape sequences to a terminal."""
    return text.translate(_CONTROLS)


def write(stream: TextIO, text: str) -> None:
    """Write and flush, so that a reader sees it at once. What the stream cannot encode is shown escaped.

    A broken pipe is passed on as it is: that the reader has gone is not a failure of ours.
    """
    encoding = stream.encoding or "utf-8"  # None for io.StringIO
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        name = getattr(stream, "name", "the output")
        name = {"<stdout>": "standard output", "<stderr>": "standard error"}.get(name, name)
        hint = "free some space there, or write somewhere else"
        raise AiCliError(f"cannot write to {name}: {error.strerror or error}", hint) from error

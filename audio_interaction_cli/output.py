"""Where a command's events go, and how its errors become lines and an exit status.

Results go to stdout, everything else to stderr. On a terminal a live display shows replies as they are
spoken; the plain lines on stdout are then left out if they would land on the same screen.
"""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from audio_interaction_cli.errors import AiCliError, ExitCode
from audio_interaction_cli.events import Event, Failure
from audio_interaction_cli.jsonl import JsonLines
from audio_interaction_cli.plain import PlainNotes, PlainReplies
from audio_interaction_cli.settings import Settings
from audio_interaction_cli.sinks import Sink, one_line, without_controls, write
from audio_interaction_cli.transcript import Transcript
from audio_interaction_cli.view import Input

if TYPE_CHECKING:
    from rich.console import Console

    from audio_interaction_cli.display import LiveDisplay


class Output:
    """The sinks of one command. Leaving its `with` block reports what went wrong inside and closes them.

    `status` is then the exit status. Only what is a fault of the program passes through.
    """

    def __init__(self, settings: Settings, *, prefix_file: bool = False) -> None:
        self.status = ExitCode.OK
        self._settings = settings
        self._prefix_file = prefix_file
        self._sinks: list[Sink] = []
        self._results: Sink | None = None  # the one that writes to stdout
        self._t = 0.0
        self._terminal = _terminal(settings)
        self._display: LiveDisplay | None = None

    def __enter__(self) -> "Output":
        settings = self._settings
        if settings.json:
            self._results = JsonLines(sys.stdout, settings.events)
        elif not (self._terminal and sys.stdout.isatty()):
            self._results = PlainReplies(sys.stdout, self._prefix_file)
        if self._results:
            self._sinks.append(self._results)
        if self._terminal:
            from audio_interaction_cli.display import LiveDisplay

            self._display = LiveDisplay(self._terminal, settings.verbose)
            self._sinks.append(self._display)
        else:
            self._sinks.append(_Errors(sys.stderr))
            if not settings.quiet:
                self._sinks.append(PlainNotes(sys.stderr, settings.verbose))
        if settings.transcript:
            Transcript.check(settings.transcript)
        return self

    def open_transcript(self) -> None:
        """Begin the transcript that was asked for, now that there will be something to write."""
        if self._settings.transcript:
            transcript = Transcript(self._settings.transcript)
            self._sinks.append(transcript)
            if transcript.kept:
                self.note(f"the transcript that was there is now {transcript.kept}")

    def emit(self, event: Event) -> None:
        """Hand an event to every sink. A sink that fails is reported and left out from then on."""
        self._t = getattr(event, "t", self._t)
        for sink in list(self._sinks):
            try:
                if sink in self._sinks:  # and not left out on the way
                    sink.handle(event)
            except AiCliError as error:
                self._sinks.remove(sink)
                sink.close()
                self.fail(error)
            except BrokenPipeError:
                if sink is self._results:  # its reader has gone, so nothing more is said to anyone
                    self._close()
                    raise
                self._sinks.remove(sink)
                sink.close()

    def fail(self, error: AiCliError) -> None:
        """Report an error; what can go on goes on."""
        self.status = ExitCode.FAILED
        if self._settings.debug:
            traceback.print_exception(error)
        self.emit(Failure(t=self._t, message=error.message, hint=error.hint, file=error.file))

    def pause(self) -> None:
        """Give the terminal back for a while; the next event brings the display again."""
        if self._display:
            self._display.close()

    def reading(self, name: str) -> None:
        """Show that an input is being looked through before it is heard."""
        if self._display:
            self._display.reading(name)

    def hearing(self, live_input: Input) -> None:
        """Show how a live input is this moment; far more often than there are events."""
        if self._display:
            self._display.hearing(live_input)

    def loading(self) -> AbstractContextManager[Callable[[int, int], None]]:
        """A callback (bytes done, bytes in all) that shows the checkpoint being loaded."""
        if not self._terminal:
            return nullcontext(lambda _done, _total: None)
        from audio_interaction_cli.display import load_progress

        return load_progress(self._terminal, self._settings.checkpoint or "checkpoint")

    def note(self, text: str) -> None:
        """Tell people something on stderr, unless they want it quiet."""
        if self._display:
            self._display.note(text)
        elif not self._settings.quiet:
            with suppress(BrokenPipeError):  # nobody reads it
                write(sys.stderr, f"note: {text}\n")

    @property
    def is_live(self) -> bool:
        """Whether there is a live display, and so someone at a terminal."""
        return self._display is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            match error:
                case AiCliError():
                    with suppress(BrokenPipeError):  # the reader has gone; the status still tells
                        self.fail(error)
                    self.status = error.exit_code
                case KeyboardInterrupt():
                    self.status = ExitCode.INTERRUPTED
                case BrokenPipeError():
                    abandon_stdout()
                case _:
                    return error is None
            return True
        finally:
            self._close()

    def _close(self) -> None:
        while self._sinks:
            self._sinks.pop().close()


class _Errors:
    """Failures as lines on stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def handle(self, event: Event) -> None:
        if isinstance(event, Failure):
            write_error(self._stream, event.message, event.hint)

    def close(self) -> None:
        """Nothing to release."""


def write_error(stream: TextIO, message: str, hint: str | None) -> None:
    """The lines that tell of an error."""
    for kind, text in (("error", message), ("hint", hint)):
        if text:
            write(stream, f"{kind}: {without_controls(one_line(text))}\n")


def abandon_stdout() -> None:
    """The reader of stdout has gone: whatever is still buffered goes nowhere, quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminal(settings: Settings) -> "Console | None":
    """Where a live display makes sense: stderr, if it is a terminal that no JSON is printed to."""
    if settings.quiet or not sys.stderr.isatty() or (settings.json and sys.stdout.isatty()):
        return None
    from rich.console import Console

    from audio_interaction_cli.display import is_live

    console = Console(stderr=True)
    return console if is_live(console) else None

"""The live display on a terminal: joins events, the view and Rich's `Live`. Not how things look."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from threading import Event as Flag
from threading import RLock, Thread

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import ControlType

from audio_interaction_cli.drawing import curious, lasting, noted, render, wrapped_rows
from audio_interaction_cli.events import ChunkDecided, Event, RoundStarted, Summary, TextPiece
from audio_interaction_cli.screen import Screen
from audio_interaction_cli.view import Input, View, update

REDRAWS_PER_S = 10


def is_live(console: Console) -> bool:
    """Whether a live display makes sense there. FORCE_COLOR asks for colour in a pipe, not for animation."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


class LiveDisplay:
    """Shows a session as it happens. Replies, failures and notes stay; the region below them does not.

    Redrawing has its own thread, so that text shows while the main thread computes, and happens only where
    the view has changed, so that a silent room costs nothing.
    """

    def __init__(self, console: Console, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._view = View()
        self._drawn: View | None = None
        self._screen: Screen | None = None  # as it was drawn on
        self._live: Live | None = None
        self._stop = Flag()
        self._lock = RLock()
        self._stoppable = ExitStack()

    def handle(self, event: Event) -> None:
        if isinstance(event, Summary):
            self.close()
        elif self._live is None and isinstance(event, RoundStarted | ChunkDecided | TextPiece):
            self._open()
        screen = Screen.of(self._console)
        lines = [lasting(event, screen), curious(event, screen) if self._verbose else None]
        if any(lines):
            self._leave(lines, update(self._view, event))
        else:  # and no lock: a slow terminal must not hold up the session
            self._view = update(self._view, event)

    def reading(self, name: str) -> None:
        """Show that an input is being looked through, which takes a while if it is long, until it is heard."""
        self._view = replace(self._view, reading=name)
        if self._live is None:
            self._open()

    def hearing(self, live_input: Input) -> None:
        """Show how a live input is this moment."""
        if live_input != self._view.input:
            self._view = replace(self._view, input=live_input)

    def note(self, text: str) -> None:
        """Leave a line above the region."""
        self._leave([noted(text, Screen.of(self._console))], self._view)

    def close(self) -> None:
        """Take the region away and give the terminal back. The next event would bring it again."""
        self._stoppable.close()
        self._take_away()

    def _open(self) -> None:
        self._stoppable.enter_context(stoppable(self._take_away, self._draw))
        self._draw()

    def _take_away(self) -> None:
        if self._live is not None:
            self._stop.set()
            with self._terminal():
                live, self._live = self._live, None
                live.stop()

    def _draw(self) -> None:
        self._live = Live(
            console=self._console,
            get_renderable=lambda: render(self._view, Screen.of(self._console)),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # results go where they were sent, never into the display
            vertical_overflow="crop",
        )
        self._stop = Flag()
        self._live.start()
        Thread(target=self._keep_drawing, args=(self._stop,), daemon=True).start()

    def _keep_drawing(self, stop: Flag) -> None:
        while not stop.wait(1 / REDRAWS_PER_S):
            with self._terminal():
                if self._drawn is not self._view and not stop.is_set():
                    self._redraw()

    def _leave(self, lines: Sequence[RenderableType | None], view: View) -> None:
        with self._terminal(), self._console:  # one buffered write for the lines and the region: nothing flickers
            self._view = view
            for line in filter(None, lines):
                self._console.print(line, highlight=False)
            self._redraw()

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """The terminal to oneself. One that has been closed takes nothing any more, which harms nobody."""
        with self._lock, suppress(OSError):
            yield

    def _redraw(self) -> None:
        if self._live is not None:
            screen = Screen.of(self._console)
            if self._drawn and self._screen and screen.width < self._screen.width and reflows():
                self._rub_out(wrapped_rows(self._drawn, self._screen, screen.width))
            self._live.refresh()
            self._screen = screen
        self._drawn = self._view

    def _rub_out(self, rows: int) -> None:
        """Take away the rows by which the region has grown as a narrower terminal wrapped its lines."""
        one = (ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        self._console.control(Control(*one * rows))


def reflows() -> bool:
    """Whether a terminal that becomes narrower wraps what it shows; the old ones cut it."""
    return "XTERM_VERSION" not in os.environ and os.environ.get("TERM") != "linux"


@contextmanager
def stoppable(leave: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    """While entered, Ctrl-Z leaves the terminal before it stops the program; what goes on comes back to it."""
    if not hasattr(signal, "SIGTSTP") or signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN:
        yield
        return

    def stop(*_: object) -> None:
        leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, stop)
        come_back()

    before = signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


@contextmanager
def transfer_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A callback (bytes there, bytes in all) that draws a bar with rate and time left on a terminal."""
    if not is_live(console):
        yield lambda _done_bytes, _total_bytes: None
        return
    columns = (BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, redirect_stdout=False, expand=True)
    with progress, stoppable(progress.stop, progress.start):
        task = progress.add_task("", total=None)
        yield lambda done_bytes, total_bytes: progress.update(task, completed=done_bytes, total=total_bytes)


@contextmanager
def load_progress(console: Console, name: str = "checkpoint") -> Iterator[Callable[[int, int], None]]:
    """A callback (bytes done, bytes in all) that draws a bar on a terminal from its first call on."""
    if not is_live(console):
        yield lambda _done_bytes, _total_bytes: None
        return
    progress = Progress(
        TextColumn("loading {task.description}", style="bold", markup=False),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
        DownloadColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        expand=True,
    )
    screen = Screen.of(console)
    room = max(0, screen.width - 36)  # beside the other words, with a bar of some length
    task = progress.add_task(screen.fit(screen.clean(name), room), total=None)

    def show(done_bytes: int, total_bytes: int) -> None:
        progress.update(task, completed=done_bytes, total=total_bytes)
        progress.start()

    try:
        with stoppable(progress.stop, progress.start):
            yield show
    finally:
        progress.stop()

"""The live conversation: what a microphone brings is heard as it comes, keys are obeyed, delays are told.

One loop in the main thread. Between any two events it may be asked to stop, so a long reply never holds it up;
capturing goes on in its own thread all the while.
"""

import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Self

from audio_interaction_cli.backlog import Begin, Gap, Item, Note
from audio_interaction_cli.capture import Capture
from audio_interaction_cli.conversation import Conversation
from audio_interaction_cli.errors import AiCliError, AudioDeviceError
from audio_interaction_cli.events import Event, Lag
from audio_interaction_cli.output import Output
from audio_interaction_cli.protocol import CHUNK_SAMPLES, SAMPLE_RATE_HZ, seconds
from audio_interaction_cli.quantities import clock
from audio_interaction_cli.session import Session
from audio_interaction_cli.view import Input

AT_ONCE_SAMPLES = 8 * CHUNK_SAMPLES  # one pass of the model; the rest waits where it may be dropped
WAIT_S = 0.05
BEHIND_S = 2.0  # told once it is that much, and when it has doubled
CAUGHT_UP_S = 0.8
DROPS_TOLD_EVERY_S = 5.0

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interruption:
    """While entered, the first Ctrl-C (or order to end) only asks; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self.asked and error is None:
            raise KeyboardInterrupt


class LiveConversation:
    """Joins a capture, a conversation and an output until the input ends or someone ends it."""

    def __init__(
        self,
        conversation: Conversation,
        capture: Capture,
        output: Output,
        *,
        keys: Callable[[], str] = lambda: "",
        interruption: Interruption | None = None,
        name: str = "",
    ) -> None:
        self._conversation = conversation
        self._capture = capture
        self._backlog = capture.backlog
        self._output = output
        self._keys = keys
        self._interruption = interruption or Interruption()
        self._quit = False
        self._name = name
        self._fed_samples = 0
        self._missing_s = 0.0
        self._heard_before_samples = conversation.session.tally.chunks * CHUNK_SAMPLES
        self._delay = _Delay()

    @property
    def _session(self) -> Session:
        return self._conversation.session

    @property
    def behind_s(self) -> float:
        """Whole chunks that have come and are not decided upon, in seconds."""
        heard = self._session.tally.chunks * CHUNK_SAMPLES - self._heard_before_samples
        waiting = self._backlog.waiting_samples + max(0, self._fed_samples - heard)
        return seconds(waiting // CHUNK_SAMPLES)

    @property
    def _stopping(self) -> bool:
        return self._quit or self._interruption.asked or self._session.ended

    def run(self) -> None:
        """Converse until the end; what goes wrong with the input is reported on the way."""
        while not self._stopping:
            item = self._backlog.take(AT_ONCE_SAMPLES, WAIT_S)
            if item is not None:
                self._take(item)
            elif self._backlog.ended:
                self._conversation.tell(self._watched(self._session.end_input()))
                break
            self._attend()
        self._tell_delay(last=True)

    def _take(self, item: Item) -> None:
        match item:
            case Begin(name):
                self._conversation.tell([self._session.begin_round(name)])
            case Note(text):
                self._output.note(text)
            case Gap(missing_s):
                self._missing_s += missing_s
                self._output.note(f"nothing was heard for {clock(missing_s)}, as when a machine sleeps; it goes on")
            case AiCliError():
                self._output.fail(item)
                if isinstance(item, AudioDeviceError):
                    self._output.status = item.exit_code
            case _:
                self._fed_samples += len(item)
                self._conversation.tell(self._watched(self._session.feed(item)))

    def _watched(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events, with an eye on everything else between them; the rest is left where someone ends it."""
        for event in events:
            yield event
            self._attend()
            if self._stopping:
                return

    def _attend(self) -> None:
        for key in self._keys():
            self._obey(key)
        self._tell_delay()
        self._output.hearing(
            Input(
                name=self._name,
                level_db=self._capture.level_db,
                behind_s=self.behind_s,
                muted=self._capture.muted,
                recording=self._capture.recording,
            )
        )

    def _tell_delay(self, *, last: bool = False) -> None:
        if not self._backlog.lossy:  # it waits for us
            return
        dropped_s = self._backlog.dropped_samples / SAMPLE_RATE_HZ + self._missing_s
        if told := self._delay.told(self._session.t, self.behind_s, dropped_s, last):
            self._output.emit(told)

    def _obey(self, key: str) -> None:
        match key.lower():
            case "m":
                self._capture.muted = not self._capture.muted
            case "r":
                self._conversation.reset()
            case "s":
                self._session.end_reply()
            case "q":
                self._quit = True


class _Delay:
    """Decides when a delay is worth a word: as it becomes noticeable, as it doubles, and when it is over."""

    def __init__(self) -> None:
        self._told_behind_s = 0.0
        self._told_dropped_s = 0.0
        self._told_drop_at_s = -DROPS_TOLD_EVERY_S

    def told(self, t: float, behind_s: float, dropped_s: float, last: bool) -> Lag | None:
        """What is to be told now, if anything; `dropped_s` counts from the beginning."""
        lost_s = dropped_s - self._told_dropped_s
        drops = lost_s > 0 and (last or t >= self._told_drop_at_s + DROPS_TOLD_EVERY_S)
        over = behind_s < CAUGHT_UP_S and (self._told_behind_s > 0 or lost_s > 0)
        if not (drops or over or behind_s >= max(BEHIND_S, 2 * self._told_behind_s)):
            return None
        if lost_s > 0:
            self._told_drop_at_s = t
        self._told_dropped_s = dropped_s
        self._told_behind_s = 0.0 if over else max(behind_s, self._told_behind_s)
        return Lag(t=t, behind_s=behind_s, dropped_s=lost_s)

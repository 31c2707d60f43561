"""What was captured and waits to be heard: the one place where the capturing thread and the conversation meet.

Bounded: live audio that has waited too long gives way to newer; what can wait, like a file played without a
clock, makes its reader wait instead.
"""

from collections import deque
from dataclasses import dataclass
from threading import Condition

import numpy as np

from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.framing import Samples


@dataclass(frozen=True, slots=True)
class Begin:
    """What follows is another input: a file's name, or None for a microphone."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Note:
    """Something that people should know about the input, which goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class Gap:
    """So many seconds were not heard between what came before and what follows."""

    seconds: float


Mark = Begin | Note | Gap | AiCliError
"""What comes between samples; an error says what was wrong with the input so far."""
Item = Samples | Mark


class Backlog:
    """Samples and marks in their order, for one writing and one reading thread."""

    def __init__(self, most_samples: int, *, lossy: bool) -> None:
        """Hold about `most_samples`; then `put` drops the oldest if `lossy`, else it waits."""
        self.dropped_samples = 0
        self.lossy = lossy
        self._most_samples = most_samples
        self._items: deque[Item] = deque()
        self._waiting_samples = 0
        self._finished = self._closed = False
        self._changed = Condition()

    @property
    def waiting_samples(self) -> int:
        """Samples not taken yet."""
        return self._waiting_samples

    @property
    def ended(self) -> bool:
        """There is nothing to take and nothing will come."""
        with self._changed:
            return self._finished and not self._items

    def put(self, item: Item) -> None:
        """Add samples, float32 [n], which are not copied, or a mark. After `close` nothing is kept."""
        with self._changed:
            if isinstance(item, np.ndarray):
                if not self.lossy:
                    self._changed.wait_for(lambda: self._waiting_samples < self._most_samples or self._closed)
                self._waiting_samples += len(item)
            self._items.append(item)
            if self._closed:
                self._items.clear()
            elif self.lossy:
                self._drop_oldest()
            self._changed.notify_all()

    def finish(self) -> None:
        """The writer has no more."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """The reader wants no more; a writer that waits goes on."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def take(self, most_samples: int, timeout_s: float) -> Item | None:
        """The next mark, or the next samples, at most so many, joined; None if nothing came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished, timeout_s)
            if not self._items:
                return None
            if not isinstance(self._items[0], np.ndarray):
                return self._items.popleft()
            taken: list[Samples] = []
            room = most_samples
            while room and self._items and isinstance(block := self._items[0], np.ndarray):
                self._items.popleft()
                if len(block) > room:
                    self._items.appendleft(block[room:])
                taken.append(block[:room])
                room -= len(taken[-1])
            self._waiting_samples -= most_samples - room
            self._changed.notify_all()
            return np.concatenate(taken)

    def _drop_oldest(self) -> None:
        marks: list[Item] = []  # these stay
        while self._waiting_samples > self._most_samples:
            item = self._items.popleft()
            if isinstance(item, np.ndarray):
                self._waiting_samples -= len(item)
                self.dropped_samples += len(item)
            else:
                marks.append(item)
        self._items.extendleft(reversed(marks))

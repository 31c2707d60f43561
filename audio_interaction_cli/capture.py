"""Brings audio in while the conversation computes: a thread that mutes, measures, records and queues it.

Knows a microphone or a file only as a stream of samples and marks.
"""

import math
from collections.abc import Iterator
from contextlib import closing
from threading import Thread
from typing import Self

import numpy as np

from audio_interaction_cli.backlog import Backlog, Item
from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.framing import SILENCE_DB, Samples, level_db
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ
from audio_interaction_cli.recording import Recording

LONGEST_S = 30.0
"""How much live audio waits at most."""
CLOSING_S = 2.0


class Capture:
    """Takes the items of `source`, in a thread of its own, into `backlog`. Use it in a `with` statement.

    The source should give something, if only empty samples, several times a second, for that is when it can be
    ended; it is closed in its thread. `duration_s`: end after so much audio. What fails is put into the backlog.
    """

    def __init__(
        self,
        source: Iterator[Item],
        *,
        lossy: bool,
        duration_s: float | None = None,
        recording: Recording | None = None,
    ) -> None:
        self.backlog = Backlog(round(LONGEST_S * SAMPLE_RATE_HZ), lossy=lossy)
        self.muted = False
        """While it is, silence is heard and recorded instead."""
        self.level_db = SILENCE_DB
        """Of the latest block."""
        self._source = source
        self._samples_left = None if duration_s in (None, math.inf) else round(duration_s * SAMPLE_RATE_HZ)
        self._recording = recording
        self._closed = False
        self._thread = Thread(target=self._run, name="capture", daemon=True)

    @property
    def recording(self) -> bool:
        """Whether what is heard is being recorded."""
        return self._recording is not None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.backlog.close()
        self._thread.join(CLOSING_S)  # a device that does not let go must not keep us

    def _run(self) -> None:
        try:
            with closing(self._source) as items:  # type: ignore[type-var]
                for item in items:
                    if self._closed or self._samples_left == 0:
                        break
                    self._bring_in(item)
        except AiCliError as error:
            self.backlog.put(error)
        except Exception as error:
            self.backlog.put(AiCliError(f"unexpected: {error!r}", "this is a fault of ai-cli"))
        finally:
            self.backlog.finish()
            if self._recording:
                self._recording.close()

    def _bring_in(self, item: Item) -> None:
        if not isinstance(item, np.ndarray):
            self.backlog.put(item)
        elif len(item):
            samples = item[: self._samples_left]
            if self._samples_left is not None:
                self._samples_left -= len(samples)
            if self.muted:
                samples = np.zeros_like(samples)
            self.level_db = level_db(samples)
            self._record(samples)
            self.backlog.put(samples)

    def _record(self, samples: Samples) -> None:
        if not self._recording:
            return
        try:
            self._recording.write(samples)
        except AiCliError as error:  # the conversation goes on without it
            self._recording.close()
            self._recording = None
            self.backlog.put(error)

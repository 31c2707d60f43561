"""Replies as a file for people, players or programs: .txt, .srt, .vtt or .jsonl, chosen by the ending.

Each reply is one complete write, so the file is valid at every moment. Times are those of all audio
heard: where a new session starts its clock again, they go on (but in .jsonl, which is the JSON output as it is).
"""

import os
from contextlib import suppress
from pathlib import Path
from unicodedata import east_asian_width

from audio_interaction_cli import written
from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.events import Event, Reply, SessionStarted, Summary
from audio_interaction_cli.jsonl import JsonLines
from audio_interaction_cli.quantities import clock
from audio_interaction_cli.sinks import one_line, without_controls, write

ENDINGS = (".txt", ".srt", ".vtt", ".jsonl")

# A cue has no end of its own, so it stays for as long as reading it takes.
READING_COLUMNS_PER_S = 15  # a wide character (Chinese, emoji) counts as two columns
SHORTEST_CUE_S = 1.5


class Transcript:
    """Writes replies to `path`. `kept` is where a file that was there before has been moved, else None.

    .jsonl has the lines of `--json --events reply`; the other kinds leave replies without text out.
    """

    def __init__(self, path: str | Path) -> None:
        self.check(path)
        self._path = Path(path)
        self._ending = self._path.suffix.lower()
        try:
            self.kept = written.move_away(self._path)
            self._file = self._path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise AiCliError(f"cannot write the transcript {path}: {error.strerror}") from error
        self._json = JsonLines(self._file)
        self._cues = 0
        self._past_s = 0.0  # audio of earlier sessions
        self._heard_s = 0.0  # audio of this session
        try:
            write(self._file, "WEBVTT\n\n" if self._ending == ".vtt" else "")
        except AiCliError:
            self.close()
            raise

    @staticmethod
    def check(path: str | Path) -> None:
        """Raise a UsageError if no transcript can be written there. Changes nothing: ask before the work."""
        written.check(Path(path), "transcript", ENDINGS)

    def handle(self, event: Event) -> None:
        """AiCliError where the disk is full or a pipe is not read; the file then ends with the last whole entry."""
        whole_bytes = os.fstat(self._file.fileno()).st_size
        try:
            self._handle(event)
        except BrokenPipeError as error:
            self.close()
            raise AiCliError(f"cannot write the transcript {self._path}: its reader has gone") from error
        except AiCliError:
            self.close()
            with suppress(OSError):  # not everything that can be written can be cut
                os.truncate(self._path, whole_bytes)
            raise

    def _handle(self, event: Event) -> None:
        if isinstance(event, SessionStarted):
            self._past_s += self._heard_s - event.t
            self._heard_s = event.t
        elif not isinstance(event, Summary):
            self._heard_s = max(self._heard_s, event.t)
        if self._ending == ".jsonl":
            self._json.handle(event)
        elif isinstance(event, Reply) and without_controls(event.text).strip():
            self._cues += 1
            write(self._file, self._entry(event, self._past_s + event.start))

    def close(self) -> None:
        with suppress(OSError):  # every write was flushed, so a failure here has been told before
            self._file.close()

    def _entry(self, reply: Reply, start_s: float) -> str:
        emotion = f"[{reply.emotion}] " if reply.emotion else ""  # players show no other mark of it
        if self._ending == ".txt":
            return f"{clock(start_s)}  {emotion}{without_controls(one_line(reply.text))}\n"
        lines = (without_controls(line).strip() for line in reply.text.splitlines())
        text = emotion + "\n".join(line for line in lines if line)  # an empty line would end the cue
        end_s = start_s + max(SHORTEST_CUE_S, _columns(text) / READING_COLUMNS_PER_S)
        if self._ending == ".vtt":
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return f"{_timecode(start_s, '.')} --> {_timecode(end_s, '.')}\n{text}\n\n"
        text = text.replace("-->", "→")  # SubRip has no escapes
        return f"{self._cues}\n{_timecode(start_s, ',')} --> {_timecode(end_s, ',')}\n{text}\n\n"


def _columns(text: str) -> int:
    return sum(2 if east_asian_width(character) in "FW" else 1 for character in text)


def _timecode(seconds: float, decimal_mark: str) -> str:
    whole_s, ms = divmod(round(seconds * 1000), 1000)
    return f"{whole_s // 3600:02}:{whole_s // 60 % 60:02}:{whole_s % 60:02}{decimal_mark}{ms:03}"

"""Events as JSON Lines, the form that programs read (docs/cli.md). Knows field names, not their meaning."""

import json
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Literal, TextIO

from audio_interaction_cli.events import ChunkDecided, Event, TextPiece
from audio_interaction_cli.sinks import write

_DIGITS = {"t": 3, "start": 3, "_s": 3, "_ms": 1, "level_db": 1, "p_speak": 4, "real_time_factor": 4}

# json escapes only what JSON demands. These would break lines for some readers, steer a terminal, or
# (lone surrogates, which stand for undecodable bytes of a file name) could not be written as UTF-8.
_ESCAPED_CODES = (*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000))
_ESCAPES = {code: f"\\u{code:04x}" for code in _ESCAPED_CODES}


class JsonLines:
    """Writes each event as a line; chunks and pieces of text only where `events` is "all"."""

    def __init__(self, stream: TextIO, events: Literal["reply", "all"] = "reply") -> None:
        self._stream = stream
        self._all = events == "all"
        self._ascii_only = not (stream.encoding or "utf-8").lower().startswith("utf")

    def handle(self, event: Event) -> None:
        if self._all or not isinstance(event, ChunkDecided | TextPiece):
            write(self._stream, to_json(event, ascii_only=self._ascii_only) + "\n")

    def close(self) -> None:
        """Nothing to release: the stream is the caller's."""


def to_json(event: Event, *, ascii_only: bool = False) -> str:
    """The event as one line of JSON, without the line break. A number that is not finite becomes null."""
    line = {"type": event.type} | {field.name: _value(event, field.name) for field in fields(event)}
    return json.dumps(line, ensure_ascii=ascii_only, allow_nan=False).translate(_ESCAPES)


def _value(owner: object, name: str) -> object:
    value = getattr(owner, name)
    if isinstance(value, float):
        digits = _DIGITS.get(name) or _DIGITS.get(name[name.rfind("_") :])
        if not isfinite(value):
            return None
        return value if digits is None else round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    if is_dataclass(value):
        return {field.name: _value(value, field.name) for field in fields(value)}
    return value

"""Files that people ask us to write: whether that is possible is said before the work; what is there is kept."""

import os
from collections.abc import Sequence
from pathlib import Path

from audio_interaction_cli.errors import UsageError


def check(path: Path, what: str, endings: Sequence[str]) -> None:
    """Raise a UsageError if no such file can be written there. Changes nothing."""
    if path.suffix.lower() not in endings:
        raise UsageError(f"unknown kind of {what}: {path}", f"end its name in {', '.join(endings)}")
    if os.path.isdir(path):
        raise UsageError(f"the {what} {path} is a folder", "name a file")
    if not os.path.isdir(path.parent):
        raise UsageError(f"no such folder for the {what}: {path.parent}", "make it first")
    if not os.access(path if os.path.exists(path) and not os.path.isfile(path) else path.parent, os.W_OK):
        raise UsageError(f"no permission to write the {what} {path}")


def move_away(path: Path) -> Path | None:
    """Rename what is there to the first free of NAME.1, NAME.2, …; None if there was nothing to lose."""
    if not path.is_file() or not path.stat().st_size:
        return None
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.{number}")):
        number += 1
    return path.rename(kept)

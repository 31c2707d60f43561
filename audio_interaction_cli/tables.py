"""A checkpoint's files of names and values: read, or explained as damaged. Knows nothing of what they mean."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from audio_interaction_cli.errors import CheckpointError

DOWNLOAD = "ai-cli download"


def damaged(file: Path, why: object) -> CheckpointError:
    """The error for a file of the checkpoint that cannot be read."""
    first_line = (str(why).splitlines() or [""])[0]
    return CheckpointError(
        f"{file.name} in {file.parent} is damaged or cut off: {first_line}", f"fetch it again: {DOWNLOAD}"
    )


def parse_yaml(file: Path) -> object:
    """The content of a file of the checkpoint; CheckpointError if it cannot be read."""
    try:
        return yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise damaged(file, error) from error


def parse_json(file: Path) -> object:
    """The same of a JSON file."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(file, error) from error


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """The value, if it is a table."""
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{what} is not a table of names and values", f"fetch the checkpoint again: {DOWNLOAD}")
    return value

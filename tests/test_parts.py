"""Stores made in parts by several processes, as the demo model's voices and scenes are."""

import json
import time
from pathlib import Path

import pytest

import parts


def note(folder: Path, number: int) -> None:
    """Take a moment, and fail at the first."""
    if number == 0:
        raise ValueError("the first fails")
    time.sleep(0.05)
    parts.finish(folder / f"{number}.json", [number])


def test_all_parts_are_made_and_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    parts.make(note, [(tmp_path, n) for n in (1, 2, 3)], 2, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert {file.name: json.loads(file.read_text()) for file in tmp_path.iterdir()} == {
        "1.json": [1],
        "2.json": [2],
        "3.json": [3],
    }


def test_a_part_that_fails_ends_the_rest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the first fails"):
        parts.make(note, [(tmp_path, n) for n in range(200)], 2, lambda _done, _total: None)
    assert len(list(tmp_path.iterdir())) < 100


def test_an_index_is_whole_or_not_there(tmp_path: Path) -> None:
    index = tmp_path / "part.json"
    with pytest.raises(TypeError):
        parts.finish(index, {1: object()})
    assert not index.exists()

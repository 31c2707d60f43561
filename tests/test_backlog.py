from itertools import pairwise
from threading import Thread

import numpy as np
import pytest

from audio_interaction_cli.backlog import Backlog, Begin, Item, Note
from audio_interaction_cli.errors import AudioFileError
from audio_interaction_cli.framing import Samples


def numbers(first: int, last: int) -> Samples:
    return np.arange(first, last, dtype=np.float32)


def taken(backlog: Backlog, most_samples: int = 1_000) -> list[Item]:
    items = []
    while (item := backlog.take(most_samples, 0.0)) is not None:
        items.append(item)
    return items


def test_what_is_put_is_taken_in_order() -> None:
    backlog = Backlog(100, lossy=True)
    error = AudioFileError("broken")
    for item in (Begin("a"), numbers(0, 10), numbers(10, 15), Note("loud"), numbers(15, 20), error):
        backlog.put(item)
    assert backlog.waiting_samples == 20
    first, samples, note, rest, last = taken(backlog)
    assert (first, note, last) == (Begin("a"), Note("loud"), error)
    assert np.concatenate([samples, rest]).tolist() == numbers(0, 20).tolist()
    assert backlog.waiting_samples == 0


@pytest.mark.parametrize("most_samples", [1, 3, 7, 100])
def test_a_reader_takes_as_much_as_it_likes(most_samples: int) -> None:
    backlog = Backlog(100, lossy=True)
    for start, end in pairwise([0, 4, 5, 5, 30]):
        backlog.put(numbers(start, end))
    pieces = [item for item in taken(backlog, most_samples) if isinstance(item, np.ndarray)]
    assert max(map(len, pieces)) <= most_samples
    assert np.concatenate(pieces).tolist() == numbers(0, 30).tolist()


def test_the_oldest_gives_way_and_marks_stay() -> None:
    backlog = Backlog(20, lossy=True)
    backlog.put(Begin("a"))
    for start in range(0, 50, 10):
        backlog.put(numbers(start, start + 10))
        if start == 10:
            backlog.put(Note("half"))
    assert backlog.dropped_samples == 30
    assert backlog.waiting_samples == 20
    begin, note, samples = taken(backlog)
    assert (begin, note) == (Begin("a"), Note("half"))
    assert samples.tolist() == numbers(30, 50).tolist()  # type: ignore[union-attr]


def test_where_nothing_may_be_lost_the_writer_waits() -> None:
    backlog = Backlog(20, lossy=False)

    def write() -> None:
        for start in range(0, 1_000, 10):
            backlog.put(numbers(start, start + 10))
        backlog.finish()

    writer = Thread(target=write, daemon=True)
    writer.start()
    pieces: list[Samples] = []
    while not backlog.ended:
        assert backlog.waiting_samples < 30
        if isinstance(piece := backlog.take(7, 5.0), np.ndarray):
            pieces.append(piece)
    assert np.concatenate(pieces).tolist() == numbers(0, 1_000).tolist()
    assert backlog.dropped_samples == 0
    writer.join(5)


def test_a_reader_that_has_gone_holds_no_writer_up() -> None:
    backlog = Backlog(10, lossy=False)

    def write() -> None:
        for _ in range(5):
            backlog.put(numbers(0, 10))

    writer = Thread(target=write, daemon=True)
    writer.start()
    backlog.close()
    writer.join(5)
    assert not writer.is_alive()
    assert taken(backlog) == []


def test_nothing_comes_in_time() -> None:
    backlog = Backlog(10, lossy=True)
    assert backlog.take(10, 0.01) is None
    assert not backlog.ended
    backlog.finish()
    assert backlog.take(10, 60.0) is None  # at once
    assert backlog.ended

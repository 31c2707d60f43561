import io
from contextlib import suppress

import pytest

from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.sinks import MemorySink, Sink, one_line, without_controls, write
from tests.story import story


def test_memory_keeps_everything() -> None:
    sink = MemorySink()
    as_sink: Sink = sink
    for event in story():
        as_sink.handle(event)
    as_sink.close()
    assert sink.events == story()


def test_one_line() -> None:
    assert one_line("a\nb\r\nc\u2028d\n") == "a b c d"
    assert one_line("你好 🌍  x") == "你好 🌍  x"


def test_no_escape_sequence_survives() -> None:
    assert without_controls("a\x1b[2Jb\x9b31m\x07\x00\tc你\x7f") == "a[2Jb31m c你"


def test_what_the_stream_cannot_encode_is_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write(stream, "né 你\n")
    assert raw.getvalue() == rb"n\xe9 \u4f60" + b"\n"


def test_each_write_is_flushed() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    write(stream, "你")
    assert raw.getvalue() == "你".encode()


def test_a_full_disk_is_explained() -> None:
    with suppress(OSError), open("/dev/full", "w", encoding="utf-8") as stream:  # closing fails once more
        with pytest.raises(AiCliError) as caught:
            write(stream, "x\n")
        assert caught.value.message == "cannot write to /dev/full: No space left on device"
        assert caught.value.hint


def test_a_closed_pipe_stays_a_closed_pipe() -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write(Closed(), "x")

import io
from dataclasses import replace

from audio_interaction_cli.events import Event, Reply
from audio_interaction_cli.plain import PlainNotes, PlainReplies
from tests.story import HELLO, LAG, REPLY, SESSION, SLIDE, SUMMARY, TRUNCATED, story


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def replies(events: list[Event], stream: io.StringIO | None = None, prefix_file: bool = False) -> str:
    stream = stream or io.StringIO()
    sink = PlainReplies(stream, prefix_file)
    for event in events:
        sink.handle(event)
    sink.close()
    return stream.getvalue()


def notes(events: list[Event], verbose: bool = False) -> list[str]:
    stream = io.StringIO()
    sink = PlainNotes(stream, verbose)
    for event in events:
        sink.handle(event)
    sink.close()
    return stream.getvalue().splitlines()


def said(text: str) -> Reply:
    return replace(REPLY, text=text)


def test_one_line_for_each_reply() -> None:
    assert replies(story()) == f"{HELLO}\nAnd then they\n"
    assert replies(story(), prefix_file=True) == f"a.wav: {HELLO}\na.wav: And then they\n"
    assert replies([replace(REPLY, file=None)], prefix_file=True) == f"{HELLO}\n"


def test_no_line_for_no_text() -> None:
    assert replies([said(""), said(" \n"), said("\x1b\x07")], prefix_file=True) == ""


def test_control_characters_reach_pipes_but_no_terminal() -> None:
    event = said("red: \x1b[31m!\r\nok")
    assert replies([event]) == "red: \x1b[31m! ok\n"
    assert replies([event], Terminal()) == "red: [31m! ok\n"
    assert replies([replace(REPLY, file="\x1bc.wav")], Terminal(), prefix_file=True) == f"c.wav: {HELLO}\n"


def test_notes() -> None:
    assert notes(story()) == [
        "note: 3.2 s behind the audio, 1.5 s of audio left out",
        "note: the reply at 0:08.0 was cut short",
        "2 replies, 1 round, 0:08.8 of audio in 0:02.2, real-time factor 0.26, decides in 31 ms (95 %: 48 ms), "
        "peak memory 6.8 GB",
    ]


def test_other_notes() -> None:
    assert notes([replace(SLIDE, action="reset"), replace(SLIDE, action="stop"), replace(LAG, dropped_s=0.0)]) == [
        "note: at 0:06.0 the context was cleared; the conversation starts afresh",
        "note: at 0:06.0 the context was full; stopped, as asked",
        "note: 3.2 s behind the audio",
    ]
    known = replace(SUMMARY, replies=1, rounds=0, real_time_factor=None, peak_memory_bytes=None)
    unknown = replace(known, median_step_ms=None, p95_step_ms=None)
    assert notes([unknown]) == ["1 reply, 0 rounds, 0:08.8 of audio in 0:02.2"]
    assert notes([replace(SUMMARY, peak_memory_bytes=340_000_000)])[0].endswith("peak memory 340 MB")


def test_verbose_notes() -> None:
    lines = notes([*story(), replace(SESSION, quantize="int8")], verbose=True)
    assert lines[:4] == [
        "session: demo on cpu, float32",
        "round 1: a.wav, 0:04.0",
        "reply 1: first text after 80 ms, all after 450 ms",
        "context: full at 0:06.0, forgot 16.0 s of the oldest",
    ]
    assert lines[-1] == "session: demo on cpu, float32 int8"
    assert notes([replace(TRUNCATED, first_text_ms=None)], verbose=True) == ["note: the reply at 0:08.0 was cut short"]

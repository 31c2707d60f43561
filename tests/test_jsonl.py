import io
import json
import math
from dataclasses import replace

import pytest

from audio_interaction_cli.events import Event
from audio_interaction_cli.jsonl import JsonLines, to_json
from tests.story import CHUNK, FAILURE, HELLO, LAG, REPLY, ROUND, SESSION, SLIDE, SUMMARY, TRUNCATED, story

# docs/cli.md, in its order
CONTRACT = {
    "session": "type t schema version checkpoint device dtype quantize context_tokens sampling",
    "round": "type t round file duration_s chunks",
    "chunk": "type t round chunk decision p_speak level_db positions step_ms",
    "text": "type t reply emotion text",
    "reply": "type t round file reply start emotion text tokens truncated first_text_ms total_ms",
    "context": "type t action dropped_chunks positions",
    "lag": "type t behind_s dropped_s",
    "error": "type t message hint file",
    "summary": "type rounds chunks silent replies audio_s wall_s real_time_factor median_step_ms p95_step_ms "
    "illegal_tops peak_memory_bytes",
}


def test_fields_and_their_order() -> None:
    stream = io.StringIO()
    sink = JsonLines(stream, events="all")
    for event in story():
        sink.handle(event)
    sink.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["type"] for line in lines] == [event.type for event in story()]
    assert {line["type"]: " ".join(line) for line in lines} == CONTRACT


def test_reply_lines_leave_chunks_and_pieces_out() -> None:
    stream = io.StringIO()
    sink = JsonLines(stream)
    for event in story():
        sink.handle(event)
    types = [json.loads(line)["type"] for line in stream.getvalue().splitlines()]
    assert types == ["session", "round", "reply", "context", "lag", "reply", "error", "summary"]


def test_a_reply_to_the_letter() -> None:
    assert to_json(REPLY) == (
        '{"type": "reply", "t": 4.0, "round": 1, "file": "a.wav", "reply": 1, "start": 4.0, "emotion": "happy", '
        '"text": "Hello there! 你好，世界 🌍", "tokens": [151614, 9707], "truncated": false, '
        '"first_text_ms": 80.0, "total_ms": 450.0}'
    )


def test_sampling_and_nulls() -> None:
    sampling = {"temperature": 0.3, "top_k": 3, "top_p": 1.0, "seed": 1337, "eagerness": 0.0}
    assert json.loads(to_json(SESSION))["sampling"] == sampling
    assert json.loads(to_json(TRUNCATED))["emotion"] is None


@pytest.mark.parametrize(
    ("event", "field", "expected"),
    [
        (replace(CHUNK, t=0.1 + 0.7), "t", 0.8),
        (replace(REPLY, start=1.23456), "start", 1.235),
        (replace(CHUNK, p_speak=0.123456), "p_speak", 0.1235),
        (replace(CHUNK, level_db=-0.04), "level_db", 0.0),
        (replace(CHUNK, step_ms=12.3456), "step_ms", 12.3),
        (replace(LAG, behind_s=1 / 3), "behind_s", 0.333),
        (replace(SUMMARY, real_time_factor=0.0123456), "real_time_factor", 0.0123),
        (replace(SUMMARY, real_time_factor=math.nan), "real_time_factor", None),
        (replace(CHUNK, level_db=-math.inf), "level_db", None),
        (replace(ROUND, duration_s=None), "duration_s", None),
        (SLIDE, "dropped_chunks", 40),
    ],
)
def test_numbers(event: Event, field: str, expected: float | None) -> None:
    value = json.loads(to_json(event))[field]
    assert value == expected
    assert not isinstance(value, float) or math.copysign(1, value) == (-1 if value < 0 else 1)  # never -0.0


def test_any_text_stays_one_line_and_can_be_written() -> None:
    text = "a\nb\u2028c\x85d\x1b[0m\x9be \udcff 🌍"
    line = to_json(replace(FAILURE, message=text))
    assert len(line.splitlines()) == 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)
    assert json.loads(line.encode())["message"] == text


def test_a_stream_that_is_not_unicode_gets_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252")
    JsonLines(stream).handle(REPLY)
    assert raw.getvalue().isascii()
    assert json.loads(raw.getvalue())["text"] == HELLO

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from audio_interaction_cli.drawing import lasting, render
from audio_interaction_cli.events import Event, TextPiece
from audio_interaction_cli.protocol import Emotion
from audio_interaction_cli.screen import Screen
from audio_interaction_cli.view import TIMELINE_CHUNKS, View, update
from tests.story import CHUNK, FAILURE, REPLY, ROUND, UNTIL_SPOKEN, chunks, story


def view_after(events: list[Event]) -> View:
    view = View()
    for event in events:
        view = update(view, event)
    return view


def drawn(renderable: RenderableType | None, screen: Screen, environ: dict[str, str] | None = None) -> str:
    """What a terminal of that size would be sent: plain text, or with styles for the environment given."""
    assert renderable is not None
    console = Console(
        file=io.StringIO(),
        width=screen.width,
        height=screen.height,
        force_terminal=True,
        color_system=None if environ is None else "truecolor",
        legacy_windows=False,
        _environ=environ or {},
    )
    with console.capture() as capture:
        console.print(renderable, highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def everything(screen: Screen, environ: dict[str, str] | None = None) -> str:
    """Each state of the region and each lasting line of the story."""
    view, parts = View(), []
    for event in story():
        view = update(view, event)
        shown = (render(view, screen), lasting(event, screen))
        parts += [drawn(part, screen, environ) for part in shown if part is not None]
    return "\n".join(parts)


REGION_80 = """\
 0:04.0  😊 happy     Hello there! 你好，世界 🌍▌
╭─ ● SPEAKING ───────────────────────────────────────────────────────── a.wav ─╮
│ ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━────────── 0:04.0 / 0:04.8 │
│ heard ▁▂▃▃▄▅▆▇█▆                                       ━━━━━━━━╸────  -20 dB │
│ spoke ·········◆                                       ━━━━━━━━━━━━╸     97% │
╰─ cpu · float32 ───────────────────────────── 0:04.0 · real-time factor 0.12 ─╯"""

REGION_40 = """\
0:04.0 😊 happy
  Hello there! 你好，世界 🌍▌
╭─ ● SPEAKING ───────────────── a.wav ─╮
│ ━━━━━━━━━━━━━━━━╸─── 0:04.0 / 0:04.8 │
│ heard ▁▂▃▃▄▅▆▇█▆      ━━━━──  -20 dB │
│ spoke ·········◆      ━━━━━━     97% │
╰─ cpu · float32 ── 0:04.0 · rtf 0.12 ─╯"""

REGION_ASCII = """\
 0:04.0  [happy]      Hello there! ????? ?_
+- * SPEAKING ------------------------------------- a.wav -+
| ==================================------ 0:04.0 / 0:04.8 |
| heard _.::-=+*#+                      =======---  -20 dB |
| spoke .........^                      ==========     97% |
+- cpu, float32 ----------- 0:04.0, real-time factor 0.12 -+"""


@pytest.mark.parametrize(
    ("screen", "expected"),
    [(Screen(80, 24), REGION_80), (Screen(40, 24), REGION_40), (Screen(60, 24, "ascii"), REGION_ASCII)],
)
def test_the_region_while_speaking(screen: Screen, expected: str) -> None:
    assert drawn(render(view_after(story()[:UNTIL_SPOKEN]), screen), screen) == expected


def test_the_region_while_listening() -> None:
    screen = Screen(200, 50)
    lines = drawn(render(view_after(story()[:4]), screen), screen).splitlines()
    assert lines[0].startswith("╭─ ○ LISTENING ────")
    assert lines[2].startswith("│ heard ▁▂ ")
    assert lines[2].endswith(" -53 dB │")
    assert {cell_len(line) for line in lines} == {100}


def test_a_microphone_has_no_progress() -> None:
    screen = Screen(80, 24)
    events: list[Event] = [replace(ROUND, file=None, duration_s=None, chunks=None), *chunks(0, 3)]
    text = drawn(render(view_after(events), screen), screen)
    assert len(text.splitlines()) == 4
    assert " / " not in text


def test_what_stays() -> None:
    screen = Screen(80, 24)
    lines = [lasting(event, screen) for event in story()]
    assert [drawn(line, screen) for line in lines if line is not None] == [
        "▸ a.wav  0:04.0",
        " 0:04.0  😊 happy     Hello there! 你好，世界 🌍",
        "note: 3.2 s behind the audio, 1.5 s of audio left out",
        " 0:08.0               And then they (cut short)",
        "error: cannot read b.mp3: no audio in it\nhint: Is it an audio file?",
        "╭─ SUMMARY ────────────────────────────────────────────────────────────────────╮\n"
        "│ 2 replies · 1 round · 0:08.8 of audio in 0:02.2 · real-time factor 0.26      │\n"
        "│ decides in 31 ms (95 %: 48 ms) · peak memory 6.8 GB                          │\n"
        "╰──────────────────────────────────────────────────────────────────────────────╯",
    ]


def test_a_failure_names_its_file_once() -> None:
    screen = Screen(80, 24)
    assert drawn(lasting(replace(FAILURE, message="no audio", hint=None), screen), screen) == "error: b.mp3: no audio"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "gbk"])
@pytest.mark.parametrize("width", [8, 20, 40, 59, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int, encoding: str) -> None:
    text = everything(Screen(width, 24, encoding))
    assert max(map(cell_len, text.splitlines())) <= width
    assert text.encode(encoding)
    assert encoding != "gbk" or width < 40 or "你好，世界 ?" in text


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("text", ["word " * 2000, "你好。" * 2000, "x" * 9000])
def test_a_long_reply_in_progress_shows_its_end_and_fits(width: int, text: str) -> None:
    screen = Screen(width, 16)
    view = update(view_after(story()[:UNTIL_SPOKEN]), TextPiece(t=4.0, reply=1, emotion=None, text=f"{text} the end"))
    region = drawn(render(view, screen), screen)
    assert "the end▌" in re.sub(r"\s+", " ", region)
    assert 10 < len(region.splitlines()) <= 16


def test_without_colour_all_is_still_told_apart() -> None:
    coloured = everything(Screen(80, 24), {})
    plain = everything(Screen(80, 24), {"NO_COLOR": "1"})
    colour = r"\x1b\[(?:[\d;]*;)?[349][0-8][\d;]*m"
    assert re.search(colour, coloured)
    assert not re.search(colour, plain)
    assert "○ LISTENING" in plain
    assert "● SPEAKING" in plain


def test_model_text_and_file_names_cannot_steer_the_terminal() -> None:
    screen = Screen(80, 24)
    evil = "a\x1b[2J\x1b]0;title\x07\x9b31m\r\nb"
    events: list[Event] = [
        replace(ROUND, file=f"{evil}.wav"),
        replace(CHUNK, decision="speak"),
        TextPiece(t=0.4, reply=1, emotion=Emotion.SAD, text=evil),
    ]
    shown = [render(view_after(events), screen)]
    more = [*events, replace(REPLY, text=evil), replace(FAILURE, message=evil, hint=evil)]
    shown += [line for event in more if (line := lasting(event, screen)) is not None]
    for part in shown:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", drawn(part, screen))


@pytest.mark.parametrize("emotion", Emotion)
def test_every_emotion_has_a_look(emotion: Emotion) -> None:
    reply = replace(REPLY, emotion=emotion)
    line = drawn(lasting(reply, Screen(80, 24)), Screen(80, 24))
    assert re.fullmatch(rf" 0:04\.0  \S {emotion} +Hello.*", line)
    assert cell_len(line[: line.index("Hello")]) == 22
    assert f"[{emotion}]" in drawn(lasting(reply, Screen(80, 24, "ascii")), Screen(80, 24))


def test_the_view_counts() -> None:
    view = view_after(story())
    assert view.heard_chunks == len([event for event in story() if event.type == "chunk"])
    assert view.speaking_since is None
    assert view.work_ms == view.heard_chunks * 50.0 + 2 * 400.0  # a reply's time includes its chunk's step
    view = view_after(chunks(0, 3 * TIMELINE_CHUNKS))
    assert len(view.timeline) == TIMELINE_CHUNKS
    assert update(view, ROUND).round_heard_chunks == 0
    assert update(view, ROUND).heard_chunks == 3 * TIMELINE_CHUNKS


def test_an_input_being_looked_through() -> None:
    screen = Screen(80, 24)
    looking = replace(view_after(story()[:UNTIL_SPOKEN]), speaking_since=None, reading="folder/next.mp3")
    first = drawn(render(looking, screen), screen).splitlines()[0]
    assert first.startswith("╭─ ○ READING ────")
    assert first.endswith("─ next.mp3 ─╮")
    for event, state in ((ROUND, "LISTENING"), (FAILURE, "LISTENING"), (CHUNK, "READING")):
        assert state in drawn(render(update(looking, event), screen), screen)

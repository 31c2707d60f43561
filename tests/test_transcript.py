import json
import os
import re
from contextlib import closing
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from audio_interaction_cli.errors import AiCliError, ExitCode, UsageError
from audio_interaction_cli.events import Event
from audio_interaction_cli.jsonl import to_json
from audio_interaction_cli.transcript import Transcript
from tests.story import HELLO, REPLY, SESSION, TRUNCATED, story

NASTY = replace(REPLY, start=5.2, emotion=None, text="<i>1 & 2</i>\n\n\n00:01 --> 00:02\n7\x00\n", file="b.wav")


def written(path: Path, events: list[Event]) -> str:
    with closing(Transcript(path)) as sink:
        for event in events:
            sink.handle(event)
    return path.read_text(encoding="utf-8")


def cues(text: str, mark: str) -> list[tuple[float, float, str]]:
    """A strict reader of blocks between empty lines: (start, end, text) of each cue."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block]
    if mark == ".":
        assert blocks.pop(0) == ["WEBVTT"]
    else:
        assert [block.pop(0) for block in blocks] == [str(n + 1) for n in range(len(blocks))]
    time = rf"(\d\d):([0-5]\d):([0-5]\d)\{mark}(\d{{3}})"
    result = []
    for timing, *lines in blocks:
        numbers = re.fullmatch(f"{time} --> {time}", timing)
        assert numbers
        h, m, s, ms, h2, m2, s2, ms2 = map(int, numbers.groups())
        assert lines
        assert not any("-->" in line for line in lines)
        result.append((h * 3600 + m * 60 + s + ms / 1000, h2 * 3600 + m2 * 60 + s2 + ms2 / 1000, "\n".join(lines)))
    return result


def test_txt(tmp_path: Path) -> None:
    assert written(tmp_path / "t.TXT", story()) == f"0:04.0  [happy] {HELLO}\n0:08.0  And then they\n"


def test_jsonl_has_the_lines_of_json(tmp_path: Path) -> None:
    lines = written(tmp_path / "t.jsonl", story()).splitlines()
    assert lines == [to_json(event) for event in story() if event.type not in ("chunk", "text")]


@pytest.mark.parametrize(("ending", "mark"), [(".srt", ","), (".vtt", ".")])
def test_subtitles_parse_back(tmp_path: Path, ending: str, mark: str) -> None:
    empty = replace(REPLY, text=" \n\x00")
    parsed = cues(written(tmp_path / f"t{ending}", [*story(), empty, NASTY]), mark)
    if ending == ".vtt":
        assert not any("<" in text for _, _, text in parsed)
        parsed = [(start, end, unescape(text)) for start, end, text in parsed]
    arrow = "→" if ending == ".srt" else "-->"
    assert [(start, text) for start, _, text in parsed] == [
        (4.0, f"[happy] {HELLO}"),
        (8.0, "And then\nthey"),
        (5.2, f"<i>1 & 2</i>\n00:01 {arrow} 00:02\n7"),
    ]
    assert parsed[0][1] == pytest.approx(4.0 + 34 / 15, abs=0.001)  # 15 columns a second, wide ones count twice
    assert parsed[1][1] == 9.5  # never shorter than 1.5 s


@pytest.mark.parametrize("ending", [".srt", ".vtt", ".jsonl"])
def test_the_file_is_valid_at_every_moment(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    sink = Transcript(path)
    count = 0
    for event in story():
        sink.handle(event)
        text = path.read_text(encoding="utf-8")
        if ending == ".jsonl":
            found = sum(json.loads(line)["type"] == "reply" for line in text.splitlines())
        else:
            found = len(cues(text, "," if ending == ".srt" else "."))
        count += event.type == "reply"
        assert found == count
    sink.close()
    sink.close()


def test_times_go_on_where_sessions_start_their_clock_again(tmp_path: Path) -> None:
    events = [*story(), SESSION, REPLY, replace(SESSION, t=4.0), TRUNCATED]
    times = [line.split()[0] for line in written(tmp_path / "t.txt", events).splitlines()]
    assert times == ["0:04.0", "0:08.0", "0:12.8", "0:16.8"]


def test_nothing_already_there_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    for n in range(3):
        sink = Transcript(path)
        assert sink.kept == (None if n == 0 else tmp_path / f"t.txt.{n}")
        sink.handle(replace(REPLY, text=f"run {n}"))
        sink.close()
    found = {file.name: file.read_text()[-6:-1] for file in tmp_path.iterdir()}
    assert found == {"t.txt": "run 2", "t.txt.1": "run 0", "t.txt.2": "run 1"}


def test_an_empty_file_is_simply_used(tmp_path: Path) -> None:
    (tmp_path / "t.txt").touch()
    sink = Transcript(tmp_path / "t.txt")
    sink.close()
    assert sink.kept is None
    assert os.listdir(tmp_path) == ["t.txt"]


@pytest.mark.parametrize("name", ["t.doc", "t", "missing/t.srt", "folder.txt"])
def test_impossible_paths_are_usage_errors_and_change_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UsageError) as caught:
        Transcript.check(tmp_path / name)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint
    assert os.listdir(tmp_path) == ["folder.txt"]


def test_check_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("old")
    Transcript.check(tmp_path / "t.txt")
    Transcript.check(str(tmp_path / "new.vtt"))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"t.txt": "old"}


@pytest.mark.parametrize("ending", [".vtt", ".srt", ".txt", ".jsonl"])
def test_a_full_disk_is_explained(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"full{ending}"
    path.symlink_to("/dev/full")
    with pytest.raises(AiCliError, match="No space left on device") as caught:
        written(path, [REPLY])
    assert str(path) in caught.value.message
    assert caught.value.hint

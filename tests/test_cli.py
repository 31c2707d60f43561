"""The commands as people and scripts use them: streams, exit status, errors, formats."""

import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audio_interaction_cli import Sampling, SessionOptions
from audio_interaction_cli.conversation import TAIL_SILENCE_S
from audio_interaction_cli.settings import Settings
from tests.conftest import GOLDEN, Ai, golden_cases

AUDIO = GOLDEN / "audio"
BARK, SPEECH = AUDIO / "sample02_02.wav", AUDIO / "sample01_01.mp3"
THREE_ROUNDS = next(case.values[0] for case in golden_cases() if case.id == "file-three-rounds")


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """`ai-cli` as a process of its own."""
    command = [sys.executable, "-m", "audio_interaction_cli", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, text=True, **{**pipes, **options})


# --- run


def test_golden_replies_as_plain_lines(ai: Ai) -> None:
    files = [AUDIO / name for name in THREE_ROUNDS["files"]]
    done = ai("run", *files)
    assert done.status == 0
    assert done.out == f"{files[0]}: {THREE_ROUNDS['reply_texts'][0]}\n"
    assert "error" not in done.err


def test_one_file_has_no_prefix_and_quiet_says_nothing_else(ai: Ai) -> None:
    done = ai("run", "-q", SPEECH)
    assert done.status == 0
    assert done.out == THREE_ROUNDS["reply_texts"][0] + "\n"
    assert done.err == ""


def test_json_lines_follow_the_contract(ai: Ai) -> None:
    done = ai("run", "--json", "--events", "all", SPEECH, BARK)
    assert done.status == 0
    kinds = [line["type"] for line in done.lines]
    assert kinds[0] == "session"
    assert kinds[-1] == "summary"
    assert kinds.count("session") == kinds.count("summary") == 1
    session, (summary,) = done.lines[0], done.of("summary")
    assert session["schema"] == 1
    assert (session["device"], session["dtype"], session["quantize"]) == ("cpu", "float32", "none")
    assert session["sampling"]["temperature"] == 0
    first, second = done.of("round")
    assert (first["file"], first["duration_s"], first["chunks"]) == (str(SPEECH), 3.344, 12)
    assert (second["round"], second["t"]) == (2, 4.8)
    chunks = done.of("chunk")
    assert len(chunks) == first["chunks"] + second["chunks"] == summary["chunks"]
    assert summary["silent"] + summary["replies"] == summary["chunks"]
    assert summary["audio_s"] == pytest.approx(0.4 * len(chunks))
    for reply in done.of("reply"):
        pieces = [line["text"] for line in done.of("text") if line["reply"] == reply["reply"]]
        assert "".join(pieces) == reply["text"]
    # what is heard comes in order, and a reply right after its chunk
    assert [line["t"] for line in done.lines[:-1]] == sorted(line["t"] for line in done.lines[:-1])
    assert [line["type"] for line in ai("run", "--json", SPEECH).lines] == ["session", "round", "reply", "summary"]


def test_separate_gives_each_file_a_fresh_session(ai: Ai) -> None:
    alone = ai("run", "--json", BARK).of("reply")
    separate = ai("run", "--json", "--separate", SPEECH, BARK)
    assert len(separate.of("session")) == 2
    assert [line["round"] for line in separate.of("round")] == [1, 2]
    second = [line for line in separate.of("reply") if line["round"] == 2]
    assert [(line["start"], line["tokens"]) for line in second] == [(line["start"], line["tokens"]) for line in alone]
    assert len(separate.of("summary")) == 1


def test_tail_silence_is_heard_after_each_file(ai: Ai) -> None:
    chunks = {s: ai("run", "--json", "--tail-silence", s, SPEECH).of("summary")[0]["chunks"] for s in (0, 0.4, 1)}
    assert chunks == {0: 9, 0.4: 10, 1: 12}


def test_a_folder_in_its_own_order_or_by_name(ai: Ai, tmp_path: Path) -> None:
    for name in ("b.wav", "a.wav", "c.txt"):
        shutil.copy(AUDIO / "sample01_02-16k.wav", tmp_path / name)
    by_name = ai("run", "--json", tmp_path).of("round")
    assert [line["file"] for line in by_name] == [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    (tmp_path / "sequence.json").write_text('["b.wav", "a.wav", "b.wav"]')
    in_order = ai("run", "--json", tmp_path).of("round")
    assert [Path(line["file"]).name for line in in_order] == ["b.wav", "a.wav", "b.wav"]


def test_a_transcript_is_left_alone_if_nothing_can_be_heard(ai: Ai, tmp_path: Path) -> None:
    file = tmp_path / "talk.txt"
    file.write_text("from yesterday")
    assert ai("run", "--transcript", file, "--context-tokens", 50, SPEECH).status == 2
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["talk.txt"]


@pytest.mark.parametrize("ending", [".txt", ".srt", ".vtt", ".jsonl"])
def test_transcript(ai: Ai, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"talk{ending}"
    file.write_text("from yesterday")
    done = ai("run", "--transcript", file, SPEECH)
    assert done.status == 0
    text = file.read_text("utf-8")
    assert "享受" in text
    assert (tmp_path / f"talk{ending}.1").read_text() == "from yesterday"
    assert f"talk{ending}.1" in done.err
    if ending == ".jsonl":
        assert [json.loads(line)["type"] for line in text.splitlines()] == ["session", "round", "reply", "summary"]


def test_a_model_that_may_not_speak(ai: Ai) -> None:
    done = ai("run", "--json", "--eagerness", "-90", SPEECH, BARK)
    assert done.status == 0
    assert done.of("reply") == []
    assert done.of("summary")[0]["silent"] == done.of("summary")[0]["chunks"]


def test_the_window_ends_before_the_audio(ai: Ai) -> None:
    options = ("--context-tokens", 120, "--eagerness", -90)
    stopped = ai("run", "--json", *options, "--on-full", "stop", SPEECH, BARK)
    assert stopped.status == 1
    assert [line["action"] for line in stopped.of("context")] == ["stop"]
    assert [line["file"] for line in stopped.of("error")] == [str(SPEECH), str(BARK)]
    assert "--on-full slide" in stopped.of("error")[0]["hint"]
    for action, chosen in (("reset", ("--on-full", "reset")), ("slide", ())):
        going_on = ai("run", "--json", *options, *chosen, SPEECH, BARK)
        assert going_on.status == 0
        assert going_on.of("summary")[0]["chunks"] > 30
        assert {line["action"] for line in going_on.of("context")} == {action}
        assert all(line["dropped_chunks"] > 0 for line in going_on.of("context"))
    quiet, verbose = (ai("run", *options, *more, BARK).err for more in ((), ("--verbose",)))
    assert "context" not in quiet
    assert "context: full at 0:" in verbose


def test_settings_file_environment_and_flag(ai: Ai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config" / "ai-cli").mkdir(parents=True)
    file = tmp_path / "config" / "ai-cli" / "config.toml"
    file.write_text("seed = 5\ntop-k = 7\ntop_p = 0.5\njson = true\n")
    monkeypatch.setenv("AI_CLI_TOP_K", "8")
    monkeypatch.setenv("AI_CLI_TOP_P", "0.6")
    sampling = ai("run", "--top-p", "0.7", SPEECH).lines[0]["sampling"]
    assert (sampling["seed"], sampling["top_k"], sampling["top_p"]) == (5, 8, 0.7)
    for content, word in (("seeds = 5", "unknown setting"), ("seed = ", "cannot be read"), ("seed = 'x'", "seed")):
        file.write_text(content)
        done = ai("run", SPEECH)
        assert (done.status, done.out) == (2, "")
        assert word in done.err
        helped = ai("run", "--help")
        assert helped.status == 0
        assert "--seed" in helped.out
    file.unlink()


# --- what goes wrong


def broken_inputs(folder: Path) -> dict[str, Path]:
    """One input of each kind that cannot be heard, and what says so."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is not sound\n" * 50)
    soundfile.write(folder / "no samples.wav", np.zeros(0, np.float32), 16_000)
    not_numbers = np.zeros(16_000, np.float32)
    not_numbers[5_000] = np.nan
    soundfile.write(folder / "nan.wav", not_numbers, 16_000, subtype="FLOAT")
    (folder / "no audio").mkdir()
    (folder / "no audio" / "notes.txt").touch()
    (folder / "broken list").mkdir()
    (folder / "broken list" / "sequence.json").write_text('["a.wav"')
    (folder / "cut.mp3").write_bytes(SPEECH.read_bytes()[:60_001])
    names = ["missing.wav", "empty.wav", "text.wav", "no samples.wav", "nan.wav", "no audio", "broken list", "cut.mp3"]
    return {name: folder / name for name in names}


def test_bad_inputs_are_told_and_the_others_answered(ai: Ai, tmp_path: Path) -> None:
    bad = broken_inputs(tmp_path)
    done = ai("run", "--json", "--separate", *bad.values(), SPEECH)
    assert done.status == 1
    assert [line["file"] for line in done.of("error")] == [str(path) for path in bad.values()]
    assert done.of("reply")[-1]["file"] == str(SPEECH)
    assert done.of("reply")[-1]["text"] == THREE_ROUNDS["reply_texts"][0]
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(bad)
    assert all(name in error for name, error in zip(bad, errors, strict=True))
    assert "Traceback" not in done.err
    cut = [line for line in done.of("round") if line["file"] == str(bad["cut.mp3"])]
    assert cut[0]["chunks"] > 3  # what can be heard of a cut file is heard


def test_eight_channels_at_192_khz(ai: Ai, tmp_path: Path) -> None:
    sound, rate = soundfile.read(BARK)
    loud = np.repeat(np.repeat(sound.reshape(len(sound), -1)[:, :1], 192_000 // rate, axis=0), 8, axis=1)
    soundfile.write(tmp_path / "eight.wav", loud[: 192_000 * 3], 192_000)
    done = ai("run", "--json", tmp_path / "eight.wav")
    assert done.status == 0
    assert done.of("round")[0]["duration_s"] == pytest.approx(3.0, abs=0.01)


def test_without_a_command_it_shows_its_help(ai: Ai) -> None:
    done = ai()
    assert done.status == 2
    assert "interactive" in done.out
    assert done.err == ""


def test_usage_errors_are_json_lines_too(ai: Ai) -> None:
    for arguments in (["run", "--json"], ["run", "--json", "--top-p", "0", SPEECH]):
        done = ai(*arguments)
        assert done.status == 2
        assert [line["type"] for line in done.lines] == ["error"]
        assert done.err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run"], "missing argument FILE"),
        (["run", "--demo", "a.wav"], "no FILE"),
        (["run", "--bogus", "a.wav"], "--bogus"),
        (["runn", "a.wav"], "runn"),
        (["run", "--temperature", "warm", "a.wav"], "--temperature"),
        (["run", "--temperature", "-1", "a.wav"], "temperature"),
        (["run", "--top-p", "0", "a.wav"], "top-p"),
        (["run", "--on-full", "explode", "a.wav"], "explode"),
        (["run", "--context-tokens", "50", SPEECH], "too small"),
        (["run", "--context-tokens", "5000", SPEECH], "5000"),
        (["run", "--system-prompt", "so " * 5_000, SPEECH], "too small"),
        (["run", "--eagerness", "nan", "a.wav"], "eagerness"),
        (["run", "--transcript", "talk.doc", "a.wav"], "talk.doc"),
        (["run", "--transcript", "no/such/talk.srt", "a.wav"], "no/such"),
        (["interactive", "--rounds", "0"], "rounds"),
    ],
)
def test_usage_errors(ai: Ai, arguments: list[object], word: str) -> None:
    done = ai(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert word in done.err
    assert "Traceback" not in done.err


def test_no_usable_checkpoint(ai: Ai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "talk.txt"
    kept.write_text("from yesterday")
    for named in (tmp_path / "nowhere", "some/thing", tmp_path):
        done = ai("run", "--json", "--checkpoint", named, "--transcript", kept, SPEECH)
        assert done.status == 3
        assert kept.read_text() == "from yesterday"
        assert done.err.startswith("error: ")
        assert [line["type"] for line in done.lines] == ["error"]


def test_a_fault_of_our_own_is_one_line_unless_debugged(ai: Ai, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("audio_interaction_cli.conversation.hear_file", fault)
    done = ai("run", SPEECH)
    assert done.status == 1
    assert "by design" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in ai("run", "--debug", SPEECH).err


def test_debug_shows_where_an_error_came_from(ai: Ai) -> None:
    assert "Traceback" in ai("run", "--debug", "nowhere.wav").err


def test_errors_before_and_outside_of_a_conversation_obey_environment_and_file(
    ai: Ai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config" / "ai-cli").mkdir(parents=True)
    (tmp_path / "config" / "ai-cli" / "config.toml").write_text("json = true\ndebug = true\n")
    done = ai("run")
    assert [line["type"] for line in done.lines] == ["error"]
    assert "Traceback" in done.err
    monkeypatch.setenv("AI_CLI_JSON", "0")
    monkeypatch.setenv("AI_CLI_DEBUG", "false")
    done = ai("run")
    assert (done.status, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert [line["type"] for line in ai("run", "--json").lines] == ["error"]


def test_the_status_survives_a_reader_that_has_gone(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start("run", "--json", "--checkpoint", folder / "nowhere", SPEECH, stdout=writer)
    os.close(writer)
    process.communicate(timeout=60)
    assert process.returncode == 3


def test_a_transcript_that_nobody_reads_does_not_cost_the_replies(folder: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.jsonl"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    process = start("run", "--checkpoint", folder, "--temperature", 0, "--transcript", fifo, SPEECH)
    while not select.select([reader], [], [], 1.0)[0]:  # the session's line
        assert process.poll() is None
    os.close(reader)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, THREE_ROUNDS["reply_texts"][0] + "\n"), err
    assert err.count("error: ") == 1


def test_notes_that_nobody_reads_do_not_cost_the_replies(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "audio_interaction_cli", "run", "-v", "--checkpoint", str(folder)]
    done = subprocess.run(
        [*command, "--temperature", "0", str(SPEECH)], stdout=subprocess.PIPE, stderr=writer, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, THREE_ROUNDS["reply_texts"][0] + "\n")


def test_a_recording_of_what_is_played_is_refused(ai: Ai, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    shutil.copy(SPEECH, file)
    done = ai("mic", "--from", file, "--record", tmp_path / "." / "a.wav", "--speed", 0)
    assert (done.status, "is what --from plays" in done.err) == (2, True)
    assert file.read_bytes() == SPEECH.read_bytes()


def test_files_that_no_window_was_left_for_are_told(ai: Ai) -> None:
    played = ("mic", "--from", SPEECH, "--from", SPEECH, "--speed", 0, "--on-full", "stop", "--context-tokens")
    assert ai(*played, 4096).status == 0
    done = ai(*played, 200)
    assert (done.status, "full before all was heard" in done.err) == (1, True)


def test_a_home_that_no_shell_has_expanded(ai: Ai, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AI_CLI_TRANSCRIPT", "~/said.txt")
    assert ai("run", SPEECH).status == 0
    assert THREE_ROUNDS["reply_texts"][0] in (tmp_path / "said.txt").read_text()


def test_help_has_no_colours_off_a_terminal() -> None:
    command = [sys.executable, "-m", "audio_interaction_cli", "run", "--help"]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "GITHUB_ACTIONS": "true"})
    assert b"--checkpoint" in done.stdout
    assert b"\x1b" not in done.stdout


def test_an_order_to_end_while_waiting_for_standard_input(folder: Path) -> None:
    with start("mic", "--from", "-", "--json", "--checkpoint", folder, stdin=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert '"session"' in process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
        assert "Fatal" not in process.stderr.read()


def test_a_full_disk_costs_the_transcript_not_the_replies(ai: Ai, tmp_path: Path) -> None:
    (tmp_path / "full.txt").symlink_to("/dev/full")
    done = ai("run", "--transcript", tmp_path / "full.txt", SPEECH)
    assert done.status == 1
    assert done.out == THREE_ROUNDS["reply_texts"][0] + "\n"
    assert done.err.count("error: ") == 1


# --- interactive without a terminal


def test_interactive_reads_a_path_a_line(ai: Ai, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spaced = tmp_path / "with space.mp3"
    shutil.copy(SPEECH, spaced)
    lines = f"{SPEECH}\n\n:bogus\nnowhere.wav\n-\n:help\n'{spaced}'\n:reset\n{SPEECH}\n:quit\n{BARK}\n"
    (tmp_path / "lines").write_text(lines)
    with (tmp_path / "lines").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        done = ai("interactive", "--json")
    assert done.status == 1
    assert [line["file"] for line in done.of("round")] == [str(SPEECH), str(spaced), str(SPEECH)]
    assert [line["file"] for line in done.of("error")] == [None, "nowhere.wav", None]
    assert [line["action"] for line in done.of("context")] == ["reset"]
    replies = done.of("reply")
    assert replies[-1]["tokens"] == replies[0]["tokens"]  # as in the first round, after a reset
    assert ":reset" in done.err  # from :help
    assert ">" not in done.out


def test_interactive_takes_any_bytes_for_a_path(folder: Path, tmp_path: Path) -> None:
    shutil.copy(SPEECH, tmp_path / "caf\udce9.mp3")
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    process = start(
        "interactive", "--json", "--checkpoint", folder, stdin=subprocess.PIPE, cwd=tmp_path, env=environment,
        encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip
    out, err = process.communicate("nowhere\udce9.mp3\ncaf\udce9.mp3\n", timeout=120)
    assert process.returncode == 1
    assert "no such file" in err
    assert [line["type"] for line in map(json.loads, out.splitlines())].count("round") == 1


def test_interactive_ends_after_rounds_that_were_heard(ai: Ai, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text(f"nowhere.wav\n{SPEECH}\n{BARK}\n{BARK}\n")
    with (tmp_path / "lines").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        done = ai("interactive", "--rounds", 2, "--json")
    assert len(done.of("round")) == 2


# --- as a process


def test_stdin_version_and_help(folder: Path) -> None:
    with SPEECH.open("rb") as stdin:
        process = start("run", "--checkpoint", folder, "--temperature", 0, "-", stdin=stdin)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, THREE_ROUNDS["reply_texts"][0] + "\n")
    assert "\x1b" not in err
    out, _ = start("--version").communicate(timeout=60)
    assert out.startswith("ai-cli ")


def test_defaults_are_the_models_own(ai: Ai, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, options = Settings(), SessionOptions()
    for field in dataclasses.fields(Sampling):
        assert getattr(settings, field.name) == getattr(options.sampling, field.name)
    for name in ("eagerness", "context_tokens", "on_full", "max_reply_tokens"):
        assert getattr(settings, name) == getattr(options, name)
    assert settings.tail_silence == TAIL_SILENCE_S
    monkeypatch.setenv("AI_CLI_TAIL_SILENCE", "0")
    monkeypatch.setenv("AI_CLI_JSON", "1")
    assert ai("run", SPEECH).of("summary")[0]["chunks"] == 9
    assert "{" not in ai("run", "--no-json", SPEECH).out


@pytest.mark.slow
def test_streams_that_are_closed_or_full_before_it_begins(folder: Path) -> None:
    tool = f"{sys.executable} -m audio_interaction_cli"
    model = f"--checkpoint {folder} --temperature 0 {SPEECH}"
    for command, status in {
        f"{tool} run {model} >&-": 0,
        f"{tool} run {model} 2>&-": 0,
        f"{tool} run {model} >/dev/full": 1,
        f"{tool} interactive --checkpoint {folder} <&-": 0,
        f"{tool} run --json --bogus x >/dev/full": 2,
        f"set -o pipefail; {tool} run --json --bogus x | true": 2,
        f"set -o pipefail; {tool} --version | true": 0,
        f"set -o pipefail; {tool} run --help | head -c 1": 0,
        f"{tool} --version >/dev/full": 1,
    }.items():
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == status, (command, done.stderr)
        assert "Traceback" not in done.stderr
        assert "unexpected" not in done.stderr


def test_a_closed_pipe_ends_quietly(folder: Path) -> None:
    process = start("run", "--checkpoint", folder, "--json", "--events", "all", *[BARK] * 20)
    assert process.stdout
    assert process.stderr
    with process.stderr:
        assert json.loads(process.stdout.readline())["type"] == "session"
        process.stdout.close()
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_it_keeps_what_was_said(folder: Path, tmp_path: Path, sign: signal.Signals) -> None:
    transcript = tmp_path / "talk.jsonl"
    options = ("--checkpoint", folder, "--temperature", 0, "--json", "--events", "all", "--transcript", transcript)
    process = start("run", *options, *[SPEECH] * 200)
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(json.loads(line))
        if lines[-1]["type"] == "text":
            break
    process.send_signal(sign)
    began = time.monotonic()
    rest, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    lines += [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == 130
    assert lines[-1]["type"] == "summary"
    pieces = "".join(line["text"] for line in lines if line["type"] == "text")
    replies = [line for line in lines if line["type"] == "reply"]
    assert "".join(reply["text"] for reply in replies) == pieces
    assert "Traceback" not in err
    written = [json.loads(line) for line in transcript.read_text("utf-8").splitlines()]
    assert [line for line in written if line["type"] == "reply"] == replies
    assert written[-1]["type"] == "summary"


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).parent / "ai-cli"
    help_text = subprocess.run([command, "--help"], check=True, capture_output=True, text=True).stdout
    for name in ("run", "interactive", "info"):
        assert name in help_text

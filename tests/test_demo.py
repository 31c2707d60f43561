"""The built-in demo: a checkpoint with token ids and a prompt of its own, found last, played and described."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio_interaction_cli import Engine, MemoryInput, Reply, Sampling, Session, SessionOptions, checkpoint, hear_file
from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.events import ChunkDecided
from audio_interaction_cli.protocol import SYSTEM_PROMPT
from audio_interaction_cli.turns import Kind
from tests.conftest import DEMO_PROMPT, GOLDEN, SIGNS, UNDERSTANDS, Ai

SPEECH = GOLDEN / "audio" / "sample01_01.mp3"
WILD = Sampling(temperature=1e5, top_k=0)  # draws every legal token sooner or later


NOTE = "note: no checkpoint found, so this is the small built-in demo"


@pytest.fixture
def demo(ai: Ai, demo_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:  # noqa: ARG001 - before this
    """The demo as the built-in one, nothing else to be found, and a model of few words."""
    monkeypatch.setattr(checkpoint, "DEMO_FOLDER", demo_folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("AI_CLI_CHECKPOINT")
    monkeypatch.setenv("AI_CLI_MAX_REPLY_TOKENS", "3")
    monkeypatch.chdir(tmp_path)
    return demo_folder


@pytest.fixture(scope="module")
def small(demo_folder: Path) -> Engine:
    return Engine.load(checkpoint.read(demo_folder, "demo"), device="cpu")


# --- its own protocol


def test_control_and_special_tokens_are_never_text(small: Engine) -> None:
    ids = small.token_ids
    text = {token for token, kind in enumerate(small.grammar.kinds) if kind is Kind.TEXT}
    assert text == set(range(1, ids.control_begin))  # 0 is the tokenizer's special
    source = MemoryInput("noise", np.random.default_rng(1).standard_normal(40_000).astype(np.float32) * 0.1)
    options = SessionOptions(sampling=WILD, eagerness=90, max_reply_tokens=40)
    replies = [event for event in hear_file(Session(small, options), source) if isinstance(event, Reply)]
    assert len({token for reply in replies for token in reply.tokens}) > 100
    for reply in replies:
        spoken = [token for token in reply.tokens if token not in ids.emotions]
        assert reply.tokens[-len(spoken) :] == tuple(spoken)
        assert text.issuperset(spoken)
        assert reply.text == small.tokenizer.decode(spoken)


def test_the_prompt_is_the_models_own_unless_another_is_given(small: Engine) -> None:
    def p_speak(prompt: str | None) -> list[float]:
        session = Session(small, SessionOptions(system_prompt=prompt, eagerness=-90))
        events = hear_file(session, MemoryInput("silence", np.zeros(9_000, np.float32)))
        return [event.p_speak * 1e30 for event in events if isinstance(event, ChunkDecided)]

    own = p_speak(None)
    assert own == p_speak(DEMO_PROMPT)
    assert own != p_speak("")
    assert own != p_speak(SYSTEM_PROMPT)


def change(**changes: object) -> Callable[[dict[str, Any]], None]:
    """Changes token ids; None takes them out."""

    def apply(protocol: dict[str, Any]) -> None:
        ids = protocol["token_ids"] | changes
        protocol["token_ids"] = {name: token for name, token in ids.items() if token is not None}

    return apply


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no ids": (lambda protocol: protocol.pop("token_ids"), "token_ids of protocol.json is not a table"),
    "ids in a list": (lambda protocol: protocol.update(token_ids=[1, 2]), "token_ids of protocol.json is not a table"),
    "no prompt": (lambda protocol: protocol.pop("system_prompt"), "no text as system_prompt"),
    "prompt of another kind": (lambda protocol: protocol.update(system_prompt=["a"]), "no text as system_prompt"),
    "half a character": (lambda protocol: protocol.update(system_prompt="\udcff"), "no text as system_prompt"),
    "one id less": (change(pad=None), "lacks the token id pad"),
    "one id more": (change(user=5), "has an unknown token id user"),
    "a word": (change(pad="five"), "has 'five' as pad"),
    "a fraction": (change(pad=5.0), "has 5.0 as pad"),
    "a truth": (change(pad=True), "has True as pad"),
    "below zero": (change(pad=-1), "has -1 as pad"),
    "beyond the vocabulary": (change(pad=100_000), "vocabulary of 318 has no room"),
    "controls beyond the vocabulary": (change(control_end=319), "vocabulary of 318 has no room"),
    "controls in the wrong order": (change(control_end=7), "control_begin above its control_end"),
    "one id for two": (change(pad=310, online=310), "gives pad and online the same id 310"),
    "begin is end": (change(text_end=312, text_begin=312), "gives text_end and text_begin the same id 312"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_protocol_is_told(demo_folder: Path, tmp_path: Path, case: str) -> None:
    break_it, message = WRONG[case]
    folder = shutil.copytree(demo_folder, tmp_path / "copy")
    protocol = json.loads((folder / "protocol.json").read_text())
    break_it(protocol)
    (folder / "protocol.json").write_text(json.dumps(protocol))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read(folder, "copy")
    assert "protocol" in caught.value.message


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_damaged_protocol_is_told(demo_folder: Path, tmp_path: Path, content: str) -> None:
    folder = shutil.copytree(demo_folder, tmp_path / "copy")
    (folder / "protocol.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"protocol\.json"):
        checkpoint.read(folder, "copy")


def test_system_and_begin_may_be_one_token(demo_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(demo_folder, tmp_path / "copy")
    protocol = json.loads((folder / "protocol.json").read_text())
    protocol["token_ids"]["system"] = protocol["token_ids"]["text_begin"]
    (folder / "protocol.json").write_text(json.dumps(protocol))
    ids = checkpoint.read(folder, "copy").token_ids
    assert ids.system == ids.text_begin
    assert set(ids.signs) == set(SIGNS)


# --- as the last resort


@pytest.mark.usefixtures("demo")
def test_the_demo_steps_in_with_one_line_that_says_so(ai: Ai, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = ai("run", "--json", SPEECH)
    assert done.status == 0
    assert done.of("session")[0]["checkpoint"] == "demo"  # and all of stdout is JSON
    first, *others = done.err.splitlines()
    assert first.startswith(NOTE)
    assert checkpoint.DOWNLOAD in first
    assert NOTE not in "".join(others)
    (tmp_path / "lines").write_text(f"{SPEECH}\n")
    with (tmp_path / "lines").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert ai("interactive").err.count(NOTE) == 1
    for arguments in (["--quiet"], ["--checkpoint", "demo"]):
        assert NOTE not in ai("run", *arguments, SPEECH).err


@pytest.mark.usefixtures("demo")
def test_what_is_named_never_falls_back(ai: Ai, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    for named in ("nowhere", "some/thing", "broken", "./demo"):
        for arguments in (
            ["run", "--checkpoint", named, SPEECH],
            ["run", "--checkpoint", named, "--demo"],
            ["info", named],
        ):
            done = ai(*arguments)
            assert (done.status, done.out) == (3, "")
            assert done.err.startswith("error: ")
    monkeypatch.setattr(checkpoint, "DEMO_FOLDER", tmp_path / "not-installed")
    for without in (["run", SPEECH], ["run", "--demo"], ["info"], ["info", "demo"]):
        done = ai(*without)
        assert done.status == 3
        assert "the built-in demo is missing" in done.err


# --- run --demo


@pytest.mark.usefixtures("demo")
def test_the_demo_plays_its_samples_in_their_order(ai: Ai, folder: Path) -> None:
    done = ai("run", "--demo", "--json")
    assert done.status == 0
    assert done.of("session")[0]["checkpoint"] == "demo"
    assert [line["file"] for line in done.of("round")] == ["sound2.wav", "sound1.wav"]
    assert NOTE not in done.err
    other = ai("run", "--demo", "--checkpoint", folder, "--eagerness", 90)
    assert other.status == 0
    assert {line.partition(": ")[0] for line in other.out.splitlines()} == {"sound2.wav", "sound1.wav"}
    assert ai("run", "--demo", "--json", "--checkpoint", folder).of("session")[0]["checkpoint"] == "golden"


# --- info


def test_info_for_programs(ai: Ai, demo: Path, folder: Path) -> None:
    done = ai("info", "demo", "--json")
    assert (done.status, done.err) == (0, "")
    (facts,) = done.lines
    assert (facts["schema"], facts["name"], facts["folder"]) == (1, "demo", str(demo))
    assert facts["understands"] == UNDERSTANDS
    assert facts["system_prompt"] == DEMO_PROMPT
    assert facts["dtypes"] == ["bfloat16"]
    assert facts["context_tokens"] == 400
    assert set(facts["token_ids"]) == {*SIGNS, "control_begin", "control_end"}
    loaded = Engine.load(checkpoint.read(demo, "demo"), device="cpu")
    for part, module in (("lm", loaded.lm), ("tower", loaded.tower)):
        assert facts[part]["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert facts["parameters"] == facts["lm"]["parameters"] + facts["tower"]["parameters"]
    assert facts["bytes"] > 2 * facts["parameters"]
    assert (facts["lm"]["layers"], facts["lm"]["width"], facts["tower"]["layers"]) == (1, 32, 1)

    published = ai("info", folder, "--json").lines[0]  # its tower is a pickle
    assert published["parameters"] is published["tower"]["parameters"] is None
    assert published["tower"]["bytes"] > 0
    assert published["context_tokens"] == 4096
    assert published["token_ids"]["pad"] == 151_608
    assert "understands" not in published


def test_info_for_people(ai: Ai, demo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ai("info")
    assert done.status == 0
    assert done.err.startswith(NOTE)
    assert done.err.count("\n") == 1
    facts = (str(demo), "thousand", "bfloat16", "400 positions", "1 layers of width 32", DEMO_PROMPT)
    answers = ("hello; hi there", "happy", "Hello!", "depends on", "doorbell", "Someone is at the [door].")
    for words in facts + answers:
        assert words in done.out
    assert "\x1b" not in done.out
    monkeypatch.setenv("AI_CLI_CHECKPOINT", str(folder))
    done = ai("info")
    assert done.err == ""
    assert str(folder) in done.out
    assert "you say" not in done.out


def test_info_heeds_the_settings_file(ai: Ai, demo: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config" / "ai-cli").mkdir(parents=True)
    (tmp_path / "config" / "ai-cli" / "config.toml").write_text(f'checkpoint = "{folder}"\njson = true\nseed = 5\n')
    assert ai("info").lines[0]["folder"] == str(folder)
    assert ai("info", "demo").lines[0]["folder"] == str(demo)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"phrases": [5], "sounds": []}', '{"phrases": [], "sounds": [{}]}']
)
def test_info_about_a_broken_checkpoint(ai: Ai, demo: Path, tmp_path: Path, content: str) -> None:
    copy = shutil.copytree(demo, tmp_path / "copy")
    (copy / "understands.json").write_text(content)
    done = ai("info", copy, "--json")
    assert done.status == 3
    assert [line["type"] for line in done.lines] == ["error"]
    (copy / "understands.json").unlink()
    assert ai("info", copy).status == 0
    config = (copy / "model_config.yaml").read_text()
    (copy / "model_config.yaml").write_text(config.replace("n_layer: 1", "n_layer: three"))
    assert "n_layer" in ai("info", copy).err
    (copy / "model.safetensors").write_bytes(b"cut")
    assert ai("info", copy).status == 3


def loads_none_of(heavy: set[str], *arguments: str) -> str:
    """What is printed by the command, which must not import these."""
    code = (
        "import sys\nfrom audio_interaction_cli.main import app\n"
        f"try: app({arguments!r}, standalone_mode=False)\n"
        "except SystemExit: pass\n"
        f"sys.exit(', '.join({heavy} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_info_loads_nothing_heavy(demo_folder: Path) -> None:
    assert DEMO_PROMPT in loads_none_of({"torch", "transformers", "av", "huggingface_hub"}, "info", str(demo_folder))


def test_the_demo_answers_without_what_takes_long_to_import() -> None:
    heard = loads_none_of({"transformers", "llvmlite"}, "run", "--checkpoint", "demo", str(checkpoint.samples()))
    assert "How can I help?" in heard

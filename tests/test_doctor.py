import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from audio_interaction_cli import checkpoint, doctor, microphone
from audio_interaction_cli.doctor import Finding, examine
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import AudioDeviceError
from audio_interaction_cli.footprint import memory_bytes
from tests.conftest import Ai

NAMES = ["python", "settings", "torch", "device", "checkpoint", "memory", "disk", "microphone", "hub", "terminal"]


def of(name: str, findings: list[Finding]) -> Finding:
    return next(finding for finding in findings if finding.name == name)


@pytest.fixture(autouse=True)
def _a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With one microphone, without a hub."""
    mic = microphone.InputDevice(index=0, name="Mic", host_api="ALSA", channels=1, default_rate_hz=16_000, default=True)
    monkeypatch.setattr(microphone, "devices", lambda: [mic])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_a_healthy_machine(ai: Ai, folder: Path) -> None:
    done = ai("doctor")
    assert done.status == 0, done.out
    lines = [line for line in done.out.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in lines] == NAMES
    assert f"{folder} in {folder}, headers and tokenizer are intact" in done.out
    found = json.loads(ai("doctor", "--json").out)
    assert (found["schema"], found["healthy"]) == (1, True)
    assert [finding["name"] for finding in found["findings"]] == NAMES
    assert {finding["status"] for finding in found["findings"]} <= {"ok", "note"}


def test_a_broken_checkpoint_is_a_problem(ai: Ai, folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "tokenizer.json").unlink()
    done = ai("doctor", "--checkpoint", broken)
    assert done.status == 1
    assert "problem  checkpoint" in done.out
    assert "tokenizer.json is missing" in done.out
    assert "ai-cli download" in done.out


def test_a_machine_without_a_microphone(ai: Ai, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> list[microphone.InputDevice]:
        raise AudioDeviceError("no microphone found", "plug one in")

    monkeypatch.setattr(microphone, "devices", none)
    done = ai("doctor")
    assert done.status == 1
    assert "problem  microphone  no microphone found\n                     plug one in" in done.out


def test_a_microphone_by_name(ai: Ai) -> None:
    assert ai("doctor", "--input-device", "mic").status == 0
    assert "no microphone is called usb" in ai("doctor", "--input-device", "usb").out


def test_a_broken_settings_file_is_found_and_the_rest_looked_at(ai: Ai, tmp_path: Path) -> None:
    file = tmp_path / "config" / "ai-cli" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("temperature = ")
    done = ai("doctor")
    assert done.status == 1
    assert "problem  settings" in done.out
    assert f"mend or remove {file}" in done.out
    assert "ok       microphone" in done.out
    file.write_text('checkpoint = "nowhere"')
    os.environ.pop("AI_CLI_CHECKPOINT")
    assert "there is no checkpoint folder nowhere" in ai("doctor").out
    file.write_text("input-device = 77\njson = true")  # a number, as `mic` takes it too
    (found,) = [finding for finding in json.loads(ai("doctor").out)["findings"] if finding["name"] == "microphone"]
    assert found["message"] == "no microphone is called 77"


@pytest.mark.parametrize(
    ("available", "status", "hint"),
    [(8e9, "ok", None), (0.6009e9, "note", "--quantize int8"), (0.1e9, "problem", "--checkpoint demo")],
)
def test_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, available: float, status: str, hint: str | None) -> None:
    needed = memory_bytes(checkpoint.read(folder, "small"))
    room = (needed["int8"] + needed["bfloat16"]) / 2 + doctor.PROGRAM_BYTES if status == "note" else available
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=room, total=16e9))
    found = of("memory", list(examine(str(folder))))
    assert found.status == status
    assert (found.hint is None) == (hint is None)
    assert hint is None or hint in (found.hint or "")


def test_room_for_the_real_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000_000))
    found = of("disk", list(examine("demo")))
    assert found.status == "note"
    assert found.message.startswith("3.0 GB free")


def test_the_demo_is_told_from_the_real_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = of("checkpoint", list(examine()))
    assert (found.status, found.hint) == ("note", "for the real model: ai-cli download")
    assert of("checkpoint", list(examine("demo"))).status == "ok"


@pytest.mark.parametrize(("dtype", "quantize"), [("float32", "none"), ("bfloat16", "none"), ("bfloat16", "int8")])
def test_memory_is_foretold(folder: Path, dtype: str, quantize: str) -> None:
    found = checkpoint.read(folder, "small")
    engine = Engine.load(found, device="cpu", dtype=dtype, quantize=quantize)
    lm = engine.lm.config
    cache = 2 * lm.n_layer * lm.n_query_groups * lm.head_size * 4_096 * engine.dtype.itemsize
    foretold = memory_bytes(found)["int8" if quantize == "int8" else dtype]
    assert foretold == pytest.approx(engine.weight_bytes + cache, rel=0.05)


def test_info_tells_it(ai: Ai, folder: Path) -> None:
    facts = json.loads(ai("info", folder, "--json").out)
    assert facts["memory_bytes"] == memory_bytes(checkpoint.read(folder, "small"))
    assert "in int8" in ai("info", folder).out


def test_every_setting_and_where_it_comes_from(ai: Ai, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "config" / "ai-cli" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('top-k = 7\ninput-device = "usb"\n')
    monkeypatch.setenv("AI_CLI_SEED", "5")
    told = json.loads(ai("config", "--json", "--eagerness", "0.5").out)
    assert (told["file"], told["exists"]) == (str(file), True)
    settings = told["settings"]
    assert settings["top_k"] == {"value": 7, "from": "file"}
    assert settings["input_device"] == {"value": "usb", "from": "file"}
    assert settings["seed"] == {"value": 5, "from": "environment"}
    assert settings["eagerness"] == {"value": 0.5, "from": "option"}
    assert settings["top_p"] == {"value": 1.0, "from": "default"}
    table = ai("config").out
    assert f"file: {file}\n" in table
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}
    assert rows["seed"] == ["5", "AI_CLI_SEED"]
    assert rows["top-k"] == ["7", "file"]
    assert rows["top-p"] == ["1.0"]

"""Microphones. Those marked slow speak, through a sound server of their own, into a real PortAudio device."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audio_interaction_cli.errors import AudioDeviceError, ExitCode, UsageError
from audio_interaction_cli.microphone import Gaps, InputDevice, choose, explained
from tests.conftest import Result

ROOM = InputDevice(index=3, name="Room", host_api="ALSA", channels=2, default=False, default_rate_hz=48_000)
DESK = replace(ROOM, index=4, name="USB Microphone (desk)", default=True)
WALL = replace(ROOM, index=5, name="USB Microphone (wall)")
THERE = [ROOM, DESK, WALL]


def test_a_device_is_chosen_by_index_or_part_of_its_name() -> None:
    assert choose(THERE, None) is DESK
    assert choose([ROOM, WALL], None) is ROOM  # where the system names none
    assert choose(THERE, "5") is WALL
    assert choose(THERE, "room") is ROOM
    assert choose([*THERE, camera := replace(ROOM, index=9, name="C920")], "920") is camera
    assert choose(THERE, "WALL") is WALL
    assert choose([*THERE, replace(ROOM, index=9, host_api="JACK")], "room") is ROOM


def test_a_device_that_is_not_there_or_not_clear_is_told() -> None:
    with pytest.raises(AudioDeviceError, match="no microphone found") as none:
        choose([], None)
    assert none.value.hint
    with pytest.raises(AudioDeviceError, match="no microphone is called 7"):
        choose(THERE, "7")
    with pytest.raises(UsageError, match=r"several microphones are called usb: 4 USB Mic.*, 5 USB Mic"):
        choose(THERE, "usb")


NO_PORTAUDIO = """
import ctypes.util, sys
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name == "portaudio" else find(name)
from audio_interaction_cli.main import main
sys.argv = ["ai-cli", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("command", ["mic", "devices"])
def test_without_portaudio(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", NO_PORTAUDIO, command], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.NO_AUDIO_DEVICE
    assert done.stderr.splitlines()[0] == "error: PortAudio, through which microphones are heard, is not installed"
    assert "hint: install it" in done.stderr


# --- with a real device

Start = Callable[..., "subprocess.Popen[str]"]


class SoundCard:
    """A PulseAudio server of our own, with a room: what is played there is what the microphone hears."""

    def __init__(self, folder: Path) -> None:
        for program in ("pulseaudio", "pactl", "paplay", "espeak-ng"):
            if not shutil.which(program):
                pytest.fail(f"{program} is not installed")
        self.environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}
        self.environ.pop("PULSE_SERVER", None)
        self._folder = folder
        self.process = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "-L", "module-native-protocol-unix",
             "-L", "module-null-sink sink_name=room rate=16000 channels=1"],
            env=self.environ, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while self._run("pactl", "set-default-source", "room.monitor").returncode:
            assert self.process.poll() is None
            time.sleep(0.1)

    def _run(self, *command: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(command, env=self.environ, capture_output=True, check=False)

    def say(self, text: str) -> None:
        file = str(self._folder / "said.wav")
        subprocess.run(["espeak-ng", "-v", "en-us", "-w", file, text], check=True)
        self.play(file)

    def play(self, file: str) -> None:
        assert self._run("paplay", "--device=room", file).returncode == 0

    def ai(self, *arguments: object) -> "subprocess.Popen[str]":
        """`ai-cli` as a process of its own, hearing this room."""
        command = [sys.executable, "-m", "audio_interaction_cli", *map(str, arguments)]
        return subprocess.Popen(
            command, env=self.environ, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def card(tmp_path: Path) -> Iterator[SoundCard]:
    card = SoundCard(tmp_path)
    try:
        yield card
    finally:
        card.close()


def mic(card: SoundCard, *arguments: object) -> "subprocess.Popen[str]":
    """`ai-cli mic` with the demo model, as soon as it listens."""
    process = card.ai("mic", "--checkpoint", "demo", "--temperature", 0, "--json", "--events", "all", *arguments)
    assert process.stdout
    while line := process.stdout.readline():
        if json.loads(line)["type"] == "chunk":
            break
    return process


def result(process: "subprocess.Popen[str]") -> Result:
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, out, err)


@pytest.mark.slow
def test_speech_into_the_microphone_is_answered(card: SoundCard, tmp_path: Path) -> None:
    record = tmp_path / "heard.flac"
    process = mic(card, "--record", record)
    for text in ("hello", "what is one plus one"):
        card.say(text)
        time.sleep(2)
    process.send_signal(signal.SIGINT)
    done = result(process)
    assert done.status == 130
    replies = [(reply["emotion"], reply["text"]) for reply in done.of("reply")]
    assert replies == [("happy", "Hello! How can I help?"), ("normal", "One plus one is two.")]
    (summary,) = done.of("summary")
    assert summary["median_step_ms"] < 400  # keeps up; how fast it is, benchmarks say
    samples, rate = soundfile.read(record)
    assert rate == 16_000
    assert np.abs(samples).max() > 0.05


@pytest.mark.slow
def test_the_devices_are_listed(card: SoundCard) -> None:
    devices = json.loads(result(card.ai("devices", "--json")).out)["devices"]
    assert {"pulse", "default"} <= {device["name"] for device in devices}
    assert [device["default"] for device in devices].count(True) == 1
    (pulse,) = [device for device in devices if device["name"] == "pulse"]
    assert pulse["host_api"] == "ALSA"
    assert {16_000, 44_100, 48_000} <= set(pulse["rates_hz"])
    assert "pulse" in result(card.ai("devices")).out


HEARS_A_TONE = """
import sys, numpy as np
from audio_interaction_cli.microphone import Microphone, choose, devices
with Microphone(choose(devices(), "pulse"), int(sys.argv[1])) as microphone:
    heard = []
    for item in microphone.items():
        if isinstance(item, np.ndarray):
            heard.append(item)
            print(sum(map(len, heard)), flush=True)
        if sum(map(len, heard)) > 48_000:
            break
tone = np.concatenate(heard)[-16_000:]
assert tone.dtype == np.float32
print("hertz", np.abs(np.fft.rfft(tone)).argmax(), "level", np.abs(tone).max())
"""


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_what_is_heard_at_another_rate_is_resampled(card: SoundCard, tmp_path: Path, rate_hz: int) -> None:
    tone = 0.5 * np.sin(np.arange(6 * 48_000) * 2 * np.pi * 440 / 48_000)
    soundfile.write(tmp_path / "tone.wav", tone, 48_000)
    hearing = subprocess.Popen(
        [sys.executable, "-c", HEARS_A_TONE, str(rate_hz)], env=card.environ, stdout=subprocess.PIPE, text=True
    )
    assert hearing.stdout
    assert hearing.stdout.readline()
    card.play(str(tmp_path / "tone.wav"))
    last = hearing.communicate(timeout=30)[0].splitlines()[-1].split()
    assert hearing.returncode == 0
    assert last[:3] == ["hertz", "440", "level"]
    assert float(last[3]) == pytest.approx(0.5, rel=0.02)


OPENS_ONCE_THE_SERVER_HAS_GONE = """
import os, signal, sys, time
from audio_interaction_cli.errors import AudioDeviceError
from audio_interaction_cli.microphone import Microphone, choose, devices, hushed
with hushed():
    device = choose(devices(), "pulse")
    os.kill(int(sys.argv[1]), signal.SIGKILL)
    time.sleep(0.5)
    try:
        Microphone(device)
    except AudioDeviceError as error:
        print(error.message, "|", error.hint, "|", int(error.exit_code))
"""


@pytest.mark.slow
def test_a_device_that_cannot_be_opened(card: SoundCard) -> None:
    script = [sys.executable, "-c", OPENS_ONCE_THE_SERVER_HAS_GONE, str(card.process.pid)]
    done = subprocess.run(script, env=card.environ, capture_output=True, text=True, check=True, timeout=60)
    message, hint, status = done.stdout.strip().split(" | ")
    assert message.startswith("pulse cannot be opened: ")
    assert hint
    assert int(status) == ExitCode.NO_AUDIO_DEVICE
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("Error opening InputStream: Device unavailable [PaErrorCode -9985]", "another program may be using it"),
        ("Error opening InputStream: Unanticipated host error: Permission denied", "in the group audio"),
        ("Error opening InputStream: Invalid sample rate [PaErrorCode -9997]", "ai-cli devices lists the others"),
    ],
)
def test_what_portaudio_says_is_explained(reason: str, hint: str) -> None:
    from sounddevice import PortAudioError

    with pytest.raises(AudioDeviceError) as told, explained(ROOM):
        raise PortAudioError(reason)
    assert told.value.message == f"Room cannot be opened: {reason}"
    assert hint in str(told.value.hint)


@pytest.mark.slow
def test_only_zeros_are_told(card: SoundCard) -> None:
    done = result(card.ai("mic", "--checkpoint", "demo", "--duration", 6))
    assert done.status == 0
    assert "has given nothing but zeros for 5 s" in done.err


@pytest.mark.slow
def test_a_lost_device_ends_it_with_everything_kept(card: SoundCard, tmp_path: Path) -> None:
    process = mic(card, "--record", tmp_path / "heard.wav")
    card.process.kill()
    done = result(process)
    assert done.status == ExitCode.NO_AUDIO_DEVICE
    assert "was lost" in done.of("error")[0]["message"]
    assert done.err.count("error:") == 1
    assert "Expression" not in done.err  # nothing of what PortAudio mutters
    assert done.lines[-1]["type"] == "summary"
    assert soundfile.info(tmp_path / "heard.wav").frames > 0


@pytest.mark.slow
def test_a_sound_server_that_hangs_does_not_hold_us_up(card: SoundCard) -> None:
    process = mic(card)
    card.process.send_signal(signal.SIGSTOP)
    done = result(process)
    assert done.status == ExitCode.NO_AUDIO_DEVICE
    assert "has delivered nothing for 2 s" in done.of("error")[0]["message"]


@pytest.mark.slow
def test_asleep_for_a_while_it_tells_the_gap_and_goes_on(card: SoundCard) -> None:
    process = mic(card)
    began = time.monotonic()
    process.send_signal(signal.SIGSTOP)
    time.sleep(35)  # PulseAudio keeps some 23 s for us
    process.send_signal(signal.SIGCONT)
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    done, elapsed_s = result(process), time.monotonic() - began
    assert done.status == ExitCode.INTERRUPTED, done.err
    assert done.of("error") == []
    missing_s = sum(lag["dropped_s"] for lag in done.of("lag"))
    assert missing_s > 5
    assert "nothing was heard for" in done.err
    assert done.of("summary")[0]["audio_s"] + missing_s == pytest.approx(elapsed_s, abs=3)


def blocks(*times_and_counts: tuple[float, int]) -> list[float]:
    """What is missing, told over blocks of 40 ms: so many in real time from each time on."""
    gaps = Gaps()
    missing = [gaps.missing_s(at + n * 0.04, 0.04) for at, count in times_and_counts for n in range(count)]
    return [seconds for seconds in missing if seconds]


def test_gaps_are_what_time_brought_no_sound() -> None:
    assert blocks((0, 1000)) == []
    assert blocks((0, 1000), (3_640, 200)) == [pytest.approx(3_600)]
    assert blocks((0, 1000), (50, 500), (90, 500)) == [pytest.approx(10), pytest.approx(20)]


def test_sound_that_comes_late_is_not_missing() -> None:
    late = [(48 + n / 1_000, 1) for n in range(200)]  # eight seconds at once
    assert blocks((0, 1000), *late, (48.2, 500)) == []
    slow_card = [(n * 0.0401, 1) for n in range(100_000)]  # 10 s an hour
    assert blocks(*slow_card) == []


@pytest.mark.slow
def test_no_device_and_unknown_ones(card: SoundCard) -> None:
    unknown = result(card.ai("mic", "--input-device", "nothing like it"))
    assert unknown.status == ExitCode.NO_AUDIO_DEVICE
    assert "ai-cli devices lists" in unknown.err
    card.close()
    for command in ("mic", "devices"):
        none = result(card.ai(command))
        assert none.status == ExitCode.NO_AUDIO_DEVICE
        assert none.err.startswith("error: no microphone found\nhint: ")


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_it_quietly(card: SoundCard) -> None:
    process = card.ai("mic", "--checkpoint", "demo", "--json")
    assert process.stdout
    assert json.loads(process.stdout.readline())["type"] == "session"
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr
    told: list[Any] = [line for line in process.stderr if not line.startswith("note: ")]
    process.stderr.close()
    assert told == []

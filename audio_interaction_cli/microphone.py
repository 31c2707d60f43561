"""Microphones: which there are, and what one of them hears as 16 kHz mono. Knows PortAudio, and nothing of files.

PortAudio's callback copies a block and puts it into a bounded queue, nothing else; all work is done by whoever
takes the items. Importing this loads no PortAudio.
"""

import atexit
import math
import os
import platform
import queue
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, Self

import numpy as np

from audio_interaction_cli.backlog import Begin, Gap, Item, Note
from audio_interaction_cli.errors import AudioDeviceError, UsageError
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ

USUAL_RATES_HZ = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)
BLOCK_S = 0.04
QUEUED_BLOCKS = 250  # 10 s, for a thread that only moves them on
NO_CALLBACK_S = 2.0
ONLY_ZEROS_S = 5.0
POLL_S = 0.1
MOST_CHANNELS = 2
CLOSING_S = 1.0
SHORTEST_GAP_S = 1.0
SETTLED_S = 2.0  # by when sound that was kept for us while we were away has come

# Nobody sets it, and it goes on while the machine sleeps, as time.monotonic() does on Windows alone.
CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

NO_PORTAUDIO = {
    "Linux": "install it: apt-get install libportaudio2 (Debian, Ubuntu), dnf install portaudio (Fedora)",
    "Darwin": "install it: pip install --force-reinstall sounddevice",
    "Windows": "install it: pip install --force-reinstall sounddevice",
}
NO_DEVICE = {
    "Linux": "plug one in, or start PipeWire or PulseAudio; over ssh or in a container there is none of its own",
}
NO_SOUND = {
    "Darwin": "allow the terminal: System Settings, Privacy & Security, Microphone; then start it again",
    "Windows": "allow desktop apps: Settings, Privacy & security, Microphone",
}


@dataclass(frozen=True, slots=True)
class InputDevice:
    """Something that PortAudio can hear with."""

    index: int
    name: str
    host_api: str
    channels: int
    default: bool
    default_rate_hz: int


def devices() -> list[InputDevice]:
    """All that can be heard with. AudioDeviceError where PortAudio is missing or does not start."""
    sounddevice = _sounddevice()
    apis = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    return [
        InputDevice(
            index=device["index"],
            name=device["name"],
            host_api=apis[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            default=device["index"] == default,
            default_rate_hz=round(device["default_samplerate"]),
        )
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    ]


def choose(there: Sequence[InputDevice], wanted: str | None) -> InputDevice:
    """The device of that index or with that part in its name, None for the default.

    AudioDeviceError if there is none, UsageError if several could be meant.
    """
    if not there:
        raise AudioDeviceError("no microphone found", NO_DEVICE.get(platform.system(), "plug one in"))
    if wanted is None:
        return next((device for device in there if device.default), there[0])
    found = [device for device in there if str(device.index) == wanted]
    if not found:  # a name can be of digits too
        part = wanted.casefold()
        found = [device for device in there if part in device.name.casefold()]
        found = [device for device in found if device.name.casefold() == part] or found
    if not found:
        raise AudioDeviceError(f"no microphone is called {wanted}", "ai-cli devices lists those that there are")
    if len({device.name for device in found}) > 1:
        names = ", ".join(f"{device.index} {device.name}" for device in found)
        raise UsageError(f"several microphones are called {wanted}: {names}", "say its index, or more of its name")
    return next((device for device in found if device.default), found[0])


def accepted_rates_hz(device: InputDevice) -> list[int]:
    """Which of the usual sample rates the device can be opened with, now."""
    return [rate for rate in USUAL_RATES_HZ if _accepts(device, rate)]


class Microphone:
    """What a device hears, resampled where it cannot give 16 kHz itself. Use it in a `with` statement.

    `rate_hz`: of the device; if not given, 16 kHz if it can, else its own. AudioDeviceError where it cannot be opened.
    """

    def __init__(self, device: InputDevice, rate_hz: int | None = None) -> None:
        self.device = device
        can_ours = rate_hz is None and _accepts(device, SAMPLE_RATE_HZ)
        self.rate_hz = rate_hz or (SAMPLE_RATE_HZ if can_ours else device.default_rate_hz)
        self._blocks: queue.Queue[tuple[float, np.ndarray]] = queue.Queue(QUEUED_BLOCKS)
        self._overflown = False
        with explained(device):
            self._stream = _sounddevice().InputStream(
                device=device.index,
                samplerate=self.rate_hz,
                channels=_channels(device),
                dtype="float32",
                blocksize=round(BLOCK_S * self.rate_hz),
                callback=self._keep,
            )

    def _keep(self, block: np.ndarray, _frames: int, _time: object, status: Any) -> None:
        try:
            self._blocks.put_nowait((_now_s(), block.copy()))
        except queue.Full:
            self._overflown = True
        if status.input_overflow:
            self._overflown = True

    def __enter__(self) -> Self:
        with explained(self.device):
            self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        closing = Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(CLOSING_S)
        at_exit = getattr(_sounddevice(), "_exit_handler", None)
        if closing.is_alive() and at_exit:
            atexit.unregister(at_exit)  # a sound server that hangs would keep us there once more

    def _close(self) -> None:
        with suppress(_sounddevice().PortAudioError):
            self._stream.abort()
            self._stream.close()

    def items(self) -> Iterator[Item]:
        """Samples without end, notes and gaps; empty samples where nothing came for a while.

        AudioDeviceError once the device is lost or has not delivered for two seconds.
        """
        import soxr

        resampler = soxr.ResampleStream(self.rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
        yield Begin(None)
        gaps = Gaps()
        quiet_s, zeros_s, told_overflow = 0.0, 0.0, False
        while True:
            try:
                at_s, block = self._blocks.get(timeout=POLL_S)
            except queue.Empty:
                quiet_s += POLL_S  # counted, for a clock goes on while we are stopped or asleep
                self._check(quiet_s)
                yield np.zeros(0, np.float32)
                continue
            quiet_s = 0.0
            if missing_s := gaps.missing_s(at_s, len(block) / self.rate_hz):
                yield Gap(missing_s)
            samples = np.clip(np.nan_to_num(block.mean(axis=1)), -1.0, 1.0)  # drivers are foreign code
            zeros_before_s = zeros_s
            zeros_s = 0.0 if samples.any() else zeros_s + len(samples) / self.rate_hz
            if zeros_before_s < ONLY_ZEROS_S <= zeros_s:
                hint = NO_SOUND.get(platform.system(), "is it muted, or the wrong one? ai-cli devices lists all")
                yield Note(f"{self.device.name} has given nothing but zeros for {ONLY_ZEROS_S:.0f} s; {hint}")
            if self._overflown and not told_overflow:
                told_overflow = True
                yield Note("the machine is too busy: some of what the microphone heard is missing")
            yield samples if self.rate_hz == SAMPLE_RATE_HZ else resampler.resample_chunk(samples)

    def _check(self, quiet_s: float) -> None:
        if not self._stream.active:
            raise AudioDeviceError(f"{self.device.name} was lost", "plug it in again, or choose another")
        if quiet_s > NO_CALLBACK_S:
            raise AudioDeviceError(
                f"{self.device.name} has delivered nothing for {NO_CALLBACK_S:.0f} s",
                "was it unplugged, or the sound server stopped? ai-cli devices lists what there is",
            )


class Gaps:
    """Finds out how much sound is missing: time that has passed beyond what was heard in it.

    Sound may come late and then all at once, so it is compared over two seconds each; a sound card whose clock is
    a little slow is thus never suspected.
    """

    def __init__(self) -> None:
        self._heard_s = 0.0
        self._ends_s = self._before_s = -math.inf
        self._least_s = math.inf

    def missing_s(self, at_s: float, block_s: float) -> float:
        """Take note of a block that came at that time; how much is missing before the last two seconds, mostly 0."""
        missing_s = 0.0
        if at_s >= self._ends_s:
            missing_s = self._least_s - self._before_s
            self._before_s, self._least_s = self._least_s, math.inf
            self._ends_s = at_s + SETTLED_S
        self._heard_s += block_s
        self._least_s = min(self._least_s, at_s - self._heard_s)
        return missing_s if SHORTEST_GAP_S <= missing_s < math.inf else 0.0


def _now_s() -> float:
    return time.monotonic() if CLOCK is None else time.clock_gettime(CLOCK)


def _channels(device: InputDevice) -> int:
    return min(device.channels, MOST_CHANNELS)


def _accepts(device: InputDevice, rate_hz: int) -> bool:
    sounddevice = _sounddevice()
    try:
        sounddevice.check_input_settings(device.index, _channels(device), "float32", samplerate=rate_hz)
    except sounddevice.PortAudioError:
        return False
    return True


def _sounddevice() -> Any:
    """The library; it starts PortAudio when it is first imported."""
    try:
        import sounddevice
    except OSError as error:
        hint = NO_PORTAUDIO.get(platform.system(), "install it")
        raise AudioDeviceError("PortAudio, through which microphones are heard, is not installed", hint) from error
    except Exception as error:
        if type(error).__name__ != "PortAudioError":
            raise
        raise AudioDeviceError(f"PortAudio does not start: {error.args[0]}") from error
    return sounddevice


@contextmanager
def explained(device: InputDevice) -> Iterator[None]:
    """PortAudio's errors, made ours."""
    sounddevice = _sounddevice()
    try:
        yield
    except sounddevice.PortAudioError as error:
        reason = " ".join(str(error.args[0]).split())
        told = reason.casefold()
        if "unavailable" in told or "busy" in told:
            hint = "another program may be using it; close that, or choose another device"
        elif "permission" in told:
            hint = "on Linux your user should be in the group audio; elsewhere allow the terminal to use the microphone"
        else:
            hint = "ai-cli devices lists the others"
        raise AudioDeviceError(f"{device.name} cannot be opened: {reason}", hint) from error


@contextmanager
def hushed() -> Iterator[None]:
    """Without what ALSA, JACK and PortAudio write to stderr from C, where it would disturb a display.

    Python's own stderr goes on to where it went.
    """
    if platform.system() != "Linux" or sys.stderr is not sys.__stderr__:
        yield
        return
    before = sys.stderr
    with (
        open(os.dup(2), "w", 1, "utf-8" if not before else before.encoding, "backslashreplace") as own,
        open(os.devnull, "w") as nowhere,
    ):
        sys.stderr = own
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own.fileno(), 2)
            sys.stderr = before

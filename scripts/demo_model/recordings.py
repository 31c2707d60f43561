"""Real sounds and speech that Debian packages bring, where they are installed: a few to be reported, most not."""

import re
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from speech import trimmed
from waves import RATE, Samples, attack, finished

_ROOTS = tuple(Path(share) for share in ("/usr/share", "/usr/local/share"))
_FOLDERS = ("tuxpaint/stamps", "sounds/freedesktop/stereo")
_RECORDED_EVENTS = {"dog": "bark", "blackcat": "meow", "firetruck": "siren", "phone-incoming-call": "phone"}
_OTHERS = """
    Washing-machine badger bassoon bear bee bison blackbird bull camel camera_35mm caribou cello cow cow_white
    crow cuckoo cymbal_crash deer doe dolphin donkey duck elephant fireworks frog goat gorilla grasshopper
    hammer hen hornet horse kettle lark lightningbolt lion mosquito mouse orca owl penguin pig ram rooster
    rubberduck seagull sheep tiger train trumpet tuba turkey violin whale bell camera-shutter complete
    device-added device-removed dialog-information dialog-warning message-new-instant message service-login
    service-logout suspend-error trash-empty power-plug power-unplug screen-capture audio-volume-change
"""
_RECORDED_OTHERS = frozenset(_OTHERS.split())

# Telephone prompts; and the names of pictures to stamp (the English ones have no language in their name).
_SPEECH = (("asterisk/sounds/en_US_f_Allison", "*.wav"), ("tuxpaint/stamps", "*_desc.ogg"))
# Prompts with one of these words in their name are no speech, or could be meant for an assistant.
_UNFIT = """
    silence beep beeperr tone tones 2tone monkeys hello goodbye thank thanks thankyou welcome good morning pause paused
    next prev previous repeat stop play cancel cancelled yes no time world
"""
_NOT_DISTRACTORS = frozenset(_UNFIT.split())
# What some of these prompts say that is of the closed set.
_PHRASES = {
    "hello": "hello", "goodbye": "goodbye", "vm-goodbye": "goodbye", "auth-thankyou": "thank you",
    "privacy-thankyou": "thank you",
}  # fmt: skip


def recorded_events(held_out: bool) -> Iterator[tuple[str, Samples]]:
    """Kind and samples (at most 4 s) of real recordings; there is one of a kind, so all are for training."""
    for path in _recordings():
        if path.stem in _RECORDED_EVENTS and not held_out:
            yield _RECORDED_EVENTS[path.stem], _read(path, 4.0)


def recorded_sounds(held_out: bool) -> Iterator[tuple[str, Samples]]:
    """Name and samples (at most 6 s) of real recordings of other things; a third is kept for evaluation."""
    for path in _recordings():
        name = path.resolve().stem  # some are links to others
        if path.stem in _RECORDED_OTHERS and (zlib.crc32(name.encode()) % 3 == 0) == held_out:
            yield path.stem, _read(path, 6.0)


@cache
def recorded_phrases() -> list[tuple[str, Samples]]:
    """Phrases of the closed set as one woman said them on the telephone: never trained on."""
    return [(_PHRASES[path.stem], _speech(path)) for _, path in _spoken() if path.stem in _PHRASES]


def recorded_speech(held_out: bool) -> Iterator[tuple[str, Samples]]:
    """What people recorded for other programs, by name: speech that is not for the assistant; a third is held out."""
    for name, path in _spoken():
        unfit = _NOT_DISTRACTORS & set(re.split(r"[-_./]", name.lower()))
        if unfit or held_out != (zlib.crc32(name.encode()) % 3 == 0):
            continue
        if 0.5 <= soundfile.info(path).duration <= 8:
            yield name, _speech(path)


def _spoken() -> Iterator[tuple[str, Path]]:
    """Name and file of all that people said."""
    for root in _ROOTS:
        for folder, pattern in _SPEECH:
            for path in sorted((root / folder).rglob(pattern)):
                yield f"{folder.partition('/')[0]}/{path.relative_to(root / folder).with_suffix('')}", path


def _speech(path: Path) -> Samples:
    return trimmed(_mono(path))[1]


def _recordings() -> list[Path]:
    folders = (root / folder for root in _ROOTS for folder in _FOLDERS)
    return sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*.og[ga]"))


def _read(path: Path, seconds: float) -> Samples:
    mono = _mono(path)
    loud = np.flatnonzero(np.abs(mono) > 0.02 * np.abs(mono).max())
    return finished(attack(0.01, mono[loud[0] : loud[-1] + 1][: int(seconds * RATE)].astype(np.float64)))


def _mono(path: Path) -> Samples:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Samples = soxr.resample(samples.mean(axis=1), rate, RATE)
    return mono

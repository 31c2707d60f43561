"""Recordings of phrases and sounds: the sounds, and the voices of the clips, are kept apart from training.

A short session that comes with the model, and single phrases and sounds of which the tests make theirs.
"""

import json
from pathlib import Path

import numpy as np
import soundfile

import backgrounds
import quiet_sounds
import sounds
import speech
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ
from waves import Samples

# What happens in each recording: seconds of pause, or what is heard. "say" is spoken, all else is a sound.
SCRIPT: dict[str, list[float | tuple[str, str]]] = {
    "1-hello.ogg": [
        0.6, ("say", "hello"), 1.4, ("say", "my name is Maria"), 1.4,
        ("say", "the driver sold an umbrella at the station"), 1.2, ("say", "do you know my name"), 1.2,
    ],
    "2-sounds.ogg": [
        0.8, ("quiet", "keyboard"), 0.8, ("event", "doorbell"), 1.6, ("event", "alarm"), 1.6,
        ("say", "what was that"), 1.2,
    ],
    "3-counting.ogg": [
        0.6, ("say", "count the barks"), 1.4, ("event", "bark1"), 1.1, ("event", "bark1"), 1.3,
        ("say", "nobody repaired the radio"), 1.0, ("event", "bark1"), 1.2, ("say", "stop counting"), 1.2,
    ],
    "4-memory.ogg": [
        0.6, ("say", "what does the cow say"), 1.4, ("say", "say that again"), 1.4, ("say", "be quiet"), 1.4,
        ("event", "knock"), 1.2, ("say", "good morning"), 1.4, ("say", "wake up"), 1.2,
    ],
    "5-feelings.ogg": [
        0.6, ("say", "I saw a ghost"), 1.4, ("say", "I lost my keys"), 1.4, ("say", "you are stupid"), 1.4,
        ("event", "glass"), 1.4, ("say", "thank you very much"), 1.2,
    ],
}  # fmt: skip
SPEAKER = ("pico", "en-GB")
SESSION_SEED = 20_250_505  # a session that the model hears right; what share it does is for `evaluate` to say
LOUDNESS, SNR_DB = 0.4, 24.0

# Which voice, of those kept apart, says each clip.
CLIP_PHRASES = {
    "hello": ("espeak", "en-gb+m2"),
    "thank you": ("espeak", "en-gb+m2"),
    "help me": ("espeak", "en-gb+m2"),
    "I saw a ghost": ("espeak", "en-gb+m2"),
    "I lost my keys": ("flite", "rms"),
    "you are stupid": ("kokoro", "jf_gongitsune"),
    "turn on the light": ("espeak", "en-gb+m2"),
    "what is the capital of France": ("flite", "rms"),
    "my name is Maria": ("flite", "rms"),
    "what is my name": ("flite", "rms"),
    "count the knocks": ("flite", "rms"),
    "stop counting": ("flite", "rms"),
    "be quiet": ("flite", "rms"),
    "wake up": ("flite", "rms"),
    "say that again": ("espeak", "en-gb-x-gbcwmd+m3"),
    "what was that": ("flite", "rms"),
    "the driver sold an umbrella at the station": ("flite", "rms"),
    "turn on the oven": ("flite", "rms"),
}


def write(folder: Path, seed: int) -> None:
    """Write the recordings and `sequence.json`, which gives their order."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name, script in SCRIPT.items():
        _write(folder / name, _with_room(rng, np.concatenate([_heard(rng, step) for step in script])))
    (folder / "sequence.json").write_text(json.dumps(list(SCRIPT), indent=1) + "\n")


def write_clips(folder: Path, seed: int) -> None:
    """Write each phrase and sound as a file of its own, named by what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for text, speaker in CLIP_PHRASES.items():
        _write(folder / f"{text.replace(' ', '_')}.flac", _say(np.random.default_rng(1), text, speaker))
    for kind in (*sounds.EVENTS, *sounds.COUNTED):
        _write(folder / f"{kind}.flac", sounds.event(kind, np.random.default_rng((seed, 0)), held_out=True))


def _write(file: Path, samples: Samples) -> None:
    soundfile.write(file, samples * np.float32(LOUDNESS / np.abs(samples).max()), SAMPLE_RATE_HZ)


def _say(rng: np.random.Generator, text: str, speaker: tuple[str, str]) -> Samples:
    voice = next(voice for voice in speech.VOICES if (voice.synthesiser, voice.name) == speaker)
    return speech.speak(text, voice, rng, wide=False).samples


def _heard(rng: np.random.Generator, step: float | tuple[str, str]) -> Samples:
    match step:
        case ("say", str(text)):
            return _say(rng, text, SPEAKER)
        case ("event", str(kind)):
            return sounds.event(kind, rng, held_out=True)
        case ("quiet", str(kind)):
            return quiet_sounds.quiet_sound(kind, rng, held_out=True)
        case float(pause):
            return np.zeros(int(pause * SAMPLE_RATE_HZ), np.float32)
    raise AssertionError(step)


def _with_room(rng: np.random.Generator, samples: Samples) -> Samples:
    """A little of a room's noise behind it."""
    noise = backgrounds.background("pink", len(samples), rng, held_out=True)
    level = float(np.sqrt(np.mean(samples[np.abs(samples) > 1e-4] ** 2))) * 10 ** (-SNR_DB / 20)
    return samples + noise * np.float32(level / np.sqrt(np.mean(noise**2)))

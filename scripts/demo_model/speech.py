"""Speech from synthesisers.

It knows the voices of espeak-ng, flite, festival (one process reads many texts), SVOX Pico, Piper, Kokoro and Hibari;
how to vary a voice, and which voices are kept for tests only. It does not know what is said or why, and it adds
neither rooms nor noise.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

import packaged
from audio_interaction_cli.protocol import HOP_SAMPLES as COLUMN  # samples under one phoneme label
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ as SAMPLE_RATE
from synthesisers import PHONEMES as PHONEMES  # for those who read the labels
from synthesisers import RADIO_PHONES, Espeak, Flite, Sound
from synthesisers import UNKNOWN as UNKNOWN
from waves import PEAK

FORBIDDEN_VOICES = frozenset({"slt"})  # not to be used from any synthesiser


@dataclass(frozen=True, slots=True)
class Voice:
    synthesiser: str
    name: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Utterance:
    samples: NDArray[np.float32]  # mono, SAMPLE_RATE, trimmed, peak at PEAK
    phonemes: NDArray[np.uint8]  # for each column an index of PHONEMES, or UNKNOWN


def _words(text: str) -> list[str]:
    return text.split()


# espeak-ng's variants of a voice, without those that are hard to understand (whispers, robots, echoes, formants far
# from any mouth: whisper, whisperf, croak, Demonic, robosoft*, UniRobot, anikaRobot, announcer, AnxiousAndy,
# kaukovalta, Marco, Tweaky) and without "fast", which changes nothing at usual rates.
_VARIANTS = _words("""
Alex Alicia Andy Annie Denis Diogo Gene Henrique Hugo Jacky Lee Mario Michael Mike Mr_serious Nguyen RicishayMax
RicishayMax2 RicishayMax3 Storm adam anika antonio aunty belinda benjamin boris caleb david ed edward2 f1 f3 f4 f5
grandma grandpa gustave iven iven2 iven3 iven4 john klatt klatt3 klatt4 klatt5 klatt6 linda m1 m3 m4 m5 m7 m8 marcelo
max michel miguel norbert pablo paul pedro quincy rob robert sandro steph steph3 travis zac
""")
_VARIANTS_HELD_OUT = _words("m2 m6 f2 Andrea edward klatt2 Gene2 shelby steph2 victor")
_ACCENTS = _words("en-gb en-us en-gb-scotland en-gb-x-gbclan en-gb-x-rp en-029 en-us-nyc")
_ACCENT_HELD_OUT = "en-gb-x-gbcwmd"
# American and British women and men, and speakers of other languages, whose English has an accent.
_KOKORO = _words("""
af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_sarah af_sky am_adam am_echo am_eric
am_fenrir am_liam am_michael am_onyx am_santa bf_alice bf_isabella bf_lily bm_daniel bm_fable bm_lewis
ef_dora em_alex em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola jf_alpha jf_nezumi jf_tebukuro
jm_kumo pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi zm_yunyang
""")
_KOKORO_HELD_OUT = _words("af_river am_puck bf_emma bm_george jf_gongitsune zm_yunxia")
WITH_GAPS = 0.25  # of the training utterances have gaps between their words


def _all_voices() -> Iterator[Voice]:
    yield from (Voice("espeak", f"{accent}+{variant}", False) for accent in _ACCENTS for variant in _VARIANTS)
    kept = [f"{accent}+{variant}" for accent in _ACCENTS[:3] for variant in _VARIANTS_HELD_OUT]
    kept += [f"{_ACCENT_HELD_OUT}+{variant}" for variant in ("m3", "f3", "Mike", "linda")]
    yield from (Voice("espeak", name, True) for name in kept)
    yield from (Voice("flite", name, name == "rms") for name in ("kal16", "awb", "rms"))
    yield from (Voice("festival", name, False) for name in ("kal_diphone", "ked_diphone"))
    yield from (Voice("pico", name, False) for name in ("en-US", "en-GB"))
    yield Voice("piper", "joe", False)
    between = map("+".join, zip(_KOKORO, _KOKORO[2:], strict=False))
    yield from (Voice("kokoro", name, False) for name in (*_KOKORO, *between))
    yield from (Voice("kokoro", name, True) for name in _KOKORO_HELD_OUT)
    yield from (Voice("hibari", accent, False) for accent in ("us", "gb"))


VOICES: tuple[Voice, ...] = tuple(_all_voices())
if any(FORBIDDEN_VOICES & set(re.split(r"\W|_", voice.name)) for voice in VOICES):
    raise AssertionError(f"one of {sorted(FORBIDDEN_VOICES)} is among the voices")


def training_voices() -> list[Voice]:
    return [voice for voice in VOICES if not voice.held_out and _installed(voice.synthesiser)]


def held_out_voices() -> list[Voice]:
    return [voice for voice in VOICES if voice.held_out and _installed(voice.synthesiser)]


@cache
def _installed(synthesiser: str) -> bool:
    libraries = {"espeak": "espeak-ng", "flite": "flite"}
    if synthesiser in packaged.PACKAGES:
        found = packaged.installed(synthesiser)
    elif synthesiser in libraries:
        found = find_library(libraries[synthesiser]) is not None
    else:
        found = shutil.which(synthesiser) is not None
    if not found:
        sys.stderr.write(f"{synthesiser} is not installed: its voices are left out\n")
    return found


class _Manner(NamedTuple):
    """How a text is said; dials from -1 to 1 with the voice's own manner at 0, but for the scale and the gap.

    In training the pace goes down to -2, and some leave a gap between words: people take their time with machines.
    """

    pace: float = 0.0
    pitch: float = 0.0
    melody: float = 0.0
    scale: float = 1.0  # of all frequencies, by resampling: above 1 for a smaller and quicker speaker
    throat: float = 0.0
    breath: float = 0.0
    gap: float = 0.0  # between words, in hundredths of a second; only espeak-ng can

    @classmethod
    def draw(cls, rng: np.random.Generator, voice: Voice) -> "_Manner":
        # The other synthesisers have few voices: they are stretched further than espeak's many, men's voices upwards.
        ranges = {"espeak": (0.86, 1.16), "pico": (0.8, 1.16), "kokoro": (0.8, 1.16), "hibari": (0.76, 1.16)}
        lowest, highest = ranges.get(voice.synthesiser, (0.86, 1.28))
        pace, pitch, melody = rng.uniform(-1, 1, 3)
        manner = cls(*map(float, (pace, pitch, melody, rng.uniform(lowest, highest), *rng.uniform(-1, 1, 2))))
        if voice.held_out:
            return manner
        gap = float(rng.integers(1, 13)) if rng.random() < WITH_GAPS else 0.0
        return manner._replace(pace=min(manner.pace, 2 * manner.pace), gap=gap)

    def stretch(self) -> float:
        """How much longer to speak, where that is not a matter of words a minute; makes up for some of the scale."""
        return _dial(self.pace, 1.3, 1.0, 0.78, slowest=1.75) * float(self.scale**0.6)


class _Request(NamedTuple):
    text: str
    voice: str
    manner: _Manner


def speak(text: str, voice: Voice, rng: np.random.Generator, *, wide: bool = True) -> Utterance:
    """Say a text, in a manner drawn from `rng`, or, if not `wide`, in the voice's own."""
    manner = _Manner.draw(rng, voice) if wide else _Manner()
    return next(_SYNTHESISERS[voice.synthesiser]([_Request(text, voice.name, manner)]))


def speak_all(requests: Sequence[tuple[str, Voice]], seed: int) -> Iterator[Utterance]:
    """Say many texts in their order; the i-th sounds as `speak` makes it with default_rng((seed, i)).

    But for Piper, whose library takes no seed.
    """
    for first in range(0, len(requests), 256):
        window = requests[first : first + 256]
        queues: dict[str, list[_Request]] = {}
        for index, (text, voice) in enumerate(window, first):
            manner = _Manner.draw(np.random.default_rng((seed, index)), voice)
            queues.setdefault(voice.synthesiser, []).append(_Request(text, voice.name, manner))
        streams = {synthesiser: _SYNTHESISERS[synthesiser](queue) for synthesiser, queue in queues.items()}
        for _, voice in window:
            yield next(streams[voice.synthesiser])


def _dial(position: float, low: float, usual: float, high: float, slowest: float | None = None) -> float:
    return float(np.interp(position, (-2, -1, 0, 1), (low if slowest is None else slowest, low, usual, high)))


def _utterance(sound: Sound, scale: float) -> Utterance:
    """Resample, trim and level what a synthesiser said."""
    raw, rate, phones = sound
    samples = soxr.resample(raw.astype(np.float32) / 32768, rate * scale, SAMPLE_RATE, quality="MQ")
    start, samples = trimmed(samples)
    middles = (start + COLUMN * (np.arange(-(-len(samples) // COLUMN)) + 0.5)) / SAMPLE_RATE * scale
    classes = np.array([index for _, index in phones] + [0 if phones else UNKNOWN], np.uint8)
    return Utterance(samples, classes[np.searchsorted([end for end, _ in phones], middles)])


def trimmed(samples: NDArray[np.float32]) -> tuple[int, NDArray[np.float32]]:
    """Where speech starts, and the speech from 10 ms before that to 10 ms after its end, with its peak at PEAK."""
    peak = float(np.abs(samples).max(initial=0))
    loud = np.flatnonzero(np.abs(samples) > peak * 0.01)
    if not len(loud):
        raise ValueError("the synthesiser said nothing")
    start = max(int(loud[0]) - COLUMN, 0)
    return start, np.ascontiguousarray(samples[start : int(loud[-1]) + 1 + COLUMN] * np.float32(PEAK / peak))


# espeak-ng


@cache
def _espeak() -> Espeak:
    return Espeak()


def _speak_espeak(requests: Sequence[_Request]) -> Iterator[Utterance]:
    for text, voice, manner in requests:
        rate, pitch = _dial(manner.pace, 115, 175, 240, slowest=82), _dial(manner.pitch, 12, 50, 95)
        span = _dial(manner.melody, 10, 50, 90)
        sound = _espeak().say(text, voice, rate=rate, pitch=pitch, span=span, gap=manner.gap)
        yield _utterance(sound, manner.scale)


# flite


@cache
def _flite() -> Flite:
    return Flite()


def _speak_flite(requests: Sequence[_Request]) -> Iterator[Utterance]:
    for text, voice, manner in requests:
        sound = _flite().say(text, voice, stretch=manner.stretch(), pitch=_dial(manner.pitch, 0.87, 1, 1.15))
        yield _utterance(sound, manner.scale)


# festival


def _speak_festival(requests: Sequence[_Request]) -> Iterator[Utterance]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "say.scm")
        script.write_text("\n".join(_festival_lines(requests, folder)), "utf-8")
        subprocess.run(["festival", "-b", str(script)], check=True, stdin=subprocess.DEVNULL)
        for index, request in enumerate(requests):
            raw, rate = soundfile.read(f"{folder}/{index}.wav", dtype="int16")
            _, _, table = Path(folder, f"{index}.lab").read_text("utf-8").partition("#\n")
            rows = [line.split() for line in table.splitlines()]  # end, colour, phone
            phones = [(float(end), RADIO_PHONES.get(phone, UNKNOWN)) for end, _, phone in rows]
            yield _utterance((raw, rate, phones), request.manner.scale)


def _festival_lines(requests: Sequence[_Request], folder: str) -> Iterator[str]:
    for index, (text, voice, manner) in enumerate(requests):
        quoted = text.replace("\\", " ").replace('"', " ")
        pitch, melody = 105 * _dial(manner.pitch, 0.87, 1, 1.15), 14 * _dial(manner.melody, 0.4, 1, 1.8)
        yield f"(voice_{voice})"
        yield f"(Parameter.set 'Duration_Stretch {manner.stretch():.4f})"
        yield f"(set-cdr! (assoc 'target_f0_mean int_lr_params) (list {pitch:.2f}))"
        yield f"(set-cdr! (assoc 'target_f0_std int_lr_params) (list {melody:.2f}))"
        yield f'(set! said (utt.synth (Utterance Text "{quoted}")))'
        yield f'(utt.save.wave said "{folder}/{index}.wav" \'riff)'
        yield f'(utt.save.segs said "{folder}/{index}.lab")'


# SVOX Pico, Piper, Kokoro, Hibari


def _speak_pico(requests: Sequence[_Request]) -> Iterator[Utterance]:
    for text, voice, manner in requests:
        pitch = _dial(manner.pitch, 0.88, 1, 1.15)
        yield _utterance(packaged.say_pico(text, voice, stretch=manner.stretch(), pitch=pitch), manner.scale)


def _speak_piper(requests: Sequence[_Request]) -> Iterator[Utterance]:
    for text, _, manner in requests:
        melody = _dial(manner.melody, 0.5, 1, 1.4)
        yield _utterance(packaged.say_piper(text, stretch=manner.stretch(), melody=melody), manner.scale)


def _speak_kokoro(requests: Sequence[_Request]) -> Iterator[Utterance]:
    for text, voice, manner in requests:
        mix = _dial(manner.melody, -0.2, 0.5, 1.2)
        yield _utterance(packaged.say_kokoro(text, voice, stretch=manner.stretch(), mix=mix), manner.scale)


def _speak_hibari(requests: Sequence[_Request]) -> Iterator[Utterance]:
    for text, voice, manner in requests:
        sound = packaged.say_hibari(
            text, voice, stretch=manner.stretch(), pitch=_dial(manner.pitch, 0.55, 1, 1.2),
            melody=_dial(manner.melody, 0.4, 1, 1.7), bend=0.35 * manner.throat, breath=1.2 * manner.breath,
        )  # fmt: skip
        yield _utterance(sound, manner.scale)


_SYNTHESISERS: dict[str, Callable[[Sequence[_Request]], Iterator[Utterance]]] = {
    "espeak": _speak_espeak,
    "flite": _speak_flite,
    "festival": _speak_festival,
    "pico": _speak_pico,
    "piper": _speak_piper,
    "kokoro": _speak_kokoro,
    "hibari": _speak_hibari,
}

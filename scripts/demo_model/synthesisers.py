"""The phoneme classes, and espeak-ng and flite through ctypes.

It knows what the synthesisers call the phonemes of English, and how these two say a text and tell when each phoneme is
heard. It does not know which of their voices are used, nor how a voice is varied.
"""

import ctypes
import re
import zlib
from collections.abc import Callable
from ctypes.util import find_library
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 255  # the label of a column whose phoneme is not known

# What a synthesiser said, at which rate, and the second each phoneme ends at with its class; none if it does not tell.
Sound = tuple[NDArray[np.int16], int, list[tuple[float, int]]]

# One class an entry: its name, what else espeak-ng calls it, and after the bar the name flite and festival have for it.
_CLASSES = """
silence _ _: _:: _! _| | pau, p | p, b | b, t t2 | t, d d2 | d, tS | ch, dZ | jh, k | k, g | g, t# | dx, ? |
f | f, v | v, T t[ | th, D d[ | dh, s | s, z z# | z, S | sh, Z | zh, h x C | hh, m m- | m, n n- | n, N | ng
l l# | l, @L | el, r r- R R2 | r, w w# | w, j | y
i: | iy, i |, I I2 I# | ih, E E2 e | eh, a | ae, A: aa A# | aa, 0 O2 o |, O: O | ao, U | uh, u: u | uw, V V2 VR | ah
3: | er, 3 IR | axr, @ @2 @5 a# | ax, eI e: | ey, aI aI2 | ay, OI | oy, aU | aw, oU o: | ow
i@ i@3 |, e@ |, U@ |, A@ |, O@ o@ |, aI@ aI3 aU@ |
"""
_ENTRIES = [re.sub(r"\|$", "| ", entry.strip()).rsplit("| ", 1) for entry in re.split(r",|\n", _CLASSES.strip())]
PHONEMES: tuple[str, ...] = tuple(mnemonics.split()[0] for mnemonics, _ in _ENTRIES)
_MNEMONICS = {name: index for index, (mnemonics, _) in enumerate(_ENTRIES) for name in mnemonics.split()}
_STOPS = frozenset(_MNEMONICS[name] for name in ("p", "b", "t", "d", "tS", "dZ", "k", "g"))
RADIO_PHONES = {phone: index for index, (_, phone) in enumerate(_ENTRIES) if phone}


def function(shared: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    kind: Any = ctypes.CFUNCTYPE(result, *arguments)
    bound: Callable[..., Any] = kind((name, shared))
    return bound


@cache
def library(name: str) -> ctypes.CDLL:
    found = find_library(name)
    if found is None:
        raise RuntimeError(f"lib{name} is not installed")
    return ctypes.CDLL(found)


@cache
def reseed() -> Callable[[int], None]:
    """Both espeak-ng and flite take noise from the C library's one generator."""
    return function(ctypes.CDLL(None), "srand", None, ctypes.c_uint)


class _EspeakEvent(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("mnemonic", ctypes.c_char * 8),
    ]


class Espeak:
    """One to a process. Its flutter, a slight unsteadiness of the pitch, goes on from text to text: a text comes out
    the same to the sample only where the same texts were said before it.
    """

    RATE, VOLUME, PITCH, SPAN, GAP = 1, 2, 3, 4, 7
    PHONEME = 7

    def __init__(self) -> None:
        self.library = library("espeak-ng")
        synchronous, phoneme_events = 2, 1
        self.sample_rate = self.library.espeak_Initialize(synchronous, 500, None, phoneme_events)
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng found no voices")
        self._blocks: list[NDArray[np.int16]] = []
        self._starts: list[tuple[int, int]] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent)
        )
        self._callback = kind(self._hear)  # held here for as long as espeak calls it
        self.library.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while (event := events[index]).kind:
            if event.kind == self.PHONEME:
                self._starts.append((event.sample, _MNEMONICS.get(event.mnemonic.decode(), UNKNOWN)))
            index += 1
        return 0

    def say(self, text: str, voice: str, *, rate: float, pitch: float, span: float, gap: float = 0.0) -> Sound:
        """Say a text at so many words a minute; pitch and the span of its melody go from 0 to 99; the gap between
        words is in hundredths of a second at the usual rate."""
        accent, _, variant = voice.partition("+")
        # British English goes by the plain language name; one variant has a space in its name.
        name = f"{'en' if accent == 'en-gb' else accent}+{variant.replace('Mr_', 'Mr ')}"
        if self.library.espeak_SetVoiceByName(name.encode()):
            raise RuntimeError(f"espeak-ng has no voice {name}")
        # The louder variants would clip at the usual volume of 100.
        dials = ((self.RATE, rate), (self.VOLUME, 60), (self.PITCH, pitch), (self.SPAN, span), (self.GAP, gap))
        for parameter, value in dials:
            self.library.espeak_SetParameter(parameter, round(value), 0)
        self._blocks, self._starts = [], []
        encoded = text.encode() + b"\0"
        reseed()(zlib.crc32(encoded))
        utf8 = 1
        self.library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 1, 0, utf8, None, None)
        raw = np.concatenate([np.empty(0, np.int16), *self._blocks])
        return raw, self.sample_rate, self._phones(raw)

    def _phones(self, raw: NDArray[np.int16]) -> list[tuple[float, int]]:
        """When each phoneme ends; espeak tells where the sound of it starts, which in stops is after the closure."""
        block = self.sample_rate // 200
        level = np.abs(raw[: len(raw) // block * block].reshape(-1, block)).max(axis=1)
        quiet = level < 0.03 * level.max(initial=1)
        ends: list[tuple[float, int]] = []
        before, kind = 0, 0  # where the phoneme before starts, and its class
        for start, index in [*self._starts, (len(raw), 0)]:
            first = min(start // block, len(quiet))
            while index in _STOPS and first > before // block + 2 and quiet[first - 1]:
                first -= 1
            begin = first * block if first < start // block else start
            ends.append((begin / self.sample_rate, kind))
            before, kind = begin, index
        return ends


class _FliteVoice(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


class _FliteWave(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_char_p),
        ("rate", ctypes.c_int),
        ("count", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


_FLITE_PITCH = {"kal16": 95.0, "awb": 130.0, "rms": 95.0}  # Hz


class Flite:
    def __init__(self) -> None:
        shared, pointer, text = library("flite"), ctypes.c_void_p, ctypes.c_char_p
        shared.flite_init()
        self.set_feature = function(shared, "flite_feat_set_float", None, pointer, text, ctypes.c_float)
        self.synthesise = function(shared, "flite_synth_text", pointer, text, ctypes.POINTER(_FliteVoice))
        self.wave = function(shared, "utt_wave", ctypes.POINTER(_FliteWave), pointer)
        self.relation = function(shared, "utt_relation", pointer, pointer, text)
        self.head = function(shared, "relation_head", pointer, pointer)
        self.next = function(shared, "item_next", pointer, pointer)
        self.end = function(shared, "item_feat_float", ctypes.c_float, pointer, text)
        self.name = function(shared, "item_feat_string", text, pointer, text)
        self.delete = function(shared, "delete_utterance", None, pointer)

    @cache  # noqa: B019 - there is one _Flite for good
    def voice(self, name: str) -> Any:
        register = f"register_cmu_us_{name}"
        return function(library(f"flite_cmu_us_{name}"), register, ctypes.POINTER(_FliteVoice), ctypes.c_void_p)(None)

    def say(self, text: str, voice: str, *, stretch: float, pitch: float) -> Sound:
        """Say a text `stretch` times as slowly as usual, at `pitch` times the usual pitch."""
        named = self.voice(voice)
        features = named.contents.features
        self.set_feature(features, b"duration_stretch", stretch)
        self.set_feature(features, b"int_f0_target_mean", _FLITE_PITCH[voice] * pitch)
        reseed()(zlib.crc32(text.encode()))
        utterance = self.synthesise(text.encode(), named)
        wave = self.wave(utterance).contents
        raw = np.ctypeslib.as_array(wave.samples, (wave.count,)).copy()
        phones, item = [], self.head(self.relation(utterance, b"Segment"))
        while item:
            phones.append((self.end(item, b"end"), RADIO_PHONES.get(self.name(item, b"name").decode(), UNKNOWN)))
            item = self.next(item)
        rate = wave.rate
        self.delete(utterance)
        return raw, rate, phones

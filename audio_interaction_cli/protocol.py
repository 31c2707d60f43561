"""What the model and its user agree on: token ids, geometry of sound, and the words for it.

Glossary. *sample*: 1/16,000 s of mono sound. *block*: samples as a source delivers them, of any
length. *chunk*: 0.4 s, after which the model decides. *column*: 10 ms of log-mel spectrum.
*frame*: 40 ms, one vector from the audio tower. *position*: one slot of the language model's cache.
*round*: one input (a file and the silence after it). *turn*: what the model does after one chunk.

All figures are facts of the published checkpoint; another may bring token ids and a prompt of its own.
Imports nothing beyond the standard library.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

SAMPLE_RATE_HZ = 16_000
CHUNK_SAMPLES = 6_400
CHUNK_S = CHUNK_SAMPLES / SAMPLE_RATE_HZ  # 0.4

N_FFT_SAMPLES = 400
HOP_SAMPLES = 160
N_MELS = 128
CHUNK_COLUMNS = CHUNK_SAMPLES // HOP_SAMPLES  # 40
CHUNK_FRAMES = CHUNK_COLUMNS // 4  # 10: the tower's convolution and its pooling halve the columns each

BLOCK_POSITIONS = 1 + CHUNK_FRAMES + 1  # AUDIO_BEGIN, the frames, ASSISTANT
CHUNK_POSITIONS = BLOCK_POSITIONS + 1  # and the decision, which is fed before the next block

DEFAULT_CONTEXT_POSITIONS = 4_096

SYSTEM_PROMPT = (
    "You are a helpful assistant. When there is no user text, if the audio contains a question, "
    "please answer it. If it is a sound effect, determine based on the sound whether help is needed."
)


def seconds(chunks: int) -> float:
    """Length of so many chunks, rounded once."""
    return chunks * CHUNK_SAMPLES / SAMPLE_RATE_HZ


class Emotion(StrEnum):
    """How a reply is meant."""

    HAPPY = "happy"
    SAD = "sad"
    ANGRY = "angry"
    SURPRISE = "surprise"
    NORMAL = "normal"
    URGENT = "urgent"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """The ids that mean something to the protocol; the defaults are those of the published checkpoint.

    The ids `control_begin` to `control_end` (exclusive) are ordinary entries of the tokenizer that the
    model was taught to use as signs. They, the ids named here and the tokenizer's own special tokens are never text.
    """

    control_begin: int = 151_601
    control_end: int = 151_620

    assistant: int = 151_602
    keep_silence: int = 151_605
    pad: int = 151_608
    online: int = 151_609
    english: int = 151_611
    happy: int = 151_614
    sad: int = 151_615
    angry: int = 151_616
    surprise: int = 151_617
    normal: int = 151_618
    urgent: int = 151_619

    text_end: int = 151_643
    text_begin: int = 151_644
    system: int = 151_644
    audio_begin: int = 151_647

    @property
    def signs(self) -> dict[str, int]:
        """The ids by name, without the bounds of the controls."""
        names = [field.name for field in fields(self) if not field.name.startswith("control_")]
        return {name: getattr(self, name) for name in names}

    @property
    def reserved(self) -> set[int]:
        """All ids that are never text."""
        return {*range(self.control_begin, self.control_end), *self.signs.values()}

    @property
    def emotions(self) -> dict[int, Emotion]:
        """Token id of each emotion."""
        return {getattr(self, emotion.value): emotion for emotion in Emotion}

    def prompt(self, system_prompt_ids: list[int]) -> list[int]:
        """The positions before the first chunk: what kind of session this is, and the system prompt."""
        opening = [self.online, self.english, self.system, self.text_begin]
        return [*opening, *system_prompt_ids, self.text_end]


PUBLISHED_TOKEN_IDS = TokenIds()

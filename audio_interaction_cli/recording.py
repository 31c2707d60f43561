"""Keeps what is heard as a file: .wav or .flac, 16 kHz, mono, 16 bit.

Each block is written when it comes. A process that is killed leaves a file that plays: a wav whole, for its header
is brought up to date each time; a flac but for its last quarter of a second.
"""

import wave
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from audio_interaction_cli import written
from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.framing import Samples
from audio_interaction_cli.protocol import SAMPLE_RATE_HZ

ENDINGS = (".wav", ".flac")
LARGEST_WAV_BYTES = 2**32 - 1  # its header has four bytes for them


class Recording:
    """Writes samples to `path`. `kept` is where a file that was there before has been moved, else None."""

    def __init__(self, path: str | Path) -> None:
        """UsageError for another ending or an impossible place, AiCliError if the file cannot be made."""
        self.check(path)
        self._path = Path(path)
        try:
            self.kept = written.move_away(self._path)
            self._append, self._finish = (_wav if self._path.suffix.lower() == ".wav" else _flac)(self._path)
        except OSError as error:
            raise AiCliError(f"cannot write the recording {path}: {error.strerror}") from error

    @staticmethod
    def check(path: str | Path) -> None:
        """Raise a UsageError if no recording can be written there. Changes nothing: ask before the work."""
        written.check(Path(path), "recording", ENDINGS)

    def write(self, samples: Samples) -> None:
        """Append float32 [n], 16 kHz, mono. AiCliError if they could not be written."""
        try:
            self._append(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2"))
        except (OSError, wave.Error) as error:
            message = f"cannot write the recording {self._path}: {getattr(error, 'strerror', None) or error}"
            raise AiCliError(message, "free some space there; what came before is kept") from error

    def close(self) -> None:
        """Finish the file. A disk that is full has been told of before."""
        with suppress(OSError):
            self._finish()


_Writer = tuple[Callable[[np.ndarray], None], Callable[[], None]]


def _wav(path: Path) -> _Writer:
    file = path.open("wb")
    wav = wave.open(file, "wb")  # noqa: SIM115 - closed with the recording
    wav.setnchannels(1)
    wav.setsampwidth(2)
    wav.setframerate(SAMPLE_RATE_HZ)

    def append(samples: np.ndarray) -> None:
        if file.tell() + samples.nbytes > LARGEST_WAV_BYTES:
            hint = "what came before is kept; a .flac has no such end"
            raise AiCliError(f"the recording {path} is full, for a .wav holds 37 hours", hint)
        wav.writeframes(samples.tobytes())
        file.flush()

    def finish() -> None:
        with file:
            wav.close()

    append(np.zeros(0, "<i2"))
    return append, finish


def _flac(path: Path) -> _Writer:
    import soundfile

    try:
        flac = soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1, subtype="PCM_16", format="FLAC")
    except soundfile.LibsndfileError as error:
        raise OSError(0, error.error_string) from error

    def append(samples: np.ndarray) -> None:
        try:
            flac.write(samples)
            flac.flush()
        except soundfile.LibsndfileError as error:
            raise OSError(0, error.error_string.rstrip(".")) from error

    return append, flac.close

"""What can be listened to: files, standard input, folders and samples in memory, behind one interface.

Knows paths, pipes and people's names for things; how sound is stored is `audio`'s business. Nothing is
opened before it is listened to, so one bad input never keeps the others from being heard.
"""

import io
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from shutil import copyfileobj
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from audio_interaction_cli.audio import BLOCK_SAMPLES, decode
from audio_interaction_cli.errors import AudioFileError, UsageError
from audio_interaction_cli.framing import Samples

STDIN = "-"
SEQUENCE_FILE = "sequence.json"
# fmt: off
AUDIO_ENDINGS = (
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mp2",
    ".mp3", ".oga", ".ogg", ".opus", ".spx", ".tta", ".w64", ".wav", ".weba", ".webm", ".wma", ".wv",
)
# fmt: on


class Source(Protocol):
    """An input that can be heard more than once. Close it, or use it in a `with` statement."""

    name: str
    """What people call it: the path as they typed it."""

    def blocks(self) -> Iterator[Samples]:
        """All samples from the start, in blocks of float32 [n], mono, 16 kHz; each call begins anew.

        What can be heard comes first. Then, if that was not all, AudioFileError says so.
        """
        ...

    def close(self) -> None:
        """Free what the input holds; after that it is not heard any more."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MemoryInput(Source):
    """Samples in memory: floating-point [n], mono, 16 kHz, full scale 1."""

    def __init__(self, name: str, samples: NDArray[Any]) -> None:
        """UsageError if the samples have another shape, are integers, or are not all finite."""
        if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
            raise UsageError(f"{name}: samples must be one row of finite floating-point numbers")
        self.name = name
        self._samples = samples.astype(np.float32)

    def blocks(self) -> Iterator[Samples]:
        """See `Source`."""
        for start in range(0, len(self._samples), BLOCK_SAMPLES):
            yield self._samples[start : start + BLOCK_SAMPLES]


class AudioInput(Source):
    """A file in any container that libav knows (of a video, its first sound), or `-` for standard input.

    What can be read only once (standard input, pipes) is kept in a nameless temporary file until `close`,
    to be heard again, but not twice at the same time. `name` is what people call it, if not by its path.
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self._path = os.fspath(path)
        self.name = name or self._path
        self._spool: FileIO | None = None

    def blocks(self) -> Iterator[Samples]:
        """See `Source`."""
        try:
            with self._open() as file:
                yield from decode(file)
        except (AudioFileError, OSError, ValueError) as error:  # ValueError: a path with a zero byte
            raise _named(self.name, error) from error

    def close(self) -> None:
        """Delete the temporary file, if there is one."""
        if self._spool:
            self._spool.close()

    def _open(self) -> AbstractContextManager[FileIO]:
        if self._spool is None:
            if self._path != STDIN and stat.S_ISREG(os.stat(self._path).st_mode):
                return open(self._path, "rb", buffering=0)
            if self._path != STDIN:
                with open(self._path, "rb") as pipe:
                    self._spool = _spooled(pipe)
            else:
                with _stdin() as pipe:
                    self._spool = _spooled(pipe)
        return nullcontext(self._spool)


class _Unreadable(Source):
    """An input whose failure is known beforehand, and is told when its turn comes."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name = name
        self._error = _named(name, error)

    def blocks(self) -> Iterator[Samples]:
        raise self._error


def expand(arguments: Sequence[str]) -> list[Source]:
    """The inputs that FILE arguments stand for, in order.

    An argument is a file, `-` for standard input, or a folder: the files that its sequence.json lists (a JSON
    list of paths, relative to the folder), else its audio files by name. Never raises: an argument that
    stands for nothing becomes an input that raises AudioFileError when it is heard.
    """
    inputs: list[Source] = []
    for argument in arguments:
        if argument == STDIN and any(source.name == STDIN for source in inputs):
            inputs.append(_Unreadable(STDIN, AudioFileError("can be heard only once")))
        elif argument != STDIN and os.path.isdir(argument):
            try:
                inputs += [AudioInput(os.path.join(argument, name)) for name in _listed(argument)]
            except (AudioFileError, OSError) as error:
                inputs.append(_Unreadable(argument, error))
        else:
            inputs.append(AudioInput(argument))
    return inputs


def recordings(folder: str | os.PathLike[str]) -> list[Source]:
    """A folder's audio files as `expand` has them, called by their names alone; AudioFileError if there are none."""
    return [AudioInput(os.path.join(folder, name), name) for name in _listed(os.fspath(folder))]


def _listed(folder: str) -> list[str]:
    """Paths of a folder's audio files, relative to it, in the order in which they are to be heard."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    if SEQUENCE_FILE not in names:
        audio = [name for name in names if name.lower().endswith(AUDIO_ENDINGS)]
        if not audio:
            raise AudioFileError("has no audio files in it", f"known endings: {' '.join(AUDIO_ENDINGS)}")
        return audio
    try:
        with open(os.path.join(folder, SEQUENCE_FILE), "rb") as file:
            sequence = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise AudioFileError(f"{SEQUENCE_FILE} in it cannot be read ({error})") from error
    if sequence == []:
        raise AudioFileError(f"{SEQUENCE_FILE} in it lists no files")
    if not isinstance(sequence, list) or not all(isinstance(name, str) for name in sequence):
        raise AudioFileError(
            f"{SEQUENCE_FILE} in it is not a list of paths", 'it should look like ["first.wav", "second.mp3"]'
        )
    return sequence


def _stdin() -> AbstractContextManager[Any]:
    """Standard input as bytes, without the lock of Python's own buffer: who held it in a thread while waiting for
    more would keep the process from ending well.
    """
    if not sys.stdin:
        raise AudioFileError("is closed")
    try:
        return open(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    except io.UnsupportedOperation:  # something in memory in its place
        return nullcontext(sys.stdin.buffer)


def _spooled(pipe: Any) -> FileIO:
    """A temporary copy of all that a pipe delivers."""
    if pipe.isatty():
        raise AudioFileError("is a terminal, not audio", "name a file, or send one: ai-cli run - < speech.wav")
    with tempfile.TemporaryFile() as spool:
        copyfileobj(pipe, spool)
        spool.flush()
        return open(os.dup(spool.fileno()), "rb", buffering=0)


def _named(name: str, error: Exception) -> AudioFileError:
    """The same error with the input's name before it, on one line whatever the name is made of."""
    shown = "standard input" if name == STDIN else name if name and name.isprintable() else repr(name)
    hint = None
    match error:
        case AudioFileError():
            message, hint = error.message, error.hint
        case FileNotFoundError():
            message = "no such file"
        case IsADirectoryError():
            message = "is a folder, not an audio file"
        case PermissionError():
            message = "no permission to read it"
        case _:
            message = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return AudioFileError(f"{shown}: {message}", hint, file=name)

"""The errors people meet: what happened, what to do, and the exit status it means.

Raised anywhere; caught by a command's `output.Output`, and outside of that by `main`. Knows nothing of how an error
is shown.
"""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of the process, as promised in docs/cli.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_CHECKPOINT = 3
    NO_AUDIO_DEVICE = 4
    INTERRUPTED = 130


class AiCliError(Exception):
    """A failure explained to a person: one line of what happened, and a hint where it helps."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str | None = None, *, file: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = file
        """The input that it is about, by the name that people gave it."""
        self.replies: Sequence[object] = ()
        """What was replied before, where the Python interface raises this."""


class UsageError(AiCliError):
    """The command line or an argument of the Python interface asks for something impossible."""

    exit_code = ExitCode.USAGE


class CheckpointError(AiCliError):
    """There is no checkpoint, or it is incomplete, damaged or of an unknown kind."""

    exit_code = ExitCode.NO_CHECKPOINT


class OutOfMemoryError(CheckpointError):
    """The checkpoint, or a session with it, does not fit into the device's memory."""

    @staticmethod
    def means(error: BaseException) -> bool:
        """Whether an error of Python, of torch (one for GPUs, a plain one for the CPU) or of the system says so."""
        return (
            isinstance(error, MemoryError)
            or type(error).__name__ == "OutOfMemoryError"
            or "allocate memory" in str(error)
        )

    def __init__(self, needed: str = "") -> None:
        super().__init__(
            f"not enough memory{needed}",
            "close other programs, or try another --device, --dtype bfloat16 or a smaller --context-tokens",
        )


class AudioDeviceError(AiCliError):
    """There is no microphone, it cannot be opened, or it was lost."""

    exit_code = ExitCode.NO_AUDIO_DEVICE


class AudioFileError(AiCliError):
    """An audio file cannot be read, or not to its end."""


class DownloadError(AiCliError):
    """A checkpoint cannot be fetched, or what was fetched is not what the hub has."""

    def __init__(self, message: str, hint: str | None = None, *, passing: bool = False) -> None:
        super().__init__(message, hint)
        self.passing = passing
        """Trying again may help."""


class WindowFullError(AiCliError):
    """The session's window of positions is full and it was asked to stop there."""

    def __init__(self, message: str, *, file: str | None = None) -> None:
        super().__init__(message, "--on-full slide forgets the oldest and goes on", file=file)

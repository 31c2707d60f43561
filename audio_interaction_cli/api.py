"""The Python interface in one call; the parts it is made of are public too (see the package)."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence

from audio_interaction_cli import checkpoint
from audio_interaction_cli.conversation import TAIL_SILENCE_S, Conversation
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import AudioFileError, UsageError, WindowFullError
from audio_interaction_cli.events import Event, Reply
from audio_interaction_cli.inputs import Source, expand
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.output import write_error
from audio_interaction_cli.plain import PlainReplies
from audio_interaction_cli.prompt import asked_lines, path_of

Path = str | os.PathLike[str]


def run_inference(
    checkpoint_dir: Path | None = None,
    audio_paths: Sequence[Path] | None = None,
    device: str = "auto",
    rounds: int | None = None,
    *,
    dtype: str = "auto",
    quantize: str = "none",
    options: SessionOptions | None = None,
    separate: bool = False,
    tail_silence_s: float = TAIL_SILENCE_S,
    on_event: Callable[[Event], object] = lambda _event: None,
) -> list[Reply]:
    """Hear audio files, or folders of them, in one session and return the replies, in order.

    checkpoint_dir: folder, downloaded hub id or "demo"; None takes ./checkpoints, else the hub cache, else the demo.
    audio_paths: what to hear. None asks for one path after another, `rounds` times or to the end of input,
        and prints the replies; a path that cannot be read is then reported and asked for again.
    device, dtype, quantize: see `Engine.load`. options: sampling, prompt and window, see `SessionOptions`.
    separate: a fresh session for each file. on_event: called with every event as it happens.

    Raises CheckpointError and UsageError; AudioFileError for the first file that cannot be heard to its end, and
    WindowFullError if the session's window ends before the audio does: their `replies` are those given so far.
    """
    if isinstance(audio_paths, str | os.PathLike):
        raise UsageError("audio_paths must be a list of paths, not a single one")
    named = None if checkpoint_dir is None else os.fspath(checkpoint_dir)
    engine = Engine.load(checkpoint.find(named), device=str(device), dtype=dtype, quantize=quantize)
    replies: list[Reply] = []
    printed = PlainReplies(sys.stdout, prefix_file=True) if audio_paths is None else None

    def emit(event: Event) -> None:
        if isinstance(event, Reply):
            replies.append(event)
        if printed:
            printed.handle(event)
        on_event(event)

    with Conversation(
        engine, options or SessionOptions(), emit, separate=separate, tail_silence_s=tail_silence_s
    ) as conversation:
        if audio_paths is not None:
            try:
                for source in expand([os.fspath(path) for path in audio_paths]):
                    with source:
                        conversation.hear(source)
            except (AudioFileError, WindowFullError) as error:
                error.replies = replies
                raise
        else:
            _ask(conversation, rounds)
    return replies


def _ask(conversation: Conversation, rounds: int | None) -> None:
    heard = 0
    for line in asked_lines():
        try:
            for source in _sources(line):
                conversation.hear(source)
        except (AudioFileError, UsageError, WindowFullError) as error:
            write_error(sys.stderr, error.message, error.hint)
        else:
            heard += 1
        if heard == rounds:
            return


def _sources(line: str) -> Iterator[Source]:
    for source in expand([path_of(line)]):
        with source:
            yield source

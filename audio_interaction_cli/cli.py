"""The commands that converse: each joins inputs, a conversation and an output.

What takes time to import is imported inside. The other commands are in `facts`.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_interaction_cli import __version__
from audio_interaction_cli.errors import AudioFileError, UsageError, WindowFullError
from audio_interaction_cli.output import Output
from audio_interaction_cli.settings import InputDevice, Settings, read_settings_file, with_settings

if TYPE_CHECKING:
    from audio_interaction_cli.checkpoint import Checkpoint
    from audio_interaction_cli.conversation import Conversation
    from audio_interaction_cli.engine import Engine
    from audio_interaction_cli.inputs import Source

CONFIGURABLE = ("run", "interactive", "mic", "bench", "info", "config", "devices", "doctor")
app = typer.Typer(
    name="ai-cli",
    help="Talk with Audio-Interaction, an always-on streaming audio model: it listens, and speaks when it helps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ai-cli {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does all
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    try:
        settings = read_settings_file()
    except UsageError:
        asks_for_help = {*context.help_option_names} & {*sys.argv}
        if context.invoked_subcommand != "doctor" and not asks_for_help:  # doctor tells it itself
            raise
        settings = {}
    context.default_map = dict.fromkeys(CONFIGURABLE, settings)


@app.command()
@with_settings
def run(
    settings: Settings,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Audio files, folders (sequence.json, else by name), or - for stdin."),
    ] = None,
    separate: Annotated[bool, typer.Option("--separate", help="A fresh session for each file.")] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Hear the recordings that come with the demo model, and by default that one.")
    ] = False,
) -> None:
    """Print the replies to audio files, heard one after the other in one session."""
    from audio_interaction_cli import checkpoint
    from audio_interaction_cli.inputs import expand, recordings

    if demo and files:
        raise UsageError("--demo plays recordings of its own, so it takes no FILE")
    if not (demo or files):
        raise UsageError("missing argument FILE", "ai-cli run --demo plays recordings that come with it")
    if demo:
        settings = replace(settings, checkpoint=settings.checkpoint or checkpoint.DEMO)
    inputs = recordings(checkpoint.samples()) if demo else expand(files or [])
    with (
        Output(settings, prefix_file=demo or len(inputs) > 1) as output,
        _conversation(settings, output, separate=separate) as conversation,
    ):
        for source in inputs:
            _hear(conversation, source, output)
    raise typer.Exit(output.status)


@app.command()
@with_settings
def interactive(
    settings: Settings,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            min=1,
            metavar="N",
            help="End after N answered paths, a folder being one; else at the end of input.",
        ),
    ] = None,
) -> None:
    """Ask for an audio file each round and print the replies; one path a line if input is not a terminal."""
    from audio_interaction_cli.prompt import HELP, asked_lines

    heard = 0
    with (
        Output(settings, prefix_file=True) as output,
        _conversation(settings, output) as conversation,
    ):
        for line in asked_lines():
            if line == ":quit":
                break
            if line == ":help":
                typer.echo(HELP, err=True)
            elif line == ":reset":
                conversation.reset()
            elif line.startswith(":"):
                output.fail(UsageError(f"unknown command {line}", ":help lists them"))
            else:
                heard += _answer(line, conversation, output)
            output.pause()
            if heard == rounds:
                break
    raise typer.Exit(output.status)


def _answer(line: str, conversation: "Conversation", output: Output) -> bool:
    """Hear what a line of input names; False if it was not heard to its end."""
    from audio_interaction_cli.inputs import expand
    from audio_interaction_cli.prompt import path_of

    try:
        path = path_of(line)
    except UsageError as error:
        output.fail(error)
        return False
    heard = [_hear(conversation, source, output) for source in expand([path])]
    return all(heard)


def _hear(conversation: "Conversation", source: "Source", output: Output) -> bool:
    """Hear one input; what is wrong with it is reported, and the conversation goes on."""
    output.reading(source.name)
    try:
        with source:
            conversation.hear(source)
    except (AudioFileError, WindowFullError) as error:
        output.fail(error)
        return False
    return True


@app.command()
@with_settings
def mic(
    settings: Settings,
    input_device: InputDevice = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Also keep what is heard, as it goes: .wav or .flac, 16 kHz."),
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=0.0, metavar="S", help="End after so many seconds of audio.")
    ] = None,
    played_files: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="FILE", help="Play FILE in instead of a microphone; may be given repeatedly."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option("--speed", min=0.0, metavar="X", help="With --from: times real time; 0 is as fast as the model."),
    ] = 1.0,
) -> None:
    """Talk with the model: it hears the microphone all the time, and speaks when it helps."""
    from audio_interaction_cli.capture import Capture
    from audio_interaction_cli.inputs import expand
    from audio_interaction_cli.keys import pressed_keys
    from audio_interaction_cli.live import Interruption, LiveConversation
    from audio_interaction_cli.microphone import Microphone, choose, devices, hushed
    from audio_interaction_cli.playback import played
    from audio_interaction_cli.recording import Recording

    sources = expand(played_files or [])
    quiet = nullcontext() if sources or settings.debug else hushed()
    with quiet, Output(settings, prefix_file=len(sources) > 1) as output, ExitStack() as stack:
        if record:
            Recording.check(record)
            if any(_same(record, source.name) for source in sources):
                raise UsageError(f"{record} is what --from plays", "record to another file")
        microphone = None if sources else Microphone(choose(devices(), input_device))
        conversation = stack.enter_context(_conversation(settings, output))
        recording = Recording(record) if record else None
        if recording and recording.kept:
            output.note(f"the recording that was there is now {recording.kept}")
        interruption = stack.enter_context(Interruption())
        keys = stack.enter_context(pressed_keys()) if output.is_live else lambda: ""
        heard = stack.enter_context(microphone).items() if microphone else None
        items = heard or played(sources, settings.tail_silence, speed)
        lossy = microphone is not None or speed > 0
        capture = stack.enter_context(Capture(items, lossy=lossy, duration_s=duration, recording=recording))
        name = microphone.device.name if microphone else ""
        LiveConversation(conversation, capture, output, keys=keys, interruption=interruption, name=name).run()
        if sources and conversation.session.ended:
            raise WindowFullError("the session's window was full before all was heard")
    raise typer.Exit(output.status)


def _same(one: Path, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def found_checkpoint(named: str | None, tell: Callable[[str], None]) -> "Checkpoint":
    """The checkpoint that was named, or the one found; that it is only the demo, people are told."""
    from audio_interaction_cli import checkpoint

    found = checkpoint.find(named)
    if named is None and found.name == checkpoint.DEMO:
        unfinished, download = checkpoint.unfinished() or (None, checkpoint.DOWNLOAD)
        why = f"{unfinished} is not complete" if unfinished else "no checkpoint found"
        tell(f"{why}, so this is the small built-in demo; for the real model: {download}")
    return found


def load_engine(settings: Settings, output: Output, progress: Callable[[int, int], None]) -> "Engine":
    """The model that the settings choose."""
    from audio_interaction_cli.engine import Engine

    found = found_checkpoint(settings.checkpoint, output.note)
    return Engine.load(
        found, device=settings.device, dtype=settings.dtype, quantize=settings.quantize, progress=progress
    )


@contextmanager
def _conversation(settings: Settings, output: Output, *, separate: bool = False) -> Iterator["Conversation"]:
    """A conversation with the model that the settings choose, its events going to `output`."""
    with output.loading() as progress:
        from audio_interaction_cli.conversation import Conversation
        from audio_interaction_cli.options import SessionOptions
        from audio_interaction_cli.sampling import Sampling

        options = SessionOptions(
            sampling=Sampling(
                temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p, seed=settings.seed
            ),
            system_prompt=settings.system_prompt,
            eagerness=settings.eagerness,
            context_tokens=settings.context_tokens,
            on_full=settings.on_full,
            max_reply_tokens=settings.max_reply_tokens,
        )
        conversation = Conversation(
            load_engine(settings, output, progress), options, output.emit,
            separate=separate, tail_silence_s=settings.tail_silence,
        )  # fmt: skip
        conversation.session.prepare()
    output.open_transcript()
    with conversation:
        yield conversation

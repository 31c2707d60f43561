"""The commands. Each joins inputs, a conversation and an output; what takes time to import is imported inside."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from audio_interaction_cli import __version__
from audio_interaction_cli.errors import AiCliError, AudioFileError, ExitCode, UsageError, WindowFullError
from audio_interaction_cli.events import Failure
from audio_interaction_cli.jsonl import JsonLines
from audio_interaction_cli.output import Output, abandon_stdout, write_error
from audio_interaction_cli.settings import Settings, read_settings_file, with_settings
from audio_interaction_cli.sinks import write

if TYPE_CHECKING:
    from audio_interaction_cli.checkpoint import Checkpoint
    from audio_interaction_cli.conversation import Conversation
    from audio_interaction_cli.inputs import Source

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
    settings = read_settings_file()
    context.default_map = dict.fromkeys(("run", "interactive", "info"), settings)


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
        int | None, typer.Option("--rounds", min=1, metavar="N", help="End after N files; else at the end of input.")
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
    from audio_interaction_cli.inputs import STDIN, expand
    from audio_interaction_cli.prompt import path_of

    if line == STDIN:
        output.fail(UsageError("standard input is where the paths come from", "name a file"))
        return False
    heard = [_hear(conversation, source, output) for source in expand([path_of(line)])]
    return all(heard)


def _hear(conversation: "Conversation", source: "Source", output: Output) -> bool:
    """Hear one input; what is wrong with it is reported, and the conversation goes on."""
    output.reading(source.name)
    try:
        with source:
            conversation.hear(source)
    except (AudioFileError, WindowFullError) as error:
        output.fail(error, source.name)
        return False
    return True


@app.command()
def info(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT",
            envvar="AI_CLI_CHECKPOINT",
            show_envvar=False,
            help="Folder, hub id or demo. If not given: the one that would be used.",
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json/--no-json", envvar="AI_CLI_JSON", show_envvar=False, help="Print a JSON object instead of text."
        ),
    ] = False,
) -> None:
    """Show what a checkpoint is, and of the built-in demo also what it understands."""
    from audio_interaction_cli.info import as_json, as_text, describe

    facts = describe(_found(checkpoint, lambda note: write(sys.stderr, f"note: {note}\n")))
    write(sys.stdout, as_json(facts) if json else as_text(facts, sys.stdout))


def _found(named: str | None, tell: Callable[[str], None]) -> "Checkpoint":
    """The checkpoint that was named, or the one found; that it is only the demo, people are told."""
    from audio_interaction_cli import checkpoint

    found = checkpoint.find(named)
    if named is None and found.name == checkpoint.DEMO:
        tell(f"no checkpoint found, so this is the small built-in demo; for the real model: {checkpoint.DOWNLOAD}")
    return found


@contextmanager
def _conversation(settings: Settings, output: Output, *, separate: bool = False) -> Iterator["Conversation"]:
    """A conversation with the model that the settings choose, its events going to `output`."""
    with output.loading() as progress:
        from audio_interaction_cli.conversation import Conversation
        from audio_interaction_cli.engine import Engine
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
        found = _found(settings.checkpoint, output.note)
        engine = Engine.load(found, device=settings.device, dtype=settings.dtype, progress=progress)
    conversation = Conversation(engine, options, output.emit, separate=separate, tail_silence_s=settings.tail_silence)
    output.open_transcript()
    with conversation:
        yield conversation


def main() -> None:
    """The command `ai-cli`. The one place where errors outside of a running command are shown."""
    for name in ("stdin", "stdout", "stderr"):  # a stream that was closed before we began
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 - for good
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: files closed, replies kept
    try:
        status = app(standalone_mode=False) or ExitCode.OK
        sys.stdout.flush()
    except typer.Abort:
        status = ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        status = ExitCode.INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
        status = ExitCode.OK
    except AiCliError as error:
        status = _tell(error)
    except typer.TyperException as error:
        message = error.format_message()  # empty where the help was shown for want of a command
        status = _tell(UsageError(message, "ai-cli --help lists commands and options")) if message else ExitCode.USAGE
    except SystemExit as error:  # how the library ends where the reader of its help has gone
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        abandon_stdout()
        status = ExitCode.OK
    except OSError as error:
        abandon_stdout()
        status = _tell(AiCliError(f"cannot read or write: {error.strerror or error}"))
    except Exception as error:
        status = _tell(AiCliError(f"unexpected: {error!r}", "this is a fault of ai-cli; --debug shows where"))
    sys.exit(status)


def _tell(error: AiCliError) -> ExitCode:
    """Show an error that no output was there for, and return its exit status."""
    if "--debug" in sys.argv:
        traceback.print_exc()
    try:
        if "--json" in sys.argv:
            JsonLines(sys.stdout).handle(Failure(t=0.0, message=error.message, hint=error.hint, file=None))
    except (AiCliError, BrokenPipeError):
        abandon_stdout()
    write_error(sys.stderr, error.message, error.hint)
    return error.exit_code

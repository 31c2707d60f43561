"""What people can set, in one place: each setting's name, default, help, and where its value may come from.

A flag counts before the environment (`AI_CLI_…`), that before the settings file, that before the default.
Imports nothing heavy, for `--help` must be quick.
"""

import functools
import inspect
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from platformdirs import user_config_path

from audio_interaction_cli.errors import UsageError

APP_NAME = "ai-cli"
OF_ONE_COMMAND = ("input_device",)  # what the settings file may say beside the options that all share


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return "AI_CLI_" + name.upper()


def _option(*names: str, panel: str, **more: Any) -> Any:
    """An option that the environment can set as well, by its first long name."""
    name = names[0].removeprefix("--").partition("/")[0].replace("-", "_")
    return typer.Option(*names, envvar=variable(name), show_envvar=False, rich_help_panel=panel, **more)


MODEL, REPLIES, OUTPUT = "Model", "Replies", "Output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options that every command with a model shares."""

    checkpoint: Annotated[
        str | None,
        _option("--checkpoint", metavar="FOLDER|HUB-ID|demo", panel=MODEL,
                help="Checkpoint folder, hub id of one downloaded before, or demo for the small built-in one. "
                "If not given: ./checkpoints, else the hub cache, else demo."),
    ] = None  # fmt: skip
    device: Annotated[
        str, _option("--device", metavar="auto|cpu|cuda[:N]|mps", panel=MODEL, help="Where the model runs.")
    ] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        _option("--dtype", panel=MODEL, help="Number format of the weights; auto is the fastest the device does well."),
    ] = "auto"
    quantize: Annotated[
        Literal["none", "int8"],
        _option("--quantize", panel=MODEL,
                help="int8 stores the linear layers in a byte a weight: faster on a CPU, and a little less exact."),
    ] = "none"  # fmt: skip
    temperature: Annotated[
        float, _option("--temperature", min=0.0, panel=REPLIES, help="Randomness of replies; 0 is greedy.")
    ] = 0.3
    top_k: Annotated[
        int, _option("--top-k", min=0, panel=REPLIES, help="Draw among this many of the likeliest tokens; 0 is all.")
    ] = 3
    top_p: Annotated[
        float, _option("--top-p", panel=REPLIES, help="Draw among the likeliest tokens of this total probability.")
    ] = 1.0
    seed: Annotated[int, _option("--seed", min=0, panel=REPLIES, help="The same seed gives the same replies.")] = 1337
    system_prompt: Annotated[
        str | None,
        _option("--system-prompt", metavar="TEXT", panel=REPLIES, show_default="the model's own",
                help="What the model is told before it listens."),
    ] = None  # fmt: skip
    eagerness: Annotated[
        float,
        _option("--eagerness", panel=REPLIES,
                help="Added to the logit of speaking while listening: above 0 speaks sooner, below 0 later."),
    ] = 0.0  # fmt: skip
    max_reply_tokens: Annotated[
        int, _option("--max-reply-tokens", min=1, panel=REPLIES, help="A longer reply is cut, and marked so.")
    ] = 512
    context_tokens: Annotated[
        int | None,
        _option("--context-tokens", min=1, panel=REPLIES, show_default="the model's, at most 4096",
                help="Window of the session in positions; a silent second takes 32.5."),
    ] = None  # fmt: skip
    on_full: Annotated[
        Literal["slide", "reset", "stop"],
        _option("--on-full", panel=REPLIES,
                help="At the window's end: slide forgets the oldest, silence before turns; reset forgets all but "
                "the prompt; stop ends the session."),
    ] = "slide"  # fmt: skip
    tail_silence: Annotated[
        float,
        _option(
            "--tail-silence",
            min=0.0,
            max=60.0,
            metavar="S",
            panel=REPLIES,
            help="Seconds of silence heard after each file, so that a late reply can come.",
        ),
    ] = 1.0
    json: Annotated[bool, _option("--json/--no-json", panel=OUTPUT, help="Print JSON Lines instead of text.")] = False
    events: Annotated[
        Literal["reply", "all"],
        _option("--events", panel=OUTPUT, help="With --json: replies, or every chunk and piece of text as well."),
    ] = "reply"
    transcript: Annotated[
        Path | None,
        _option("--transcript", metavar="FILE", panel=OUTPUT,
                help="Also write the replies to FILE: .txt, .srt, .vtt or .jsonl."),
    ] = None  # fmt: skip
    quiet: Annotated[bool, _option("--quiet/--no-quiet", "-q", panel=OUTPUT, help="Only replies and errors.")] = False
    verbose: Annotated[bool, _option("--verbose/--no-verbose", "-v", panel=OUTPUT, help="Say more on stderr.")] = False
    debug: Annotated[bool, _option("--debug/--no-debug", panel=OUTPUT, help="Show tracebacks of errors.")] = False


InputDevice = Annotated[
    str | None,
    typer.Option(
        "--input-device",
        metavar="INDEX|NAME",
        envvar="AI_CLI_INPUT_DEVICE",
        show_envvar=False,
        show_default="the system's own",
        help="Microphone, by index or part of its name; ai-cli devices lists them.",
    ),
]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command, whose first parameter is `settings`, all shared options as options of its own."""
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Settings)
    ]
    names = {parameter.name for parameter in shared}

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        values = {name: given.pop(name) for name in names}
        if values["transcript"]:  # from the environment or the settings file, where no shell has looked at it
            values["transcript"] = Path(os.path.expanduser(values["transcript"]))
        command(Settings(**values), **given)

    own = list(inspect.signature(command).parameters.values())[1:]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def is_on(name: str) -> bool:
    """Whether a switch is on, for who must know it before, or without, the command line having made sense."""
    for argument in reversed(sys.argv[1:]):
        if argument in (f"--{name}", f"--no-{name}"):
            return argument == f"--{name}"
    if (value := os.environ.get(variable(name))) is not None:
        return value.strip().lower() in ("1", "true", "t", "yes", "y", "on")
    try:
        return read_settings_file().get(name) is True
    except UsageError:
        return False


def settings_file() -> Path:
    """`config.toml` in the user's configuration folder; it need not exist."""
    return user_config_path(APP_NAME) / "config.toml"


def read_settings_file() -> dict[str, Any]:
    """The file's values by option name; UsageError for a file that is broken or names no known setting."""
    file = settings_file()
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"the settings file cannot be read: {error}", f"mend or remove {file}") from error
    known = {*(field.name for field in fields(Settings)), *OF_ONE_COMMAND}
    values = {name.replace("-", "_"): value for name, value in values.items()}
    if unknown := sorted(values.keys() - known):
        raise UsageError(f"the settings file names an unknown setting: {unknown[0]}", f"mend {file}")
    return values

"""The program from its start to its exit status. The one place where errors outside of a running command are shown."""

import os
import signal
import sys
import traceback
from contextlib import suppress

import typer

from audio_interaction_cli import facts
from audio_interaction_cli.cli import app
from audio_interaction_cli.errors import AiCliError, ExitCode, OutOfMemoryError, UsageError
from audio_interaction_cli.events import Failure
from audio_interaction_cli.jsonl import JsonLines
from audio_interaction_cli.output import abandon_stdout, write_error
from audio_interaction_cli.settings import is_on

__all__ = ["app", "facts", "main"]  # importing `facts` adds its commands


def main() -> None:
    """The command `ai-cli`."""
    _begin()
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
        status = _tell(AiCliError(f"cannot read or write: {error.strerror or error}"))
        abandon_stdout()  # which would be flushed at the end, and may be what cannot be written
    except Exception as error:
        fault = AiCliError(f"unexpected: {error!r}", "this is a fault of ai-cli; --debug shows where")
        status = _tell(OutOfMemoryError() if OutOfMemoryError.means(error) else fault)
    sys.exit(status)


def _begin() -> None:
    """What must hold before anything else happens."""
    for name in ("stdin", "stdout", "stderr"):  # a stream that was closed before we began
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 - for good
    if not sys.stdout.isatty() and "FORCE_COLOR" not in os.environ:
        os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"  # or help has colours wherever GITHUB_ACTIONS is set
    for name in ("SIGTERM", "SIGHUP"):  # end like Ctrl-C: files closed, replies kept
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _tell(error: AiCliError) -> ExitCode:
    """Show an error that no output was there for, and return its exit status."""
    if is_on("debug"):
        traceback.print_exc()
    try:
        if is_on("json"):
            JsonLines(sys.stdout).handle(Failure(t=0.0, message=error.message, hint=error.hint, file=error.file))
    except (AiCliError, BrokenPipeError):
        abandon_stdout()
    with suppress(BrokenPipeError):  # the status still tells
        write_error(sys.stderr, error.message, error.hint)
    return error.exit_code

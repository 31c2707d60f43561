"""The commands that tell facts: which microphones there are, what a checkpoint is, how fast it is here."""

import sys
import time
from typing import Annotated

import typer

from audio_interaction_cli.cli import app, found_checkpoint, load_engine
from audio_interaction_cli.errors import UsageError
from audio_interaction_cli.output import Output
from audio_interaction_cli.settings import Settings, with_settings
from audio_interaction_cli.sinks import write

AsJson = Annotated[
    bool,
    typer.Option(
        "--json/--no-json", envvar="AI_CLI_JSON", show_envvar=False, help="Print a JSON object instead of text."
    ),
]


@app.command("devices")
def devices_(
    json: AsJson = False,
) -> None:
    """List the microphones that there are."""
    from audio_interaction_cli import microphone
    from audio_interaction_cli.info import as_json, describe_devices, devices_as_text

    with microphone.hushed():
        there = microphone.devices()
        microphone.choose(there, None)  # or the error that there are none
        facts = describe_devices((device, microphone.accepted_rates_hz(device)) for device in there)
    write(sys.stdout, as_json(facts) if json else devices_as_text(facts, sys.stdout))


@app.command()
@with_settings
def bench(
    settings: Settings,
    synthetic: Annotated[
        str | None,
        typer.Option("--synthetic", metavar="3b", help="Random weights of the full shapes instead of a checkpoint."),
    ] = None,
    positions: Annotated[
        str, typer.Option("--positions", metavar="N,N,...", help="Measure behind so many positions of conversation.")
    ] = "64,1000,3900",
) -> None:
    """Measure how fast the model is here, against the floor under it; the last line is a JSON object."""
    from audio_interaction_cli.info import as_json, bench_as_text

    numbers = [int(number) for number in positions.split(",") if number.strip().isdecimal() and int(number)]
    if len(numbers) != positions.count(",") + 1:
        raise UsageError(f"positions are numbers with commas between, not {positions}")
    with Output(settings) as output:
        with output.loading() as progress:
            from audio_interaction_cli import bench as measuring

            began = time.perf_counter()
            if synthetic:
                engine = measuring.synthetic(synthetic, settings.device, settings.dtype)
            else:
                engine = load_engine(settings, output, progress)
            load_s = time.perf_counter() - began
        figures = measuring.measure(engine, load_s, numbers, lambda what: output.note(f"measuring {what}"))
        write(sys.stdout, ("" if settings.json else bench_as_text(figures, sys.stdout)) + as_json(figures))
    raise typer.Exit(output.status)


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
    json: AsJson = False,
) -> None:
    """Show what a checkpoint is, and of the built-in demo also what it understands."""
    from audio_interaction_cli.info import as_json, as_text, describe

    facts = describe(found_checkpoint(checkpoint, lambda note: write(sys.stderr, f"note: {note}\n")))
    write(sys.stdout, as_json(facts) if json else as_text(facts, sys.stdout))

"""The commands that do not converse: microphones, checkpoints (fetched, described) and how fast one is here."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from audio_interaction_cli.checkpoint import HUB_IDS, LOCAL_FOLDER
from audio_interaction_cli.cli import app, found_checkpoint, load_engine
from audio_interaction_cli.errors import DownloadError, ExitCode, UsageError
from audio_interaction_cli.output import Output
from audio_interaction_cli.settings import InputDevice, Settings, settings_file, with_settings
from audio_interaction_cli.sinks import write

if TYPE_CHECKING:
    from audio_interaction_cli.hub import Download, RemoteFile

DEFAULT_NAMES = (*HUB_IDS, str(LOCAL_FOLDER))  # what the other commands find by themselves

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
                engine = measuring.synthetic(synthetic, settings.device, settings.dtype, settings.quantize)
            else:
                engine = load_engine(settings, output, progress)
            load_s = time.perf_counter() - began
        figures = measuring.measure(engine, load_s, numbers, lambda what: output.note(f"measuring {what}"))
        write(sys.stdout, ("" if settings.json else bench_as_text(figures, sys.stdout)) + as_json(figures))
    raise typer.Exit(output.status)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Checkpoint folder, hub id downloaded before, or demo.")
    ],
    destination: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write it; must not exist yet.")],
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"], typer.Option("--dtype", help="Number format of the weights.")
    ] = "bfloat16",
    quantize: Annotated[
        Literal["none", "int8"], typer.Option("--quantize", help="int8: linear layers in a byte a weight.")
    ] = "none",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
) -> None:
    """Write a checkpoint anew, in another number format or quantized, so that it loads quickly and takes less room."""
    from audio_interaction_cli import checkpoint
    from audio_interaction_cli import convert as converting

    with transfer_progress(quiet) as progress:
        found = checkpoint.find(source)
        converting.convert(found, destination, dtype=dtype, quantize=quantize, progress=progress)
    if not quiet:
        name = checkpoint.name_of(destination)
        write(sys.stderr, f"{name} is written; next: ai-cli mic --checkpoint {name}\n")


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


@app.command()
def doctor(
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="FOLDER|HUB-ID|demo",
            envvar="AI_CLI_CHECKPOINT",
            show_envvar=False,
            help="Look at this one.",
        ),
    ] = None,
    input_device: InputDevice = None,
    json: AsJson = False,
) -> None:
    """Look at everything that mic and run need, and say what is missing; exit status 1 if something is."""
    from audio_interaction_cli.doctor import examine
    from audio_interaction_cli.info import as_json, finding_as_text

    findings = []
    for finding in examine(checkpoint, input_device):
        findings.append(finding)
        if not json:
            write(sys.stdout, finding_as_text(finding, sys.stdout))
    healthy = all(finding.status != "problem" for finding in findings)
    if json:
        write(sys.stdout, as_json({"schema": 1, "healthy": healthy, "findings": [asdict(f) for f in findings]}))
    raise typer.Exit(ExitCode.OK if healthy else ExitCode.FAILED)


@app.command()
@with_settings
def config(
    settings: Settings,
    context: typer.Context,
    input_device: InputDevice = None,
) -> None:
    """Show every setting and where its value comes from: an option, the environment, the settings file or a default."""
    from audio_interaction_cli.info import as_json, config_as_text

    places = {"ENVIRONMENT": "environment", "DEFAULT_MAP": "file", "COMMANDLINE": "option"}
    values = {field.name: getattr(settings, field.name) for field in fields(settings)} | {"input_device": input_device}
    shown = {}
    for name, value in values.items():
        source = context.get_parameter_source(name)
        origin = places.get(source.name if source else "", "default")
        shown[name] = {
            "value": value if value is None or isinstance(value, int | float) else str(value),
            "from": origin,
        }
    file = settings_file()
    facts = {"schema": 1, "file": str(file), "exists": file.exists(), "settings": shown}
    write(sys.stdout, as_json(facts) if settings.json else config_as_text(facts, sys.stdout))


def transfer_progress(quiet: bool) -> AbstractContextManager[Callable[[int, int], None]]:
    """A callback (bytes there, bytes in all) that shows rate and time left on a terminal."""
    from rich.console import Console

    from audio_interaction_cli.display import transfer_bar

    return nullcontext(lambda _done, _total: None) if quiet else transfer_bar(Console(stderr=True))


def busy() -> AbstractContextManager[object]:
    """On a terminal a sign that something goes on of which nobody knows how long it takes."""
    from rich.console import Console

    from audio_interaction_cli.display import is_live

    console = Console(stderr=True)
    return console.status("", spinner="line") if is_live(console) else nullcontext()


@app.command()
def download(
    hub_id: Annotated[str, typer.Argument(metavar="HUB-ID", help="The checkpoint's name on the hub.")] = HUB_IDS[0],
    local_dir: Annotated[
        Path | None,
        typer.Option("--local-dir", metavar="FOLDER", help="Put it there instead of into the hub cache."),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="A branch, tag or commit of it.")] = None,
    token: Annotated[str | None, typer.Option("--token", help="For what is not public; else HF_TOKEN.")] = None,
    include: Annotated[list[str] | None, typer.Option("--include", help="Only files like this; repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="No files like this; repeatable.")] = None,
    force_download: Annotated[bool, typer.Option("--force-download", help="Also what is here already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be fetched.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only check what is here against the hub.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors, and where it is.")] = False,
) -> None:
    """Fetch the checkpoint, check every file, and say what to do next; whole files are kept from run to run."""
    from audio_interaction_cli import checkpoint
    from audio_interaction_cli.engine import check
    from audio_interaction_cli.hub import Download
    from audio_interaction_cli.quantities import size

    wanted = Download(
        hub_id=hub_id, revision=revision, local_dir=local_dir, token=token, include=include or (),
        exclude=exclude or (), force=force_download,
    )  # fmt: skip

    def tell(text: str) -> None:
        if not quiet:
            write(sys.stderr, f"{text}\n")

    def say_that_we_wait() -> None:
        tell("another download is at the same place; waiting for it")

    with nullcontext() if verify or dry_run else wanted.alone(say_that_we_wait):
        if not verify:
            files = wanted.plan()
            missing = sum(file.size_bytes for file in files if not file.here)
            if dry_run:
                for file in files:
                    write(sys.stdout, f"{size(file.size_bytes):>9}  {'here' if file.here else '    '}  {file.name}\n")
            tell(f"{len(files)} files, {size(sum(file.size_bytes for file in files))}; "
                 f"to fetch: {size(missing)}, free: {size(wanted.free_bytes)}")  # fmt: skip
            if dry_run:
                return
            folder = _fetched(wanted, files, tell, quiet)
        _verified(wanted, tell, quiet, mend=not verify)
        if verify:
            folder = wanted.folder()
    place = local_dir or folder  # as it was named, for the library makes it absolute
    if include or exclude:
        tell("all that was asked for is here")
    else:
        name = checkpoint.name_of(place) if local_dir or revision else hub_id
        check(checkpoint.read(place, name))
        tell(f"{name} is whole; next: ai-cli mic" + ("" if name in DEFAULT_NAMES else f" --checkpoint {name}"))
    write(sys.stdout, f"{place}\n")


def _fetched(wanted: "Download", files: "Sequence[RemoteFile]", tell: Callable[[str], None], quiet: bool) -> Path:
    try:
        with transfer_progress(quiet) as progress:
            return wanted.fetch(files, progress)
    except KeyboardInterrupt:
        tell("stopped; run the same again, and it goes on with the files that are not whole")
        sys.stdout.flush()
        os._exit(ExitCode.INTERRUPTED)  # for at its usual end Python would wait for the files begun


def _verified(wanted: "Download", tell: Callable[[str], None], quiet: bool, *, mend: bool) -> None:
    """Compare all files with the hub; with `mend`, those that differ are fetched once more."""
    tell("checking every file against the hub")
    with nullcontext() if quiet else busy():
        differing = wanted.differing()
    if not differing:
        return
    names = ", ".join(differing)
    if mend:
        tell(f"not as the hub has it, so it is fetched anew: {names}")
        anew = wanted.anew(differing)
        _fetched(anew, anew.plan(), tell, quiet)
        _verified(wanted, tell, quiet, mend=False)
    else:
        hint = "ai-cli download, without --verify, fetches it anew; if it just did, try again later"
        raise DownloadError(f"not as the hub has it: {names}", hint)

"""Looks at everything that `mic` and `run` need on this machine, and says what is missing and how to mend it."""

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import psutil
from rich.console import Console

from audio_interaction_cli import checkpoint as checkpoints
from audio_interaction_cli.checkpoint import DEMO, DOWNLOAD, HUB_IDS, Checkpoint
from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.footprint import memory_bytes
from audio_interaction_cli.quantities import size
from audio_interaction_cli.screen import UNICODE, Screen
from audio_interaction_cli.settings import read_settings_file, settings_file

PROGRAM_BYTES = 600_000_000  # Python and torch, before any weights
REAL_CHECKPOINT_BYTES = 14_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what was looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    """A note keeps nothing from working; a problem keeps `mic` or `run` from it."""
    message: str
    hint: str | None = None


def examine(checkpoint: str | None = None, input_device: str | None = None) -> Iterator[Finding]:
    """Look at one thing after the other; never raises for what is found."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _found("settings", _settings)
    yield from _torch()
    found: list[Checkpoint] = []
    yield _found("checkpoint", lambda: _checkpoint(checkpoint, found))
    yield _found("memory", lambda: _memory(found[0] if found else None))
    yield _found("disk", lambda: _disk(found[0] if found else None))
    yield _found("microphone", lambda: _microphone(input_device))
    yield _found("hub", _hub)
    yield _terminal()


def _found(name: str, look: Callable[[], Finding]) -> Finding:
    """What looking finds, or the error that it ends with as a problem."""
    try:
        return look()
    except AiCliError as error:
        return Finding(name, "problem", error.message, error.hint)


def _settings() -> Finding:
    return Finding("settings", "ok", f"{settings_file()}: {', '.join(read_settings_file()) or 'nothing set'}")


def _torch() -> Iterator[Finding]:
    try:
        import torch

        from audio_interaction_cli.abilities import multiplies_bfloat16, multiplies_int8
        from audio_interaction_cli.engine import choose_device
    except (ImportError, OSError) as error:
        yield Finding("torch", "problem", f"cannot be loaded: {error}", "install it anew; see pytorch.org")
        return
    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    place = choose_device("auto")
    if place.type != "cpu":
        name = torch.cuda.get_device_name(place) if place.type == "cuda" else "Metal"
        yield Finding("device", "ok", f"{place}: {name}")
        return
    abilities = {"bfloat16": multiplies_bfloat16(place), "int8": multiplies_int8(place)}
    able = ", ".join(name for name, there in abilities.items() if there)
    message = f"cpu, {torch.backends.cpu.get_cpu_capability()}{', fast in ' + able if able else ''}"
    if able:
        yield Finding("device", "ok", message)
    else:
        hint = "the demo runs well; the real model needs a GPU, or Linux on a processor with AVX2"
        yield Finding("device", "note", f"{message}, without bfloat16 or int8", hint)


def _checkpoint(named: str | None, found: list[Checkpoint]) -> Finding:
    from audio_interaction_cli.engine import check

    checkpoint = checkpoints.find(named)
    check(checkpoint)
    found.append(checkpoint)
    message = f"{checkpoint.name} in {checkpoint.folder}, headers and tokenizer are intact"
    if checkpoint.name == DEMO and named is None:
        return Finding("checkpoint", "note", f"only the small built-in {DEMO}", f"for the real model: {DOWNLOAD}")
    return Finding("checkpoint", "ok", message)


def _memory(checkpoint: Checkpoint | None) -> Finding:
    """Of the processor; whether the checkpoint fits into that of a GPU is told when it is loaded."""
    memory = psutil.virtual_memory()
    message = f"{size(memory.available)} of {size(memory.total)} available"
    if checkpoint is None:
        return Finding("memory", "ok", message)
    from audio_interaction_cli.engine import choose_device

    needed = memory_bytes(checkpoint)
    dtype, least = min(needed.items(), key=lambda item: item[1])
    usual = needed.get("bfloat16", least)
    message += f"; {checkpoint.name} needs {size(usual + PROGRAM_BYTES)}"
    if choose_device("auto").type == "cuda" or usual + PROGRAM_BYTES <= memory.available:
        return Finding("memory", "ok", message)
    if least + PROGRAM_BYTES <= memory.available:
        return Finding("memory", "note", message, f"--quantize {dtype} needs {size(least + PROGRAM_BYTES)}")
    return Finding("memory", "problem", message, "close other programs, or use --checkpoint demo")


def _disk(checkpoint: Checkpoint | None) -> Finding:
    from huggingface_hub.constants import HF_HUB_CACHE

    from audio_interaction_cli.hub import Download

    free_bytes = Download(hub_id=HUB_IDS[0]).free_bytes
    message = f"{size(free_bytes)} free for the hub cache in {HF_HUB_CACHE}"
    if free_bytes < REAL_CHECKPOINT_BYTES and (checkpoint is None or checkpoint.name == DEMO):
        hint = f"the real model takes {size(REAL_CHECKPOINT_BYTES)}; another place: --local-dir or HF_HOME"
        return Finding("disk", "note", message, hint)
    return Finding("disk", "ok", message)


def _microphone(wanted: str | None) -> Finding:
    from audio_interaction_cli import microphone

    with microphone.hushed():
        there = microphone.devices()
        chosen = microphone.choose(there, wanted)
    return Finding("microphone", "ok", f"{chosen.name}, of {len(there)}")


def _hub() -> Finding:
    from audio_interaction_cli.hub import reach

    try:
        return Finding("hub", "ok", f"{reach(HUB_IDS[0])} can be reached")
    except AiCliError as error:
        return Finding("hub", "note", error.message, f"needed for {DOWNLOAD} only; {error.hint}")


def _terminal() -> Finding:
    console = Console(stderr=True)
    screen = Screen.of(console)
    if not console.is_terminal or console.is_dumb_terminal:
        return Finding("terminal", "note", "stderr is not a terminal that moves its cursor: plain lines, no display")
    colours = console.color_system or "no colours"
    message = f"{screen.width} x {screen.height}, {colours}, {screen.encoding}"
    if screen.glyphs is not UNICODE:
        return Finding("terminal", "note", f"{message}: drawn in ASCII", "a UTF-8 locale, as LANG=C.UTF-8, shows more")
    if not sys.stdin.isatty():
        return Finding("terminal", "note", f"{message}; keys do not reach mic, for stdin is no terminal")
    return Finding("terminal", "ok", message)

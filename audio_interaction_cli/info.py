"""What a checkpoint is: size, shape, prompt and, where it says so itself, what it understands.

`describe` gives the facts, which may then be written for programs or for people. Reads headers, never weights.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from audio_interaction_cli.checkpoint import UNDERSTANDS, Checkpoint, TensorHeader, headers
from audio_interaction_cli.drawing import EMOTION_LOOKS
from audio_interaction_cli.footprint import memory_bytes, size_of, window_of
from audio_interaction_cli.microphone import InputDevice
from audio_interaction_cli.protocol import CHUNK_POSITIONS, CHUNK_S, DEFAULT_CONTEXT_POSITIONS
from audio_interaction_cli.quantities import size
from audio_interaction_cli.screen import Screen
from audio_interaction_cli.settings import variable
from audio_interaction_cli.tables import damaged, mapping, parse_json

if TYPE_CHECKING:
    from audio_interaction_cli.doctor import Finding

DTYPE_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "I8": "int8"}
UNWRAPPED_COLUMNS = 10_000  # off a terminal, where a line is broken is the reader's business
EMOTION_STYLES = {str(emotion): style for emotion, (_, style) in EMOTION_LOOKS.items()}


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """The facts, ready for JSON. The tensors of a pickled tower are not looked at, so their number is null.

    CheckpointError where the checkpoint says something impossible of itself.
    """
    lm, tower = checkpoint.lm_config, checkpoint.tower_config
    lm_files = {header.file for header in checkpoint.lm_tensors.values()}
    readable = checkpoint.tower_weights.suffix == ".safetensors"
    tower_tensors = headers(checkpoint.tower_weights) if readable else {}
    of_lm: dict[str, Any] = {
        "parameters": _parameters(checkpoint.lm_tensors),
        "bytes": sum(os.path.getsize(file) for file in lm_files),
        "layers": size_of(lm, "n_layer"),
        "width": size_of(lm, "n_embd"),
        "heads": size_of(lm, "n_head"),
        "vocabulary": size_of(lm, "padded_vocab_size"),
    }
    of_tower: dict[str, Any] = {
        "parameters": _parameters(tower_tensors) if readable else None,
        "bytes": os.path.getsize(checkpoint.tower_weights),
        "layers": tower.get("encoder_layers"),
        "width": tower.get("d_model"),
        "heads": tower.get("encoder_attention_heads"),
    }
    dtypes = {header.dtype for header in (*checkpoint.lm_tensors.values(), *tower_tensors.values())}
    window = window_of(lm)
    facts: dict[str, Any] = {
        "schema": 1,
        "name": checkpoint.name,
        "folder": str(checkpoint.folder.absolute()),
        "parameters": of_lm["parameters"] + of_tower["parameters"] if readable else None,
        "bytes": of_lm["bytes"] + of_tower["bytes"],
        "dtypes": sorted(DTYPE_NAMES.get(dtype, dtype) for dtype in dtypes),
        "context_tokens": min(window, DEFAULT_CONTEXT_POSITIONS),
        "lm": of_lm,
        "tower": of_tower,
        "token_ids": asdict(checkpoint.token_ids),
        "system_prompt": checkpoint.system_prompt,
    }
    return facts | {"memory_bytes": memory_bytes(checkpoint)} | _understood(checkpoint)


def _parameters(tensors: Mapping[str, TensorHeader]) -> int:
    return sum(math.prod(header.shape) for header in tensors.values())


def _understood(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the checkpoint says that it understands, if it says so."""
    file = checkpoint.folder / UNDERSTANDS
    if not os.path.exists(file):
        return {}
    given = mapping(parse_json(file), UNDERSTANDS)
    try:
        phrases = [
            {"spoken": [str(form) for form in phrase["spoken"]], **_answer(phrase)} for phrase in given["phrases"]
        ]
        sounds = [{"name": str(sound["name"]), **_answer(sound)} for sound in given["sounds"]]
    except (KeyError, TypeError) as error:
        raise damaged(file, "it does not list phrases and sounds") from error
    return {"understands": {"phrases": phrases, "sounds": sounds}}


def _answer(entry: Mapping[str, Any]) -> dict[str, str | None]:
    return {name: None if entry[name] is None else str(entry[name]) for name in ("emotion", "reply")}


def describe_devices(devices: Iterable[tuple[InputDevice, Sequence[int]]]) -> dict[str, Any]:
    """Microphones and the sample rates that each accepts, ready for JSON."""
    listed = [asdict(device) | {"rates_hz": list(rates_hz)} for device, rates_hz in devices]
    return {"schema": 1, "devices": listed}


def as_json(facts: Mapping[str, Any]) -> str:
    """The facts as one line of JSON, in ASCII."""
    return json.dumps(facts) + "\n"


def as_text(facts: Mapping[str, Any], stream: TextIO) -> str:
    """The facts as people read them, with colours and line breaks if `stream` is a terminal."""
    return _printed(lambda screen: _drawn(facts, screen), stream)


def devices_as_text(facts: Mapping[str, Any], stream: TextIO) -> str:
    """The microphones as a table, like `as_text`."""
    return _printed(lambda screen: _device_table(facts["devices"], screen), stream)


def finding_as_text(finding: "Finding", stream: TextIO) -> str:
    """What the doctor found in one thing, like `as_text`."""
    return _printed(lambda screen: _line(finding, screen), stream)


def config_as_text(facts: Mapping[str, Any], stream: TextIO) -> str:
    """All settings and where they come from, like `as_text`."""
    return _printed(lambda screen: _config_table(facts, screen), stream)


def bench_as_text(figures: Mapping[str, Any], stream: TextIO) -> str:
    """What `bench` measured as a table, like `as_text`."""
    return _printed(lambda screen: _bench_tables(figures, screen), stream)


def _printed(draw: Callable[[Screen], RenderableType], stream: TextIO) -> str:
    console = Console(file=stream, width=None if stream.isatty() else UNWRAPPED_COLUMNS)
    with console.capture() as capture:
        console.print(draw(Screen.of(console)))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _device_table(devices: Iterable[Mapping[str, Any]], screen: Screen) -> Table:
    table = Table("", "", "name", "host API", "channels", "rates it accepts (kHz)", box=None, header_style="bold")
    for device in devices:
        rates = " ".join(f"{rate_hz / 1000:g}" for rate_hz in device["rates_hz"]) or "none now: in use elsewhere?"
        mark = Text(screen.glyphs.round if device["default"] else "", "cyan")
        words = (screen.clean(device["name"]), screen.clean(device["host_api"]), str(device["channels"]), rates)
        table.add_row(mark, str(device["index"]), *map(Text, words), style="bold" if device["default"] else "")
    return table


def _drawn(facts: Mapping[str, Any], screen: Screen) -> RenderableType:
    lm, tower = facts["lm"], facts["tower"]
    window = facts["context_tokens"]
    rows = {
        "name": facts["name"],
        "folder": facts["folder"],
        "parameters": _amount(facts["parameters"]),
        "on disk": f"{size(facts['bytes'])}, {' and '.join(facts['dtypes'])}",
        "in use": ", ".join(f"{size(number)} in {dtype}" for dtype, number in facts["memory_bytes"].items()),
        "window": f"{window} positions, {window // CHUNK_POSITIONS * CHUNK_S:.0f} s of silence",
        "language model": f"{_shape(lm)}, {lm['vocabulary']} tokens",
        "audio tower": _shape(tower),
        "system prompt": facts["system_prompt"],
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in rows.items():
        if value:
            grid.add_row(Text(name, "dim"), Text(screen.clean(value), overflow="fold"))
    understands = facts.get("understands")
    if not understands:
        return grid
    said = [("; ".join(phrase["spoken"]), phrase) for phrase in understands["phrases"]]
    heard = [(sound["name"], sound) for sound in understands["sounds"]]
    tables = [_replies("you say", said, screen), _replies("it hears", heard, screen)]
    return Group(grid, *(Padding(table, (1, 0, 0, 0), expand=False) for table in tables))


def _bench_tables(figures: Mapping[str, Any], screen: Screen) -> RenderableType:
    facts = (figures["checkpoint"], figures["machine"], f"{figures['threads']} threads", figures["device"],
             figures["dtype"], f"torch {figures['torch']}")  # fmt: skip
    memory = figures["peak_memory_bytes"]
    loaded = [f"loaded in {figures['load_s']:.1f} s", f"weights {size(figures['weights_bytes'])}"]
    loaded += [f"peak memory {size(memory)}"] if memory else []
    columns = ("behind positions", "chunk ms", "mel", "tower", "language model", "reply token ms")
    table = Table(*columns, box=None, header_style="bold")
    for position, times in figures["positions"].items():
        row = (times[name] for name in ("step_ms", "mel_ms", "tower_ms", "lm_ms", "decode_ms"))
        table.add_row(position, *(f"{ms:.2f}" for ms in row))
    floor, ratios, offline = figures["floor"], figures["ratios"], figures["offline"]
    table.add_row("floor", f"{floor['step_ms']:.2f}", "", "", "", f"{floor['decode_ms']:.2f}", style="dim")
    told = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in ratios.items() if value is not None)
    file = f"a silent file: real-time factor {offline['speculative_rtf']:.3g}"
    file += f", chunk by chunk {offline['sequential_rtf']:.3g}"
    dot = screen.glyphs.dot
    return Group(*map(Text, (dot.join(facts), dot.join(loaded))), Padding(table, (1, 0)), Text(told), Text(file))


def _line(finding: "Finding", screen: Screen) -> RenderableType:
    style = {"ok": "green", "note": "yellow", "problem": "bold red"}[finding.status]
    line = Text.assemble((f"{finding.status:9}", style), f"{finding.name:12}", screen.clean(finding.message))
    hint = Text(f"{'':21}{screen.clean(finding.hint)}", "dim") if finding.hint else None
    return Group(line, hint) if hint else line


def _config_table(facts: Mapping[str, Any], screen: Screen) -> RenderableType:
    table = Table("setting", "value", "from", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, entry in facts["settings"].items():
        value = "" if entry["value"] is None else screen.clean(str(entry["value"]))
        style = "dim" if entry["from"] == "default" else ""
        origin = variable(name) if entry["from"] == "environment" else entry["from"]
        table.add_row(name.replace("_", "-"), Text(value), "" if origin == "default" else origin, style=style)
    missing = "" if facts["exists"] else " (not there)"
    return Group(Text(f"file: {facts['file']}{missing}"), Padding(table, (1, 0, 0, 0)))


def _shape(part: Mapping[str, Any]) -> str:
    parameters = _amount(part["parameters"])
    amount = f"{parameters} parameters" if parameters else size(part["bytes"])
    return f"{amount}, {part['layers']} layers of width {part['width']}"


def _replies(title: str, entries: list[tuple[str, Mapping[str, Any]]], screen: Screen) -> Table:
    table = Table(title, "emotion", "it replies", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for trigger, entry in entries:
        emotion, reply = entry["emotion"] or "", entry["reply"]
        table.add_row(
            Text(screen.clean(trigger)),
            Text(screen.clean(emotion), EMOTION_STYLES.get(emotion, "")),
            Text("(depends on what came before)", "dim") if reply is None else Text(screen.clean(reply)),
        )
    return table


def _amount(number: int | None) -> str:
    """The number in words that fit, "" if it is not known."""
    if number is None:
        return ""
    scales = ((1e9, "billion"), (1e6, "million"))
    scale, unit = next(((scale, unit) for scale, unit in scales if number >= scale), (1e3, "thousand"))
    return f"{number / scale:.1f} {unit}"

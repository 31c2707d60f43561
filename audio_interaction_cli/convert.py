"""Writes a checkpoint anew: in another number format, or with int8 layers that load at once and take half the room.

What is written is the published layout again, with `quantization.json` beside it where layers are int8. It appears
under its name only when it is whole; until then it grows in a hidden folder beside, which only a kill leaves there.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from audio_interaction_cli.checkpoint import (
    INT8_FORMAT,
    LM_CONFIG,
    PROTOCOL,
    QUANTIZATION,
    TOKENIZER,
    TOWER_CONFIGS,
    UNDERSTANDS,
    Checkpoint,
)
from audio_interaction_cli.engine import DTYPES, load_weights, without_weights
from audio_interaction_cli.errors import AiCliError, UsageError
from audio_interaction_cli.linear import Int8Linear, keep_exact
from audio_interaction_cli.weights import Finished, Progress, size_bytes

BESIDE_WEIGHTS = (
    LM_CONFIG, TOKENIZER, PROTOCOL, UNDERSTANDS, *TOWER_CONFIGS, "config.json", "generation_config.json",
    "tokenizer_config.json", "LICENSE", "README.md",
)  # fmt: skip
SHARD_BYTES = 2_000_000_000


def convert(
    checkpoint: Checkpoint,
    destination: Path,
    *,
    dtype: str = "bfloat16",
    quantize: str = "none",
    progress: Progress = lambda _done, _total: None,
) -> None:
    """Write `checkpoint` to a folder that does not exist yet; takes the memory that its result needs in use.

    `dtype`: float32, bfloat16 or float16; with `quantize` int8, of all but the linear layers. `progress` is called with
    bytes read so far and in all. UsageError where it would overwrite or quantize twice, CheckpointError for a
    checkpoint that cannot be read, AiCliError if the disk does not take it.
    """
    if os.path.lexists(destination):
        raise UsageError(
            f"{destination} exists already, and nothing is overwritten", "name a folder that does not exist"
        )
    if checkpoint.int8:
        raise UsageError(f"{checkpoint.name} is quantized already", "convert the checkpoint that it was made from")
    int8 = quantize == "int8"
    fields = checkpoint.tower_config, checkpoint.lm_config
    _check_space(
        destination, sum(size_bytes(module.to(DTYPES[dtype])) for module in without_weights(*fields, int8=int8))
    )
    tower, lm = without_weights(*fields)
    for module in (tower, lm):
        module.to(DTYPES[dtype])
        if int8 or dtype == "bfloat16":  # as they are when a checkpoint is loaded so
            keep_exact(module)
    with _growing(destination) as folder:
        load_weights(
            checkpoint, tower, lm, torch.device("cpu"), progress,
            _quantizing(tower) if int8 else _as_it_is, _quantizing(lm) if int8 else _as_it_is,
        )  # fmt: skip
        save_torch_state_dict(lm.state_dict(), folder, max_shard_size=SHARD_BYTES)
        save_file(tower.state_dict(), folder / f"{checkpoint.tower_weights.stem}.safetensors")
        for name in BESIDE_WEIGHTS:
            if os.path.isfile(checkpoint.folder / name):
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(checkpoint.folder / name, folder / name)
        if int8:
            (folder / QUANTIZATION).write_text(json.dumps({"format": INT8_FORMAT}) + "\n", "utf-8")


def _as_it_is(_name: str) -> None:
    pass


def _quantizing(module: nn.Module) -> Finished:
    def quantize(name: str) -> None:
        path, _, kind = name.rpartition(".")
        layer = module.get_submodule(path)
        if kind == "weight" and isinstance(layer, nn.Linear):
            module.set_submodule(path, Int8Linear.of(layer))

    return quantize


def _check_space(destination: Path, needed_bytes: int) -> None:
    """AiCliError if there is no room, before hours of work for nothing."""
    parent = destination.absolute().parent
    if not os.path.isdir(parent):
        raise UsageError(f"there is no folder {parent}", "make it first")
    free_bytes = shutil.disk_usage(parent).free
    if free_bytes < needed_bytes:
        raise AiCliError(
            f"{needed_bytes / 1e9:.1f} GB are to be written, and {parent} has {free_bytes / 1e9:.1f} GB free",
            "free some space, or write to another disk",
        )


@contextmanager
def _growing(destination: Path) -> Iterator[Path]:
    """A folder that takes its name when what is done with it succeeds, and vanishes if not."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.absolute().parent))
        try:
            yield folder
            folder.chmod(0o755)  # what is made to be temporary is for its owner alone
            for file in folder.rglob("*"):
                file.chmod(0o755 if file.is_dir() else 0o644)
            folder.rename(destination)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except (OSError, SafetensorError) as error:
        raise AiCliError(
            f"{destination} cannot be written: {error}", "nothing was left there, and the source is as it was"
        ) from error

"""From nothing to an exported checkpoint: voices, scenes, training, export. Every step goes on where it stopped."""

import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import bank
import shards
import vocabulary

WORKSPACE = Path("build/demo_model")
CHECKPOINT = Path("audio_interaction_cli/demo")
DENSE_SHARDS = 10
LEANING_BATCHES = 10
CLIPS = Path("tests/clips")
VOICES_BYTES = 1_600_000_000
SEED = 20_250_501
SEED_FURTHER = SEED + 1_000_000  # the same scenes in another order
console = Console(stderr=True)


def build(
    workspace: Annotated[Path, typer.Option(help="Where everything is kept that is made on the way.")] = WORKSPACE,
    minutes: Annotated[float, typer.Option(help="How long the training itself may take.")] = 58.0,
    further: Annotated[float, typer.Option(help="How long to train on after that, at a lower rate.")] = 0.0,
    scenes: Annotated[int, typer.Option(help="How many scenes are trained on.")] = 14_000,
    lean: Annotated[float, typer.Option(help="Added to the logit of speaking in what is exported.")] = 0.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    only: Annotated[
        str, typer.Option(help="Stop after this step: voices, scenes, training, further, export or samples.")
    ] = "samples",
) -> None:
    """Make the demo checkpoint."""
    steps: dict[str, Callable[[], object]] = {
        "voices": lambda: _voices(workspace),
        "scenes": lambda: _scenes(workspace, scenes),
        "training": lambda: _train(workspace, minutes, device),
        "further": lambda: _train(workspace, further, device, further=True),
        "export": lambda: _export(workspace, lean),
        "samples": _samples,
    }
    if only not in steps:
        raise typer.BadParameter(f"{only} is none of the steps {', '.join(steps)}")
    _make_sure_of_room(workspace, scenes)
    for name, step in steps.items():
        console.rule(name)
        step()
        if name == only:
            break


def _make_sure_of_room(workspace: Path, scenes: int) -> None:
    """Stop before minutes of work for which the disk has no room in the end."""
    workspace.mkdir(parents=True, exist_ok=True)
    there = len([*workspace.glob("shards/shard-*.json"), *workspace.glob("dense/shard-*.json")])
    missing = max(0, _shards_of(scenes) + DENSE_SHARDS - there) * shards.SHARD_BYTES
    missing += 0 if (workspace / "bank-held-out").exists() else VOICES_BYTES
    if missing > (free := shutil.disk_usage(workspace).free):
        raise typer.BadParameter(f"{workspace} needs {missing / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free")


def _shards_of(scenes: int) -> int:
    return -(-scenes // shards.SHARD_SCENES)


def _workers() -> int:
    return os.cpu_count() or 1


def _voices(workspace: Path) -> None:
    vocabulary.build(workspace / "vocabulary", SEED)
    bank.build(
        workspace / "bank", held_out=False, share=1.0, others=20_000, seed=SEED, workers=_workers(), progress=_tell
    )
    bank.build(
        workspace / "bank-held-out", held_out=True, share=0.4, others=4_000, seed=SEED, workers=_workers(),
        progress=_tell,
    )  # fmt: skip


def _scenes(workspace: Path, scenes: int) -> None:
    for name, number, seed in (("dense", DENSE_SHARDS, SEED + 500_000), ("shards", _shards_of(scenes), SEED)):
        shards.build(
            workspace / name, workspace / "bank", shards=number, dense=name == "dense", seed=seed, workers=_workers(),
            progress=_tell,
        )  # fmt: skip


def _train(workspace: Path, minutes: float, device: str, *, further: bool = False) -> None:
    import torch

    import train

    course, seed = (train.FURTHER, SEED_FURTHER) if further else (train.FROM_NOTHING, SEED)
    if minutes:
        train.train(workspace, course, minutes, seed, torch.device(device), console)


def _export(workspace: Path, lean: float) -> None:
    import batches
    import export
    import leaning
    import train

    weights = train.trained(workspace)
    if lean:
        tokenizer = vocabulary.open_tokenizer(workspace / "vocabulary")
        supply = batches.Batches(workspace / "shards", tokenizer, train.SCENES_A_BATCH, SEED)(batches.BALANCED)
        weights, uneven = leaning.lean(weights, islice(supply, LEANING_BATCHES), lean)
        console.print(f"leant by {lean:+.2f}, give or take {uneven:.2f}")
    export.export(weights, workspace / "vocabulary", CHECKPOINT)
    console.print(f"wrote {CHECKPOINT}")


def _samples() -> None:
    import samples

    samples.write(CHECKPOINT / "samples", samples.SESSION_SEED)
    samples.write_clips(CLIPS, SEED)


def _tell(done: int, total: int) -> None:
    console.print(f"{done} of {total}")


if __name__ == "__main__":
    typer.run(build)

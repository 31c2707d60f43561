import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from audio_interaction_cli import checkpoint
from audio_interaction_cli.convert import SHARD_BYTES, convert
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.errors import CheckpointError, UsageError
from audio_interaction_cli.events import ChunkDecided, Reply
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.session import Session
from tests.conftest import Ai, full_disk_after


def load(folder: Path, dtype: str = "auto", quantize: str = "none") -> Engine:
    return Engine.load(checkpoint.read(folder, "tested"), device="cpu", dtype=dtype, quantize=quantize)


def told(engine: Engine) -> list[tuple[object, ...]]:
    """What it makes of a few seconds of noise."""
    samples = np.random.default_rng(3).uniform(-0.3, 0.3, 12 * 6_400).astype(np.float32)
    session = Session(engine, SessionOptions(sampling=Sampling(temperature=0), max_reply_tokens=6))
    made: list[tuple[object, ...]] = []
    for event in (*session.feed(samples), *session.close()):
        if isinstance(event, ChunkDecided):
            made.append((event.decision, event.p_speak))
        if isinstance(event, Reply):
            made.append((event.tokens,))
    return made


@pytest.mark.parametrize(("dtype", "quantize"), [("float32", "none"), ("bfloat16", "none"), ("bfloat16", "int8")])
def test_a_converted_checkpoint_is_what_the_option_makes_of_the_source(
    folder: Path, tmp_path: Path, dtype: str, quantize: str
) -> None:
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    convert(checkpoint.read(folder, "source"), tmp_path / "new", dtype=dtype, quantize=quantize)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    expected, got = load(folder, dtype=dtype, quantize=quantize), load(tmp_path / "new", dtype=dtype)
    assert (got.quantize, got.dtype, got.weight_bytes) == (quantize, expected.dtype, expected.weight_bytes)
    heard = told(got)
    assert len(heard) > 12
    if quantize == "none":
        assert heard == told(expected)
    else:  # the rows of the decision come from rounded weights in the one, from whole ones in the other
        assert [h[0] for h in heard] == [h[0] for h in told(expected)]


def test_int8_takes_a_byte_a_weight(folder: Path, tmp_path: Path) -> None:
    convert(checkpoint.read(folder, "source"), tmp_path / "new", quantize="int8")
    layer = "transformer.h.0.mlp.fc_1"
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    assert tensors[f"{layer}.weight"].dtype is torch.int8
    assert tensors[f"{layer}.weight"].abs().amax(1).eq(127).all()
    assert tensors[f"{layer}.weight_scale"].dtype is torch.float32
    assert tensors["transformer.wte.weight"].dtype is torch.bfloat16
    assert json.loads((tmp_path / "new" / "quantization.json").read_text()) == {"format": "int8-rotated-1"}


def test_everything_beside_the_weights_comes_along(ai: Ai, demo_folder: Path, tmp_path: Path) -> None:
    done = ai("convert", demo_folder, tmp_path / "new", "--dtype", "float32")
    assert done.status == 0, done.err
    assert done.out == ""
    assert f"next: ai-cli mic --checkpoint {tmp_path / 'new'}" in done.err
    for name in (
        "tokenizer.json",
        "protocol.json",
        "understands.json",
        "model_config.yaml",
        "qwen25OmniConfig/config.json",
    ):
        assert (tmp_path / "new" / name).read_bytes() == (demo_folder / name).read_bytes()
    assert not (tmp_path / "new" / "samples").exists()
    assert ai("info", tmp_path / "new").status == 0
    assert ai("convert", demo_folder, tmp_path / "quiet", "-q").err == ""


def test_large_checkpoints_are_written_in_parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SHARD_BYTES < 5e9  # what file systems of old take, and a reader holds at once
    monkeypatch.setattr("audio_interaction_cli.convert.SHARD_BYTES", 10_000_000)
    convert(checkpoint.read(folder, "source"), tmp_path / "new", dtype="float32")
    parts = sorted((tmp_path / "new").glob("model-*.safetensors"))
    assert len(parts) > 2
    assert told(load(tmp_path / "new", dtype="float32")) == told(load(folder, dtype="float32"))


def test_nothing_is_overwritten(ai: Ai, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("there", "file", "link"):
        done = ai("convert", folder, tmp_path / name)
        assert done.status == 2
        assert "exists already" in done.err
    assert (tmp_path / "file").read_text() == "mine"
    assert "there is no folder" in ai("convert", folder, tmp_path / "a" / "b").err


def test_nothing_is_quantized_twice(ai: Ai, folder: Path, tmp_path: Path) -> None:
    convert(checkpoint.read(folder, "source"), tmp_path / "new", quantize="int8")
    done = ai("convert", tmp_path / "new", tmp_path / "newer")
    assert done.status == 2
    assert "is quantized already" in done.err


def test_an_unknown_quantization_is_no_checkpoint(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "odd")
    (tmp_path / "odd" / "quantization.json").write_text('{"format": "int3"}')
    with pytest.raises(CheckpointError, match="int3"):
        load(tmp_path / "odd")
    (tmp_path / "odd" / "quantization.json").write_text('{"format": "int8-rotated-1"}')
    with pytest.raises(CheckpointError, match="lacks"):  # no scales
        load(tmp_path / "odd")


def test_int8_is_refused_where_it_cannot_be_computed(folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown quantization"):
        load(folder, quantize="int3")
    with pytest.raises(UsageError, match="float16"):
        load(folder, dtype="float16", quantize="int8")


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    """Files are limited in size for the process, which fails as a full disk does: in the middle of writing."""
    before = sorted(folder.rglob("*"))
    command = [sys.executable, "-m", "audio_interaction_cli", "convert", str(folder), str(tmp_path / "new")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        preexec_fn=full_disk_after(3_000_000),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert sorted(folder.rglob("*")) == before


def test_a_disk_without_room_is_refused_at_once(
    ai: Ai, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    done = ai("convert", folder, tmp_path / "new")
    assert done.status == 1
    assert "are to be written" in done.err
    assert list(tmp_path.iterdir()) == []

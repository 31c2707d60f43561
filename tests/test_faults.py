"""Disks that fill up, readers that go, memory that ends: what there is so far is kept, and people are told."""

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest
import yaml

from audio_interaction_cli.bench import LM_3B, TOWER_3B
from audio_interaction_cli.checkpoint import samples
from audio_interaction_cli.engine import without_weights
from audio_interaction_cli.errors import AudioFileError
from audio_interaction_cli.inputs import AudioInput
from tests.conftest import GOLDEN, full_disk_after

HEARD_S = 20
CHUNKS = HEARD_S * 5 // 2


class Listening:
    """`mic` in a process of its own, which hears the sample recordings and writes both files."""

    def __init__(
        self, folder: Path, ending: str, *, most_file_bytes: int | None = None, stdout: int | TextIO = subprocess.PIPE
    ) -> None:
        self.recording, self.transcript = folder / f"heard{ending}", folder / "said.jsonl"
        played = [part for file in sorted(samples().glob("*.ogg")) for part in ("--from", str(file))]
        command = [sys.executable, "-m", "audio_interaction_cli", "mic", "--checkpoint", "demo", *played, "--speed",
                   "0", "--duration", str(HEARD_S), "--temperature", "0", "--json", "--quiet",
                   "--record", str(self.recording), "--transcript", str(self.transcript)]  # fmt: skip

        self.process = subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"XDG_CONFIG_HOME": str(folder)},
            preexec_fn=full_disk_after(most_file_bytes) if most_file_bytes else None,
        )  # fmt: skip

    def end(self) -> None:
        """Waits for it; what it printed and wrote is then there."""
        out, self.err = self.process.communicate(timeout=120)
        self.lines = [json.loads(line) for line in (out or "").splitlines()]
        self.written = [json.loads(line) for line in self.transcript.read_text("utf-8").splitlines()]

    def recorded_s(self, *, whole: bool = True) -> float:
        """How much can be heard of it; damage at its end is an error unless it need not be `whole`."""
        heard_samples = 0
        with suppress(*[] if whole else [AudioFileError]):
            for block in AudioInput(self.recording).blocks():
                heard_samples += len(block)
        return heard_samples / 16_000

    def of(self, kind: str) -> list[dict[str, object]]:
        return [line for line in self.lines if line["type"] == kind]


@pytest.mark.parametrize("ending", [".wav", pytest.param(".flac", marks=pytest.mark.slow)])
def test_a_disk_that_is_full_costs_the_recording_alone(tmp_path: Path, ending: str) -> None:
    listening = Listening(tmp_path, ending, most_file_bytes=100_000)
    listening.end()
    assert listening.process.returncode == 1, listening.err
    (error,) = listening.of("error")
    reason = {".wav": "File too large", ".flac": "System error"}[ending]  # libsndfile says no more
    assert error["message"] == f"cannot write the recording {listening.recording}: {reason}"
    assert "free some space" in str(error["hint"])
    assert listening.of("summary")[0]["chunks"] == CHUNKS
    assert listening.written[-1]["type"] == "summary"
    assert 2.5 <= listening.recorded_s(whole=ending == ".wav") < HEARD_S


@pytest.mark.slow
def test_a_disk_that_is_full_costs_the_transcript_from_there_on(tmp_path: Path) -> None:
    listening = Listening(tmp_path, ".wav", most_file_bytes=1_700)
    listening.end()
    assert listening.process.returncode == 1, listening.err
    assert sorted("said.jsonl" in str(line["message"]) for line in listening.of("error")) == [False, True]
    assert listening.of("summary")[0]["chunks"] == CHUNKS
    assert len(listening.of("reply")) > [line["type"] for line in listening.written].count("reply") >= 1
    assert listening.written == listening.lines[: len(listening.written)]  # not half a line


@pytest.mark.slow
def test_a_reader_that_goes_ends_it_with_both_files_whole(tmp_path: Path) -> None:
    listening = Listening(tmp_path, ".flac")
    assert listening.process.stdout
    while json.loads(listening.process.stdout.readline())["type"] != "reply":
        pass
    listening.process.stdout.close()
    listening.process.stdout = None
    listening.end()
    assert (listening.process.returncode, listening.err) == (0, "")
    assert [line["type"] for line in listening.written].count("reply") >= 1
    assert 1 < listening.recorded_s() <= HEARD_S


@pytest.mark.slow
def test_an_output_that_is_full_does_not_end_the_recording(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        listening = Listening(tmp_path, ".wav", stdout=full)
    listening.end()
    assert listening.process.returncode == 1
    assert listening.err.count("error: ") == 1
    assert "standard output" in listening.err
    assert listening.written[-1]["chunks"] == CHUNKS
    assert listening.recorded_s() == HEARD_S


def write_full_shapes(folder: Path) -> None:
    """A checkpoint of the published shapes, all zeros, which take next to no room on a disk."""
    modules = zip(("Whisper_ChunkwisedEncoder", "model"), without_weights(TOWER_3B, LM_3B), strict=True)
    for name, module in modules:
        header, end = {}, 0
        for key, tensor in module.state_dict().items():
            begin, end = end, end + 2 * tensor.numel()
            header[key] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
        encoded = json.dumps(header).encode()
        with (folder / f"{name}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            file.truncate(file.tell() + end)
    (folder / "model_config.yaml").write_text(yaml.safe_dump(LM_3B))
    (folder / "qwen25OmniConfig").mkdir()
    nested = {"thinker_config": {"audio_config": TOWER_3B}}
    (folder / "qwen25OmniConfig" / "config.json").write_text(json.dumps(nested))
    shutil.copy(GOLDEN / "tokenizer" / "tokenizer.json", folder)


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [9_000_000_000, 14_000_000_000])
def test_too_little_memory_is_told(tmp_path: Path, most_bytes: int) -> None:
    write_full_shapes(tmp_path)
    command = [sys.executable, "-m", "audio_interaction_cli", "run", "--checkpoint", str(tmp_path), "-q"]
    done = subprocess.run(
        [*command, str(sorted(samples().glob("*.ogg"))[0])], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes)),
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.startswith("error: not enough memory")
    assert done.stderr.count("\n") == 2

"""What was recorded and written when the process is killed, at any moment, can be used."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audio_interaction_cli.checkpoint import samples
from audio_interaction_cli.errors import AudioFileError
from audio_interaction_cli.inputs import AudioInput

KILLS = int(os.environ.get("KILLS", "20"))  # some four seconds each


def samples_of(recording: Path) -> int:
    """How many can be heard; none where the process was killed before it wrote one. Other errors are raised."""
    if not recording.stat().st_size:
        return 0
    try:
        return sum(len(block) for block in AudioInput(recording).blocks())
    except AudioFileError as error:
        if "holds no sound" in error.message:
            return 0
        raise


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    draw = random.Random()
    heard_samples = lines = 0
    played = [part for file in sorted(samples().glob("*.ogg")) * 20 for part in ("--from", str(file))]
    for n in range(KILLS):
        recording, transcript = tmp_path / f"{n}.{draw.choice(['wav', 'flac'])}", tmp_path / f"{n}.jsonl"
        command = [sys.executable, "-m", "audio_interaction_cli", "mic", "--checkpoint", "demo", "--quiet", *played,
                   "--speed", "0", "--record", str(recording), "--transcript", str(transcript)]  # fmt: skip
        environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        end = time.monotonic() + 60
        while not recording.exists() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1.2))
        process.kill()
        _, err = process.communicate()
        assert process.returncode == -9, err.decode()

        heard_samples += samples_of(recording)
        written = transcript.read_text("utf-8") if transcript.exists() else ""
        lines += len([json.loads(line) for line in written.splitlines()])
    assert heard_samples > KILLS * 16_000
    assert lines > KILLS

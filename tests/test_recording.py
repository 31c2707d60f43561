import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_interaction_cli import recording
from audio_interaction_cli.errors import AiCliError, UsageError
from audio_interaction_cli.inputs import AudioInput
from audio_interaction_cli.recording import Recording

BLOCK = np.sin(np.arange(640, dtype=np.float32) / 7) * np.float32(0.5)


@pytest.fixture(params=["wav", "flac"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"heard.{request.param}"


def test_what_is_written_can_be_read(path: Path) -> None:
    recording = Recording(path)
    for _ in range(10):
        recording.write(BLOCK)
    recording.write(np.array([1.5, -1.5], np.float32))  # too loud
    recording.close()
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(samples[:-2], np.tile(BLOCK, 10), atol=1 / 32768)
    assert samples[-2:].tolist() == [32767 / 32768, -1.0]


def test_an_empty_wav_is_a_file_all_the_same(tmp_path: Path) -> None:
    Recording(tmp_path / "heard.wav").close()
    assert soundfile.info(tmp_path / "heard.wav").frames == 0


def test_what_was_there_is_kept(path: Path) -> None:
    path.write_bytes(b"precious")
    recording = Recording(path)
    recording.close()
    assert recording.kept == path.with_name(path.name + ".1")
    assert recording.kept.read_bytes() == b"precious"


RECORDS_UNTIL_KILLED = """
import os, signal, sys, numpy as np
from audio_interaction_cli.recording import Recording
recording = Recording(sys.argv[1])
for _ in range(100):
    recording.write(np.full(640, 0.25, np.float32))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_file_that_plays(path: Path) -> None:
    subprocess.run([sys.executable, "-c", RECORDS_UNTIL_KILLED, str(path)], check=False)
    with AudioInput(str(path)) as source:  # which would call a file that ends early damaged
        samples = np.concatenate(list(source.blocks()))
    lost_samples = 64_000 - len(samples)
    assert 0 <= lost_samples <= (4_608 if path.suffix == ".flac" else 0)
    np.testing.assert_allclose(samples, 0.25, atol=1 / 32768)


RECORDS_ON_A_FULL_DISK = """
import resource, signal, sys, numpy as np
from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.recording import Recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
recording = Recording(sys.argv[1])
generator = np.random.default_rng(1)
try:
    for _ in range(1_000):
        recording.write(generator.uniform(-1, 1, 640).astype(np.float32))
except AiCliError as error:
    print(error.message)
recording.close()
"""


def test_a_full_disk_is_told(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RECORDS_ON_A_FULL_DISK, str(path)], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"cannot write the recording {path}: ")
    assert path.stat().st_size <= 50_000


def test_a_wav_that_is_full_is_told_and_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LARGEST_WAV_BYTES", 44 + 2 * 16_000)
    kept = Recording(tmp_path / "heard.wav")
    kept.write(np.zeros(16_000, np.float32))
    with pytest.raises(AiCliError, match=r"is full, for a \.wav holds 37 hours"):
        kept.write(np.zeros(1, np.float32))
    kept.close()
    assert len(soundfile.read(tmp_path / "heard.wav")[0]) == 16_000


def test_impossible_places_are_refused_before_the_work(tmp_path: Path) -> None:
    for name, told in (("a.mp3", "unknown kind"), ("no/a.wav", "no such folder"), ("b.wav", "is a folder")):
        (tmp_path / "b.wav").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=told):
            Recording.check(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "b.wav"]

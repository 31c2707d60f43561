"""Damaged inputs for every parser that meets foreign bytes: each must end in an error for people, soon and small.

    scripts/fuzz [--inputs N] [--seed N] [TARGET...]

Each target runs in a process of its own, so that a crash is found too. Inputs that fail are kept in tests/corpus, which
the tests replay.
"""

import argparse
import hashlib
import itertools
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import tty
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import av
import numpy as np
import soundfile

from audio_interaction_cli import checkpoint, settings
from audio_interaction_cli.capture import Capture
from audio_interaction_cli.conversation import Conversation, peak_memory_bytes
from audio_interaction_cli.engine import Engine, check
from audio_interaction_cli.errors import AiCliError
from audio_interaction_cli.info import describe
from audio_interaction_cli.inputs import AudioInput, MemoryInput, expand
from audio_interaction_cli.keys import pressed_keys
from audio_interaction_cli.live import LiveConversation
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.output import Output
from audio_interaction_cli.playback import played
from audio_interaction_cli.prompt import path_of, typed_lines
from audio_interaction_cli.protocol import CHUNK_SAMPLES
from audio_interaction_cli.settings import Settings

CORPUS = Path(__file__).parent / "corpus"
CLIP = Path(__file__).parent / "clips" / "hello.flac"
LONGEST_S = 5
MOST_BYTES = 1_000_000_000
ENCODINGS = {"mp3": "mp3", "opus": "libopus", "mp4": "aac", "matroska": "aac"}
ODD = [
    b"\0",
    b"\xff" * 4,
    b"\x7f" + b"\xff" * 7,
    b"\x80" + b"\0" * 7,
    b"-1",
    b"1e999",
    b'"',
    b"[",
    b"{",
    b"&a *a",
    b"\n",
]


class Target(NamedTuple):
    """A parser, and whole inputs of it."""

    seeds: list[bytes]
    parse: Callable[[bytes, Path], None]
    """Given an input and a folder of its own. Raises AiCliError, or nothing."""


def _audio(container: str) -> Target:
    def parse(data: bytes, folder: Path) -> None:
        file = folder / f"input.{container}"
        file.write_bytes(data)
        with AudioInput(file) as source:
            for block in source.blocks():
                assert np.isfinite(block).all()

    return Target([_encoded(container)], parse)


def _encoded(container: str) -> bytes:
    """The start of a recording in that container."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"seed.{container}"
        if container in ("wav", "flac", "ogg"):
            samples, rate_hz = soundfile.read(CLIP, frames=8_000)
            soundfile.write(file, samples, rate_hz)
            return file.read_bytes()
        with av.open(str(CLIP)) as source, av.open(str(file), "w", format=container) as sink:
            stream: Any = sink.add_stream(ENCODINGS[container], rate=48_000 if container == "opus" else 16_000)
            stream.layout = "mono"
            resampler = av.AudioResampler(format=stream.format, layout="mono", rate=stream.rate)
            for frame in itertools.islice(source.decode(audio=0), 3):
                for part in resampler.resample(frame):
                    part.pts = None
                    sink.mux(stream.encode(part))
            sink.mux(stream.encode(None))
        return file.read_bytes()


def _checkpoint(name: str) -> Target:
    """One file of the demo checkpoint, all others as they are."""
    if name == checkpoint.LM_INDEX:
        weights = "model.safetensors"
        seed = json.dumps({"metadata": {"total_size": 9}, "weight_map": {"lm_head.weight": weights}}).encode()
    elif name == checkpoint.QUANTIZATION:
        seed = json.dumps({"format": checkpoint.INT8_FORMAT}).encode()
    else:
        seed = (checkpoint.DEMO_FOLDER / name).read_bytes()

    def parse(data: bytes, folder: Path) -> None:
        if not (folder / checkpoint.LM_CONFIG).exists():
            for file in checkpoint.DEMO_FOLDER.rglob("*"):
                if file.is_file() and file.suffix != ".ogg":
                    place = folder / file.relative_to(checkpoint.DEMO_FOLDER)
                    place.parent.mkdir(exist_ok=True)
                    place.symlink_to(file)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)
        found = checkpoint.read(folder, "damaged")
        describe(found)
        check(found)

    return Target([seed], parse)


def _settings(data: bytes, folder: Path) -> None:
    file = folder / "config.toml"
    file.write_bytes(data)
    settings.settings_file = lambda: file
    settings.read_settings_file()


def _sequence(data: bytes, folder: Path) -> None:
    (folder / "sequence.json").write_bytes(data)
    for source in expand([str(folder)]):
        for _ in source.blocks():
            pass


def _keys() -> Target:
    """What is typed while `mic` listens, from a terminal."""
    engine = Engine.load(checkpoint.find("demo"), device="cpu")
    quiet = np.zeros(4 * CHUNK_SAMPLES, np.float32)

    def parse(data: bytes, _folder: Path) -> None:
        with (
            _typed(data[:1_000]),  # a terminal keeps no more than four times that
            pressed_keys() as keys,
            Output(Settings(quiet=True)) as output,
            Conversation(engine, SessionOptions(), output.emit) as conversation,
            Capture(played([MemoryInput("quiet", quiet)], 0.0, 0.0), lossy=False) as capture,
        ):
            LiveConversation(conversation, capture, output, keys=keys).run()

    return Target([b"mrsq", b"mMrR\x1b[A\x1b[200~x\x1b[201~\xc3\xa9\x1b[M !!", b"s" * 500], parse)


def _lines() -> Target:
    """What is typed at the prompt of `interactive`, with completion and history."""
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    def parse(data: bytes, folder: Path) -> None:
        with (
            chdir(folder),
            patch.dict(os.environ, XDG_STATE_HOME=str(folder)),  # for the history
            create_pipe_input() as typed,
            create_app_session(input=typed, output=DummyOutput()),
            suppress(KeyboardInterrupt),  # Ctrl-C among it
        ):
            typed.send_bytes(data + b"\r")
            typed.close()
            for line in typed_lines(DummyOutput()):
                path_of(line)

    return Target(
        [b"hel\tlo.wav\r", b"\x1b[A\x1b[B\x12oo\x01\x0b\x19\r:quit\r", b"'a b.wav\x1b[200~c\x1b[201~\r"], parse
    )


@contextmanager
def _typed(data: bytes) -> Iterator[None]:
    """Standard input is a terminal on which that was typed."""
    master, slave = pty.openpty()
    before = sys.stdin
    try:
        with open(slave, encoding="utf-8") as sys.stdin:
            tty.setcbreak(slave)
            os.write(master, data)
            yield
    finally:
        sys.stdin = before
        os.close(master)


CONTAINERS = ("wav", "flac", "ogg", *ENCODINGS)
OF_A_CHECKPOINT = (
    checkpoint.LM_CONFIG, checkpoint.LM_INDEX, checkpoint.PROTOCOL, checkpoint.QUANTIZATION, checkpoint.UNDERSTANDS,
    checkpoint.TOKENIZER, checkpoint.TOWER_CONFIGS[0], "model.safetensors",
)  # fmt: skip
TARGETS: dict[str, Callable[[], Target]] = {
    **{f"audio-{container}": partial(_audio, container) for container in CONTAINERS},
    **{f"checkpoint-{Path(name).name}": partial(_checkpoint, name) for name in OF_A_CHECKPOINT},
    "settings": lambda: Target([b'temperature = 0.5\ncheckpoint = "demo"\n[x]\ny = [1, 2]\n'], _settings),
    "keys": _keys,
    "lines": _lines,
    "sequence": lambda: Target([b'["a.wav", "../b.mp3", "c\\u0000d"]'], _sequence),
}


def mutated(seed: bytes, draw: random.Random) -> bytes:
    """The seed with one to some small changes, mostly near its start, where headers are."""
    data = bytearray(seed)
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        at = min(int(draw.expovariate(1 / 300)) if draw.random() < 0.7 else draw.randrange(len(data) + 1), len(data))
        size = draw.choice([1, 1, 2, 4, 8, 64])
        match draw.randrange(6):
            case 0:
                data[at : at + size] = draw.randbytes(size)
            case 1:
                data[at:at] = draw.choice(ODD) * draw.choice([1, 1, 1, 500])
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size] * draw.choice([1, 2, 100])
            case 4:
                del data[at + draw.randrange(1 + len(data)) :]
            case 5:
                value = draw.choice(ODD)
                data[at : at + len(value)] = value
    return bytes(data)


def warm_up(target: Target, folder: Path) -> None:
    """Parse a whole input: what is imported for the first one takes longer than any input may."""
    with suppress(AiCliError):
        target.parse(target.seeds[0], folder)


def inputs(target: Target, count: int, seed: int) -> Iterator[bytes]:
    """So many damaged inputs, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        yield mutated(draw.choice(target.seeds), draw)


class TooLong(Exception):  # noqa: N818 - a clock, not an error of the parser
    """An input took longer than allowed."""


def tried(target: Target, data: bytes, folder: Path) -> None:
    """Parse one input. Raises what is not an error for people, TooLong included."""

    def too_long(*_: object) -> None:
        raise TooLong(f"longer than {LONGEST_S} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST_S)
    try:
        target.parse(data, folder)
    except AiCliError:
        pass
    finally:
        signal.alarm(0)


def _work(name: str, count: int, seed: int, folder: Path) -> None:
    """In a process of its own: try all; what is tried lies in `folder` should the process die of it."""
    target = TARGETS[name]()
    place = folder / "place"
    place.mkdir()
    warm_up(target, place)
    failed = 0
    for data in inputs(target, count, seed):
        (folder / "tried").write_bytes(data)
        try:
            tried(target, data, place)
        except Exception as error:
            failed += 1
            _keep(name, data, repr(error))
    peak_bytes = peak_memory_bytes() or 0
    if peak_bytes > MOST_BYTES:
        sys.stdout.write(f"{name}: {peak_bytes / 1e9:.1f} GB of memory\n")
    sys.stdout.write(f"{name}: {count} inputs, {failed} failed, peak {peak_bytes / 1e6:.0f} MB\n")
    sys.exit(failed > 0 or peak_bytes > MOST_BYTES)


def _keep(name: str, data: bytes, why: str) -> None:
    kept = CORPUS / name / hashlib.sha256(data).hexdigest()[:16]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    sys.stdout.write(f"{name}: {kept.name}: {why[:300]}\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--inputs", type=int, default=1_000, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all if none is named")
    asked = parser.parse_args()
    if asked.worker:
        _work(asked.targets[0], asked.inputs, asked.seed, asked.worker)
    bad = 0
    for name in asked.targets or TARGETS:
        folder = Path(tempfile.mkdtemp())
        again = [sys.executable, "-m", "tests.fuzzing", "--inputs", str(asked.inputs), "--seed", str(asked.seed)]
        status = subprocess.run([*again, "--worker", str(folder), name], check=False).returncode
        if status < 0:
            _keep(name, (folder / "tried").read_bytes(), f"died of {signal.Signals(-status).name}")
        bad += status != 0
        shutil.rmtree(folder)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

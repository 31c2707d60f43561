"""`ai-cli download` against a real HTTP hub on loopback, which fails in every way that it is told to."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result, full_disk_after

MODEL = "someone/small"
HUB = Path(__file__).parent / "loopback_hub.py"


class Hub:
    """The server's process, what it is told, and `ai-cli` pointed at it."""

    def __init__(self, served: Path, work: Path) -> None:
        self.served, self.home = served, work / "home"
        self._orders = work / "orders.json"
        self.told()
        command = [sys.executable, str(HUB), str(served), str(self._orders)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()
        self.cwd = work / "cwd"
        self.cwd.mkdir()

    def told(self, **orders: Any) -> None:
        self._orders.write_text(json.dumps(orders))

    def start(self, *arguments: object, largest_file: int | None = None, **environ: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "HF_ENDPOINT": self.address, "HF_HOME": str(self.home), "HF_HUB_DISABLE_XET": "1",
                       "XDG_CONFIG_HOME": str(self.home / "config"), **environ}  # fmt: skip

        return subprocess.Popen(
            [sys.executable, "-m", "audio_interaction_cli", *map(str, arguments)], env=environment, cwd=self.cwd,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=full_disk_after(largest_file) if largest_file else None,
        )  # fmt: skip

    def ai(self, *arguments: object, largest_file: int | None = None, **environ: str) -> Result:
        process = self.start(*arguments, largest_file=largest_file, **environ)
        out, err = process.communicate(timeout=240)
        return Result(process.returncode, out, err)

    def is_whole(self, folder: Path) -> bool:
        wanted = {f.relative_to(self.served): f.read_bytes() for f in self.served.rglob("*") if f.is_file()}
        return all((folder / name).is_file() and (folder / name).read_bytes() == body for name, body in wanted.items())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def hub(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(make_checkpoint("--seed", "1", "--silence-bias=0"), tmp_path)
    yield hub
    hub.close()


def test_into_the_cache_and_found_there_without_the_hub(hub: Hub) -> None:
    done = hub.ai("download", MODEL)
    assert done.status == 0, done.err
    assert "is whole; next: ai-cli mic" in done.err
    assert hub.is_whole(Path(done.out.strip()))
    hub.close()
    info = hub.ai("info", MODEL, "--json")
    assert info.status == 0, info.err
    assert json.loads(info.out)["name"] == MODEL


@pytest.mark.slow
def test_a_dry_run_fetches_nothing_and_a_folder_takes_all(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    dry = hub.ai("download", MODEL, "--local-dir", folder, "--dry-run")
    assert dry.status == 0
    assert {line.split()[-1] for line in dry.out.splitlines()} == {
        str(f.relative_to(hub.served)) for f in hub.served.rglob("*") if f.is_file()
    }
    assert "to fetch: " in dry.err
    assert not folder.exists() or not [f for f in folder.rglob("*") if f.is_file() and ".cache" not in f.parts]
    done = hub.ai("download", MODEL, "--local-dir", folder)
    assert done.status == 0, done.err
    assert hub.is_whole(folder)
    again = hub.ai("download", MODEL, "--local-dir", folder, "--dry-run")
    assert "to fetch: 0 B" in again.err


@pytest.mark.slow
def test_twenty_cuts_end_complete(hub: Hub, tmp_path: Path) -> None:
    sizes = [f.stat().st_size for f in hub.served.rglob("*") if f.is_file()]
    draw = random.Random(1)
    hub.told(cuts=[draw.randrange(max(sizes)) for _ in range(20)])
    folder = tmp_path / "checkpoints"
    for _ in range(5):  # who is told to run it again runs it again
        done = hub.ai("download", MODEL, "--local-dir", folder)
        if done.status == 0:
            break
        assert "it goes on" in done.err
    assert done.status == 0, done.err
    assert hub.is_whole(folder)


@pytest.mark.slow
def test_a_hub_that_falls_silent_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    hub.told(stalls=[20_000, 0, 300_000])
    folder = tmp_path / "checkpoints"
    done = hub.ai("download", MODEL, "--local-dir", folder, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert done.status == 0, done.err
    assert hub.is_whole(folder)


@pytest.mark.slow
def test_two_at_once_do_no_harm(hub: Hub, tmp_path: Path) -> None:
    hub.told(hold=0.01, cuts=[200_000, 300_000])  # slow, so that they meet
    folder = tmp_path / "checkpoints"
    both = [hub.start("download", MODEL, "--local-dir", folder) for _ in range(2)]
    ends = [(process.communicate(timeout=200), process.returncode) for process in both]
    assert [status for _, status in ends] == [0, 0], "\n".join(err for (_, err), _ in ends)
    assert sum("waiting for it" in err for (_, err), _ in ends) == 1
    assert hub.is_whole(folder)
    assert not list(folder.rglob("*.incomplete"))


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_what_came(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    done = hub.ai("download", MODEL, "--local-dir", folder, largest_file=1_000_000)
    assert done.status == 1
    assert "error: the disk is full; the files that are whole are kept\n" in done.err, done.err
    assert (folder / "model_config.yaml").exists()
    assert "to fetch: " in (again := hub.ai("download", MODEL, "--local-dir", folder)).err
    assert again.status == 0
    assert hub.is_whole(folder)


@pytest.mark.slow
def test_a_disk_without_room_is_refused_before_anything_comes(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    hub.told(sizes={"model-00001-of-00002.safetensors": shutil.disk_usage(tmp_path).free * 2})
    done = hub.ai("download", MODEL, "--local-dir", folder)
    assert done.status == 1
    assert "are to be fetched, and " in done.err
    assert not list(folder.rglob("*.safetensors"))


@pytest.mark.slow
def test_an_interruption_is_quick_and_the_next_run_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.told(hold=0.05)
    folder = tmp_path / "checkpoints"
    process = hub.start("download", MODEL, "--local-dir", folder)
    parts = folder / ".cache" / "huggingface" / "download"
    end = time.monotonic() + 60
    while not [f for f in parts.rglob("*.incomplete") if f.stat().st_size] and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 10  # a second on a quiet machine
    assert not list(parts.rglob("*.incomplete"))  # for nobody would take them up
    hub.told()
    killed, others = parts / "killed.incomplete", parts / "others.incomplete"
    killed.touch()
    others.touch()
    os.utime(killed, (0, 0))
    assert hub.ai("download", MODEL, "--local-dir", folder).status == 0
    assert hub.is_whole(folder)
    assert (killed.exists(), others.exists()) == (False, True)


@pytest.mark.slow
def test_a_revision_or_a_part_is_told_where_it_went(hub: Hub) -> None:
    done = hub.ai("download", MODEL, "--revision", "v1")
    assert done.status == 0, done.err
    folder = Path(done.out.strip())
    assert hub.is_whole(folder)
    assert f"next: ai-cli mic --checkpoint {folder}" in done.err
    assert hub.ai("download", MODEL, "--revision", "v1", "--verify").out.strip() == str(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "hint"), [("checkpoints", ""), ("demo", " --checkpoint ./demo")])
def test_a_folder_is_called_as_it_was_named(hub: Hub, folder: str, hint: str) -> None:
    done = hub.ai("download", MODEL, "--local-dir", folder)
    assert done.status == 0, done.err
    assert done.err.splitlines()[-1].endswith(f"next: ai-cli mic{hint}")
    assert done.out == f"{folder}\n"


@pytest.mark.slow
def test_a_part_is_not_called_whole_and_not_found(hub: Hub) -> None:
    done = hub.ai("download", MODEL, "--include", "model_config.yaml")
    assert done.status == 0, done.err
    assert "all that was asked for is here" in done.err
    assert "next" not in done.err
    assert [file.name for file in Path(done.out.strip()).iterdir()] == ["model_config.yaml"]
    info = hub.ai("info", MODEL)
    assert info.status == 3
    assert f"{MODEL} in the hub cache is not complete" in info.err
    assert f"ai-cli download {MODEL}" in info.err


@pytest.mark.slow
def test_a_place_that_is_none_is_told(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = hub.ai("download", MODEL, "--local-dir", tmp_path / "file")
    assert done.status == 1
    assert f"cannot write to {tmp_path / 'file'}" in done.err
    assert "--local-dir" in done.err


@pytest.mark.slow
def test_damage_is_found(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    hub.told(corrupt="model_config.yaml")
    done = hub.ai("download", MODEL, "--local-dir", folder)
    assert done.status == 1
    assert "error: not as the hub has it: model_config.yaml" in done.err
    hub.told()
    assert hub.ai("download", MODEL, "--local-dir", folder, "--verify").status == 1
    mended = hub.ai("download", MODEL, "--local-dir", folder)
    assert mended.status == 0, mended.err
    assert "so it is fetched anew: model_config.yaml" in mended.err
    assert hub.ai("download", MODEL, "--local-dir", folder, "--verify").status == 0
    (folder / "tokenizer.json").unlink()
    lacking = hub.ai("download", MODEL, "--local-dir", folder, "--verify")
    assert (lacking.status, "not there yet: tokenizer.json" in lacking.err) == (1, True)


@pytest.mark.slow
def test_a_file_that_was_cut_in_the_cache_is_mended(hub: Hub) -> None:
    done = hub.ai("download", MODEL)
    assert done.status == 0, done.err
    weights = Path(done.out.strip(), "model-00001-of-00002.safetensors")
    os.truncate(weights.resolve(), 1_000)
    cut = hub.ai("info", MODEL)
    assert (cut.status, "ai-cli download" in cut.err) == (3, True)
    mended = hub.ai("download", MODEL)
    assert mended.status == 0, mended.err
    assert hub.ai("info", MODEL).status == 0


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "the hub refuses us someone/small (status 401)"),
        (403, "the hub refuses us someone/small (status 403)"),
        (404, "the hub answered with status 404"),
        (429, "the hub has had too many requests from here (status 429)"),
        (500, "the hub is out of order (status 500)"),
    ],
)
def test_refusals_are_explained(hub: Hub, status: int, told: str) -> None:
    hub.told(status=status)
    done = hub.ai("download", MODEL)
    assert done.status == 1
    assert told in done.err.splitlines()[0], done.err
    assert done.err.splitlines()[1].startswith("hint: ")


@pytest.mark.slow
def test_what_is_not_there_is_explained(hub: Hub) -> None:
    assert "has no revision v9" in hub.ai("download", MODEL, "--revision", "v9").err
    assert "the hub has no someone/other, or hides it" in hub.ai("download", "someone/other").err
    assert "is not a hub id" in hub.ai("download", "a/b/c").err
    assert "HF_HUB_OFFLINE forbids" in hub.ai("download", MODEL, HF_HUB_OFFLINE="1").err
    assert "has no files of that kind" in hub.ai("download", MODEL, "--include", "nothing*").err
    assert "there is nothing of someone/small here" in hub.ai("download", MODEL, "--verify").err
    hub.close()
    done = hub.ai("download", MODEL)
    assert done.status == 1
    assert done.err.startswith("error: the hub cannot be reached: ")


@pytest.mark.slow
def test_names_that_try_to_leave_the_folder_write_nothing_outside(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "checkpoints"
    hub.told(names=["../../escaped.txt", "/tmp/escaped-absolutely.txt", "a/../../../escaped.txt"])
    done = hub.ai("download", MODEL, "--local-dir", folder)
    assert done.status != 0
    assert not list(tmp_path.glob("**/escaped*"))
    assert not Path("/tmp/escaped-absolutely.txt").exists()

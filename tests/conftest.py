"""Shared fixtures: real checkpoints written once a run, and the recorded cases that they answer to."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import soundfile
import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from audio_interaction_cli import checkpoint, main
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.lm import LanguageModel
from audio_interaction_cli.shape import LmConfig
from audio_interaction_cli.tower import Tower, read_config

GOLDEN = Path(__file__).parent / "golden"

CheckpointMaker = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def _signals_as_usual() -> None:
    """How the tests were started, by nohup or in the background, is not under test either."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _no_settings_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the person at this machine has set is not under test."""
    for name in [name for name in os.environ if name.startswith("AI_CLI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointMaker:
    """Writes a small random checkpoint, once for each set of arguments; tests must not change it."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*arguments: str) -> Path:
        if arguments not in made:
            folder = tmp_path_factory.mktemp("checkpoint")
            script = [sys.executable, str(GOLDEN / "make_checkpoint.py"), str(folder)]
            subprocess.run([*script, "--tokenizer", str(GOLDEN / "tokenizer"), *arguments], check=True)
            made[arguments] = folder
        return made[arguments]

    return make


@pytest.fixture(scope="session")
def load_engine(make_checkpoint: CheckpointMaker) -> Callable[..., Engine]:
    """A float32 engine on a small random checkpoint, loaded once for each set of arguments."""
    loaded: dict[tuple[str, ...], Engine] = {}

    def load(*arguments: str) -> Engine:
        if arguments not in loaded:
            folder = make_checkpoint(*arguments)
            loaded[arguments] = Engine.load(checkpoint.read(folder, "golden"), device="cpu", dtype="float32")
        return loaded[arguments]

    return load


@pytest.fixture(scope="session")
def engine(load_engine: Callable[..., Engine]) -> Engine:
    """An engine that stays silent and replies in turn."""
    return load_engine("--seed", "1", "--silence-bias=0")


def golden_cases() -> list[Any]:
    """The recorded cases, as pytest parameters."""
    files = sorted((GOLDEN / "cases").glob("*.json"))
    return [pytest.param(json.loads(file.read_text("utf-8")), id=file.stem) for file in files]


def full_disk_after(most_file_bytes: int) -> Callable[[], None]:
    """For a process to run before all else: a file that grows beyond that then fails, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stdout as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]


Ai = Callable[..., Result]


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint("--seed", "1", "--silence-bias=0")


@pytest.fixture
def ai(
    folder: Path,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Ai:
    """Runs `ai-cli` in this process, with a greedy small model that is loaded already."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("AI_CLI_CHECKPOINT", str(folder))
    monkeypatch.setenv("AI_CLI_TEMPERATURE", "0")
    real_load = Engine.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Engine, "load", lambda found, **given: engine if found.folder == folder else real_load(Engine, found, **given)
    )

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["ai-cli", *map(str, arguments)])
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as exit_:
                main.main()
        finally:
            signal.signal(signal.SIGTERM, terminate)
        return Result(int(exit_.value.code or 0), *capsys.readouterr())

    return run


DEMO_PROMPT = "Be brief."
UNDERSTANDS = {
    "phrases": [
        {"spoken": ["hello", "hi there"], "emotion": "happy", "reply": "Hello!"},
        {"spoken": ["what is my name"], "emotion": None, "reply": None},
    ],
    "sounds": [{"name": "doorbell", "emotion": "urgent", "reply": "Someone is at the [door]."}],
}
SIGNS = (
    "assistant", "keep_silence", "pad", "online", "english", "happy", "sad", "angry", "surprise", "normal", "urgent",
    "text_end", "text_begin", "system", "audio_begin",
)  # fmt: skip


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random checkpoint made as the built-in one is: its own tokenizer, token ids and prompt, and samples.

    Tests must not change it.
    """
    folder = tmp_path_factory.mktemp("demo")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|unused|>"],
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([(GOLDEN / "README.md").read_text("utf-8")], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))

    begin = tokenizer.get_vocab_size()
    token_ids = {name: begin + n for n, name in enumerate(SIGNS)}
    token_ids |= {"control_begin": begin, "control_end": begin + len(SIGNS)}
    protocol = {"token_ids": token_ids, "system_prompt": DEMO_PROMPT}
    (folder / "protocol.json").write_text(json.dumps(protocol))
    (folder / "understands.json").write_text(json.dumps(UNDERSTANDS))

    lm = {"n_layer": 1, "n_embd": 32, "n_head": 4, "n_query_groups": 2, "intermediate_size": 48, "block_size": 400,
          "padded_vocab_size": begin + len(SIGNS) + 3, "norm_eps": 1e-6, "rope_base": 1e6}  # fmt: skip
    audio = {"num_mel_bins": 128, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
             "encoder_ffn_dim": 32, "output_dim": 32, "activation_function": "gelu"}  # fmt: skip
    (folder / "model_config.yaml").write_text(yaml.safe_dump(lm))
    (folder / "qwen25OmniConfig").mkdir()
    nested = {"thinker_config": {"audio_config": audio}}
    (folder / "qwen25OmniConfig" / "config.json").write_text(json.dumps(nested))
    generator = torch.Generator().manual_seed(1)
    modules = {
        "model.safetensors": LanguageModel(LmConfig.read(lm)),
        "Demo_ChunkwisedEncoder.safetensors": Tower(read_config(audio)),
    }
    for name, module in modules.items():
        shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
        state = {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()}
        save_file({key: tensor.bfloat16() for key, tensor in state.items()}, folder / name)

    (folder / "samples").mkdir()
    names = ["sound2.wav", "sound1.wav"]
    for name in names:
        soundfile.write(folder / "samples" / name, torch.rand(6_000, generator=generator).numpy() - 0.5, 16_000)
    (folder / "samples" / "sequence.json").write_text(json.dumps(names))
    return folder

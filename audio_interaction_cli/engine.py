"""The model in memory: weights and tables that any number of conversations share.

`Engine.load` reads a checkpoint; a `Session` with the engine is a conversation. Choosing the device and the
number format happens here; nothing here changes once loaded.
"""

from dataclasses import dataclass
from functools import cached_property

import torch

from audio_interaction_cli.checkpoint import Checkpoint, TensorHeader, headers
from audio_interaction_cli.errors import CheckpointError, UsageError
from audio_interaction_cli.lm import TENSOR_PREFIXES, LanguageModel, LmConfig
from audio_interaction_cli.protocol import TokenIds
from audio_interaction_cli.text import TextTokenizer
from audio_interaction_cli.tower import TRAINING_ONLY, Tower, read_config
from audio_interaction_cli.turns import Grammar, State
from audio_interaction_cli.weights import Progress, check_headers, load_safetensors, load_tower, size_bytes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL_PARAMETERS = 100_000_000  # below this, float32 is no slower on a CPU and exact


@dataclass(frozen=True)
class Engine:
    """A loaded model. Make one with `Engine.load`."""

    name: str
    device: torch.device
    dtype: torch.dtype
    tower: Tower
    lm: LanguageModel
    tokenizer: TextTokenizer
    token_ids: TokenIds
    system_prompt: str
    """What a conversation is told if its options say nothing else."""

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        dtype: str = "auto",
        progress: Progress = lambda _done, _total: None,
    ) -> "Engine":
        """Read the weights of `checkpoint` (see `checkpoint.find`).

        `device`: auto, cpu, cuda, cuda:N or mps. `dtype`: auto, float32, bfloat16 or float16; auto is the
        fastest that the device does well. `progress` is called with bytes in memory so far and in all.
        Raises CheckpointError for weights that do not fit their configuration, UsageError for a device
        that is not there, OutOfMemoryError if the weights do not fit.
        """
        tower, lm = _without_weights(checkpoint)
        place = choose_device(device)
        number = choose_dtype(
            dtype, place, sum(parameter.numel() for parameter in (*tower.parameters(), *lm.parameters()))
        )
        tokenizer = TextTokenizer(checkpoint.tokenizer)

        # The tower first: its file is mapped as a whole, which costs least while little else is resident.
        tower.to(number)
        lm.to(number)
        tower_bytes, total_bytes = size_bytes(tower), size_bytes(tower) + size_bytes(lm)
        load_tower(tower, place, checkpoint.tower_weights, TRAINING_ONLY, lambda done, _: progress(done, total_bytes))
        load_safetensors(
            lm, place, _of_lm(checkpoint), lambda done, _: progress(tower_bytes + done, total_bytes), lm.other_name
        )
        ids, prompt = checkpoint.token_ids, checkpoint.system_prompt
        return cls(checkpoint.name, place, number, tower, lm, tokenizer, ids, prompt)

    @cached_property
    def grammar(self) -> Grammar:
        """Which tokens are legal when, in this vocabulary."""
        return Grammar(self.token_ids, self.tokenizer.text_ids(), self.lm.config.padded_vocab_size)

    @cached_property
    def masks(self) -> dict[State, torch.Tensor]:
        """What to add to logits so that only legal tokens remain: float32 [vocabulary], 0 or -inf."""
        legal = {state: torch.tensor(self.grammar.legal(state)) for state in State}
        return {state: torch.where(allowed, 0.0, -torch.inf) for state, allowed in legal.items()}

    @property
    def dtype_name(self) -> str:
        """The number format as the command line calls it."""
        return next(name for name, dtype in DTYPES.items() if dtype is self.dtype)


def check(checkpoint: Checkpoint) -> None:
    """Compare names, shapes and types of all tensors with the configuration, without reading a weight.

    CheckpointError for what does not fit. A pickled tower does not say what it holds before it is read.
    """
    tower, lm = _without_weights(checkpoint)
    check_headers(lm, _of_lm(checkpoint), lm.other_name)
    if checkpoint.tower_weights.suffix == ".safetensors":
        of_tower = headers(checkpoint.tower_weights)
        check_headers(tower, {k: v for k, v in of_tower.items() if not k.startswith(TRAINING_ONLY)})
    TextTokenizer(checkpoint.tokenizer)


def _without_weights(checkpoint: Checkpoint) -> tuple[Tower, LanguageModel]:
    with torch.device("meta"):
        tower = Tower(tower_config := read_config(checkpoint.tower_config))
        lm = LanguageModel(lm_config := LmConfig.read(checkpoint.lm_config))
    if tower_config.output_dim != lm_config.n_embd:
        raise CheckpointError(
            f"the audio tower gives {tower_config.output_dim} values a frame, "
            f"the language model takes {lm_config.n_embd}",
            "the two configurations are not of the same model",
        )
    return tower, lm


def _of_lm(checkpoint: Checkpoint) -> dict[str, TensorHeader]:
    return {name: header for name, header in checkpoint.lm_tensors.items() if name.startswith(TENSOR_PREFIXES)}


def choose_device(name: str) -> torch.device:
    """auto, cpu, cuda, cuda:N or mps as a device; UsageError if it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind, _, index = name.partition(":")
    if kind not in available or (":" in name and not (kind == "cuda" and index.isdecimal())):
        raise UsageError(f"unknown device {name}", "use auto, cpu, cuda, cuda:N or mps")
    if not available[kind] or (index and int(index) >= torch.cuda.device_count()):
        raise UsageError(f"device {name} is not available on this machine", "use --device auto")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device, parameters: int) -> torch.dtype:
    """The number format of that name; auto is what the device does fastest for a model of so many parameters."""
    if name != "auto":
        if name not in DTYPES:
            raise UsageError(f"unknown dtype {name}", f"use auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cpu":
        with_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        fast = with_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if fast and parameters > SMALL_PARAMETERS else torch.float32
    if device.type == "cuda" and torch.version.cuda and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16  # older than Ampere, which only emulates bfloat16
    return torch.bfloat16

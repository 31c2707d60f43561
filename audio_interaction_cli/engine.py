"""The model in memory: weights and tables that any number of conversations share.

`Engine.load` reads a checkpoint; a `Session` with the engine is a conversation. Choosing the device and the
number format happens here; nothing here changes once loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from audio_interaction_cli.abilities import gives_float32, multiplies_bfloat16, multiplies_int8
from audio_interaction_cli.checkpoint import Checkpoint, TensorHeader, headers
from audio_interaction_cli.errors import CheckpointError, UsageError
from audio_interaction_cli.linear import expect_int8, head_rows, keep_exact, prepare_layer, weight_bytes
from audio_interaction_cli.lm import TENSOR_PREFIXES, LanguageModel
from audio_interaction_cli.memory import enough_memory, returning_memory
from audio_interaction_cli.protocol import TokenIds
from audio_interaction_cli.shape import LmConfig
from audio_interaction_cli.text import TextTokenizer
from audio_interaction_cli.tower import TRAINING_ONLY, Tower, read_config
from audio_interaction_cli.turns import Grammar, State
from audio_interaction_cli.weights import (
    Finished,
    Progress,
    check_headers,
    load_safetensors,
    load_tower,
    size_bytes,
)

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
    decision_rows: torch.Tensor
    """The head's rows of silence and of speaking, float32 [2, n_embd]: all that listening needs of it."""
    quantize: str = "none"
    """none, or int8 for the linear layers."""

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        dtype: str = "auto",
        quantize: str = "none",
        progress: Progress = lambda _done, _total: None,
    ) -> "Engine":
        """Read the weights of `checkpoint` (see `checkpoint.find`).

        `device`: auto, cpu, cuda, cuda:N or mps. `dtype`: auto, float32, bfloat16 or float16; auto is the
        fastest that the device does well. `quantize`: none, or int8 for the linear layers, which a quantized
        checkpoint is anyhow. `progress` is called with bytes read so far and in all.
        Raises CheckpointError for weights that do not fit their configuration, UsageError for a device
        that is not there or cannot do this, OutOfMemoryError if the weights do not fit.
        """
        tower, lm, place = empty(
            checkpoint.tower_config, checkpoint.lm_config, device, dtype, quantize, stored_int8=checkpoint.int8
        )
        int8 = checkpoint.int8 or quantize == "int8"
        tokenizer = TextTokenizer(checkpoint.tokenizer)

        with returning_memory():
            load_weights(checkpoint, tower, lm, place, progress, preparing(tower, int8=int8), preparing(lm, int8=int8))
            ids, prompt = checkpoint.token_ids, checkpoint.system_prompt
            return cls.of(checkpoint.name, tower, lm, tokenizer, ids, prompt, int8=int8)

    @classmethod
    def of(
        cls,
        name: str,
        tower: Tower,
        lm: LanguageModel,
        tokenizer: TextTokenizer,
        ids: TokenIds,
        prompt: str,
        *,
        int8: bool = False,
    ) -> "Engine":
        """An engine of models that have their weights; their linear layers are given their fastest form."""
        rows = head_rows(lm.lm_head, [ids.keep_silence, ids.text_begin])
        table = lm.transformer.wte.weight
        for module in (tower, lm):
            prepare = preparing(module, int8=int8, head=True)
            for path, _ in list(module.named_modules()):
                prepare(f"{path}.weight")
        quantize = "int8" if int8 else "none"
        return cls(name, table.device, table.dtype, tower, lm, tokenizer, ids, prompt, rows, quantize)

    @property
    def weight_bytes(self) -> int:
        """What the weights take in memory."""
        return weight_bytes(self.tower) + weight_bytes(self.lm)

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


def load_weights(
    checkpoint: Checkpoint,
    tower: Tower,
    lm: LanguageModel,
    place: torch.device,
    progress: Progress,
    finished_tower: Finished,
    finished_lm: Finished,
) -> None:
    """Fill models of the checkpoint's shapes; errors as for `Engine.load`."""
    tower_bytes, total_bytes = size_bytes(tower), size_bytes(tower) + size_bytes(lm)
    with enough_memory(total_bytes, place):
        # The tower first: its file may be mapped as a whole, which costs least while little else is resident.
        load_tower(
            tower, place, checkpoint.tower_weights, TRAINING_ONLY, lambda done, _: progress(done, total_bytes),
            finished_tower,
        )  # fmt: skip
        load_safetensors(
            lm, place, _of_lm(checkpoint), lambda done, _: progress(tower_bytes + done, total_bytes), lm.other_name,
            finished_lm,
        )  # fmt: skip


def check(checkpoint: Checkpoint) -> None:
    """Compare names, shapes and types of all tensors with the configuration, without reading a weight.

    CheckpointError for what does not fit. A pickled tower does not say what it holds before it is read.
    """
    tower, lm = without_weights(checkpoint.tower_config, checkpoint.lm_config, int8=checkpoint.int8)
    check_headers(lm, _of_lm(checkpoint), lm.other_name)
    if checkpoint.tower_weights.suffix == ".safetensors":
        of_tower = headers(checkpoint.tower_weights)
        check_headers(tower, {k: v for k, v in of_tower.items() if not k.startswith(TRAINING_ONLY)})
    TextTokenizer(checkpoint.tokenizer)


def empty(
    tower_fields: Mapping[str, Any],
    lm_fields: Mapping[str, Any],
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    *,
    stored_int8: bool = False,
) -> tuple[Tower, LanguageModel, torch.device]:
    """Models of these configurations in the dtype chosen, still on the meta device, and the device they are for.

    UsageError where these do not go together.
    """
    place = choose_device(device)
    if quantize not in ("none", "int8"):
        raise UsageError(f"unknown quantization {quantize}", "use none or int8")
    if (stored_int8 or quantize == "int8") and not multiplies_int8(place):
        raise UsageError(
            f"int8 is not available on {place}: it needs an x86 processor with AVX2 and Linux, or with VNNI",
            "use an unquantized checkpoint and --quantize none",
        )
    tower, lm = without_weights(tower_fields, lm_fields)
    number = choose_dtype(dtype, place, _parameters(tower) + _parameters(lm))
    if (stored_int8 or quantize == "int8") and number is torch.float16:
        raise UsageError("int8 does not go with float16", "use --dtype auto")
    tower, lm = tower.to(number), lm.to(number)
    if stored_int8 or quantize == "int8" or gives_float32(number, place):
        keep_exact(tower)
        keep_exact(lm)
    if stored_int8:  # after `to`, which would round the scales
        expect_int8(tower)
        expect_int8(lm)
    return tower, lm, place


def without_weights(
    tower_fields: Mapping[str, Any], lm_fields: Mapping[str, Any], *, int8: bool = False
) -> tuple[Tower, LanguageModel]:
    """Models of these configurations on the meta device, float32 or with int8 layers; CheckpointError if impossible."""
    with torch.device("meta"):
        tower = Tower(tower_config := read_config(tower_fields))
        lm = LanguageModel(lm_config := LmConfig.read(lm_fields))
    if tower_config.output_dim != lm_config.n_embd:
        raise CheckpointError(
            f"the audio tower gives {tower_config.output_dim} values a frame, "
            f"the language model takes {lm_config.n_embd}",
            "the two configurations are not of the same model",
        )
    if int8:
        expect_int8(tower)
        expect_int8(lm)
    return tower, lm


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def preparing(module: nn.Module, *, int8: bool, head: bool = False) -> Callable[[str], None]:
    """To be called with the name of each parameter that is there: gives its layer the fastest form.

    The head stays as it is until rows of it were read. Nothing is done for small models in float32, of which no step
    is slow.
    """
    large = weight_bytes(module) > SMALL_PARAMETERS * torch.float32.itemsize
    worth_it = int8 or large or any(parameter.dtype is torch.bfloat16 for parameter in module.parameters())

    def prepare(name: str) -> None:
        path, _, kind = name.rpartition(".")
        if worth_it and kind == "weight" and (head or path != "lm_head"):
            prepare_layer(module, path, int8=int8)

    return prepare


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
        large = parameters > SMALL_PARAMETERS
        return torch.bfloat16 if large and multiplies_bfloat16(device) else torch.float32
    if device.type == "cuda" and torch.version.cuda and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16  # older than Ampere, which only emulates bfloat16
    return torch.bfloat16

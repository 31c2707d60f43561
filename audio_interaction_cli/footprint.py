"""What memory a checkpoint takes in use, from its configurations alone."""

from collections.abc import Mapping
from reprlib import repr as brief
from typing import Any

from audio_interaction_cli.checkpoint import LM_CONFIG, Checkpoint
from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.protocol import DEFAULT_CONTEXT_POSITIONS, N_MELS

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CONVOLVED = 3  # columns at once, in both convolutions of the audio tower


def size_of(config: Mapping[str, Any], name: str, *, of: str = LM_CONFIG) -> int:
    """A size that a configuration states; CheckpointError if it is none."""
    value = config.get(name)
    if type(value) is not int or value <= 0:
        raise CheckpointError(f"{of} has {brief(value)} as {name}, which makes no sense")
    return value


def window_of(config: Mapping[str, Any]) -> int:
    """Positions that the language model was made for; CheckpointError where that makes no sense."""
    return DEFAULT_CONTEXT_POSITIONS if config.get("block_size") is None else size_of(config, "block_size")


def memory_bytes(checkpoint: Checkpoint) -> dict[str, int]:
    """Weights and a full window of the default size, by number format; int8 alone where the weights are.

    Within some percent: norms, biases and what a step needs in passing are not counted, nor is the program itself,
    which takes about half a gigabyte. CheckpointError where a configuration lacks a size.
    """
    lm = checkpoint.lm_config
    layers, width, heads, groups, inner, vocabulary = (
        size_of(lm, name)
        for name in ("n_layer", "n_embd", "n_head", "n_query_groups", "intermediate_size", "padded_vocab_size")
    )
    head_size = width // heads if lm.get("head_size") is None else size_of(lm, "head_size")
    table = vocabulary * width
    layer = width * (2 * heads * head_size + 2 * groups * head_size + 3 * inner)
    of_tower, convolutions = _tower(checkpoint.tower_config)
    linear = layers * layer + table + of_tower  # the head is as large as the table
    cache = 2 * layers * groups * head_size * min(window_of(lm), DEFAULT_CONTEXT_POSITIONS)
    needed = {dtype: (linear + table + cache) * each for dtype, each in BYTES.items()}
    needed["int8"] = linear + (table + cache) * BYTES["bfloat16"]
    needed = {form: size + convolutions * BYTES["float32"] for form, size in needed.items()}
    return {"int8": needed["int8"]} if checkpoint.int8 else needed


def _tower(config: Mapping[str, Any]) -> tuple[int, int]:
    """Weights of its linear layers, and of its convolutions."""
    layers, width, inner, output = (
        size_of(config, name, of="the audio tower's configuration")
        for name in ("encoder_layers", "d_model", "encoder_ffn_dim", "output_dim")
    )
    return layers * (4 * width * width + 2 * width * inner) + width * output, CONVOLVED * width * (N_MELS + width)

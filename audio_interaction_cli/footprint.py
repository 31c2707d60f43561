"""What memory a checkpoint takes in use, from its configurations alone."""

from collections.abc import Mapping
from typing import Any

from audio_interaction_cli.checkpoint import Checkpoint
from audio_interaction_cli.protocol import DEFAULT_CONTEXT_POSITIONS, N_MELS

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CONVOLVED = 3  # columns at once, in both convolutions of the audio tower


def memory_bytes(checkpoint: Checkpoint) -> dict[str, int]:
    """Weights and a full window of the default size, by number format; int8 alone where the weights are.

    Within some percent: norms, biases and what a step needs in passing are not counted, nor is the program itself,
    which takes about half a gigabyte. KeyError or TypeError where a configuration lacks a size.
    """
    lm, tower = checkpoint.lm_config, checkpoint.tower_config
    head_size = lm.get("head_size") or lm["n_embd"] // lm["n_head"]
    table = lm["padded_vocab_size"] * lm["n_embd"]
    linear = (
        lm["n_layer"] * _lm_layer(lm, head_size) + table + _tower_linear(tower)
    )  # the head is as large as the table
    others = table + CONVOLVED * tower["d_model"] * (N_MELS + tower["d_model"])
    window = min(lm.get("block_size") or DEFAULT_CONTEXT_POSITIONS, DEFAULT_CONTEXT_POSITIONS)
    cache = 2 * lm["n_layer"] * lm["n_query_groups"] * head_size * window
    needed = {dtype: (linear + others + cache) * each for dtype, each in BYTES.items()}
    int8 = {"int8": linear + (others + cache) * BYTES["bfloat16"]}
    return int8 if checkpoint.int8 else needed | int8


def _lm_layer(lm: Mapping[str, Any], head_size: int) -> int:
    queries, groups = lm["n_head"] * head_size, lm["n_query_groups"] * head_size
    return int(lm["n_embd"] * (2 * queries + 2 * groups + 3 * lm["intermediate_size"]))


def _tower_linear(tower: Mapping[str, Any]) -> int:
    width = tower["d_model"]
    layer = 4 * width * width + 2 * width * tower["encoder_ffn_dim"]
    return int(tower["encoder_layers"] * layer + width * tower["output_dim"])

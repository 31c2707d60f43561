"""The shape of a language model, as its configuration file tells it. Knows no numbers and no layers."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from reprlib import repr as brief  # a value of a damaged file can be of any size
from typing import Any, Self

from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.protocol import DEFAULT_CONTEXT_POSITIONS

# What LitGPT's configuration could ask for, and the only value that is implemented.
IMPLEMENTED = {
    "rotary_percentage": 1.0, "rope_condense_ratio": 1, "rope_adjustments": None, "rope_indices": None,
    "rope_interleave": False, "rope_local_base_freq": None, "sliding_window_size": None,
    "attn_bias": True, "add_qkv_bias": True, "bias": False, "lm_head_bias": False,
    "norm_class_name": "RMSNorm", "norm_qk": False, "norm_1": True, "norm_2": True,
    "post_attention_norm": False, "post_mlp_norm": False, "shared_attention_norm": False,
    "parallel_residual": False, "attention_scores_scalar": None, "attention_logit_softcapping": None,
    "final_logit_softcapping": None, "latent_attention": None, "scale_embeddings": False,
    "mlp_class_name": "LLaMAMLP", "n_expert": 0, "tie_word_embeddings": False,
}  # fmt: skip
# No such model has more; a damaged number must not take minutes to be found out.
LARGEST = defaultdict(lambda: 10_000_000, n_layer=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LmConfig:
    """Shape of the model, by the field names of `model_config.yaml`."""

    n_layer: int
    n_embd: int
    n_head: int
    n_query_groups: int
    head_size: int
    intermediate_size: int
    padded_vocab_size: int
    block_size: int
    norm_eps: float
    rope_base: float

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Take the fields of `model_config.yaml`; CheckpointError for what is missing, odd or unknown here."""
        for name, value in IMPLEMENTED.items():
            if given.get(name, value) != value:
                asked = f"{name}: {brief(given[name])}"
                raise CheckpointError(f"model_config.yaml asks for {asked}, which is not implemented")
        values = {"block_size": DEFAULT_CONTEXT_POSITIONS} | {k: v for k, v in given.items() if v is not None}
        if "head_size" not in values and all(type(values.get(name)) is int for name in ("n_embd", "n_head")):
            values["head_size"] = values["n_embd"] // (values["n_head"] or 1)
        for field in fields(cls):
            value = values.get(field.name)
            allowed = (int, float) if field.type is float else int
            if isinstance(value, bool) or not isinstance(value, allowed) or not 0 < value <= LARGEST[field.name]:
                raise CheckpointError(f"model_config.yaml has {brief(value)} as {field.name}, which makes no sense")
        config = cls(**{field.name: values[field.name] for field in fields(cls)})
        if config.n_head % config.n_query_groups or config.head_size % 2:
            raise CheckpointError("model_config.yaml: n_head, n_query_groups and head_size do not fit together")
        return config

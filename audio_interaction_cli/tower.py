"""The audio tower: 40 mel columns in, 10 frames out, each chunk on its own.

A `Qwen2_5OmniAudioEncoder` whose window is one chunk: the convolutions pad with zeros inside the chunk,
positions start at 0 in each, attention stays inside. So any number of chunks is one batch. Parameter names
are those of the checkpoint. Holds weights only, no state of any stream.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from reprlib import repr as brief  # a value of a damaged file can be of any size
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from audio_interaction_cli.abilities import gives_float32
from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.linear import multiply
from audio_interaction_cli.protocol import CHUNK_FRAMES, N_MELS

if TYPE_CHECKING:
    from audio_interaction_cli.passes import Encoding

NARROWEST = 4  # with less, positions have no periods
WIDEST, MOST_LAYERS = 1_000_000, 1_000  # no such tower has more; damage must not take minutes to be found out
MOST_KEPT = 9  # chunks of a pass that is kept: those of many take much memory
LONGEST_PERIOD = 10_000  # of the sinusoidal positions
TRAINING_ONLY = ("audio_bos_eos_token.", "positional_embedding.")  # in some files, not used for chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """Shape of a tower, by the field names of its configuration."""

    num_mel_bins: int
    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    output_dim: int
    activation_function: str
    scale_embedding: bool


def read_config(given: Mapping[str, Any]) -> TowerConfig:
    """`audio_config` of the nested configuration; CheckpointError for a tower of another kind."""
    names = [field.name for field in fields(TowerConfig)]
    if not given.keys() >= set(names):  # transformers knows what is meant, but takes a second or more to import
        given = _completed(given)
    config = TowerConfig(**{name: given[name] for name in names})
    wanted = {"num_mel_bins": N_MELS, "activation_function": "gelu", "scale_embedding": False}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise CheckpointError(f"an audio tower with {name}: {brief(getattr(config, name))} is not implemented")
    sizes = (config.d_model, config.encoder_attention_heads, config.encoder_ffn_dim, config.output_dim)
    if any(type(size) is not int for size in (*sizes, config.encoder_layers)):
        raise CheckpointError("the audio tower's configuration has sizes that are no numbers")
    if not all(0 < size <= WIDEST for size in sizes) or not 0 < config.encoder_layers <= MOST_LAYERS:
        raise CheckpointError("the audio tower's configuration has sizes that make no sense")
    if config.d_model % config.encoder_attention_heads or config.d_model % 2 or config.d_model < NARROWEST:
        raise CheckpointError("the audio tower's width does not fit its number of attention heads")
    return config


def _completed(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the values that are meant where a configuration of this kind leaves a field out."""
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig

    try:
        return Qwen2_5OmniAudioEncoderConfig(**given).to_dict()
    except Exception as error:  # the library validates in several ways
        raise CheckpointError(f"the audio tower's configuration is not valid: {error}") from error


class Tower(nn.Module):
    """mel: [B, 128, 40], 10 ms columns, dtype of the convolutions -> frames: [B, 10, output_dim], 40 ms each."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.conv1 = nn.Conv1d(N_MELS, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            _Layer(width, config.encoder_attention_heads, config.encoder_ffn_dim) for _ in range(config.encoder_layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Linear(width, config.output_dim)
        self._recordable: bool | None = None  # as far as is known
        self._idle: defaultdict[tuple[int, ...], list[Encoding]] = defaultdict(list)  # passes, by what they are given

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        if self._recordable is None:
            self._recordable = self._can_be_recorded(mel.device)
        x = self._convolved(mel)
        x = x + sinusoids(x.shape[1], x.shape[2], x.device, self.ln_post.weight.dtype)
        if self._recordable:
            x = self._played(x)
        else:
            for layer in self.layers:
                x = layer(x)
        x = x.view(len(x), CHUNK_FRAMES, 2, -1).mean(2)
        frames: torch.Tensor = self.proj(self.ln_post(x))
        return frames

    def _convolved(self, mel: torch.Tensor) -> torch.Tensor:
        """[B, 20, width]; where all else of a chunk is the same whatever is beside it, this is too."""
        chunks = torch.split(mel, 1) if self._recordable else (mel,)
        return torch.cat([F.gelu(self.conv2(F.gelu(self.conv1(chunk)))) for chunk in chunks]).transpose(1, 2)

    def _played(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, width] through all layers, as one call."""
        from audio_interaction_cli.passes import Encoding

        idle = self._idle[tuple(x.shape)]
        through = idle.pop() if idle else Encoding(self.layers, *x.shape[:2])  # nobody else's while it is in use
        y: torch.Tensor = through(x)
        if len(x) <= MOST_KEPT:
            idle.append(through)
        return y

    def _can_be_recorded(self, device: torch.device) -> bool:
        """Whether a processor can be given all layers as one call."""
        first: Any = self.layers[0]
        if isinstance(first.fc1, nn.Linear) or not gives_float32(torch.bfloat16, device):
            return False
        from audio_interaction_cli import passes  # its compiler takes a tenth of a second to import

        size = self.conv2.out_channels // first.self_attn.heads
        return passes.fits(self.layers, torch.empty(0, size, dtype=torch.bfloat16))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner_width: int) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = _Attention(width, heads)
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        y: torch.Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return y


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for part in multiply(x, self.q_proj, self.k_proj, self.v_proj)
        )
        y: torch.Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y


@cache
def sinusoids(length: int, width: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Positions as sines then cosines of `width / 2` periods from 1 to 10,000, [length, width]."""
    half = width // 2
    rates = torch.exp(-math.log(LONGEST_PERIOD) / (half - 1) * torch.arange(half, dtype=torch.float32))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(device, dtype)

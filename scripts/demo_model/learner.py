"""The network in training: the product's own tower and language model, run over whole batches of scenes.

Weights are those modules' own, so what is trained is what is shipped. Only the forward pass is written anew:
batched, without a cache, and in pure bfloat16, which on a CPU is twice as fast as autocast.
"""

import copy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from audio_interaction_cli import lm as language_model
from audio_interaction_cli import tower as audio_tower
from audio_interaction_cli.protocol import CHUNK_FRAMES, N_MELS
from audio_interaction_cli.shape import LmConfig
from scenes import LABELS, PHRASES
from vocabulary import PADDED_VOCABULARY, TOKEN_IDS

WINDOW_POSITIONS = 896
TOWER_CONFIG: dict[str, Any] = {
    "num_mel_bins": N_MELS, "d_model": 160, "encoder_layers": 6, "encoder_attention_heads": 5,
    "encoder_ffn_dim": 640, "output_dim": 192, "n_window": 20, "activation_function": "gelu",
    "scale_embedding": False, "max_source_positions": 1500, "dropout": 0.0,
}  # fmt: skip
LM_CONFIG: dict[str, Any] = {
    "name": "ai-cli-demo", "n_layer": 7, "n_embd": 192, "n_head": 3, "n_query_groups": 3, "head_size": 64,
    "intermediate_size": 512, "vocab_size": PADDED_VOCABULARY, "padded_vocab_size": PADDED_VOCABULARY,
    "block_size": WINDOW_POSITIONS, "norm_eps": 1e-6, "rope_base": 1_000_000, "rotary_percentage": 1.0,
    "attn_bias": True, "bias": False, "lm_head_bias": False, "norm_class_name": "RMSNorm",
    "mlp_class_name": "LLaMAMLP", "parallel_residual": False, "scale_embeddings": False,
}  # fmt: skip


class Batch(NamedTuple):
    """Scenes side by side, padded to the longest."""

    mel: torch.Tensor
    """[S, C, 128, 40], as the product's features."""
    labels: torch.Tensor
    """int64 [S, C, 10]; -100 where nothing is known."""
    phrases: torch.Tensor
    """int64 [S, C, 10]; -100 where nothing is known."""
    tokens: torch.Tensor
    """int64 [S, T]."""
    frames_at: torch.Tensor
    """int64 [n], places in the flattened [S * T] that take the frames of chunks `chunks`."""
    chunks: torch.Tensor
    """int64 [n / 10], indexes into the flattened [S * C]."""
    predicts_at: torch.Tensor
    """int64 [m], places in [S * T] whose next token is predicted."""
    targets: torch.Tensor
    """int64 [m]."""
    weights: torch.Tensor
    """float32 [m]."""


class Network(nn.Module):
    """Tower, language model, and two heads that are thrown away after training.

    One has the tower tell phonemes and sounds apart; the other has the language model, before its last layer, tell at
    each frame which phrase is being said.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tower = audio_tower.Tower(audio_tower.read_config(TOWER_CONFIG))
        self.lm = language_model.LanguageModel(LmConfig.read(LM_CONFIG))
        self.labels = nn.Linear(TOWER_CONFIG["d_model"], len(LABELS))
        self.phrases = nn.Linear(LM_CONFIG["n_embd"], 1 + len(PHRASES))
        self.lm.transformer.wte.weight.requires_grad_(True)
        nn.init.normal_(self.lm.transformer.wte.weight, std=0.5)
        blocks: Any = self.lm.transformer.h
        for block in blocks:
            block.attn.proj.weight.data *= 0.4
            block.mlp.proj.weight.data *= 0.4

    def hear(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """mel [B, 128, 40] to frames [B, 10, 192] and label logits [B, 10, labels]."""
        tower = self.tower
        x = F.gelu(tower.conv1(mel))
        x = F.gelu(tower.conv2(x)).transpose(1, 2)
        x = x + audio_tower.sinusoids(x.shape[1], x.shape[2], x.device, x.dtype)
        layers: Any = tower.layers
        for layer in layers:
            attn = layer.self_attn
            y = layer.self_attn_layer_norm(x)
            q, k, v = (
                p(y).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for p in (attn.q_proj, attn.k_proj, attn.v_proj)
            )
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # plain: 20 positions are too few for a fused kernel
            x = x + attn.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
            x = x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))
        x = tower.ln_post(x.view(len(x), CHUNK_FRAMES, 2, -1).mean(2))
        return tower.proj(x), self.labels(x)

    def label_loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss of the frame labels alone."""
        _, logits = self.hear(batch.mel.flatten(0, 1))
        logits, labels = logits.flatten(0, 1).float(), batch.labels.flatten()
        loss = F.cross_entropy(logits, labels, ignore_index=-100)
        return loss, {"labels": loss.item(), "label accuracy": _mean((logits.argmax(-1) == labels)[labels > 0])}

    def losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Loss of the replies, loss of both heads, and what to tell of them."""
        frames, label_logits = self.hear(batch.mel.flatten(0, 1))
        label_logits, labels = label_logits.flatten(0, 1).float(), batch.labels.flatten()
        label_loss = F.cross_entropy(label_logits, labels, ignore_index=-100)
        scenes, length = batch.tokens.shape
        x = F.embedding(batch.tokens.flatten(), self.lm.transformer.wte.weight)
        x = x.index_copy(0, batch.frames_at, frames[batch.chunks].flatten(0, 1))
        hidden, heard = (y.flatten(0, 1) for y in self._read(x.view(scenes, length, -1)))
        phrase_logits = self.phrases(heard[batch.frames_at]).float()
        phrases = batch.phrases.flatten(0, 1)[batch.chunks].flatten()
        phrase_loss = F.cross_entropy(phrase_logits, phrases, ignore_index=-100)
        logits = self.lm.logits(hidden[batch.predicts_at])
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        loss = (losses * batch.weights).sum() / batch.weights.sum()
        with torch.no_grad():
            speaks = logits[:, TOKEN_IDS.text_begin] > logits[:, TOKEN_IDS.keep_silence]
            due, silent = batch.targets == TOKEN_IDS.text_begin, batch.targets == TOKEN_IDS.keep_silence
            said = ~due & ~silent
            figures = {
                "loss": loss.item(),
                "labels": label_loss.item(),
                "label accuracy": _mean((label_logits.argmax(-1) == labels)[labels > 0]),
                "phrase accuracy": _mean((phrase_logits.argmax(-1) == phrases)[phrases > 0]),
                "recall": _mean(speaks[due]),
                "false": _mean(speaks[silent]),
                "text accuracy": _mean((logits.argmax(-1) == batch.targets)[said]),
            }
        return loss, label_loss + phrase_loss, figures

    def _read(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [S, T, 192] to the hidden states of the end and, normed, of before the last layer."""
        config = self.lm.config
        cos, sin = _rotation(x.shape[1], config.head_size, config.rope_base)
        cos, sin = cos.to(x), sin.to(x)
        blocks: Any = self.lm.transformer.h
        heard = x
        for block in blocks:
            heard = x
            qkv = block.attn.qkv(block.norm_1(x)).unflatten(-1, (-1, config.head_size)).transpose(1, 2)
            q, k, v = qkv.split([config.n_head, config.n_query_groups, config.n_query_groups], dim=1)
            y = F.scaled_dot_product_attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v, is_causal=True)
            x = x + block.attn.proj(y.transpose(1, 2).flatten(2))
            x = x + block.mlp(block.norm_2(x))
        return self.lm.transformer.ln_f(x), F.rms_norm(heard, heard.shape[-1:])


def _mean(flags: torch.Tensor) -> float:
    return flags.float().mean().item()


def _rotation(length: int, size: int, base: float) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.outer(torch.arange(length).float(), 1.0 / base ** (torch.arange(0, size, 2).float() / size))
    return angles.cos(), angles.sin()


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class MixedPrecision:
    """bfloat16 networks with float32 masters: computed in the one, updated in the other.

    Several equal networks share one set of masters, each for its part of a batch: on a CPU, where many steps of the
    work are too small to be split, a thread with a network of its own for each core is a third faster.
    """

    def __init__(self, network: Network, device: torch.device, replicas: int) -> None:
        self.masters = {name: p.detach().float().clone().to(device) for name, p in network.named_parameters()}
        network = network.to(device, torch.bfloat16)
        self.networks = [network, *(copy.deepcopy(network) for _ in range(replicas - 1))]
        self._parameters = [dict(network.named_parameters()) for network in self.networks]

    def take_gradients(self, clip: float) -> None:
        """Mean gradients of all networks to the masters, their norm limited."""
        for name, master in self.masters.items():
            given = [parameters[name].grad for parameters in self._parameters]
            gradients = [gradient.float() for gradient in given if gradient is not None]
            master.grad = torch.stack(gradients).sum(0) / len(given) if gradients else None
            for parameters in self._parameters:
                parameters[name].grad = None
        nn.utils.clip_grad_norm_([master for master in self.masters.values() if master.grad is not None], clip)

    def put_weights(self) -> None:
        """Masters to the networks."""
        with torch.no_grad():
            for parameters in self._parameters:
                for name, parameter in parameters.items():
                    parameter.copy_(self.masters[name])

    def optimisers(self, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
        """Muon for the matrices inside the layers, AdamW for the rest."""
        inside = [m for name, m in self.masters.items() if m.ndim == 2 and (".h." in name or "tower.layers" in name)]
        outside = [m for m in self.masters.values() if all(m is not other for other in inside)]
        return [
            torch.optim.Muon(inside, lr=muon_lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outside, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.01),
        ]

"""Whole passes through a model's layers, recorded on a tape that the processor plays without a word of Python between.

Where all layers are matrices of our own `kernels`: 36 layers are then one call instead of a thousand, each of which has
to find its way back into caches that the weights have just passed through. The modules given are those of `lm` and
`tower`, whose own `forward` computes the same elsewhere.
"""

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from audio_interaction_cli import flash
from audio_interaction_cli.kernels import Matrix, multiply, room_for_inputs, room_for_rows
from audio_interaction_cli.linear import linear_layers
from audio_interaction_cli.machine import Tape
from audio_interaction_cli.memory import room_for_positions
from audio_interaction_cli.pointwise import gate, gelu, normalise


def fits(layers: nn.Module, keys: torch.Tensor) -> bool:
    """Whether passes through these layers can be recorded, with keys, or the like of them, [..., head size]."""
    matrices = [getattr(layer, "matrix", None) for _, layer in linear_layers(layers)]
    exact = all(parameter.dtype is torch.float32 for parameter in layers.parameters())
    return exact and all(matrices) and flash.fits(keys)


class _Pass:
    """A number of rows through layers; what all layers use in turn."""

    def __init__(self, layers: nn.Module, rows: int, channels: int) -> None:
        self.rows, self.tape = rows, Tape()
        self.x, self.normed = room_for_rows(rows, channels), room_for_rows(rows, channels)
        matrices: list[Matrix] = [layer.matrix for _, layer in linear_layers(layers)]  # type: ignore[misc]
        widest = max(layer.in_features for _, layer in linear_layers(layers))
        self._inputs = room_for_inputs(matrices[0].form, rows, widest, self.tape.threads)

    def normalise(self, norm: Any) -> torch.Tensor:
        normalise(self.tape, norm, self.x, self.rows, self.normed)
        return self.normed

    def multiply(self, x: torch.Tensor, layers: Iterable[Any], outputs: Sequence[torch.Tensor]) -> None:
        multiply(self.tape, x, self.rows, [layer.matrix for layer in layers], outputs, room=self._inputs)

    def add(self, x: torch.Tensor, layer: Any) -> None:
        """To what goes past all layers."""
        multiply(self.tape, x, self.rows, [layer.matrix], [self.x], onto=self.x, room=self._inputs)


class Decoding(_Pass):
    """x [T, n_embd] -> hidden [T, n_embd], both float32: T positions through decoder blocks and the last norm.

    `keys` and `values` are those of a cache, [layers, groups, positions, size].
    """

    def __init__(
        self, blocks: nn.ModuleList, norm: nn.Module, keys: torch.Tensor, values: torch.Tensor, count: int
    ) -> None:
        first: Any = blocks[0]
        width = first.attn.qkv.in_features
        super().__init__(blocks, count, width)
        qkv = room_for_rows(count, first.attn.qkv.out_features)
        seen = room_for_rows(count, first.attn.proj.in_features)
        gates, ups = (room_for_rows(count, first.mlp.proj.in_features) for _ in range(2))
        self._start = ctypes.c_int64()
        self._turn = torch.empty(count, keys.shape[-1]), torch.empty(count, keys.shape[-1])
        block: Any
        for block, of_keys, of_values in zip(blocks, keys, values, strict=True):
            self.multiply(self.normalise(block.norm_1), [block.attn.qkv], [qkv])
            flash.attend(self.tape, qkv, count, self._turn, of_keys, of_values, self._start, seen)
            self.add(seen, block.attn.proj)
            self.multiply(self.normalise(block.norm_2), [block.mlp.fc_1, block.mlp.fc_2], [gates, ups])
            gate(self.tape, gates, ups)
            self.add(gates, block.mlp.proj)
        self.normalise(norm)
        self._play = self.tape.player()

    def __call__(self, x: torch.Tensor, start: int, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Behind so many positions, queries and keys rotated by cosine and sine, float32 [T, size], as in `flash`."""
        self.x[: self.rows] = x
        self._start.value = start
        for room, angles in zip(self._turn, turn, strict=True):
            room.copy_(angles)
        self._play()
        return self.normed[: self.rows].clone()


class Encoding(_Pass):
    """x [B, T, width] -> the same, float32: B chunks of T columns, each for itself, through encoder layers."""

    def __init__(self, layers: nn.ModuleList, batch: int, count: int) -> None:
        first: Any = layers[0]
        attention = first.self_attn
        width, heads = attention.q_proj.in_features, attention.heads
        super().__init__(layers, batch * count, width)
        qkv, seen = room_for_rows(self.rows, 3 * width), room_for_rows(self.rows, width)
        inner = room_for_rows(self.rows, first.fc1.out_features)
        size = width // heads
        room = room_for_positions(count)
        keys = torch.empty(heads, size, room, dtype=torch.bfloat16).transpose(1, 2)[:, :count]
        values = torch.empty(heads, room, size, dtype=torch.bfloat16)[:, :count]
        unturned, start = (torch.ones(count, size), torch.zeros(count, size)), ctypes.c_int64(0)
        chunks = [slice(chunk * count, None) for chunk in range(batch)]
        layer: Any
        for layer in layers:
            attention = layer.self_attn
            projections = attention.q_proj, attention.k_proj, attention.v_proj
            self.multiply(self.normalise(layer.self_attn_layer_norm), projections, torch.split(qkv, width, 1))
            for chunk in chunks:
                flash.attend(
                    self.tape, qkv[chunk], count, unturned, keys, values, start, seen[chunk], causal=False
                )  # fmt: skip
            self.add(seen, attention.out_proj)
            self.multiply(self.normalise(layer.final_layer_norm), [layer.fc1], [inner])
            gelu(self.tape, inner)
            self.add(inner, layer.fc2)
        self._play = self.tape.player()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.x[: self.rows] = x.flatten(0, 1)
        self._play()
        return self.x[: self.rows].view(x.shape).clone()

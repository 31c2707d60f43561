"""The language model: a Qwen2.5 decoder over one sequence, with a cache that can be cut back or moved together.

Pre-norm, grouped-query attention, SwiGLU, untied head. Parameter names are those of the checkpoint. Holds
weights only; a conversation's state is its `Cache`. Knows positions, nothing of what they stand for.
"""

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import nn

from audio_interaction_cli.abilities import gives_float32
from audio_interaction_cli.linear import multiply
from audio_interaction_cli.memory import room_for_positions
from audio_interaction_cli.shape import LmConfig

TENSOR_PREFIXES = ("transformer.", "lm_head.")


class Cache:
    """Keys and values of one conversation, preallocated; `length` positions are in use."""

    def __init__(self, config: LmConfig, positions: int, device: torch.device, dtype: torch.dtype) -> None:
        outer, size = (config.n_layer, config.n_query_groups), config.head_size
        # [layers, groups, positions, size], both; keys lie in memory as the product with queries reads them.
        # Zeros where steps are of fixed shape and multiply what is not in use by nothing; a CPU leaves it untouched.
        make = torch.zeros if device.type == "cuda" else torch.empty
        room = room_for_positions(positions)
        self.keys = make(*outer, size, room, device=device, dtype=dtype).transpose(2, 3)[:, :, :positions]
        self.values = make(*outer, room, size, device=device, dtype=dtype)[:, :, :positions]
        self.capacity = positions
        self.length = 0
        self._config = config

    @staticmethod
    def size_bytes(config: LmConfig, positions: int, dtype: torch.dtype) -> int:
        """What a cache of so many positions takes in memory."""
        room = room_for_positions(positions)
        return 2 * config.n_layer * config.n_query_groups * room * config.head_size * dtype.itemsize

    def crop(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop {self.length} positions to {length}")
        self.length = length

    def keep(self, runs: Sequence[range]) -> None:
        """Forget all but these runs of positions, given in order, and move them together.

        Each key is rotated by the difference of its two positions' angles, so that it has the very angle that it
        would have had at its new place. Values have none.
        """
        if not all(0 <= a.start <= a.stop <= b.start for a, b in pairwise([*runs, range(self.length, self.length)])):
            raise ValueError(f"cannot keep {runs} of {self.length} positions")
        stay = runs[0].stop if runs and runs[0].start == 0 else 0  # not even rounded
        old = torch.tensor([*chain.from_iterable(runs)][stay:], dtype=torch.long, device=self.keys.device)
        self.length = stay + len(old)
        new = torch.arange(stay, self.length, device=self.keys.device)
        a, b = _angles(self._config, old), _angles(self._config, new)
        # cos(b - a) and sin(b - a) from those of b and a, for the difference of large angles would be rounded.
        turn = _Turn.of(b.cos() * a.cos() + b.sin() * a.sin(), b.sin() * a.cos() - b.cos() * a.sin())
        for keys, values in zip(self.keys, self.values, strict=True):  # layer by layer: little memory beside
            keys[:, stay : self.length] = turn.rotate(keys[:, old])
            values[:, stay : self.length] = values[:, old]


class LanguageModel(nn.Module):
    """embeddings: [T, n_embd] -> hidden: [T, n_embd], normalised, ready for `logits`."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = _Transformer(config)
        self.lm_head = nn.Linear(config.n_embd, config.padded_vocab_size, bias=False)

    def embed(self, ids: list[int]) -> torch.Tensor:
        """Token ids to embeddings [T, n_embd], in the dtype of the norms, which is that of all between the layers."""
        table, norm = self.transformer.wte, self.transformer.ln_f
        embeddings: torch.Tensor = table(torch.tensor(ids, device=table.weight.device)).to(norm.weight.dtype)
        return embeddings

    def forward(self, x: torch.Tensor, cache: Cache) -> torch.Tensor:
        start, end = cache.length, cache.length + len(x)
        if end > cache.capacity:
            raise ValueError(f"{end} positions do not fit a cache of {cache.capacity}")
        new = _NewPositions.at(self.config, start, end, cache.keys)
        hidden = self._through(x, new, cache.keys[:, :, :end], cache.values[:, :, :end])
        cache.length = end
        return hidden

    def recorded(self, count: int, cache: Cache) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """`forward` of so many positions over that cache as one call, where a processor can be given all of it."""
        if not gives_float32(cache.keys.dtype, cache.keys.device):
            return None
        from audio_interaction_cli import passes  # its compiler takes a tenth of a second to import

        if not passes.fits(self.transformer.h, cache.keys):
            return None
        through = passes.Decoding(self.transformer.h, self.transformer.ln_f, cache.keys, cache.values, count)

        def forward(x: torch.Tensor) -> torch.Tensor:
            start, end = cache.length, cache.length + count
            hidden = through(x, start, _Turn.at(self.config, torch.arange(start, end)))
            cache.length = end
            return hidden

        return forward

    def fixed(self, x: torch.Tensor, position: torch.Tensor, cache: Cache) -> torch.Tensor:
        """The same at a position that only the device knows, int64 [], in shapes that do not depend on it.

        Takes the cache as it lies there, unused positions too, which must be finite, and leaves its length.
        """
        return self._through(
            x, _NewPositions.fixed(self.config, position, len(x), cache.keys), cache.keys, cache.values
        )

    def _through(self, x: torch.Tensor, new: "_NewPositions", keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        for block, of_keys, of_values in zip(self.transformer.h, keys, values, strict=True):
            x = block(x, new, of_keys, of_values)
        hidden: torch.Tensor = self.transformer.ln_f(x)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [..., n_embd] to logits [..., padded_vocab_size], float32."""
        logits: torch.Tensor = self.lm_head(hidden)
        return logits.float()

    def other_name(self, name: str) -> tuple[str, torch.Tensor] | None:
        """The legacy name of a parameter, and the order that brings its rows into today's."""
        if ".attn.qkv." not in name:
            return None
        return name.replace(".attn.qkv.", ".attn.attn."), _rows_from_interleaved(self.config)


class _Transformer(nn.Module):
    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        # `from_pretrained`, for the usual constructor would draw numbers, which on the meta device costs a second.
        table = torch.empty(config.padded_vocab_size, config.n_embd)
        self.wte: nn.Embedding = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]
        self.h = nn.ModuleList(_Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.RMSNorm(config.n_embd, eps=config.norm_eps)


class _Block(nn.Module):
    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.norm_1 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.attn = _Attention(config)
        self.norm_2 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = _Mlp(config)

    def forward(self, x: torch.Tensor, new: "_NewPositions", keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm_1(x), new, keys, values)
        y: torch.Tensor = x + self.mlp(self.norm_2(x))
        return y


class _Mlp(nn.Module):
    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.fc_1 = nn.Linear(config.n_embd, config.intermediate_size, bias=False)
        self.fc_2 = nn.Linear(config.n_embd, config.intermediate_size, bias=False)
        self.proj = nn.Linear(config.intermediate_size, config.n_embd, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = multiply(x, self.fc_1, self.fc_2)
        y: torch.Tensor = self.proj(F.silu(gate) * up)
        return y


class _Attention(nn.Module):
    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.heads, self.groups, self.head_size = config.n_head, config.n_query_groups, config.head_size
        rows = (self.heads + 2 * self.groups) * self.head_size
        self.qkv = nn.Linear(config.n_embd, rows)
        self.proj = nn.Linear(self.heads * self.head_size, config.n_embd, bias=False)

    def forward(self, x: torch.Tensor, new: "_NewPositions", keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Writes the T new keys and values into `keys` and `values` [groups, length, head_size]."""
        count = len(x)
        heads = self.qkv(x).unflatten(-1, (-1, self.head_size)).transpose(0, 1)  # [heads + 2 groups, T, size]
        turning, v = torch.split(heads, [self.heads + self.groups, self.groups])
        q, k = torch.split(new.turn.rotate(turning), [self.heads, self.groups])
        keys[:, new.slots] = k
        values[:, new.slots] = v
        # All heads of a group share its keys: stacked as rows, they are one matrix product a group.
        q = (q * self.head_size**-0.5).to(keys.dtype).reshape(self.groups, -1, self.head_size)
        scores, shares = new.scores, new.shares
        torch.bmm(q, keys.transpose(1, 2), out=scores)
        scores.view(self.heads, count, -1)[:, :, new.hidden] += new.future
        torch.softmax(scores, -1, out=shares)  # which sums in float32, whatever its input
        y = shares @ values
        out: torch.Tensor = self.proj(y.view(self.heads, count, -1).transpose(0, 1).flatten(1))
        return out


class _NewPositions(NamedTuple):
    """What all layers need to know of the T positions of one pass."""

    turn: "_Turn"
    slots: slice | torch.Tensor  # where they lie in the cache
    hidden: slice  # the columns of which some must not be seen
    future: torch.Tensor  # -inf where a position [T] must not see one of these columns, else 0
    scores: torch.Tensor  # [groups, heads / groups * T, length], room that all layers use in turn
    shares: torch.Tensor  # the same after the softmax

    @classmethod
    def at(cls, config: LmConfig, start: int, end: int, keys: torch.Tensor) -> Self:
        """Positions `start` to `end`, on the device and in the dtype of the cache's keys."""
        turn = _Turn.at(config, torch.arange(start, end, device=keys.device))
        future = keys.new_full((end - start, end - start), -torch.inf).triu(1)
        rows = config.n_head // config.n_query_groups * (end - start)
        scores, shares = keys.new_empty(2, config.n_query_groups, rows, end)
        last = slice(start - end, None)
        return cls(turn, last, last, future, scores, shares)

    @classmethod
    def fixed(cls, config: LmConfig, position: torch.Tensor, count: int, keys: torch.Tensor) -> Self:
        """`count` positions from `position` on, an int64 [] on the device, among all that the cache has room for."""
        slots = position + torch.arange(count, device=keys.device)
        room = torch.arange(keys.shape[2], device=keys.device)
        future = keys.new_zeros(count, len(room)).masked_fill_(room > slots[:, None], -torch.inf)
        rows = config.n_head // config.n_query_groups * count
        scores, shares = keys.new_empty(2, config.n_query_groups, rows, len(room))
        return cls(_Turn.at(config, slots), slots, slice(None), future, scores, shares)


class _Turn(NamedTuple):
    """Rotation of each pair (i, i + size / 2) of T positions, each by angles of its own."""

    cos: torch.Tensor  # float32 [T, size], of both of a pair
    sin: torch.Tensor  # the same, negative for the first of a pair

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor) -> Self:
        """From those of each pair, float32 [T, size / 2]."""
        return cls(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))

    @classmethod
    def at(cls, config: LmConfig, positions: torch.Tensor) -> Self:
        """From no position to these, int64 [T]."""
        angles = _angles(config, positions)
        return cls.of(angles.cos(), angles.sin())

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """x [heads, T, size] rotated, computed in float32."""
        y = x.float()
        return torch.addcmul(y * self.cos, y.roll(y.shape[-1] // 2, -1), self.sin).to(x.dtype)


def _angles(config: LmConfig, positions: torch.Tensor) -> torch.Tensor:
    """Angles of positions [T], for each pair of a head: float32 [T, head_size / 2].

    Positions are rounded to float16 first, as they were in training: exact up to 2,048, then to even numbers,
    and so on.
    """
    exponents = torch.arange(0, config.head_size, 2, device=positions.device, dtype=torch.float32) / config.head_size
    return torch.outer(positions.to(torch.float16).to(torch.float32), 1.0 / config.rope_base**exponents)


def _rows_from_interleaved(config: LmConfig) -> torch.Tensor:
    """Row order from per-group [queries, key, value] to [all queries, all keys, all values]."""
    per_group = config.n_head // config.n_query_groups
    shape = (config.n_query_groups, per_group + 2, config.head_size)
    rows = torch.arange(config.n_query_groups * (per_group + 2) * config.head_size).view(shape)
    return torch.cat([rows[:, :per_group].flatten(), rows[:, per_group].flatten(), rows[:, per_group + 1].flatten()])

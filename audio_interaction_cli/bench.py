"""How fast the model is on this machine, and how fast it could be at most.

The floor is the same matrix products in the same form and nothing else, timed in turns with the real thing in the same
run, for machines are noisy: the ratio is what tells. The plain floor is these products by torch's own linear layers,
in bfloat16 or, on a processor that has none, float32, whatever the form here: what different forms can be compared by.
Knows nothing of how figures are shown.
"""

import math
import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from audio_interaction_cli.abilities import packs
from audio_interaction_cli.conversation import peak_memory_bytes
from audio_interaction_cli.engine import Engine, empty, preparing
from audio_interaction_cli.errors import UsageError
from audio_interaction_cli.linear import Linear, linear_layers
from audio_interaction_cli.lm import Cache
from audio_interaction_cli.mel import LiveMel
from audio_interaction_cli.memory import enough_memory, returning_memory
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.protocol import (
    CHUNK_COLUMNS,
    CHUNK_FRAMES,
    CHUNK_POSITIONS,
    CHUNK_S,
    CHUNK_SAMPLES,
    PUBLISHED_TOKEN_IDS,
)
from audio_interaction_cli.session import Session
from audio_interaction_cli.steps import Steps
from audio_interaction_cli.text import TextTokenizer
from audio_interaction_cli.weights import allocate, size_bytes

REPEATS = 7
OFFLINE_CHUNKS, OFFLINE_PIECES = 64, 4
NEVER_SPEAKS = -1_000.0  # eagerness

# The published model: 36 layers of Qwen2.5-3B, and the audio tower of Qwen2.5-Omni-3B.
LM_3B: dict[str, Any] = {
    "n_layer": 36, "n_embd": 2048, "n_head": 16, "n_query_groups": 2, "head_size": 128, "intermediate_size": 11_008,
    "padded_vocab_size": 151_936, "block_size": 4_096, "norm_eps": 1e-6, "rope_base": 1e6,
}  # fmt: skip
TOWER_3B: dict[str, Any] = {
    "num_mel_bins": 128, "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
    "output_dim": 2048, "activation_function": "gelu", "scale_embedding": False,
}  # fmt: skip
SHAPES = {"3b": (LM_3B, TOWER_3B)}


class _NoText(TextTokenizer):
    """Of a model that has learnt nothing: every id is text, and there is none to be written."""

    def __init__(self, size: int) -> None:
        self._size = size

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def text_ids(self) -> list[int]:
        return list(range(self._size))


def synthetic(shape: str, device: str = "auto", dtype: str = "auto", quantize: str = "none") -> Engine:
    """An engine with random weights of the full shapes, made in memory. UsageError for an unknown shape."""
    if shape not in SHAPES:
        raise UsageError(f"unknown shape {shape}", f"use {', '.join(SHAPES)}")
    lm_shape, tower_shape = SHAPES[shape]
    tower, lm, place = empty(tower_shape, lm_shape, device, dtype, quantize)
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(1)).to(place, lm.transformer.wte.weight.dtype)
    int8 = quantize == "int8"
    with returning_memory(), enough_memory(size_bytes(tower) + size_bytes(lm), place):
        for module in (tower, lm):
            prepare = preparing(module, int8=int8)
            for name in list(module.state_dict()):
                _fill(allocate(module, name, place), 1.0 if "norm" in name or "ln_" in name else noise)
                prepare(name)
        tokenizer = _NoText(lm.config.padded_vocab_size)
        return Engine.of(f"synthetic {shape}", tower, lm, tokenizer, PUBLISHED_TOKEN_IDS, "Be brief.", int8=int8)


def _fill(tensor: torch.Tensor, values: "torch.Tensor | float") -> None:
    if isinstance(values, float):
        tensor.fill_(values)
        return
    flat, scale = tensor.view(-1), 0.6 / math.sqrt(tensor.shape[-1])
    for start in range(0, len(flat), len(values)):
        part = flat[start : start + len(values)]
        torch.mul(values[: len(part)], scale, out=part)


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds, medians of a few runs."""

    mel_ms: float
    tower_ms: float
    lm_ms: float
    decode_ms: float

    @property
    def step_ms(self) -> float:
        """A live chunk, from samples to decision."""
        return self.mel_ms + self.tower_ms + self.lm_ms


@torch.inference_mode()
def behind(engine: Engine, position: int) -> list[Callable[[], object]]:
    """What is `Timed`, behind so many positions."""
    lm, config, weight = engine.lm, engine.lm.config, engine.tower.conv1.weight
    cache = Cache(config, position + CHUNK_POSITIONS, engine.device, engine.dtype)
    cache.keys.normal_()
    cache.values.normal_()
    cache.length = position
    live, rows, step = LiveMel(), engine.decision_rows.T, Steps(lm, cache)
    samples = np.random.default_rng(1).uniform(-0.1, 0.1, (1, CHUNK_SAMPLES)).astype(np.float32)
    mel = live.push(samples).to(weight)
    chunk = lm.embed(list(range(CHUNK_POSITIONS)))

    def listen() -> None:
        (step(chunk)[-1].float() @ rows).cpu()
        cache.crop(position)

    def decode() -> None:
        lm.logits(step(lm.embed([1]))[-1:]).cpu()
        cache.crop(position)

    return [lambda: live.push(samples), lambda: engine.tower(mel), listen, decode]


@torch.inference_mode()
def in_turns_ms(works: Sequence[Callable[[], object]], device: torch.device, repeats: int = REPEATS) -> list[float]:
    """How long each takes, the median; each once before any is done again, so that all meet the same conditions."""
    times_ms = [[_timed_ms(work, device) for work in works] for _ in range(repeats + 1)]
    return [median(of_one) for of_one in zip(*times_ms[1:], strict=True)]  # the first warms up


def _timed_ms(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) * 1000


def products(engine: Engine, rows: int, *, head: bool) -> list[tuple[Linear | torch.Tensor, int]]:
    """The layers of one pass and how many rows each is given; of a whole chunk the tower's as well.

    Convolutions are matrices that are given columns.
    """
    work: list[tuple[Linear | torch.Tensor, int]] = [(layer, rows) for _, layer in linear_layers(engine.lm.transformer)]
    if head:
        work += [(layer, 1) for path, layer in linear_layers(engine.lm) if path == "lm_head"]
    if rows == CHUNK_POSITIONS:
        halved = CHUNK_COLUMNS // 2
        work += [(layer, halved) for path, layer in linear_layers(engine.tower) if path != "proj"]
        work += [(engine.tower.proj, CHUNK_FRAMES)]
        convolutions = (engine.tower.conv1, CHUNK_COLUMNS), (engine.tower.conv2, halved)
        work += [(convolution.weight.flatten(1), columns) for convolution, columns in convolutions]
    return work


def _multiplying(engine: Engine, rows: int, *, head: bool) -> Callable[[], None]:
    bare = [_bare(factor, n, engine) for factor, n in products(engine, rows, head=head)]

    def multiply() -> None:
        for product in bare:
            product()

    return multiply


def _bare(factor: Linear | torch.Tensor, rows: int, engine: Engine) -> Callable[[], object]:
    """The product with so many rows of its own, and nothing else."""
    width = factor.shape[1] if isinstance(factor, torch.Tensor) else factor.in_features
    x = torch.randn(rows, width, device=engine.device)
    if isinstance(factor, torch.Tensor):
        return partial(F.linear, x.to(factor.dtype), factor)
    return partial(factor, x.to(factor.weight.dtype)) if isinstance(factor, nn.Linear) else factor.bare(x)


@torch.inference_mode()
def plain_floor_ms(engine: Engine, rows: int, *, head: bool) -> float:
    """The products of one pass by torch's own layers: one of each shape, times their number."""
    shapes = Counter(
        (*(factor.shape if isinstance(factor, torch.Tensor) else (factor.out_features, factor.in_features)), n)
        for factor, n in products(engine, rows, head=head)
    )
    able = engine.device.type != "cpu" or packs(torch.bfloat16, engine.device)
    dtype = torch.bfloat16 if able else torch.float32
    bare = [
        partial(F.linear, *(torch.randn(size, width, device=engine.device, dtype=dtype) for size in (n, out)))
        for out, width, n in shapes
    ]
    took_ms = in_turns_ms(bare, engine.device)
    return sum(ms * count for ms, count in zip(took_ms, shapes.values(), strict=True))


def offline_rtfs(engine: Engine, lookaheads: Sequence[int], chunks: int = OFFLINE_CHUNKS) -> list[float]:
    """Seconds of work for a second of a silent file, with so many chunks at once; in turns, a piece each."""
    sessions = [Session(engine, SessionOptions(eagerness=NEVER_SPEAKS, lookahead_chunks=n)) for n in lookaheads]
    samples = np.random.default_rng(2).uniform(-0.01, 0.01, chunks * CHUNK_SAMPLES).astype(np.float32)
    took_s = [0.0] * len(sessions)
    for piece in np.split(samples, OFFLINE_PIECES):
        for number, session in enumerate(sessions):
            began = time.perf_counter()
            deque(session.feed(piece), maxlen=0)
            took_s[number] += time.perf_counter() - began
    return [of_one / (chunks * CHUNK_S) for of_one in took_s]


def measure(
    engine: Engine, load_s: float, positions: Sequence[int], progress: Callable[[str], object] = lambda _what: None
) -> dict[str, Any]:
    """All figures, ready for JSON. Positions beyond the model's window are left out; a ratio to one of them is None."""
    window = engine.lm.config.block_size
    wanted = sorted({*positions})
    fitting = [n for n in wanted if n + CHUNK_POSITIONS <= window]
    if not fitting:
        raise UsageError(f"this model's window has only {window} positions")
    if left_out := wanted[len(fitting) :]:
        progress(f"nothing behind {', '.join(map(str, left_out))} positions: the window has {window}")
    progress(f"behind {', '.join(map(str, fitting))} positions")
    works = [work for position in fitting for work in behind(engine, position)]
    floors = [_multiplying(engine, CHUNK_POSITIONS, head=False), _multiplying(engine, 1, head=True)]
    *steps_ms, step_floor_ms, decode_floor_ms = in_turns_ms([*works, *floors], engine.device)
    taken_ms = iter(steps_ms)
    timed = {position: Timed(*islice(taken_ms, len(fields(Timed)))) for position in fitting}
    middle = timed[1_000] if 1_000 in timed else timed[fitting[-1]]
    progress("a silent file, chunk by chunk and several at once")
    sequential, speculative = offline_rtfs(engine, [1, SessionOptions().lookahead_chunks])
    peak_bytes = peak_memory_bytes()
    plain_step_ms = plain_floor_ms(engine, CHUNK_POSITIONS, head=False)
    plain_decode_ms = plain_floor_ms(engine, 1, head=True)
    growth = None if left_out or len(fitting) == 1 else round(timed[wanted[-1]].step_ms / timed[wanted[0]].step_ms, 3)
    return {
        "schema": 1,
        "machine": f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "checkpoint": engine.name,
        "device": str(engine.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": engine.dtype_name,
        "quantize": engine.quantize,
        "load_s": round(load_s, 3),
        "peak_memory_bytes": peak_bytes,
        "weights_bytes": engine.weight_bytes,
        "positions": {
            str(position): {
                name: round(getattr(t, name), 3) for name in ("step_ms", "mel_ms", "tower_ms", "lm_ms", "decode_ms")
            }
            for position, t in timed.items()
        },
        "floor": {"step_ms": round(step_floor_ms, 3), "decode_ms": round(decode_floor_ms, 3)},
        "plain_floor": {"step_ms": round(plain_step_ms, 3), "decode_ms": round(plain_decode_ms, 3)},
        "ratios": {
            "step_to_floor": round(middle.step_ms / step_floor_ms, 3),
            "decode_to_floor": round(middle.decode_ms / decode_floor_ms, 3),
            "step_to_plain_floor": round(middle.step_ms / plain_step_ms, 3),
            "decode_to_plain_floor": round(middle.decode_ms / plain_decode_ms, 3),
            f"step_{wanted[-1]}_to_{wanted[0]}": growth,
        },
        "offline": {
            "sequential_rtf": round(sequential, 6),
            "speculative_rtf": round(speculative, 6),
            "speedup": round(sequential / speculative, 3),
        },
    }

"""Draws a token from logits. Knows numbers, nothing of what the tokens mean."""

import math
from dataclasses import dataclass

import torch

from audio_interaction_cli.errors import UsageError

COLDEST = 1e-6  # below, only the likeliest token is ever drawn, and float32 cannot divide by much less


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; the defaults are the model's own. UsageError for values without a meaning."""

    temperature: float = 0.3
    """0 always takes the likeliest token."""
    top_k: int = 3
    """Draw among this many of the likeliest tokens; 0 draws among all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability."""
    seed: int = 1337

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top-k must be 0 (all) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed must be between 0 and 2**63 - 1, not {self.seed}")


class Sampler:
    """Draws one token after another; its random numbers belong to one conversation."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """Index of the token drawn; logits: float32 [n] on the CPU, -inf for what must not be drawn."""
        sampling = self._sampling
        if sampling.temperature < COLDEST:
            return int(logits.argmax())
        ordered, indices = logits.topk(min(sampling.top_k or len(logits), len(logits)))
        probabilities = ((ordered - ordered[0]) / sampling.temperature).softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        probabilities[before >= sampling.top_p] = 0  # the first is always kept
        return int(indices[torch.multinomial(probabilities, 1, generator=self._generator)])

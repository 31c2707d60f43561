"""What a slide costs in truth: the demo listens on beside a shadow of it that heard only what was kept."""

from collections.abc import Callable, Sequence

import pytest
import torch

from audio_interaction_cli import checkpoint
from audio_interaction_cli.decoding import Decoder
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.lm import Cache
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.session import Session
from tests.soak import Room

HOURS = 0.25
LARGEST_ERROR = 0.05  # of the logits of a token drawn after a slide, median
LEAST_AGREEMENT = 0.999


class Shadow:
    """Stands between a decoder and its cache: feeds a second cache alike, which is made anew at each slide."""

    def __init__(self, decoder: Decoder) -> None:
        self.slides = 0
        self.errors: list[float] = []
        """Of the logits of each token drawn after a slide: norm of the difference over norm."""
        self.agreed: list[bool] = []
        """Whether the greatest was the same."""
        self._lm, self._real, self._step = decoder._lm, decoder._cache, decoder._step
        self._keep = self._real.keep
        config = self._lm.config
        self._cache = Cache(config, self._real.capacity, self._real.keys.device, self._real.keys.dtype)
        between_layers = self._lm.transformer.ln_f.weight.dtype
        self._fed = torch.empty(self._real.capacity, config.n_embd, dtype=between_layers)
        decoder._step = self._both  # type: ignore[assignment]
        self._real.keep = self._slide  # type: ignore[method-assign]

    def _both(self, x: torch.Tensor) -> torch.Tensor:
        start = self._real.length
        hidden = self._step(x)
        self._fed[start : start + len(x)] = x
        self._cache.crop(start)
        shadow = self._lm(x, self._cache)
        if self.slides:
            ours, fresh = self._lm.logits(hidden[-1]), self._lm.logits(shadow[-1])
            self.errors.append(float((ours - fresh).norm() / fresh.norm()))
            self.agreed.append(bool(ours.argmax() == fresh.argmax()))
        return hidden

    def _slide(self, runs: Sequence[range]) -> None:
        self._keep(runs)
        kept = torch.cat([self._fed[run.start : run.stop] for run in runs])
        self._fed[: len(kept)] = kept
        self._cache.crop(0)
        self._lm(kept, self._cache)
        self.slides += 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_after_slides_it_decides_as_one_that_heard_the_rest_alone(
    dtype: str, record_property: Callable[[str, object], None]
) -> None:
    engine = Engine.load(checkpoint.find("demo"), device="cpu", dtype=dtype)
    options = SessionOptions(sampling=Sampling(temperature=0), lookahead_chunks=1)  # so one token is drawn a pass
    session = Session(engine, options)
    shadow = Shadow(session.decoder)
    session.begin_round(None)
    for block in Room(HOURS, seed=5).blocks():
        list(session.feed(block))
    errors = torch.tensor(shadow.errors)
    agreement = sum(shadow.agreed) / len(shadow.agreed)
    median, most, largest = errors.quantile(torch.tensor([0.5, 0.99, 1.0])).tolist()
    record_property(
        "slides, tokens; errors: median, 99 %, largest", (shadow.slides, len(errors), median, most, largest)
    )
    record_property("tokens that agree", agreement)
    assert shadow.slides > 50
    assert 0 < median <= LARGEST_ERROR
    assert agreement >= LEAST_AGREEMENT

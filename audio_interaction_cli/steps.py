"""Passes through the language model over one cache; those of every chunk and token are recorded once.

Launching a layer's kernels one after the other takes a GPU longer than computing them, and a processor, whose caches
the weights pass through meanwhile, long enough. So passes are played, from a CUDA graph or from a tape of our own
(`passes`), and those that repeat are kept. Where there is neither, they are computed as they come.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from audio_interaction_cli.lm import Cache, LanguageModel
from audio_interaction_cli.protocol import CHUNK_POSITIONS

RECORDED = (1, CHUNK_POSITIONS)  # positions of a pass: a token, a chunk
WARM_UPS = 3  # as CUDA's libraries allocate on first use, which a recording must not

Play = Callable[[torch.Tensor], torch.Tensor]
Recorder = Callable[[Callable[[], None]], Callable[[], object]]
"""Given work without arguments or results, returns what does it again."""


class Steps:
    """x [T, n_embd] -> hidden [T, n_embd], behind what the cache holds, and the cache is that much longer."""

    def __init__(self, lm: LanguageModel, cache: Cache, record: Recorder | None = None) -> None:
        self._lm, self._cache = lm, cache
        self._record = record or (recorded if cache.keys.device.type == "cuda" else None)
        self._recorded: dict[int, _Step] = {}
        self._plays: dict[int, Play] = {}
        self._playable = self._record is None  # as far as is known

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        count, cache = len(x), self._cache
        if cache.length + count <= cache.capacity and (play := self._played(count)):
            return play(x)
        if not self._record or count not in RECORDED or cache.length + count > cache.capacity:
            return self._lm(x, cache)  # type: ignore[no-any-return]
        if count not in self._recorded:
            self._recorded[count] = self._make(x)
        step = self._recorded[count]
        step.x.copy_(x)
        step.position.fill_(cache.length)
        step.play()
        cache.length += count
        return step.hidden.clone()

    def _played(self, count: int) -> Play | None:
        """A pass that the processor is given in one piece."""
        if not self._playable:
            return None
        play = self._plays.get(count) or self._lm.recorded(count, self._cache)
        if play and count in RECORDED:
            self._plays[count] = play
        self._playable = play is not None
        return play

    def _make(self, x: torch.Tensor) -> "_Step":
        given, hidden = x.clone(), torch.empty_like(x)
        # Recording writes where the step itself will write.
        position = torch.full((), self._cache.length, dtype=torch.int64, device=x.device)

        def work() -> None:
            hidden.copy_(self._lm.fixed(given, position, self._cache))

        assert self._record
        return _Step(given, position, hidden, self._record(work))


@dataclass(frozen=True, slots=True)
class _Step:
    x: torch.Tensor
    position: torch.Tensor
    hidden: torch.Tensor
    play: Callable[[], object]


def recorded(work: Callable[[], None]) -> Callable[[], object]:
    """Record work on a GPU, after it was done a few times, and return what plays it."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay

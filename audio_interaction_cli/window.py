"""The chunks in a session's window, and which of them to forget when it is full.

At least a quarter of the window becomes free. Silent chunks go first, from the oldest on but never from the newest
quarter, so that what was asked and said outlives the pauses between. Only where these do not suffice, the oldest
chunks of any kind go. Knows positions; no tokens, no tensors.
"""

from itertools import accumulate

from audio_interaction_cli.protocol import CHUNK_POSITIONS


class Window:
    """What follows the prompt, chunk by chunk; a reply belongs to the chunk that it answers."""

    def __init__(self, capacity: int, prompt_positions: int) -> None:
        self._capacity = capacity
        self._prompt_positions = prompt_positions
        self._starts: list[int] = []
        self._spoke: list[bool] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, chunks: int, *, speaks: bool) -> None:
        """So many chunks lie at `start` and after, all silent but, if it speaks, the last."""
        self._starts += range(start, start + chunks * CHUNK_POSITIONS, CHUNK_POSITIONS)
        self._spoke += [False] * (chunks - 1) + [speaks]

    def clear(self) -> int:
        """Forget all chunks; how many they were."""
        chunks = len(self)
        self._starts, self._spoke = [], []
        return chunks

    def slide(self, end: int, *, speaking: bool) -> list[range]:
        """Forget chunks, of which the last ends at `end` and must stay while it is `speaking`.

        Returns the runs of positions that are kept, the prompt's first; from now on they lie side by side.
        """
        stops = [*self._starts[1:], end][: len(self)]
        quarter = -(-self._capacity // 4)
        missing = max(quarter, CHUNK_POSITIONS) - (self._capacity - end)
        finished = range(len(self) - speaking)
        silent = [n for n in finished if not self._spoke[n] and stops[n] <= end - quarter]
        forgotten = set()
        for n in dict.fromkeys([*silent, *finished]):
            if missing <= 0:
                break
            forgotten.add(n)
            missing -= stops[n] - self._starts[n]
        kept = [n for n in range(len(self)) if n not in forgotten]
        runs = [range(self._prompt_positions), *(range(self._starts[n], stops[n]) for n in kept)]
        self._starts = list(accumulate(map(len, runs)))[:-1]
        self._spoke = [self._spoke[n] for n in kept]
        return runs

"""Which replies were right: each answer that was due against what came, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from audio_interaction_cli.events import Reply
from audio_interaction_cli.protocol import CHUNK_S
from scenes import Expected

EARLY_CHUNKS, LATE_CHUNKS = 1, 3  # how far from its chunk an answer may come


@dataclass(slots=True)
class Score:
    """Of one scene or of many."""

    due: list[tuple[Expected, Reply | None]] = field(default_factory=list)
    """Every answer that was due, and the reply that came for it, right or wrong."""
    false: list[Reply] = field(default_factory=list)
    """Replies that nothing called for."""
    seconds: float = 0.0

    def add(self, other: "Score") -> None:
        self.due += other.due
        self.false += other.false
        self.seconds += other.seconds

    def right(self, *, kinds: Sequence[str] | None = None) -> list[bool]:
        """Of each answer due (of these kinds), whether text and emotion were right."""
        return [is_right(e, reply) for e, reply in self.due if kinds is None or e.kind in kinds]

    def delays(self) -> list[int]:
        """Of each right answer to a phrase or counted sound, chunks from the one with its end to the reply's."""
        return [
            round(reply.start / CHUNK_S) - 1 - int(e.end_s / CHUNK_S)
            for e, reply in self.due
            if reply and is_right(e, reply)
        ]

    @property
    def false_a_minute(self) -> float:
        return 60 * len(self.false) / self.seconds if self.seconds else 0.0


def is_right(expected: Expected, reply: Reply | None) -> bool:
    """Same text, same emotion."""
    return bool(reply and reply.text == expected.answer.text and reply.emotion == expected.answer.emotion)


def score(expected: Sequence[Expected], replies: Sequence[Reply], seconds: float) -> Score:
    """Give each answer due the reply that came in time for it: the right one if there is one, else the first."""
    free = list(replies)
    given: list[tuple[Expected, Reply | None]] = []
    for due in expected:
        near = [r for r in free if -EARLY_CHUNKS <= _chunk(r) - due.chunk <= LATE_CHUNKS]
        best = next((r for r in near if is_right(due, r)), near[0] if near else None)
        if best:
            free.remove(best)
        given.append((due, best))
    return Score(given, free, seconds)


def _chunk(reply: Reply) -> int:
    return round(reply.start / CHUNK_S) - 1

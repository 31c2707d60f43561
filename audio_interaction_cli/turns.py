"""The turns of the conversation: one table of what may follow what, and what it means.

After each chunk the model's next token decides. While it listens, only two tokens are legal: stay
silent, or begin a reply. A reply may open with an emotion; then text follows until it ends:

    LISTENING --silence--> LISTENING
    LISTENING --begin----> OPENING   --emotion--> SPEAKING
                           OPENING   --text-----> SPEAKING   --text--> SPEAKING
                           OPENING   --end------> LISTENING  <--end--- SPEAKING

What is not in `TABLE` is not legal and can never be chosen. This is the only module that gives a control
token a meaning; it draws no numbers and touches no tensors.
"""

from collections.abc import Iterable
from enum import Enum, auto

from audio_interaction_cli.protocol import TokenIds


class State(Enum):
    """Who has the floor."""

    LISTENING = auto()
    """A chunk was heard; the model is about to decide."""
    OPENING = auto()
    """A reply has begun; its emotion or its first text comes next."""
    SPEAKING = auto()
    """A reply is being said."""


class Kind(Enum):
    """What a token is to the protocol."""

    SILENCE = auto()
    BEGIN = auto()
    EMOTION = auto()
    TEXT = auto()
    END = auto()
    CONTROL = auto()
    """Prompt and audio signs, and ids that no tokenizer entry stands behind: never chosen."""


TABLE: dict[tuple[State, Kind], State] = {
    (State.LISTENING, Kind.SILENCE): State.LISTENING,
    (State.LISTENING, Kind.BEGIN): State.OPENING,
    (State.OPENING, Kind.EMOTION): State.SPEAKING,
    (State.OPENING, Kind.TEXT): State.SPEAKING,
    (State.OPENING, Kind.END): State.LISTENING,
    (State.SPEAKING, Kind.TEXT): State.SPEAKING,
    (State.SPEAKING, Kind.END): State.LISTENING,
}


class Grammar:
    """The table, for one vocabulary.

    `text_vocabulary` holds the ids that the tokenizer can turn into text, special tokens left out.
    """

    def __init__(self, ids: TokenIds, text_vocabulary: Iterable[int], vocabulary_size: int) -> None:
        text = set(text_vocabulary)
        signs = {ids.keep_silence: Kind.SILENCE, ids.text_begin: Kind.BEGIN, ids.text_end: Kind.END}
        signs |= dict.fromkeys(ids.emotions, Kind.EMOTION)
        reserved = ids.reserved
        self.kinds: list[Kind] = [
            signs.get(token, Kind.TEXT if token in text and token not in reserved else Kind.CONTROL)
            for token in range(vocabulary_size)
        ]

    def legal(self, state: State) -> list[bool]:
        """Of each id, whether it may be chosen in `state`."""
        kinds = {kind for source, kind in TABLE if source is state}
        return [kind in kinds for kind in self.kinds]

    def next(self, state: State, token: int) -> State:
        """The state after `token`; KeyError for a token that is not legal in `state`."""
        return TABLE[state, self.kinds[token]]


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    edges = [f"    {a.name} --> {b.name}: {kind.name.lower()}" for (a, kind), b in TABLE.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.LISTENING.name}", *edges])

"""What a conversation can be told, with the model's own defaults."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from audio_interaction_cli.errors import CheckpointError, UsageError
from audio_interaction_cli.protocol import CHUNK_POSITIONS, DEFAULT_CONTEXT_POSITIONS
from audio_interaction_cli.sampling import Sampling

OnFull = Literal["slide", "reset", "stop"]
"""What happens at the window's end: the oldest is forgotten, all is, or the session ends."""

ROOM_TO_REPLY_POSITIONS = 16  # a window must hold the prompt, one chunk and a few words
MOST_POSITIONS = 65_504  # positions are rounded to float16, which counts no further
MOST_EAGER = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a conversation can be told; UsageError for values without a meaning."""

    sampling: Sampling = field(default_factory=Sampling)
    system_prompt: str | None = None
    """None is the model's own."""
    eagerness: float = 0.0
    """Added to the logit of speaking while listening."""
    context_tokens: int | None = None
    """Window in positions; None is the model's own, at most 4,096."""
    on_full: OnFull = "slide"
    max_reply_tokens: int = 512
    lookahead_chunks: int = 8
    """How many chunks that are already there share one pass at most; 1 goes one by one."""

    def __post_init__(self) -> None:
        if not abs(self.eagerness) <= MOST_EAGER:
            raise UsageError(f"eagerness must be between -{MOST_EAGER} and {MOST_EAGER}, not {self.eagerness}")
        if self.on_full not in get_args(OnFull):
            raise UsageError(f"on_full must be one of {', '.join(get_args(OnFull))}, not {self.on_full}")
        try:
            (self.system_prompt or "").encode()
        except UnicodeEncodeError as error:  # bytes of the command line that were no text
            raise UsageError("the system prompt is not valid text") from error
        if self.max_reply_tokens < 1:
            raise UsageError(f"a reply must be allowed at least one token, not {self.max_reply_tokens}")
        if self.lookahead_chunks < 1:
            raise UsageError(f"a pass must be allowed at least one chunk, not {self.lookahead_chunks}")

    def window(self, prompt_positions: int, block_size: int) -> int:
        """Positions of the session's window; UsageError if the model or the prompt forbids what is asked."""
        default = min(DEFAULT_CONTEXT_POSITIONS, block_size)
        wanted = default if self.context_tokens is None else self.context_tokens
        least = prompt_positions + CHUNK_POSITIONS + ROOM_TO_REPLY_POSITIONS
        most = min(block_size, MOST_POSITIONS)
        if wanted > most:
            raise UsageError(f"a window of {wanted} positions is more than this model's {most}")
        if wanted < least and self.context_tokens is None and self.system_prompt is None:
            raise CheckpointError(f"the model's window of {wanted} positions cannot hold its prompt and one chunk")
        if wanted < least:
            raise UsageError(f"a window of {wanted} positions is too small", f"prompt and one chunk need {least}")
        return wanted

"""Audio-Interaction, an always-on streaming audio model, as a command line tool and a library.

    from audio_interaction_cli import run_inference

    replies = run_inference(checkpoint_dir="checkpoints", audio_paths=["a.wav", "b.mp3"], device="cpu")

or, with everything in your own hands:

    from audio_interaction_cli import AudioInput, Engine, Reply, Session, find_checkpoint, hear_file

    session = Session(Engine.load(find_checkpoint("checkpoints")))
    for event in hear_file(session, AudioInput("a.wav")):
        if isinstance(event, Reply):
            print(event.emotion, event.text)

Names are imported when they are first used: importing the package itself is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from audio_interaction_cli.api import run_inference
    from audio_interaction_cli.checkpoint import find as find_checkpoint
    from audio_interaction_cli.conversation import Conversation, hear_file, hear_live
    from audio_interaction_cli.engine import Engine
    from audio_interaction_cli.errors import AiCliError
    from audio_interaction_cli.events import Event, Reply
    from audio_interaction_cli.inputs import AudioInput, MemoryInput
    from audio_interaction_cli.options import SessionOptions
    from audio_interaction_cli.sampling import Sampling
    from audio_interaction_cli.session import Session

_HOMES = {
    "AiCliError": "errors",
    "AudioInput": "inputs",
    "Conversation": "conversation",
    "Engine": "engine",
    "Event": "events",
    "MemoryInput": "inputs",
    "Reply": "events",
    "Sampling": "sampling",
    "Session": "session",
    "SessionOptions": "options",
    "find_checkpoint": "checkpoint",
    "hear_file": "conversation",
    "hear_live": "conversation",
    "run_inference": "api",
}

__all__ = [
    "AiCliError",
    "AudioInput",
    "Conversation",
    "Engine",
    "Event",
    "MemoryInput",
    "Reply",
    "Sampling",
    "Session",
    "SessionOptions",
    "find_checkpoint",
    "hear_file",
    "hear_live",
    "run_inference",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), "find" if name == "find_checkpoint" else name)

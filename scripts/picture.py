"""Draws docs/mic.svg: the display of `ai-cli mic` in the midst of a real session with the demo model."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from audio_interaction_cli import checkpoint
from audio_interaction_cli.conversation import hear_live
from audio_interaction_cli.drawing import lasting, render
from audio_interaction_cli.engine import Engine
from audio_interaction_cli.events import Event, RoundStarted, TextPiece
from audio_interaction_cli.inputs import recordings
from audio_interaction_cli.options import SessionOptions
from audio_interaction_cli.sampling import Sampling
from audio_interaction_cli.screen import Screen
from audio_interaction_cli.session import Session
from audio_interaction_cli.view import Input, View, update

PICTURE = Path(__file__).parent.parent / "docs" / "mic.svg"
SPOKEN = "Smoke alarm! Please"  # of the reply that is being spoken in the picture
COLUMNS, LINES = 84, 24


def session() -> Iterator[Event]:
    """The first recordings of the demo, heard as a microphone would bring them."""
    engine = Engine.load(checkpoint.find(checkpoint.DEMO), device="cpu")
    heard = Session(engine, SessionOptions(sampling=Sampling(temperature=0)))
    yield heard.started()
    for source in recordings(checkpoint.samples()):
        with source:
            yield from (event for event in hear_live(heard, source) if not isinstance(event, RoundStarted))


def main() -> None:
    console = Console(
        record=True, file=io.StringIO(), width=COLUMNS, height=LINES, force_terminal=True, color_system="truecolor",
        legacy_windows=False,
    )  # fmt: skip
    screen, view = Screen(COLUMNS, LINES), View()
    for event in session():
        view = update(view, event)
        if line := lasting(event, screen):
            console.print(line, highlight=False)
        if isinstance(event, TextPiece) and view.text == SPOKEN:
            break
    else:
        raise SystemExit(f"error: the demo model did not say {SPOKEN}")
    last = view.timeline[-1]
    microphone = Input(name="USB Microphone", level_db=last.level_db, behind_s=0.0, muted=False, recording=True)
    console.print(render(replace(view, input=microphone), screen), highlight=False)
    svg = console.export_svg(title="ai-cli mic --record heard.flac", unique_id="mic")
    PICTURE.write_text(re.sub(r',\s*url\("[^"]*"\) format\("[^"]*"\)', "", svg), "utf-8")  # no fonts from elsewhere


main()

"""What a terminal can show: its size, the signs it knows, and texts made fit for it."""

import os
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console

from audio_interaction_cli.sinks import one_line, without_controls

WIDEST_COLUMNS = 100  # wider lines are hard to read


class Glyphs(NamedTuple):
    """The signs of which everything is drawn."""

    listening: str
    speaking: str
    muted: str
    round: str
    frame: tuple[str, ...]  # corners and sides, clockwise from the top left: ╭ ─ ╮ │ ╯ ╰
    bar: tuple[str, ...]  # done, edge, to do
    levels: str  # from silence to full scale
    silent: str
    spoke: str
    cursor: str
    dot: str
    cut: str


UNICODE = Glyphs("○", "●", "✕", "▸", tuple("╭─╮│╯╰"), tuple("━╸─"), "▁▂▃▄▅▆▇█", "·", "◆", "▌", " · ", "…")
ASCII = Glyphs("o", "*", "x", ">", tuple("+-+|++"), tuple("==-"), "_.:-=+*#", ".", "^", "_", ", ", "...")


@dataclass(frozen=True, slots=True)
class Screen:
    """What a terminal can show."""

    width: int
    height: int
    encoding: str = "utf-8"
    kind: str = ""  # as TERM has it

    @classmethod
    def of(cls, console: Console) -> "Screen":
        return cls(console.width, console.height, console.encoding, os.environ.get("TERM", ""))

    @property
    def emoji(self) -> bool:
        """Whether the terminal's font has them; that of the Linux console has 512 signs."""
        return self.glyphs is UNICODE and self.kind != "linux"

    @property
    def glyphs(self) -> Glyphs:
        return UNICODE if self.encoding.startswith("utf") else ASCII

    @property
    def columns(self) -> int:
        return min(self.width, WIDEST_COLUMNS)

    def clean(self, text: str) -> str:
        """The text in one line, without control characters or what the terminal cannot encode."""
        return without_controls(one_line(text)).encode(self.encoding, "replace").decode(self.encoding)

    def fit(self, text: str, columns: int) -> str:
        """The text, its end cut off if it is wider than that many columns."""
        if cell_len(text) <= columns:
            return text
        cut = self.glyphs.cut[: max(0, columns)]
        while text and cell_len(text + cut) > columns:
            text = text[:-1]
        return text + cut

"""How the display looks: pure functions from values to renderables.

Knows Rich's texts but no terminal: what a terminal can do comes in as a `Screen`. Texts of the model and
names of files are drawn only after `Screen.clean`.
"""

from collections.abc import Iterable
from pathlib import PurePath

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from audio_interaction_cli.events import Event, Failure, Reply, RoundStarted, Summary
from audio_interaction_cli.plain import detail, note, summary_items
from audio_interaction_cli.protocol import CHUNK_S, Emotion
from audio_interaction_cli.quantities import clock, ratio
from audio_interaction_cli.screen import Glyphs, Screen
from audio_interaction_cli.view import View

NARROW_COLUMNS = 60  # below this, columns beside each other become lines below each other
QUIETEST_DB = -60.0  # the meter's left end

EMOTION_LOOKS = {
    Emotion.HAPPY: ("😊", "green"),
    Emotion.SAD: ("😢", "blue"),
    Emotion.ANGRY: ("😠", "red"),
    Emotion.SURPRISE: ("😮", "yellow"),
    Emotion.NORMAL: ("💬", "cyan"),
    Emotion.URGENT: ("🚨", "bold red"),
}


def render(view: View, screen: Screen) -> RenderableType:
    """The live region: the reply in progress, as it will stay above, and the status frame below it."""
    status = _status(view, screen)
    if view.speaking_since is None:
        return Group(*status)
    text = _tail(screen.clean(view.text), screen, screen.height - len(status) - 2)
    return Group(_spoken(view.speaking_since, view.emotion, text, screen, screen.glyphs.cursor), *status)


def wrapped_rows(view: View, screen: Screen, width: int) -> int:
    """How many rows more the region takes once what was drawn on `screen` is wrapped at `width`."""
    console = Console(width=screen.width, height=screen.height, force_terminal=True)
    lines = console.render_lines(render(view, screen), pad=False)
    return sum(max(0, -(-Segment.get_line_length(line) // width) - 1) for line in lines)


def lasting(event: Event, screen: Screen) -> RenderableType | None:
    """What an event leaves above the live region for good, or None."""
    dim = "dim"
    match event:
        case RoundStarted(file=str(file)):
            length = "" if event.duration_s is None else f"  {clock(event.duration_s)}"
            name = screen.fit(screen.clean(file), screen.columns - len(length) - 2)
            return Text.assemble((f"{screen.glyphs.round} ", "cyan"), (name, "bold"), (length, dim))
        case Reply():
            cut_short = " (cut short)" if event.truncated else ""
            return _spoken(event.start, event.emotion, screen.clean(event.text), screen, cut_short)
        case Failure():
            name = f"{event.file}: " if event.file and event.file not in event.message else ""
            message = Text.assemble(("error: ", "bold red"), screen.clean(name + event.message))
            hint = Text.assemble(("hint: ", "bold"), screen.clean(event.hint or ""), style=dim)
            return Group(message, hint) if event.hint else message
        case Summary():
            return _summary(event, screen)
        case _:
            words = note(event)
            return Text(screen.clean(words), "yellow") if words else None


def curious(event: Event, screen: Screen) -> RenderableType | None:
    """What only the curious want to know of an event, or None."""
    words = detail(event)
    return Text(screen.clean(words), "dim") if words else None


def noted(text: str, screen: Screen) -> RenderableType:
    """Something that people should know, to be left above the live region."""
    return Text(screen.clean(f"note: {text}"), "yellow")


def _spoken(start: float, emotion: Emotion | None, text: str, screen: Screen, end: str) -> RenderableType:
    """A reply, finished or not: when, how, what."""
    symbol, style = EMOTION_LOOKS.get(emotion, ("", "")) if emotion else ("", "")
    tag = f"{symbol} {emotion}" if screen.emoji else f"[{emotion}]"
    when, how = Text(clock(start), "dim"), Text(tag if emotion else "", style)
    what = Text.assemble(text, (end, "dim"), overflow="fold")
    # Two columns are spared: terminals disagree about the width of some emoji.
    if screen.width < NARROW_COLUMNS:
        return Group(Text.assemble(when, " ", how), Padding(what, (0, 2, 0, 2), expand=False))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.width = screen.columns - 2
    grid.add_column(min_width=7, justify="right", no_wrap=True)
    grid.add_column(min_width=11, no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(when, how, what)
    return grid


def _tail(text: str, screen: Screen, lines: int) -> str:
    """The end of a text, short enough to stay within so many lines."""
    line_columns = screen.columns - (4 if screen.width < NARROW_COLUMNS else 26)
    columns = max(1, lines) * max(1, line_columns) * 3 // 4  # words leave some space at the ends of lines
    if cell_len(text) <= columns:
        return text
    while (excess := cell_len(text) - columns) > 0:
        text = text[(excess + 1) // 2 :]  # a character has at most two columns
    return screen.glyphs.cut + text


def _status(view: View, screen: Screen) -> list[Text]:
    """The frame with what is going on: a list of lines, each as wide as the screen allows."""
    glyphs = screen.glyphs
    if view.speaking_since is not None:
        sign, state, style = glyphs.speaking, "SPEAKING", "magenta"
    elif view.reading:
        sign, state, style = glyphs.listening, "READING", "yellow"
    elif view.input and view.input.muted:
        sign, state, style = glyphs.muted, "MUTED", "yellow"
    else:
        sign, state, style = glyphs.listening, "LISTENING", "cyan"
    name = PurePath(view.reading or view.file or "").name
    name = screen.clean(name or (view.input.name if view.input else ""))
    rows = [*_progress(view, screen), *_timeline(view, screen), *_controls(view, screen)]
    factor = view.work_ms / (view.heard_chunks * CHUNK_S * 1000) if view.heard_chunks else None
    words = "rtf" if screen.width < NARROW_COLUMNS else "real-time factor"
    facts = [clock(view.heard_chunks * CHUNK_S), *([f"lag {view.input.behind_s:.1f} s"] if view.input else [])]
    facts += [] if factor is None else [f"{words} {ratio(factor)}"]
    machine = screen.clean(glyphs.dot.join(view.machine))
    title = Text(f" {sign} {state} ", f"bold {style}" if sign == glyphs.listening else f"bold {style} reverse")
    return _frame(screen, style, title, name, rows, machine, glyphs.dot.join(facts))


def _progress(view: View, screen: Screen) -> Iterable[Text]:
    if not view.round_chunks:
        return
    now, end = clock(view.round_heard_chunks * CHUNK_S), clock(view.round_chunks * CHUNK_S)
    times = f" {now} / {end}"
    fraction = view.round_heard_chunks / view.round_chunks
    yield _bar(fraction, screen.columns - 4 - len(times), "cyan", screen) + Text(times)


def _timeline(view: View, screen: Screen) -> Iterable[Text]:
    """Two strips, a column for each chunk: how loud it was, and where the model spoke; then both meters."""
    glyphs, meter = screen.glyphs, _meter_columns(screen)
    columns = max(1, screen.columns - 4 - 6 - 1 - meter - 8)
    chunks = view.timeline[-columns:]
    levels, turns = Text("heard "), Text("spoke ")
    for chunk in chunks:
        spoke = chunk.decision == "speak"
        levels.append(_shade(_loudness(chunk.level_db), glyphs), "magenta" if spoke else "cyan")
        turns.append(glyphs.spoke if spoke else glyphs.silent, "bold magenta" if spoke else "dim")
    for strip in (levels, turns):
        strip.append(" " * (columns - len(chunks) + 1))
    if chunks:
        level_db, p_speak = view.input.level_db if view.input else chunks[-1].level_db, chunks[-1].p_speak
        loud = "red" if level_db > -3 else "yellow" if level_db > -12 else "green"
        levels += _bar(_loudness(level_db), meter, loud, screen) + Text(f" {level_db:4.0f} dB")
        turns += _bar(p_speak, meter, "magenta", screen) + Text(f"{p_speak:8.0%}")
    yield levels
    yield turns


def _controls(view: View, screen: Screen) -> Iterable[Text]:
    """Of a live input: the keys, whether it is recorded, and how much of the window is in use."""
    if not view.input:
        return
    keys = (("m", "mute"), ("r", "reset"), ("s", "stop reply"), ("q", "quit"))
    used = view.positions / (view.window_positions or 1)
    meter = _bar(used, _meter_columns(screen), "cyan", screen) + Text(f"{used:8.0%}")
    recording = Text(f"{screen.glyphs.speaking} REC  " if view.input.recording else "", "bold red")
    left = screen.columns - 4 - meter.cell_len - recording.cell_len
    label = Text("window " if left > NARROW_COLUMNS - 10 else "", "dim")
    words = Text("  ").join(Text.assemble((key, "bold"), " ", (word, "dim")) for key, word in keys)
    if words.cell_len + label.cell_len + 1 > left:
        words = Text(" ").join(Text(key, "bold") for key, _ in keys)
    gap = " " * max(1, left - words.cell_len - label.cell_len)
    yield words + Text(gap) + recording + label + meter


def _meter_columns(screen: Screen) -> int:
    return max(4, screen.columns // 6)


def _loudness(level_db: float) -> float:
    return min(1.0, max(0.0, 1 - level_db / QUIETEST_DB))


def _shade(fraction: float, glyphs: Glyphs) -> str:
    return glyphs.levels[round(fraction * (len(glyphs.levels) - 1))]


def _bar(fraction: float, columns: int, style: str, screen: Screen) -> Text:
    done, edge, rest = screen.glyphs.bar
    halves = round(min(1.0, max(0.0, fraction)) * columns * 2)
    filled = done * (halves // 2) + edge * (halves % 2)
    return Text.assemble((filled, style), (rest * (columns - len(filled)), "dim"))


def _summary(summary: Summary, screen: Screen) -> RenderableType:
    """The end of it all: a frame with the figures, as many in a line as fit."""
    dot = screen.glyphs.dot
    lines: list[str] = []
    for item in summary_items(summary):
        if lines and cell_len(lines[-1] + dot + item) <= screen.columns - 4:
            lines[-1] += dot + item
        else:
            lines.append(item)
    return Group(*_frame(screen, "green", Text(" SUMMARY ", "bold green"), "", map(Text, lines), "", ""))


def _frame(
    screen: Screen, style: str, title: Text, name: str, rows: Iterable[Text], foot_left: str, foot_right: str
) -> list[Text]:
    """Rows in a box whose borders carry words. Built by hand so that no line can be wider than the screen."""
    top_left, flat, top_right, side, bottom_right, bottom_left = screen.glyphs.frame
    inner = screen.columns - 4

    def border(left: str, start: Text, end: str, right: str) -> Text:
        end = screen.fit(end, inner - start.cell_len - 3)
        end = f" {end} " if end else ""
        gap = flat * (inner - start.cell_len - cell_len(end))
        return Text.assemble((left + flat, style), start, (gap, style), (end, "dim"), (flat + right, style))

    foot = Text(f" {foot_left} " if foot_left else "", "dim")
    if foot.cell_len + cell_len(foot_right) + 3 > inner:
        foot = Text()
    lines = [border(top_left, title, name, top_right)]
    for row in rows:
        row.truncate(inner, pad=True)
        lines.append(Text.assemble((f"{side} ", style), row, (f" {side}", style)))
    lines.append(border(bottom_left, foot, foot_right, bottom_right))
    for line in lines:
        line.no_wrap = True
        line.truncate(screen.width, overflow="crop")
    return lines

"""Writes the generated documentation, or with --check fails where it is not up to date.

docs/cli.md: commands and options as `--help` has them, and the JSON Lines as the events have them.
docs/architecture.md: the state diagram, between its markers, from the turn table.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import get_args

from audio_interaction_cli import events
from audio_interaction_cli.errors import ExitCode
from audio_interaction_cli.turns import diagram

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- generated: turns -->\n", "<!-- end -->"

HEAD = """\
<!-- Written by scripts/docs.py; change the program, not this file. -->

# `ai-cli`: commands, output, exit status

Results go to stdout: text, or JSON Lines with `--json`. Everything else goes to stderr. Off a terminal there are
plain lines only; `NO_COLOR`, `FORCE_COLOR` and `TERM=dumb` are respected. An error is a line `error: …` and, where
it helps, one `hint: …`; with `--json` it is an `error` line as well.

The options under Model, Replies and Output in the `--help` of `run`, `interactive`, `mic`, `bench` and `config`, and
`--input-device`, may be set elsewhere too. A value counts from its option first, then from the environment (`--top-k`
is `AI_CLI_TOP_K`), then from `config.toml` in the user's configuration folder (`top-k = 3` in
`~/.config/ai-cli/config.toml` on Linux), then its default.

`ai-cli --install-completion` has the shell complete commands and options.

| exit status | meaning |
| --- | --- |
"""
MEANINGS = {
    ExitCode.OK: "all well",
    ExitCode.FAILED: "something failed; one input file is enough, the others are still answered",
    ExitCode.USAGE: "the command line asks for something impossible",
    ExitCode.NO_CHECKPOINT: "no usable checkpoint",
    ExitCode.NO_AUDIO_DEVICE: "no usable audio input device",
    ExitCode.INTERRUPTED: "interrupted",
}
JSON_LINES = """
## JSON Lines

One object a line; its `type` is one of these. `chunk` and `text` lines come with `--events all` only. `t` is seconds
of audio since the session began. New fields may be added.

| type | meaning | fields |
| --- | --- | --- |
"""


def cli_page() -> str:
    """docs/cli.md"""
    command = [sys.executable, "-m", "typer", "audio_interaction_cli.main", "utils", "docs", "--name", "ai-cli"]
    commands = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    _, _, usage = commands.partition("\n\n")  # its own title goes
    statuses = "".join(f"| {int(code)} | {meaning} |\n" for code, meaning in MEANINGS.items())
    lines = ""
    for event in get_args(events.Event):
        meaning = " ".join((event.__doc__ or "").split())
        fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(event))
        lines += f"| `{event.type}` | {meaning} | {fields} |\n"
    return f"{HEAD}{statuses}\n## Commands\n\n{usage.replace('## `', '### `').strip()}\n{JSON_LINES}{lines}"


def architecture_page() -> str:
    """docs/architecture.md with today's diagram."""
    before, _, rest = (DOCS / "architecture.md").read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}```mermaid\n{diagram()}\n```\n{END}{after}"


def main() -> None:
    stale = []
    for name, text in {"cli.md": cli_page(), "architecture.md": architecture_page()}.items():
        if "--check" not in sys.argv:
            (DOCS / name).write_text(text, "utf-8")
        elif (DOCS / name).read_text("utf-8") != text:
            stale.append(name)
    if stale:
        sys.exit(f"error: docs/{', docs/'.join(stale)} not up to date\nhint: python scripts/docs.py")


main()

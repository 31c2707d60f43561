"""The layers of docs/architecture.md, as the code has them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "audio_interaction_cli"
MODULES = {file.stem: file for file in PACKAGE.glob("*.py") if not file.stem.startswith("__")}
MAY_SEE = {
    "base": {"base"},
    "model": {"base", "model"},
    "edge": {"base", "edge"},
    "joins": {"base", "model", "edge", "joins"},
}
LONGEST_LINES = 300


def rooms() -> dict[str, tuple[int, str, set[str]]]:
    """Row, wing and packages of each module, from the table."""
    found: dict[str, tuple[int, str, set[str]]] = {}
    for line in (ROOT / "docs" / "architecture.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].isdecimal():
            packages = set(filter(None, cells[3].split(", ")))
            found |= {module: (int(cells[0]), cells[1], packages) for module in cells[2].split(", ")}
    return found


def imports(file: Path) -> set[str]:
    """All modules imported anywhere in a file, but those for type checkers only."""
    names = set()
    tree = ast.parse(file.read_text("utf-8"))
    checking = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    hidden = {id(inner) for node in checking for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            own = node.module == PACKAGE.name
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if own else {node.module or ""}
    return names


def test_every_module_has_a_room() -> None:
    assert set(rooms()) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_upwards(module: str) -> None:
    row, wing, packages = rooms()[module]
    used = set()
    for name in imports(MODULES[module]):
        top, _, inner = name.partition(".")
        if top == PACKAGE.name:
            if inner == "__version__":
                continue
            other_row, other_wing, _ = rooms()[inner]
            assert other_row < row, f"{module} (row {row}) imports {inner} (row {other_row})"
            assert other_wing in MAY_SEE[wing], f"{module} ({wing}) imports {inner} ({other_wing})"
        elif top not in sys.stdlib_module_names:
            used.add(top)
    assert used <= packages


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short_and_say_what_they_are(module: str) -> None:
    text = MODULES[module].read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_LINES
    assert ast.get_docstring(ast.parse(text))


def test_help_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "av", "numpy", "huggingface_hub", "prompt_toolkit", "whisper", "sounddevice"]
    for arguments in (["--help"], ["run", "--help"], ["mic", "--help"], ["--version"]):
        code = (
            "import sys\nfrom audio_interaction_cli.main import app\n"
            f"app({arguments}, standalone_mode=False)\n"
            f"sys.exit(', '.join(set({heavy}) & sys.modules.keys()) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

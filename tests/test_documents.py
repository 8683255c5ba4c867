"""What documents and `--help` tell a user: commands and links exist, and scripts/demo runs the tutorial."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from dualexport.cli import app
from support.cli import run

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
ON_THE_DEVICE = ("trt",)  # commands whose example is in a block that scripts/demo leaves out
COMMANDS = typer.main.get_command(app)
WIDTH = 80  # a terminal, in which an example must not be broken in two


def list_commands(path: Path, language: str = "") -> list[str]:
    """The lines of a document's code blocks that call dualexport, without prompt and comment."""
    blocks = [text for info, text in FENCE.findall(path.read_text()) if info.startswith(language)]
    lines = (line.removeprefix("$ ").partition(" # ")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line.startswith("dualexport ")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_exists_with_its_options(path: Path) -> None:
    for line in list_commands(path):
        name, *arguments = shlex.split(line)[1:]
        command = COMMANDS.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, arguments).close()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists()


@pytest.mark.parametrize("name", COMMANDS.commands)  # type: ignore[attr-defined]
def test_help_ends_with_an_example_that_the_demo_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    _, out, _ = run(capsys, name, "--help")
    example = [line.strip() for line in out.splitlines() if line.strip()][-1]
    assert example.startswith(f"dualexport {name} ")
    assert example in list_commands(ROOT / "docs" / "tutorial.md", "console" if name in ON_THE_DEVICE else "sh")


def test_the_demo_runs_the_tutorial() -> None:
    """Its blocks are of the kinds that scripts/demo knows; a prompt says that a user's own things are needed."""
    blocks = FENCE.findall((ROOT / "docs" / "tutorial.md").read_text())
    assert {info for info, _ in blocks} == {"sh", "sh tensorrt", "console"}
    for info, text in blocks:
        assert all(line.startswith("$ ") == (info == "console") for line in text.splitlines())
    assert "docs/tutorial.md" in (ROOT / "scripts" / "demo").read_text()
    assert "scripts/demo" in (ROOT / ".ci" / "run").read_text()

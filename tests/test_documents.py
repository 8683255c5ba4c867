"""Documents and `--help` tell what is there: commands and links exist, and scripts/demo runs the tutorial."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import dualexport
import pytest
import typer.main
from dualexport.cli import app
from support.cli import run

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
ON_THE_DEVICE = ("trt",)  # commands whose example is in a block that scripts/demo leaves out
COMMANDS = typer.main.get_command(app)
WIDTH = 80  # a terminal, in which an example must not be broken in two


PACKAGE = sorted(path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in ("tests", "build"))
SOURCE = re.compile(r"`((?:\w+/)+(?:\w+\.py)?)`(?:[: (]*)((?:`\w+`(?:, )?)*)")  # and names beside it
FORMAT_NUMBER = re.compile(r"(?:\w+_)?(?:FORMAT|SCHEMA)")
FILE_NAME = re.compile(r"(?:\w+_)?(?:FILE|FILE_NAME|WEIGHTS_NAME)")


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


@pytest.mark.slow
def test_the_python_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All in one module, but for what needs TensorRT where there is none, and a device; that is compiled only."""
    monkeypatch.chdir(tmp_path)
    page, names = ROOT / "docs" / "python.md", {"__name__": "__main__"}
    has_builder = importlib.util.find_spec("tensorrt") is not None
    for info, text in FENCE.findall(page.read_text()):
        code = compile(text, str(page), "exec")
        if info == "python" or (info == "python tensorrt" and has_builder):
            exec(code, names)  # the page is ours
    out = capsys.readouterr().out
    assert "dualformer-demo.fp32.onnx: cosine 1.0000" in out
    assert re.search(r"^[1-9]\d?% of the multiply-accumulates are INT8$", out, re.MULTILINE)
    assert "'fp4' is no precision; choose one of fp32, fp16, " in out
    assert {"report.html", "report.json", "dualformer-demo.tar.gz"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_name_of_the_api_in_a_document_exists(path: Path) -> None:
    assert set(re.findall(r"\bdx\.(\w+)", path.read_text())) <= set(dualexport.__all__)


@pytest.mark.parametrize("name", ["architecture", "formats"])
def test_the_source_files_that_a_document_names_hold_the_names_beside_them(name: str) -> None:
    found = SOURCE.findall((ROOT / "docs" / f"{name}.md").read_text())
    assert found
    for path, names in found:
        assert (ROOT / path).exists(), path
        for inside in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{inside}\b", (ROOT / path).read_text()), f"{path} has no {inside}"


def list_constants() -> Iterator[tuple[str, str, object]]:
    """(module's path, name, value) of every constant of the package that is a literal."""
    for path in (path for folder in PACKAGE for path in folder.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Name, ast.Tuple)):
                targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for target, value in zip(targets, values, strict=False):
                    if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                        yield path.relative_to(ROOT).as_posix(), target.id, value.value


def test_every_file_format_is_in_the_table() -> None:
    rows = [line for line in (ROOT / "docs" / "formats.md").read_text().splitlines() if line.startswith("| ")]
    constants = [*list_constants()]
    numbers = [one for one in constants if FORMAT_NUMBER.fullmatch(one[1]) and isinstance(one[2], int)]
    assert len(numbers) >= 5
    for path, name, number in numbers:
        (row,) = (row for row in rows if f"`{path}` `{name}`" in row)
        assert re.search(rf"(`format`|`schema`) {number}\b", row)
    for _, name, value in constants:
        if FILE_NAME.fullmatch(name) and re.fullmatch(r"[\w-]+\.\w+", str(value)):
            assert any(f"`{value}`" in row for row in rows), value

"""The first sentence of a docstring says what a thing is or does; a question is no such sentence."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUESTIONS = ("What", "Whether", "Which", "Who", "Whose", "Why", "How", "Where", "When")
FILES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if not path.relative_to(ROOT).parts[0].startswith(".") and not path.is_relative_to(ROOT / "build")
]


def list_questions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = (ast.get_docstring(node) or "").split(maxsplit=1)[:1]
            if first and first[0].rstrip(",:") in QUESTIONS:
                yield f"line {getattr(node, 'lineno', 1)}: {ast.get_docstring(node)}"


def test_no_docstring_begins_with_a_question() -> None:
    assert len(FILES) > 200
    found = {str(path.relative_to(ROOT)): questions for path in FILES if (questions := [*list_questions(path)])}
    assert found == {}


@pytest.mark.parametrize("text", ['"""Whether it is so."""', 'def f() -> None:\n    """What f does."""'])
def test_a_question_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.py").write_text(text)
    assert [*list_questions(tmp_path / "one.py")]

"""The files that a verification leaves: a page, a text, a file for a CI system; all from one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from ..core.files import staged_path
from .html import render_html
from .junit import render_junit
from .markdown import render_markdown

RENDERERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    ".html": render_html,
    ".htm": render_html,
    ".md": render_markdown,
    ".json": lambda document: json.dumps(document, indent=2) + "\n",
}


def check_reports(paths: Sequence[Path]) -> None:
    """Refuse, before any work, a report whose suffix says nothing."""
    for path in paths:
        if path.suffix.lower() not in RENDERERS:
            raise typer.BadParameter(f"{path.name} ends in none of {', '.join(RENDERERS)}", param_hint="--report")


def write_reports(document: Mapping[str, Any], reports: Sequence[Path], junit: Path | None) -> None:
    """Write every report that was asked for; `document` holds plain JSON values. Raises OutputError."""
    files = {path: RENDERERS[path.suffix.lower()] for path in reports}
    if junit is not None:
        files[junit] = render_junit
    for path, render in files.items():
        with staged_path(path) as staged:
            staged.write_text(render(document), encoding="utf-8")

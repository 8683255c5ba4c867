"""The files that a verification leaves: a page, a text, a JSON document, and a file for a CI system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..core.files import staged_path
from ..core.plain import to_json
from .document import Document, to_mapping
from .html import render_html
from .junit import render_junit
from .markdown import render_markdown

RENDERERS: Mapping[str, Callable[[Document], str]] = {
    ".html": render_html,
    ".htm": render_html,
    ".md": render_markdown,
    ".json": lambda document: to_json(to_mapping(document)),
}


def write_reports(document: Document, reports: Sequence[Path], junit: Path | None = None) -> None:
    """Write every report, in the form that its suffix names. Raises OutputError."""
    files = {path: RENDERERS[path.suffix.lower()] for path in reports}
    if junit is not None:
        files[junit] = render_junit
    for path, render in files.items():
        with staged_path(path) as staged:  # a file name in a report may hold bytes that are no UTF-8
            staged.write_text(render(document), encoding="utf-8", errors="backslashreplace")

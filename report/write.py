"""The files that a verification leaves: a page, a text, a JSON document, and a file for a CI system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..core.errors import OutputError
from ..core.files import LAST as MANIFEST
from ..core.files import require_writable, staged_path
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


def require_reports(reports: Sequence[Path], junit: Path | None = None) -> None:
    """Raise OutputError for a report whose suffix names no form, or that cannot be written: before the work."""
    for path in reports:
        if path.suffix.lower() not in RENDERERS:
            raise OutputError(
                f"{path.name} ends in none of {', '.join(RENDERERS)}", fix="give it one of these suffixes"
            )
    files = [*reports, *(() if junit is None else (junit,))]
    for path in files:
        if path.name == MANIFEST or len([other for other in files if other.absolute() == path.absolute()]) > 1:
            raise OutputError(
                f"{path} is {'a manifest' if path.name == MANIFEST else 'named twice'}",
                fix="give each report its own name",
            )
        require_writable(path)


def write_reports(document: Document, reports: Sequence[Path], junit: Path | None = None) -> None:
    """Write every report, in the form that its suffix names. Raises OutputError."""
    files = {path: RENDERERS[path.suffix.lower()] for path in reports}
    if junit is not None:
        files[junit] = render_junit
    for path, render in files.items():
        with staged_path(path) as staged:  # a file name in a report may hold bytes that are no UTF-8
            staged.write_text(render(document), encoding="utf-8", errors="backslashreplace")

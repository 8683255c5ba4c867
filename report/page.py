"""The frame of a self-contained HTML page, and tables on it: nothing in it is loaded from elsewhere."""

from __future__ import annotations

from .markup import Markup, tag
from .style import STYLE
from .tables import Table

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_page(title: str, *body: Markup | None) -> str:
    """A page with its head and style."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *body)), lang='en')}\n"


def show_decision(title: str, reasons: tuple[str, ...], caveats: tuple[str, ...], *, positive: bool) -> Markup:
    """A decision on top of a page, why, and what the evidence does not cover."""
    return tag(
        "div",
        tag("strong", title),
        tag("ul", *(tag("li", line) for line in reasons)),
        tag("ul", *(tag("li", line) for line in caveats), class_="caveats") if caveats else None,
        class_="decision" if positive else "decision no",
    )


def show_table(table: Table) -> Markup:
    """A table that scrolls where it is too wide."""
    header = tag("tr", *(tag("th", column) for column in table.columns))
    rows = (
        tag("tr", *(tag("td", cell, class_=cell if cell in ("PASS", "FAIL") else None) for cell in row))
        for row in table.rows
    )
    return tag("div", tag("table", tag("thead", header), tag("tbody", *rows)), class_="scroll")

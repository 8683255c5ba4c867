"""Elements of HTML and SVG as strings; text inside them is escaped, whatever file names hold."""

from __future__ import annotations

from html import escape

VOID = frozenset(("br", "img", "meta", "circle", "line", "path", "polyline", "rect"))


class Markup(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


def tag(element: str, /, *children: str | None, **attributes: str | float | None) -> Markup:
    """`<element attributes>children</element>`; None is left out; `_` in an attribute is `-`, but for the last one."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in VOID and not children:
        return Markup(f"<{element}{given}/>")
    return Markup(f"<{element}{given}>{join(*children)}</{element}>")


def join(*children: str | None) -> Markup:
    """Children one after the other; what is not Markup is escaped, None is nothing."""
    return Markup(
        "".join(child if isinstance(child, Markup) else escape(child) for child in children if child is not None)
    )


def _number(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)

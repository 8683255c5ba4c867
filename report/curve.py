"""A training's curves as an SVG file of its own: panels side by side, each with its lines over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .axis import Axis, linear_axis
from .charts import format_tick
from .markup import Markup, join, tag

PANEL, HEIGHT = 380.0, 250.0
TOP, BOTTOM = 40.0, 200.0
COLOURS = ("#2f6fde", "#e07a1f", "#159a80")
STYLE = (
    "svg{font:11px system-ui,'DejaVu Sans',sans-serif;background:#fff}text{fill:#444}"
    ".grid{stroke:#ddd}polyline{fill:none;stroke-width:2}"
)


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines by name, each of (step, value) points."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def draw_curves(panels: Sequence[Panel]) -> str:
    """Draw the panels as the text of an .svg file."""
    drawn = [_draw_panel(panel, number * PANEL) for number, panel in enumerate(panels)]
    width = PANEL * len(panels)
    title = ", ".join(panel.title for panel in panels)
    return tag(
        "svg",
        tag("style", Markup(STYLE)),
        *drawn,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {HEIGHT:g}",
        role="img",
        aria_label=title,
    )


def _draw_panel(panel: Panel, left: float) -> Markup:
    points = [point for line in panel.lines.values() for point in line]
    x = linear_axis([at for at, _ in points], left + 54, left + PANEL - 16, from_zero=True)
    y = linear_axis([value for _, value in points], BOTTOM, TOP)
    marks = [tag("text", panel.title, x=left + 54, y=16.0, font_weight="bold")]
    for number, (name, line) in enumerate(panel.lines.items()):
        colour, place = COLOURS[number % len(COLOURS)], left + 54 + 110 * number
        marks.append(tag("rect", x=place, y=24.0, width=10, height=4, fill=colour))
        marks.append(tag("text", name, x=place + 14, y=30.0))
        marks.append(tag("polyline", points=" ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in line), stroke=colour))
    return join(_draw_grid(x, y), *marks)


def _draw_grid(x: Axis, y: Axis) -> Markup:
    marks = [tag("text", "steps", x=(x.start + x.end) / 2, y=BOTTOM + 36, text_anchor="middle")]
    for tick in y.ticks:
        marks.append(tag("line", x1=x.start, x2=x.end, y1=y.at(tick), y2=y.at(tick), class_="grid"))
        marks.append(tag("text", format_tick(tick), x=x.start - 6, y=y.at(tick) + 4, text_anchor="end"))
    for tick in x.ticks:
        marks.append(tag("text", format_tick(tick), x=x.at(tick), y=BOTTOM + 18, text_anchor="middle"))
    return join(*marks)

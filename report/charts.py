"""Charts as SVG: drawn with the page's own colours, so that they follow dark, light and print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .axis import Axis, linear_axis, log_axis
from .markup import Markup, join, tag

WIDTH = 560.0
SERIES = 8  # colours that the page's style has
LEGEND_TOP, LEGEND_ROW = 10.0, 17.0
CHARACTER = 6.2  # width of a letter of the page's font at 11 pixels, about


@dataclass(frozen=True, slots=True)
class Point:
    """One artifact: where it lies, how far either way the value is uncertain, and what to write beside it."""

    name: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """Named values, one at every place of the chart; None where there is no value."""

    name: str
    values: Sequence[float | None]


def scatter(points: Sequence[Point], x_title: str, y_title: str) -> Markup:
    """Points with the interval of their y; x from zero, so that twice as far right is twice as much."""
    height, bottom = 300.0, 252.0
    x = linear_axis([point.x for point in points], 64, WIDTH - 24, from_zero=True)
    y = linear_axis([value for point in points for value in (point.low, point.high)], bottom, 48)
    marks: list[Markup] = []
    for number, point in enumerate(points):
        left, series = x.at(point.x), _colour(number)
        hint = tag("title", f"{point.name}: {point.x:.3g}, {point.y:.4g}")
        marks += [
            tag("line", x1=left, x2=left, y1=y.at(point.low), y2=y.at(point.high), class_=f"whisker {series}"),
            tag("circle", hint, cx=left, cy=y.at(point.y), r=6.0, class_=f"fill {series}"),
        ]
    names = [point.name for point in points]
    return frame_picture(
        height, f"{y_title} against {x_title}", draw_axes(x, y, x_title, y_title), *marks, legend=names
    )


def lines(places: Sequence[str], series: Sequence[Series], y_title: str) -> Markup:
    """A line a series over places in order, on a logarithmic scale."""
    height, bottom = 340.0, 210.0
    values = [value for one in series for value in one.values if value is not None and value > 0]
    if not values:
        return tag("p", "No difference at all was measured.", class_="absent")
    x = Axis(0, max(len(places) - 1, 1), 64, WIDTH - 16)
    y = log_axis(values, bottom, 34)
    marks: list[Markup] = []
    for number, one in enumerate(series):
        seen = [(x.at(place), y.at(value or y.low)) for place, value in enumerate(one.values) if value is not None]
        marks.append(
            tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in seen), class_=f"stroke {_colour(number)}")
        )
        marks += [tag("circle", cx=a, cy=b, r=2.5, class_=f"fill {_colour(number)}") for a, b in seen]
    step = max(1, -(-len(places) // 18))
    names = [
        tag(
            "text",
            place,
            x=0,
            y=0,
            class_="tick",
            text_anchor="end",
            transform=f"translate({x.at(at):.1f} {bottom + 14}) rotate(-50)",
        )
        for at, place in enumerate(places)
        if at % step == 0
    ]
    return frame_picture(height, y_title, _grid(y), *names, *marks, legend=[one.name for one in series])


def distribution(series: Sequence[Series], x_title: str) -> Markup:
    """A histogram a series, one below the other on one scale."""
    row = 62.0
    height = row * len(series) + 54
    values = [value for one in series for value in one.values if value is not None]
    x = linear_axis(values, 24, WIDTH - 16)
    bins, marks = 60, []
    for number, one in enumerate(series):
        base = row * (number + 1)
        counts = [0] * bins
        for value in one.values:
            if value is not None:
                counts[min(bins - 1, int((value - x.low) / (x.high - x.low) * bins))] += 1
        wide = (x.end - x.start) / bins
        marks.append(tag("text", one.name, x=x.start, y=base - 42))
        marks += [
            tag(
                "rect",
                x=x.start + place * wide,
                width=wide - 1,
                y=base - tall,
                height=tall,
                class_=f"fill {_colour(number)}",
            )
            for place, tall in enumerate(36 * count / max(counts) for count in counts)
            if tall
        ]
        marks.append(tag("line", x1=x.start, x2=x.end, y1=base, y2=base, class_="grid"))
    return frame_picture(height, x_title, _ticks_below(x, row * len(series), x_title), *marks)


def dots(places: Sequence[str], series: Sequence[Series], x_title: str) -> Markup:
    """A row a place, a dot a series, on a scale from 0 to 1."""
    row, left = 20.0, 190.0
    height = row * len(places) + 78
    x = Axis(0, 1, left, WIDTH - 20)
    marks: list[Markup] = []
    for place, name in enumerate(places):
        middle = 44 + row * place
        shown = name if len(name) <= 28 else f"{name[:27]}…"
        marks.append(tag("line", x1=x.start, x2=x.end, y1=middle, y2=middle, class_="grid"))
        marks.append(tag("text", shown, x=left - 10, y=middle + 4, text_anchor="end", class_="tick"))
        for number, one in enumerate(series):
            value = one.values[place]
            if value is not None:
                hint = tag("title", f"{one.name}, {name}: {value:.1%}")
                beside = 5.0 * (number - (len(series) - 1) / 2)  # equal values stay visible
                marks.append(
                    tag("circle", hint, cx=x.at(value), cy=middle + beside, r=4.0, class_=f"fill {_colour(number)}")
                )
    ticks = _ticks_below(x, 34 + row * len(places), x_title, percent=True)
    return frame_picture(height, x_title, ticks, *marks, legend=[one.name for one in series])


def stacked(names: Sequence[str], parts: Sequence[Series], x_title: str) -> Markup:
    """A bar a name, made of parts one after the other."""
    row, left = 40.0, 24.0
    totals = [sum(part.values[bar] or 0 for part in parts) for bar in range(len(names))]
    height = row * len(names) + 92
    x = Axis(0, max(totals, default=1) * 1.02 or 1, left, WIDTH - 20)
    marks: list[Markup] = []
    for bar, name in enumerate(names):
        top, reached = 56 + row * bar, 0.0
        marks.append(tag("text", f"{name}: {totals[bar]:,.0f}", x=left, y=top - 5))
        for number, part in enumerate(parts):
            value = part.values[bar] or 0.0
            wide = x.at(reached + value) - x.at(reached)
            hint = tag("title", f"{part.name}: {value:,.1f}")
            marks.append(
                tag("rect", hint, x=x.at(reached), y=top, width=wide, height=16, class_=f"fill {_colour(number)}")
            )
            reached += value
    ticks = _ticks_below(x, 46 + row * len(names), x_title)
    return frame_picture(height, x_title, ticks, *marks, legend=[part.name for part in parts])


def frame_picture(height: float, title: str, *children: Markup, legend: Sequence[str] = ()) -> Markup:
    """A picture with its legend on top; one of several rows makes the picture taller."""
    rows = _wrap_legend(legend)
    above = LEGEND_ROW * max(0, len(rows) - 1)
    marks = [
        _legend_entry(entry, LEGEND_TOP - above + LEGEND_ROW * row) for row, found in enumerate(rows) for entry in found
    ]
    view = f"0 {-above:g} {WIDTH:g} {height + above:g}"
    return tag("svg", *marks, *children, viewBox=view, role="img", aria_label=title)


def draw_axes(x: Axis, y: Axis, x_title: str, y_title: str) -> Markup:
    """Grid, ticks and titles."""
    title = tag("text", y_title, x=0, y=36, class_="tick")
    return join(_grid(y), _ticks_below(x, y.start, x_title), title)


def _grid(y: Axis) -> Markup:
    """Horizontal lines at the ticks of a vertical axis."""
    return join(
        *(
            join(
                tag("line", x1=60.0, x2=WIDTH - 12, y1=y.at(tick), y2=y.at(tick), class_="grid"),
                tag("text", format_tick(tick), x=54.0, y=y.at(tick) + 4, text_anchor="end", class_="tick"),
            )
            for tick in y.ticks
        )
    )


def _ticks_below(x: Axis, bottom: float, title: str, *, percent: bool = False) -> Markup:
    labels = [
        tag(
            "text",
            f"{tick:.0%}" if percent else format_tick(tick),
            x=x.at(tick),
            y=bottom + 18,
            text_anchor="middle",
            class_="tick",
        )
        for tick in x.ticks
    ]
    return join(
        *labels, tag("text", title, x=(x.start + x.end) / 2, y=bottom + 36, text_anchor="middle", class_="tick")
    )


def _colour(number: int) -> str:
    """The page's class for the colour of a series; after the last colour comes the first again."""
    return f"s{number % SERIES}"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A legend's entry: the series' number and name, and the pixel at which it begins."""

    number: int
    name: str
    left: float


def _wrap_legend(names: Sequence[str]) -> list[list[_Entry]]:
    """The names in rows that are no wider than the picture."""
    rows: list[list[_Entry]] = []
    left = WIDTH
    for number, name in enumerate(names):
        wide = 30 + CHARACTER * len(name)
        if left + wide > WIDTH:
            rows.append([])
            left = 24.0
        rows[-1].append(_Entry(number, name, left))
        left += wide
    return rows


def _legend_entry(entry: _Entry, top: float) -> Markup:
    """A coloured square and a name."""
    return join(
        tag("rect", x=entry.left, y=top - 8, width=10, height=10, class_=f"fill {_colour(entry.number)}"),
        tag("text", entry.name, x=entry.left + 15, y=top + 1, class_="tick"),
    )


def format_tick(value: float) -> str:
    """A tick's number: short, powers of ten where it is very small."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"

"""The picture of a search: accuracy against latency, every candidate a named point, the budget as lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .axis import Axis, linear_axis
from .charts import CHARACTER, WIDTH, draw_axes, frame_picture
from .markup import Markup, tag

HEIGHT, BOTTOM, TOP, LEFT = 400.0, 352.0, 44.0, 66.0
EDGE = BOTTOM - 24  # of what has no accuracy
LINE = 12.0  # height of a name
RADIUS = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate: milliseconds, accuracy with its interval in percent, None where it is not known; how it ended."""

    name: str
    x: float
    y: float | None
    low: float = 0.0
    high: float = 0.0
    won: bool = False
    within: bool = True
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The budget: the most milliseconds, the least accuracy in percent; None where there is none."""

    x: float | None = None
    y: float | None = None


def draw_choices(choices: Sequence[Choice], limits: Limits, x_title: str) -> Markup:
    """Points with intervals, the front of those that no other one beats in both, and the budget.

    Candidates without an accuracy stand on the lower edge.
    """
    known = [one for one in choices if one.y is not None]
    xs = [one.x for one in choices] + ([limits.x] if limits.x is not None else [])
    ys = [value for one in known for value in (one.low, one.high)] + ([limits.y] if limits.y is not None else [])
    x = linear_axis(xs, 64, WIDTH - 24, from_zero=True)
    y = linear_axis(ys or [0.0, 100.0], BOTTOM - 14, TOP)
    places = [_Place(one, x.at(one.x), y.at(one.y) if one.y is not None else EDGE) for one in choices]
    marks = [*_draw_budget(x, y, limits), _draw_front(places)]
    marks += [mark for place in places for mark in place.draw(y)]
    marks += [name.draw() for name in place_names(places)]
    return frame_picture(
        HEIGHT, f"accuracy against {x_title}", draw_axes(x, y, x_title, "accuracy on labels, %"), *marks
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A candidate and the pixel of its point."""

    choice: Choice
    x: float
    y: float

    @property
    def style(self) -> str:
        return "won" if self.choice.won else "within" if self.choice.within else "outside"

    def draw(self, axis: Axis) -> Iterable[Markup]:
        one, hint = self.choice, tag("title", f"{self.choice.name}: {self.choice.hint}")
        if one.y is not None:
            ends = {"y1": axis.at(one.low), "y2": axis.at(one.high)}
            yield tag("line", x1=self.x, x2=self.x, class_=f"whisker {self.style}", **ends)
        yield tag("circle", hint, cx=self.x, cy=self.y, r=RADIUS + 2 * one.won, class_=f"choice {self.style}")


@dataclass(frozen=True, slots=True)
class Name:
    """A name beside a point: its box in pixels."""

    text: str
    left: float
    top: float
    style: str = ""

    @property
    def right(self) -> float:
        return self.left + CHARACTER * len(self.text)

    def overlaps(self, other: Name) -> bool:
        """True where two names would be written over each other."""
        beside = self.right < other.left or other.right < self.left
        return not beside and abs(self.top - other.top) < LINE

    def draw(self) -> Markup:
        return tag("text", self.text, x=self.left, y=self.top + LINE - 3, class_=f"name {self.style}")


def place_names(places: Sequence[_Place]) -> list[Name]:
    """A name for every point, beside it or a little off where there is no room; the winner's comes first."""
    taken = [Name("oo", place.x - RADIUS, place.y - LINE / 2) for place in places]  # the points themselves
    names: list[Name] = []
    for place in sorted(places, key=lambda place: (not place.choice.won, place.y, place.x)):
        text = place.choice.name
        wide = CHARACTER * len(text)
        tried = [
            Name(text, left, place.y - LINE / 2 + shift, place.style)
            for shift in (0.0, -LINE, LINE, -2 * LINE, 2 * LINE, -3 * LINE, 3 * LINE)
            for left in (place.x + 10, place.x - 10 - wide)
            if left >= LEFT and left + wide <= WIDTH
        ]
        free = [one for one in tried if not any(one.overlaps(other) for other in (*names, *taken))]
        names.append((free or tried or [Name(text, max(0.0, WIDTH - wide), place.y, place.style)])[0])
    return names


def _draw_budget(x: Axis, y: Axis, limits: Limits) -> Iterable[Markup]:
    if limits.x is not None:
        at = x.at(limits.x)
        yield tag("line", x1=at, x2=at, y1=TOP, y2=BOTTOM, class_="budget")
        yield tag("text", f"{limits.x:g} ms", x=at, y=TOP - 4, text_anchor="middle", class_="tick")
    if limits.y is not None:
        at = y.at(limits.y)
        yield tag("line", x1=60.0, x2=WIDTH - 12, y1=at, y2=at, class_="budget")
        yield tag("text", f"{limits.y:.1f}%", x=WIDTH - 12, y=at - 4, text_anchor="end", class_="tick")


def _draw_front(places: Sequence[_Place]) -> Markup:
    """A stepped line through the points that no other one beats in both."""
    best: list[_Place] = []
    for place in sorted((one for one in places if one.choice.y is not None), key=lambda one: (one.x, one.y)):
        if not best or place.y < best[-1].y:
            best.append(place)
    points = []
    for before, after in zip(best, [*best[1:], None], strict=False):
        points.append(f"{before.x:.1f},{before.y:.1f}")
        if after is not None:
            points.append(f"{after.x:.1f},{before.y:.1f}")
    return tag("polyline", points=" ".join(points), class_="front")

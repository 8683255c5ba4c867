"""A line a camera on a terminal, updated with each of its answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .console import clean

if TYPE_CHECKING:
    from ..pipeline.stream import Sighting

MOST_LINES = 20
YEAR = 365 * 86400.0  # seconds; later times are those of live sources, since 1970


def say_time(seconds: float) -> str:
    """Seconds of a file, or a live source's time of day here."""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S.%f}"[:-4] if seconds > YEAR else f"{seconds:.2f} s"


@contextmanager
def camera_lines(cameras: Sequence[str], *, quiet: bool) -> Iterator[Callable[[Sighting], None]]:
    """A function to be told of answers, which shows each camera's newest on stderr where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    newest: dict[str, tuple[str, ...]] = {name: (clean(name),) for name in cameras}

    def lay_out() -> Table:
        table = Table.grid(padding=(0, 2))
        for cells in list(newest.values())[:MOST_LINES]:
            table.add_row(*cells)
        return table

    def tell(seen: Sighting) -> None:
        newest[seen.camera] = (
            clean(seen.camera),
            say_time(seen.end_seconds),
            clean(seen.label),
            f"{seen.probability:.1%}",
            f"{seen.latency_ms:.0f} ms",
            f"{seen.dropped} dropped",
        )
        display.update(lay_out())

    with Live(
        lay_out(), console=Console(stderr=True, markup=False), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as display:
        yield tell

"""The screen: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from ..core.plain import to_json
from ..core.reporter import Reporter
from ..report.tables import Table
from ..report.text import lay_out, wrap

Shown = TypeVar("Shown")
UNBROKEN_WIDTH = 1000  # characters, where no terminal sets a width
SPACING = re.compile(r"[\t\n\v\f\r]+")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
QUIET_SECONDS = 5.0  # between two lines of one counted task where there is no terminal


def show(result: Shown, human: Callable[[Shown], None], *, as_json: bool) -> None:
    """A command's result on stdout: one JSON document, or what `human` prints of it."""
    if as_json:
        print_json(result)
    else:
        human(result)


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    print(to_json(document), end="")


def clean(text: str) -> str:
    """`text` without the characters that would command a terminal: those of spacing are spaces, others are escaped.

    Labels and file names come from strangers.
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), SPACING.sub(" ", text))


def print_text(text: str) -> None:
    """A line on stdout, broken between words where a terminal is narrower; one that is indented stays whole."""
    line = clean(text)
    print(line if line.startswith(" ") else "\n".join(wrap(line, _find_width())))


def note(message: str) -> None:
    """A line the user should see although nothing failed, on stderr."""
    print_line(f"note: {message}")


def print_error(message: str, fix: str) -> None:
    """The two lines of every error, on stderr."""
    print_line(f"error: {' '.join(message.split())}")
    print_line(f"fix: {' '.join(fix.split())}")


def print_line(text: str) -> None:
    """A line on stderr, where everything goes that is no result."""
    print(clean(text), file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Have characters that the terminal's encoding lacks escaped, so that no name can fail to be printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write the results that are still buffered; raises OSError where they cannot be written."""
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_broken_streams() -> None:
    """Let go of the streams that cannot be written any more, which Python would try again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: in the width of the terminal, or, where there is none, as wide as it needs."""
    cells = tuple(tuple(map(clean, row)) for row in rows)
    print(*lay_out(Table(clean(title), tuple(map(clean, columns)), cells), _find_width()), "", sep="\n")


def print_parts(parts: Iterable[Table | str]) -> None:
    """Tables and lines, one after the other."""
    after_text = False
    for part in parts:
        if isinstance(part, str):
            print_text(part)
        else:
            print("\n" if after_text else "", end="")
            print_table(*part)
        after_text = isinstance(part, str)


def _find_width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else UNBROKEN_WIDTH


@contextmanager
def show_progress() -> Iterator[Reporter]:
    """A Reporter on stderr: its progress is a live display on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield Reporter(_LineProgress(), note)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(max_width=36, no_wrap=True)),
        BarColumn(bar_width=10),
        _Progressed(table_column=Column(no_wrap=True)),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as display:
        yield Reporter(_LiveProgress(display), note)


class _Progressed(TimeElapsedColumn):
    """A column of how much of counted work is done, and when the rest will be; of other work, how long it takes."""

    def render(self, task: Task) -> Text:
        if task.total is None or task.finished:
            return super().render(task)
        left = f", about {_say_seconds(task.time_remaining)} left" if task.time_remaining else ""
        return Text(f"{task.completed:g}/{task.total:g}{left}")


def _say_seconds(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


class _LineProgress:
    def __init__(self) -> None:
        self._task = ""
        self._printed_at = self._started_at = 0.0
        self._started_with = 0

    def __call__(self, task: str, done: int = 0, total: int | None = None) -> None:
        now = time.monotonic()
        if task == self._task and done != total and now - self._printed_at < QUIET_SECONDS:
            return
        if task != self._task:
            self._started_at, self._started_with = now, done
        counted = f" {done}" + (f"/{total}" if total else "") if done else ""
        print(clean(f"{task}{counted}{self._tell_left(now, done, total)}"), file=sys.stderr, flush=True)
        self._task, self._printed_at = task, now

    def _tell_left(self, now: float, done: int, total: int | None) -> str:
        if total is None or not self._started_with < done < total:
            return ""
        return f", about {_say_seconds((now - self._started_at) / (done - self._started_with) * (total - done))} left"


class _LiveProgress:
    def __init__(self, display: RichProgress) -> None:
        self._display = display
        self._task = ""

    def __call__(self, task: str, done: int = 0, total: int | None = None) -> None:
        if task != self._task:
            for finished in self._display.task_ids:
                self._display.update(finished, total=1, completed=1)
                self._display.stop_task(finished)
            self._display.add_task(clean(task), total=total)
            self._task = task
        self._display.update(self._display.task_ids[-1], completed=done, total=total)

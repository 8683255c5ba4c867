"""Channels of long work: what it is doing, and what a user should see although nothing failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Is told what work is being done: a task, and how much of it is done when that can be counted."""

    def __call__(self, task: str, done: int = 0, total: int | None = None) -> None: ...


Notify = Callable[[str], None]  # is told a line that a user should see


def no_progress(task: str, done: int = 0, total: int | None = None) -> None:
    """Discard the progress."""


def no_notes(message: str) -> None:
    """Discard the message."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Both channels of long work in one value; called, it is a Progress."""

    progress: Progress = no_progress
    note: Notify = no_notes

    def __call__(self, task: str, done: int = 0, total: int | None = None) -> None:
        self.progress(task, done, total)


SILENT = Reporter()

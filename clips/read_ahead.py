"""Reads clips in a thread of its own, so that a video is decoded while the one before it is classified."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import length_hint
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1  # how soon the thread notices that nobody reads on


@dataclass(frozen=True, slots=True)
class ReadAhead(Generic[T]):
    """Items that are read ahead in each pass over them; their number is known where that of `items` is."""

    items: Iterable[T]

    def __iter__(self) -> Iterator[T]:
        return read_ahead(self.items)

    def __length_hint__(self) -> int:
        return length_hint(self.items)


def read_ahead(items: Iterable[T], depth: int = 4) -> Iterator[T]:
    """The same items in the same order, up to `depth` of them read before they are asked for.

    What reading raises is raised here, after the items before it. The thread ends with the iterator.
    """
    queue: Queue[tuple[bool, T | BaseException | None]] = Queue(depth)  # (whether it is an item, the item or error)
    stopped = Event()
    thread = Thread(target=_fill, args=(items, queue, stopped), name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if is_item:
                yield value  # type: ignore[misc]  # the flag says that it is a T
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stopped.set()
        while thread.is_alive():
            try:
                queue.get_nowait()
            except Empty:
                thread.join(POLL_SECONDS)


def _fill(items: Iterable[T], queue: Queue[tuple[bool, T | BaseException | None]], stopped: Event) -> None:
    end: BaseException | None = None
    try:
        for item in items:
            if not _put(queue, (True, item), stopped):
                return
    except BaseException as error:  # noqa: BLE001  # handed over, and raised where the items are read
        end = error
    _put(queue, (False, end), stopped)


def _put(
    queue: Queue[tuple[bool, T | BaseException | None]], entry: tuple[bool, T | BaseException | None], stopped: Event
) -> bool:
    """True where the entry found its place before the reader stopped."""
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=POLL_SECONDS)
        except Full:
            continue
        return True
    return False

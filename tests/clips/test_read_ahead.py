"""Reading ahead changes when items are read, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from dualexport.clips.read_ahead import read_ahead


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(read_ahead(range(100), depth=3)) == list(range(100))
    assert list(read_ahead([])) == []
    assert not reading_threads()


def test_an_error_comes_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("cut off")

    items = read_ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="cut off"):
        next(items)


def test_no_more_is_read_than_asked_for_and_stopping_stops() -> None:
    taken = 0

    def count() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    items = read_ahead(count(), depth=2)
    assert next(items) == 1
    time.sleep(0.2)
    assert taken <= 4  # one was given out, two wait, one is in the thread's hand
    items.close()  # type: ignore[attr-defined]
    assert not reading_threads()


def test_reading_and_working_take_the_time_of_the_longer() -> None:
    def slow() -> Iterator[int]:
        for number in range(10):
            time.sleep(0.03)
            yield number

    started = time.monotonic()
    for _ in read_ahead(slow()):
        time.sleep(0.03)
    assert time.monotonic() - started < 0.5  # one after the other: 0.6

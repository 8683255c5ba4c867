"""Work that is dealt out comes back in order, whatever happens to those who do it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from dualexport.core.errors import ClipError, RunnerError
from dualexport.verification.lanes import LaneLostError, deal

Lane = Callable[[int], int]


def square(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    return number * number


def lost_after(tasks: int) -> Lane:
    """A lane that is lost over its task behind so many."""
    left = iter(range(tasks))

    def lane(number: int) -> int:
        if next(left, None) is None:
            raise LaneLostError
        return square(number)

    return lane


def test_results_come_in_order_though_a_lane_is_lost() -> None:
    squares = [number * number for number in range(20)]
    unharmed: list[list[Lane]] = [[square], [square], [square]]
    lost: list[list[Lane]] = [[square], [lost_after(3)], [lost_after(0)]]
    assert list(deal(range(20), unharmed)) == squares
    assert list(deal(range(20), lost)) == squares


def test_a_worker_that_is_lost_is_lost_once_however_many_lanes_it_has() -> None:
    lanes: list[list[Lane]] = [[lost_after(0)] * 8, [square]]
    assert list(deal(range(20), lanes)) == [number * number for number in range(20)]


def test_without_a_lane_it_is_an_error_and_no_endless_wait() -> None:
    results = deal(range(20), [[lost_after(2)], [lost_after(1)]])
    with pytest.raises(RunnerError, match="no worker is left"):
        list(results)


def test_a_task_that_ends_its_workers_is_not_tried_for_ever() -> None:
    def ends_at_5(number: int) -> int:
        if number == 5:
            raise LaneLostError
        return number

    results = deal(range(20), [[ends_at_5]] * 9)
    with pytest.raises(RunnerError, match="3 workers ended over the same clips"):
        list(results)


def test_an_error_is_raised_in_its_turn() -> None:
    def fails_at_3(number: int) -> int:
        if number == 3:
            raise ClipError("no video", fix="give one")
        return square(number)

    results = deal(range(20), [[fails_at_3], [fails_at_3]])
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ClipError):
        next(results)


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = deal(tasks(), [[square], [square]])
    assert next(results) == 0
    results.close()
    assert len(taken) <= 4

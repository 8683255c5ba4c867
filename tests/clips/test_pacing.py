"""Frames at an even pace, whatever a camera delivers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from dualexport.clips.pacing import Pace, Paced, Pacer
from hypothesis import given
from hypothesis import strategies as st


def pace(times: Sequence[float], step: int = 1, fps: float | None = None) -> list[Paced[int]]:
    pacer = Pacer[int](Pace(step, fps))
    return [kept for number, seconds in enumerate(times) for kept in pacer.take(seconds, number)]


def test_as_they_come_frames_are_counted_and_every_second_one_is_kept() -> None:
    kept = pace([0.0, 0.5, 9.0, 9.1, 2.0], step=2)
    assert [(one.number, one.picture, one.seconds) for one in kept] == [(0, 0, 0.0), (2, 2, 9.0), (4, 4, 2.0)]


@pytest.mark.parametrize(("delivered", "taken"), [(60, 2), (30, 1)])
def test_a_faster_camera_gives_every_so_manyth_of_its_frames(delivered: int, taken: int) -> None:
    kept = pace([7 + number / delivered for number in range(120)], fps=30)
    assert [one.number for one in kept] == list(range(len(kept)))
    assert all(abs(one.picture - one.number * taken) <= 1 for one in kept)


def test_the_frames_of_a_slower_camera_are_shown_until_the_next_one() -> None:
    kept = pace([number / 15 for number in range(10)], fps=30)
    assert [one.picture for one in kept] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9]


@given(
    st.lists(st.floats(0.001, 5.0), min_size=1, max_size=50),
    st.integers(1, 4),
    st.sampled_from([1.0, 7.5, 30.0]),
)
def test_frame_n_is_as_near_as_it_can_be_to_n_steps_of_time(gaps: list[float], step: int, fps: float) -> None:
    times = [sum(gaps[:count]) for count in range(len(gaps) + 1)]
    kept = pace(times, step, fps)
    assert [one.number for one in kept] == list(range(0, kept[-1].number + 1, step))
    for one in kept:
        at = one.number / fps
        assert one.seconds == pytest.approx(at)
        assert times[one.picture] <= at + 0.51 / fps  # it was there
        assert one.picture + 1 == len(times) or times[one.picture + 1] >= at - 0.51 / fps  # and is no old one


@pytest.mark.parametrize("jump", [-100.0, 1e9])
def test_a_clock_that_jumps_is_set_anew(jump: float) -> None:
    kept = pace([0.0, 0.1, 0.2 + jump, 0.3 + jump], fps=10)
    assert [one.picture for one in kept] == [0, 1, 2, 3]
    assert [one.number for one in kept] == [0, 1, 2, 3]

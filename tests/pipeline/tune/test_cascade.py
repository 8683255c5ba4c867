"""The margin of a cascade is fitted on one part of the videos and judged on another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from dualexport.core.types import Array
from dualexport.pipeline.tune.cascade import CascadeTrial, Pair, choose_cascade, list_pairs
from dualexport.pipeline.tune.verdict import Budget, TimedCandidate

VIDEOS = 300
CHEAP, DEAR = TimedCandidate("cheap", 1.0, "t"), TimedCandidate("dear", 4.0, "b")
SURE = 6.0  # logits of a cheap answer that is always right


def ask(name: str, videos: Sequence[int]) -> list[Array]:
    """The cheap one is unsure on each fifth video, and then wrong on each second; the dear one is always right."""
    rows = []
    for video in videos:
        unsure, wrong = video % 5 == 0, video % 10 == 0
        level = 1.0 + video / VIDEOS if name == "cheap" and unsure else SURE
        rows.append(np.eye(3, dtype=np.float32)[[int(name == "cheap" and wrong)]] * level)
    return rows


def make_trial(budget: Budget) -> CascadeTrial:
    return CascadeTrial([0] * VIDEOS, ask, budget, "dear")


def test_it_is_as_accurate_as_the_dear_one_for_little_more_than_the_cheap_one() -> None:
    trial = make_trial(Budget(2.5))
    found = trial.judge(Pair(CHEAP, DEAR))
    assert found is not None
    assert len(found.right) == len(found.rest) == VIDEOS * 2 // 3
    assert found.share == pytest.approx(0.2, abs=0.05)
    assert found.latency_ms == pytest.approx(1 + 4 * found.share)
    assert choose_cascade([found], CHEAP, trial) is found
    assert not set(trial.split()[0]) & set(found.rest)


def test_one_that_is_too_slow_on_the_rest_does_not_hold_the_budget() -> None:
    found = make_trial(Budget(2.5)).judge(Pair(CHEAP, DEAR))
    assert found is not None
    assert not found.holds(Budget(found.latency_ms - 0.01))
    assert choose_cascade([found], None, make_trial(Budget(found.latency_ms - 0.01))) is None


def test_without_a_latency_it_passes_on_no_more_than_the_accuracy_needs() -> None:
    some, exact = (make_trial(Budget(None, drop)).judge(Pair(CHEAP, DEAR)) for drop in (0.02, 0.0))
    assert some is not None
    assert exact is not None
    assert some.share < exact.share
    assert make_trial(Budget(None, 0.2)).judge(Pair(CHEAP, DEAR)) is None  # the cheap one alone will do


def test_a_cascade_that_is_no_better_than_a_plain_network_is_not_taken() -> None:
    trial = make_trial(Budget(5.0))
    found = trial.judge(Pair(CHEAP, DEAR))
    assert found is not None
    assert choose_cascade([found], TimedCandidate("dear", 1.5), trial) is None


def test_pairs_are_of_the_fastest_of_two_networks_of_which_one_is_fast_enough() -> None:
    slower = TimedCandidate("slower", 2.0, "t")
    assert list(list_pairs([slower, DEAR, CHEAP], Budget(1.5))) == [Pair(CHEAP, DEAR)]
    assert not list(list_pairs([slower, DEAR, CHEAP], Budget(0.5)))

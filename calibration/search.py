"""Find a minimal subset that satisfies an expensive predicate."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def find_least(reaches: Callable[[int], bool], most: int) -> int | None:
    """The least count that reaches a target, if more are never worse: doubling, then halving.

    None where not even `most` reach it.
    """
    if reaches(0):
        return 0
    low, high = 0, 1
    while high < most and not reaches(high):
        low, high = high, min(2 * high, most)
    if high >= most and not reaches(most):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def find_smallest(ranked: Sequence[Item], passes: Callable[[frozenset[Item]], bool]) -> tuple[Item, ...]:
    """A set of `ranked`, the likeliest first, that passes, and does not without any one of its members.

    As many of the first as it takes, then without those that it does not take, one at a time, the least likely first.
    All of them together have to pass. `passes` may be asked about a set more than once.
    """
    count = find_least(lambda number: passes(frozenset(ranked[:number])), len(ranked))
    found, before = frozenset(ranked[:count]), -1
    while before != len(found):
        before = len(found)
        for item in reversed(ranked[:count]):
            if item in found and passes(found - {item}):
                found -= {item}
    return tuple(item for item in ranked if item in found)

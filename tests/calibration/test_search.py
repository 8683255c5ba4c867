"""The set that is found passes, and none of it can be left out; few sets are tried."""

from __future__ import annotations

from dualexport.calibration.search import find_least, find_smallest


def test_what_is_needed_is_found_wherever_it_ranks() -> None:
    for needed in ("a", "af", "bch", "h", "abcdefgh"):
        assert find_smallest("abcdefgh", frozenset(needed).issubset) == tuple(needed)


def test_of_two_that_do_one_is_taken() -> None:
    assert find_smallest("abcd", lambda chosen: bool(chosen & {"b", "d"})) == ("b",)


def test_what_another_made_needed_goes_once_that_is_gone() -> None:
    def passes(chosen: frozenset[str]) -> bool:  # c makes a needed beside it
        return "b" in chosen and ("c" not in chosen or "a" in chosen)

    assert find_smallest("abc", passes) == ("b",)


def test_the_likeliest_alone_takes_one_trial() -> None:
    tried = []

    def passes(chosen: frozenset[int]) -> bool:
        tried.append(chosen)
        return 0 in chosen

    assert find_smallest(range(100), passes) == (0,)
    assert set(tried) == {frozenset(), frozenset((0,))}


def test_the_least_count_is_found_or_there_is_none() -> None:
    assert [find_least(lambda count, least=least: count >= least, 10) for least in (0, 1, 7, 10)] == [0, 1, 7, 10]  # type: ignore[misc]
    assert find_least(lambda _: False, 10) is None

"""Versions are numbers, not text."""

from __future__ import annotations

from dualexport.core.versions import agree, is_older, version_numbers


def test_versions_are_compared_as_numbers() -> None:
    assert is_older("2.9.1", "2.10")
    assert not is_older("2.13.0+cpu", "2.9")
    assert not is_older("10.0", "10.0")
    assert not is_older("10.0", "10.0.0")
    assert not is_older("580.65.06", "580")


def test_versions_agree_as_far_as_both_go() -> None:
    assert agree("10.3.0", "10.3.0.26")
    assert not agree("10.3.0", "10.13.0")
    assert not agree("10.3.0", "")


def test_what_is_no_version_has_no_numbers() -> None:
    assert version_numbers("11.4.0.106") == (11, 4, 0, 106)
    assert version_numbers("not known") == ()

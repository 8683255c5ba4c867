"""The project's one reading of version numbers."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version: `10.3.0+cuda12` -> (10, 3, 0); () for what is no version."""
    try:
        return Version(text).release
    except InvalidVersion:
        return ()


def is_older(version: str, oldest: str) -> bool:
    """True when `version` comes before `oldest`, of which missing numbers count as 0."""
    return _padded(version) < _padded(oldest)


def agree(one: str, other: str) -> bool:
    """True when two versions are the same as far as both go: `10.3.0` and `10.3.0.26` are."""
    pairs = zip(version_numbers(one), version_numbers(other), strict=False)
    return bool(version_numbers(one) and version_numbers(other)) and all(left == right for left, right in pairs)


def _padded(text: str) -> tuple[int, ...]:
    numbers = version_numbers(text)
    return numbers + (0,) * (6 - len(numbers))

"""Figures and names as people read them, the same in every kind of report."""

from __future__ import annotations

from collections.abc import Sequence

from .document import ClassScore, LimitCheck, Share

ABSENT = "-"


def number(value: float | None, style: str = ".4g") -> str:
    """A number; a dash for one that is not known or not finite."""
    return ABSENT if value is None else format(value, style)


def percent(value: float | None, digits: int = 1) -> str:
    return ABSENT if value is None else f"{value:.{digits}%}"


def interval(share: Share) -> str:
    return f"{share.low:.1%} to {share.high:.1%}"


def share(value: Share | None) -> str:
    """A share with its interval: `96.0% (92.3% to 98.0%)`."""
    return ABSENT if value is None else f"{value.share:.1%} ({interval(value)})"


def class_name(index: int, labels: Sequence[str]) -> str:
    """The class's name, or its number where names are not known."""
    return labels[index] if index < len(labels) else f"class {index}"


def score(value: ClassScore, labels: Sequence[str]) -> str:
    """A class and its probability: `moving left 61.0%`."""
    return f"{class_name(value.index, labels)} {percent(value.probability)}"


def result(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def got(check: LimitCheck) -> str:
    """The value that was reached, with its remark; of what is not finite, only infinity holds a limit."""
    value = number(check.got) if check.got is not None else "infinite" if check.passed else "not finite"
    return f"{value} ({check.remark})" if check.remark else value


def limit(check: LimitCheck) -> str:
    return f"{'at least' if check.at_least else 'at most'} {check.limit:g}"


def distinguish(names: Sequence[str]) -> tuple[str, ...]:
    """Names without the words that all of them begin and end with: `n.fp16.onnx`, `n.int8.onnx` are `fp16`, `int8`."""
    parts = [name.split(".") for name in names]
    start, end = _count_alike(parts), _count_alike([part[::-1] for part in parts])
    short = tuple(".".join(part[start : len(part) - end]) for part in parts)
    return short if all(short) and len(set(short)) == len(set(names)) else tuple(names)


def _count_alike(rows: Sequence[Sequence[str]]) -> int:
    """The number of first members that are the same in all rows."""
    shortest = min(map(len, rows), default=0)
    return next((place for place in range(shortest) if len({row[place] for row in rows}) > 1), shortest)

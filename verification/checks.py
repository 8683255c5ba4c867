"""Checks of a report against limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields

from .limits import LimitCheck, Limits
from .tally import ComparisonReport

DROP_NAME = "accuracy_drop"
MEASURED: Mapping[str, tuple[Callable[[ComparisonReport], float], bool]] = {
    "logit_difference": (lambda report: report.largest_difference, False),
    "cosine": (lambda report: report.cosine, True),
    "top1_agreement": (lambda report: report.top1_agreement, True),
    "top5_agreement": (lambda report: report.top5_agreement, True),
    "kl_divergence": (lambda report: report.kl_divergence, False),
    "snr_db": (lambda report: report.snr_db, True),
}


def check_limits(report: ComparisonReport, limits: Limits) -> tuple[LimitCheck, ...]:
    """Every limit against what `report` says; that clips were compared and all numbers are finite is always checked."""
    checks = [
        _check("clips", report.clips, 1, at_least=True),
        _check("not_finite", report.not_finite, 0, at_least=False),
    ]
    for field in fields(Limits):
        limit = getattr(limits, field.name)
        if limit is None:
            continue
        if field.name == DROP_NAME:
            checks += _check_drop(report, limit)
        else:
            got, at_least = MEASURED[field.name]
            checks.append(_check(field.name, got(report), limit, at_least=at_least))
    return tuple(checks)


def _check(name: str, got: float, limit: float, *, at_least: bool) -> LimitCheck:
    return LimitCheck(name, got, limit, at_least, got >= limit if at_least else got <= limit)  # NaN passes neither


def _check_drop(report: ComparisonReport, limit: float) -> list[LimitCheck]:
    """The drop in label accuracy; without labels there is none to check."""
    if report.paired is None:
        return []
    drop, p_value = report.paired.drop, report.paired.p_value
    beyond = drop > limit
    remark = f"McNemar p = {p_value:.2g}"
    if beyond and not report.paired.is_significant:
        remark += ": beyond the limit, but chance explains it; more clips would decide"
    return [LimitCheck(DROP_NAME, drop, limit, False, not (beyond and report.paired.is_significant), remark)]

"""Limits that an artifact has to hold: the defaults by precision, and those of a user's file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..core.choices import Precision
from ..core.errors import LimitError
from ..core.reading import FileKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OwnLimits = Mapping[Precision, Mapping[str, "float | None"]]  # what a user sets, by precision and name
EXAMPLE = "[int8], and below it top1_agreement = 0.97"
LARGEST = 1e300  # of a limit
LIMITS = FileKind("a readable TOML file of limits", LimitError, f"write it like this: {EXAMPLE}", max_bytes=1 << 20)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one artifact; None sets no limit.

    `logit_difference` (largest) and `cosine` (smallest) hold for every clip; `kl_divergence` (nats, mean), `snr_db`
    and the shares of clips whose best class is the reference's best (`top1_agreement`), or has the reference's best
    among its five (`top5_agreement`), for all together. `accuracy_drop` is the share of labelled videos lost against
    the reference; a larger drop fails where it is significant by the paired test.
    """

    logit_difference: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    top5_agreement: float | None = None
    kl_divergence: float | None = None
    snr_db: float | None = None
    accuracy_drop: float | None = None


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """One limit and what was reached; `at_least` says on which side of the limit `got` has to be."""

    name: str
    got: float
    limit: float
    at_least: bool
    passed: bool
    remark: str = ""


DEFAULT_LIMITS: Mapping[Precision, Limits] = {
    Precision.FP32: Limits(
        logit_difference=1e-3, cosine=0.9999, top1_agreement=0.99, kl_divergence=1e-6, snr_db=80.0, accuracy_drop=0.0
    ),
    Precision.FP16: Limits(
        logit_difference=0.1, cosine=0.9999, top1_agreement=0.98, kl_divergence=1e-3, snr_db=40.0, accuracy_drop=0.005
    ),
    Precision.FP8: Limits(cosine=0.98, top1_agreement=0.95, kl_divergence=0.05, accuracy_drop=0.01),
    Precision.INT8: Limits(cosine=0.98, top1_agreement=0.95, kl_divergence=0.05, accuracy_drop=0.01),
}
# Rounding may exchange token frames whose scores nearly tie, and one clip in which it does has the smallest cosine.
SELECTING_LIMITS: Mapping[Precision, Limits] = {
    Precision.FP32: DEFAULT_LIMITS[Precision.FP32],
    Precision.FP16: replace(DEFAULT_LIMITS[Precision.FP16], logit_difference=None, cosine=0.95, snr_db=30.0),
    Precision.FP8: replace(DEFAULT_LIMITS[Precision.FP8], cosine=0.95),
    Precision.INT8: replace(DEFAULT_LIMITS[Precision.INT8], cosine=0.95),
}


def choose_defaults(*, selects_tokens: bool, same_pixels: bool = True) -> Mapping[Precision, Limits]:
    """The limits of a network with or without token selection, where a user sets none.

    An artifact that sees other pixels than the reference is held to those of INT8, whatever its precision.
    """
    limits = SELECTING_LIMITS if selects_tokens else DEFAULT_LIMITS
    return limits if same_pixels else dict.fromkeys(limits, limits[Precision.INT8])


def override_limits(limits: Mapping[Precision, Limits], own: OwnLimits) -> Mapping[Precision, Limits]:
    """Replace the limits that a user set."""
    return {precision: replace(one, **own.get(precision, {})) for precision, one in limits.items()}


def read_limits(path: Path | None) -> OwnLimits:
    """Read a TOML file of limits: a table a precision, a key a limit, `false` for none; without a file, none are set.

    Raises LimitError for a file that cannot be read, and for a precision, a limit or a value that is not one.
    """
    if path is None:
        return {}
    try:
        document = tomllib.loads(LIMITS.read_text(path))
    except (ValueError, RecursionError) as error:
        raise LIMITS.refuse(path, str(error)) from error
    limits: dict[Precision, Mapping[str, float | None]] = {}
    for table, values in document.items():
        if table not in [precision.value for precision in Precision] or not isinstance(values, dict):
            raise LimitError(f"{path.name}: [{table}] is not a precision", fix="name tables fp32, fp16, fp8 or int8")
        limits[Precision(table)] = _parse(values, f"{path.name}: [{table}]")
    return limits


def _parse(values: Mapping[str, Any], where: str) -> dict[str, float | None]:
    names = [field.name for field in fields(Limits)]
    parsed: dict[str, float | None] = {}
    for name, value in values.items():
        if name not in names:
            raise LimitError(f"{where}: {name} is not a limit", fix=f"the limits are {', '.join(names)}")
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not False and not (is_number and abs(value) < LARGEST):
            raise LimitError(f"{where}: {name} = {value} is not a number", fix="give a number, or false for no limit")
        parsed[name] = float(value) if is_number else None
    return parsed

"""Limits are read from one file, and nothing passes a limit that it does not reach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dualexport.core.choices import Precision
from dualexport.core.errors import LimitError
from dualexport.verification.checks import check_limits
from dualexport.verification.limits import DEFAULT_LIMITS, SELECTING_LIMITS, Limits, override_limits, read_limits
from dualexport.verification.measures import PairedTest
from dualexport.verification.tally import ComparisonReport

GOOD = ComparisonReport("a.onnx", "runner", 4, largest_difference=0.01, cosine=0.99999, kl_divergence=0.0, snr_db=60.0)


def failed(report: ComparisonReport, limits: Limits) -> list[str]:
    return [check.name for check in check_limits(report, limits) if not check.passed]


def test_a_file_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[fp16]\nlogit_difference = 0.02\nsnr_db = false\n\n[int8]\ntop1_agreement = 1\n")
    limits = override_limits(DEFAULT_LIMITS, read_limits(path))
    assert limits[Precision.FP32] == DEFAULT_LIMITS[Precision.FP32]
    assert limits[Precision.FP16] == replace(DEFAULT_LIMITS[Precision.FP16], logit_difference=0.02, snr_db=None)
    assert limits[Precision.INT8].top1_agreement == 1.0
    assert override_limits(DEFAULT_LIMITS, read_limits(None)) == DEFAULT_LIMITS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fp4]\n", r"\[fp4\] is not a precision"),
        ("fp16 = 1\n", r"\[fp16\] is not a precision"),
        ("[fp16]\ncosin = 0.9\n", "cosin is not a limit"),
        ("[fp16]\ncosine = 'high'\n", "cosine = high is not a number"),
        ("[fp16]\ncosine = nan\n", "cosine = nan is not a number"),
        ("[fp16]\ncosine = true\n", "cosine = True is not a number"),
        ("[fp16\n", "not a readable TOML file of limits"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    with pytest.raises(LimitError, match=words):
        read_limits(path)


def test_every_limit_can_fail() -> None:
    assert failed(GOOD, Limits(logit_difference=0.01, cosine=0.9)) == []
    assert failed(GOOD, Limits(logit_difference=0.009)) == ["logit_difference"]
    assert failed(GOOD, Limits(cosine=1.0)) == ["cosine"]
    assert failed(GOOD, Limits(snr_db=61)) == ["snr_db"]
    assert failed(replace(GOOD, kl_divergence=0.1), Limits(kl_divergence=0.09)) == ["kl_divergence"]
    assert failed(replace(GOOD, top1_agreement=0.9), Limits(top1_agreement=0.95)) == ["top1_agreement"]
    assert failed(replace(GOOD, top5_agreement=0.9), Limits(top5_agreement=0.95)) == ["top5_agreement"]


def test_nan_and_nothing_compared_fail_without_any_limit() -> None:
    assert failed(replace(GOOD, not_finite=1), Limits()) == ["not_finite"]
    assert failed(replace(GOOD, clips=0), Limits()) == ["clips"]
    assert failed(replace(GOOD, cosine=float("nan")), Limits(cosine=0.1)) == ["cosine"]
    assert not GOOD.passed  # nothing was checked


def test_a_drop_fails_only_where_chance_does_not_explain_it() -> None:
    limits = Limits(accuracy_drop=0.01)
    assert failed(replace(GOOD, paired=PairedTest(30, 10, 0.1, 0.002)), limits) == ["accuracy_drop"]
    assert failed(replace(GOOD, paired=PairedTest(3, 2, 0.005, 1.0)), limits) == []
    undecided = replace(GOOD, paired=PairedTest(4, 1, 0.03, 0.375))
    (check,) = [check for check in check_limits(undecided, limits) if check.name == "accuracy_drop"]
    assert check.passed
    assert "more clips would decide" in check.remark


def test_a_file_says_the_same_of_a_network_that_selects_tokens(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[fp16]\ncosine = 0.9999\n")
    limits = override_limits(SELECTING_LIMITS, read_limits(path))
    assert limits[Precision.FP16] == replace(SELECTING_LIMITS[Precision.FP16], cosine=0.9999)
    assert limits[Precision.FP16].logit_difference is None

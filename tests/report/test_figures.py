"""Figures and names as people read them."""

from __future__ import annotations

import pytest
from dualexport.report.document import LimitCheck
from dualexport.report.figures import distinguish, got, number, percent
from hypothesis import given, settings
from hypothesis import strategies as st

FILES = st.lists(st.text("ab.", min_size=1, max_size=8), min_size=1, max_size=5, unique=True)


@settings(deadline=None)
@given(st.floats(-1e15, 1e15))
def test_a_number_reads_back_as_about_itself(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=1e-3)
    assert number(None) == percent(None) == "-"


@settings(deadline=None)
@given(FILES)
def test_names_stay_different_and_are_never_empty(names: list[str]) -> None:
    short = distinguish(names)
    assert len(set(short)) == len(names)
    assert all(short)
    assert all(one in name for one, name in zip(short, names, strict=True))


def test_names_lose_what_all_of_them_have() -> None:
    files = [f"dualformer-demo.{precision}.onnx" for precision in ("fp32", "fp16")]
    assert distinguish(files) == ("fp32", "fp16")
    assert distinguish([*files, "dualformer-demo.fp16.engine"]) == ("fp32.onnx", "fp16.onnx", "fp16.engine")
    assert distinguish(files[:1]) == tuple(files[:1])


def test_a_figure_without_a_number_says_on_which_side_of_the_limit_it_is() -> None:
    check = LimitCheck("snr_db", None, 40.0, at_least=True, passed=True)
    assert got(check) == "infinite"  # the logits are the same
    assert got(LimitCheck("cosine", None, 0.99, at_least=True, passed=False)) == "not finite"
    assert got(LimitCheck("clips", 200, 1, at_least=True, passed=True, remark="all")) == "200 (all)"

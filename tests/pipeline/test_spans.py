"""Windows' answers as spans: every sure window is in one, and spans of a class lie apart."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from dualexport.core.errors import DualExportError
from dualexport.pipeline.spans import Span, SpanMerger, SpanRules, read_rules, write_rules
from hypothesis import given
from hypothesis import strategies as st

LABELS = ("left", "right", "still")
LENGTH = 2.0  # seconds of a window
PROBABILITIES = st.floats(0, 1, width=32)
WINDOWS = st.lists(
    st.tuples(st.sampled_from([0.25, 1.0, 1.5, 3.0, 9.0]), st.tuples(PROBABILITIES, PROBABILITIES, PROBABILITIES)),
    max_size=40,
)
RULES = st.builds(
    SpanRules,
    threshold=st.floats(0.1, 0.9),
    hysteresis=st.floats(0, 0.9),
    classes=st.dictionaries(st.sampled_from(LABELS), st.floats(0.1, 1.0)),
)
Given = list[tuple[float, tuple[float, float, float]]]


def merge(windows: Given, rules: SpanRules) -> list[Span]:
    merger = SpanMerger("door", LABELS, rules)
    spans = [span for start, row in zip(starts(windows), windows, strict=True) for span in add(merger, start, row[1])]
    return spans + merger.finish()


def add(merger: SpanMerger, start: float, probabilities: tuple[float, ...]) -> list[Span]:
    return merger.add(start, start + LENGTH, np.array(probabilities))


def starts(windows: Given) -> list[float]:
    return list(accumulate(hop for hop, _ in windows))


@given(WINDOWS, RULES)
def test_every_window_that_is_sure_of_a_class_lies_in_one_span_of_it(windows: Given, rules: SpanRules) -> None:
    spans = merge(windows, rules)
    for index, label in enumerate(LABELS):
        own = [span for span in spans if span.label == label]
        for start, (_, probabilities) in zip(starts(windows), windows, strict=True):
            if probabilities[index] >= rules.classes.get(label, rules.threshold):
                assert sum(span.start_seconds <= start and start + LENGTH <= span.end_seconds for span in own) == 1


@given(WINDOWS, RULES)
def test_spans_of_a_class_lie_apart_and_begin_and_end_with_windows_that_show_it(
    windows: Given, rules: SpanRules
) -> None:
    spans = merge(windows, rules)
    given_by_start = dict(zip(starts(windows), (row for _, row in windows), strict=True))
    given_by_end = {start + LENGTH: row for start, row in given_by_start.items()}
    for index, label in enumerate(LABELS):
        upper = rules.classes.get(label, rules.threshold)
        lower = upper * (1 - rules.hysteresis)
        own = [span for span in spans if span.label == label]
        assert all(later.start_seconds > span.end_seconds for span, later in pairwise(own))
        for span in own:
            assert given_by_start[span.start_seconds][index] >= upper
            assert given_by_end[span.end_seconds][index] >= lower
            assert lower - 1e-9 <= span.confidence <= 1
            assert span.windows <= sum(
                span.start_seconds <= start and start + LENGTH <= span.end_seconds for start in given_by_start
            )


@given(WINDOWS, RULES, st.floats(0, 20))
def test_a_least_length_leaves_out_the_shorter_spans_and_changes_no_other(
    windows: Given, rules: SpanRules, least: float
) -> None:
    all_spans = merge(windows, rules)
    limited = SpanRules(rules.threshold, rules.hysteresis, least, rules.classes)
    assert merge(windows, limited) == [one for one in all_spans if one.end_seconds - one.start_seconds >= least]


def test_one_dip_within_the_hysteresis_ends_no_span_and_a_hole_does() -> None:
    rules = SpanRules(threshold=0.6, hysteresis=0.5)
    rows = [(1.0, 0.7), (1.0, 0.4), (1.0, 0.8), (1.0, 0.2), (1.0, 0.2), (1.0, 0.4), (9.0, 0.6)]
    spans = merge([(hop, (left, 0.0, 0.0)) for hop, left in rows], rules)
    assert [(one.start_seconds, one.end_seconds, one.windows) for one in spans] == [(1, 5, 3), (15, 17, 1)]
    assert spans[0].confidence == pytest.approx((0.7 + 0.4 + 0.8) / 3)


def test_a_span_comes_out_as_soon_as_no_window_can_go_on_with_it() -> None:
    merger = SpanMerger("door", LABELS, SpanRules())
    rows = [(0.9, 0.0, 0.0), (0.0, 0.9, 0.0), (0.0, 0.9, 0.0), (0.0, 0.9, 0.0)]
    came = [add(merger, start, row) for start, row in zip((0.0, 1.0, 2.0, 3.0), rows, strict=True)]
    assert [len(spans) for spans in came] == [0, 0, 0, 1]
    assert [(one.label, one.end_seconds) for one in merger.finish()] == [("right", 5.0)]


def test_rules_are_read_from_a_file_and_what_is_given_goes_before(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('threshold = 0.6\nmin_seconds = 3\n[classes]\nleft = 0.8\n"2" = 0.9\n')
    rules = read_rules(path, {"threshold": 0.7, "hysteresis": None})
    assert (rules.threshold, rules.hysteresis, rules.min_seconds) == (0.7, 0.2, 3)
    SpanMerger("door", LABELS, rules)


@pytest.mark.parametrize(
    "text", ["threshold = 2", "treshold = 0.5", "classes = 3", "[classes]\nleft = 'x'", "no toml", "hysteresis = 1"]
)
def test_what_are_no_rules_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(DualExportError, match="is not a TOML file of thresholds"):
        read_rules(path)


def test_a_class_that_the_network_lacks_is_refused() -> None:
    with pytest.raises(DualExportError, match="no class of the network"):
        SpanMerger("door", LABELS, SpanRules(classes={"up": 0.5}))


def test_thresholds_that_are_written_are_those_that_are_read(tmp_path: Path) -> None:
    labels = ('say "a\\b"', "größer = []#", "twice", "twice")
    path = tmp_path / "thresholds.toml"
    path.write_text(write_rules({0: 0.3, 1: 0.45, 3: 0.6}, labels), encoding="utf-8")
    rules = read_rules(path)
    assert rules.classes == {labels[0]: 0.3, labels[1]: 0.45, "3": 0.6}
    merger = SpanMerger("door", labels, rules)
    assert not merger.add(0.0, 2.0, np.array([0.29, 0.44, 0.0, 0.59]))
    assert merger.finish() == []
    merger.add(0.0, 2.0, np.array([0.3, 0.45, 0.0, 0.6]))
    assert [span.label for span in merger.finish()] == [labels[0], labels[1], "twice"]

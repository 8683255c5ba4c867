"""The terminal's tables and lines, which end with the verdict."""

from __future__ import annotations

from typing import Any

import pytest
from dualexport.commands import console
from dualexport.report.tables import Table, outline, tabulate_limits
from dualexport.report.text import lay_out
from support.documents import HOSTILE, make_document, make_document_of_two, parse


@pytest.mark.parametrize("make", [make_document, make_document_of_two])
def test_the_last_line_is_the_verdict(make: Any) -> None:
    document = make()
    assert list(outline(parse(document)))[-1] == "do not ship: " + document["decision"]["reasons"][0]
    document["decision"] = {"ship": True, "reasons": [], "caveats": ["12 videos show gross errors only"]}
    assert list(outline(parse(document)))[-2:] == [
        "caveat: 12 videos show gross errors only",
        "ship: every artifact ran, and holds every limit",
    ]


def test_limits_name_their_file_once() -> None:
    tables = [part for part in outline(parse(make_document())) if isinstance(part, Table)]
    limits = [table for table in tables if table.title.startswith("Limits of ")]
    assert len(limits) == 3
    for table in limits:
        assert sum(".onnx" in cell for row in table.rows for cell in row) == 0
        assert all(len(line) <= 80 for line in lay_out(table, 80))


def test_on_80_columns_file_names_stay_whole() -> None:
    text = [line for part in outline(parse(make_document())) if isinstance(part, Table) for line in lay_out(part, 80)]
    assert all(len(line) <= 80 for line in text if "<script>" not in line)
    assert sum("dualformer-demo.int8.onnx" in line for line in text) == 4  # agreement, accuracy, limits, worst clips


def test_a_file_that_did_not_run_misses_a_limit() -> None:
    document = make_document()
    document["reports"][0].update(failure="out of memory", passed=False)
    assert tabulate_limits(parse(document).networks[0].reports[0]).rows[0] == ("runs", "out of memory", "", "FAIL")


def test_nothing_that_is_printed_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    red = "\x1b[31m\u202ebad\n\udce9.mp4"
    console.print_parts([Table(red, ("a", red), ((red, HOSTILE),)), red])
    console.note(red)
    console.print_error(red, red)
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert not {"\x1b", "\u202e", "\udce9", "\x07"} & set(printed)
    assert printed.count(r"\x1b[31m\u202ebad \udce9.mp4") == 7


def test_a_title_stays_on_one_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table("12 videos, listed in calibration/labels.csv", ("a", "b"), [("1", "2")])
    assert capsys.readouterr().out.splitlines()[0] == "12 videos, listed in calibration/labels.csv"

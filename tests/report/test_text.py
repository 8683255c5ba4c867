"""Tables as text break no word, keep to the width where words allow it, and lose nothing but the middle of a name."""

from __future__ import annotations

from dualexport.report.tables import Table
from dualexport.report.text import elide, lay_out, wrap
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

FEW = settings(deadline=None, max_examples=60)
WORDS = st.text("ab.-_9é動", min_size=1, max_size=12)
CELLS = st.lists(WORDS, max_size=4).map(" ".join)
WIDTHS = st.integers(1, 120)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(CELLS, min_size=1, max_size=6))
    row = st.tuples(*[CELLS] * len(columns))
    return Table(draw(CELLS), tuple(columns), tuple(draw(st.lists(row, max_size=5))))


@FEW
@given(st.text("ab. é動\u0301", min_size=1), WIDTHS)
def test_what_is_elided_is_never_wider_than_asked_and_never_empty(text: str, width: int) -> None:
    elided = elide(text, width)
    assert elided
    assert cell_len(elided) <= max(width, 0)
    assert elided == text or elided in (text[:width], "..."[:width]) or "..." in elided


def test_the_end_of_a_file_s_name_stays_longer_than_its_beginning() -> None:
    assert elide("dualformer-demo.int8.onnx", 20) == "dualf...mo.int8.onnx"
    assert elide("動画" * 9, 10) == "動...動画"


@FEW
@given(CELLS, WIDTHS)
def test_lines_break_between_words_only(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert all(cell_len(line) <= width or " " not in line for line in lines)


@FEW
@given(tables(), WIDTHS)
def test_no_line_is_wider_than_the_terminal_unless_it_is_one_cell_with_its_column(table: Table, width: int) -> None:
    most = max((len(cell.split()) for row in (table.columns, *table.rows) for cell in row), default=0)
    for line in lay_out(table, width):
        assert cell_len(line) <= width or len(line.split()) <= 2 * most or line == table.title


@FEW
@given(tables(), WIDTHS)
def test_every_word_of_a_cell_is_shown_whole(table: Table, width: int) -> None:
    text = "\n".join(lay_out(table, width))
    for row in table.rows:
        for cell in row[1:]:
            assert all(word in text for word in cell.split())


def test_a_table_that_fits_is_a_table_and_one_that_does_not_is_a_list() -> None:
    table = Table("Limits", ("figure", "got", "limit"), (("cosine", "0.94 (worse)", "at least 0.98"),))
    assert list(lay_out(table, 80)) == [
        "Limits",
        "figure           got          limit",
        "------  ------------  -------------",
        "cosine  0.94 (worse)  at least 0.98",
    ]
    assert list(lay_out(table, 30))[1:] == [
        "figure      got     limit",
        "------  -------  --------",
        "cosine     0.94  at least",
        "        (worse)      0.98",
    ]
    assert list(lay_out(table, 20)) == ["Limits", "cosine", "  got 0.94 (worse),", "  limit at least 0.98"]

"""Tables as lines of text that break no word: as wide as it takes, or else in the width of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from .tables import Row, Table

BETWEEN = "  "  # columns
GAP = "..."
NARROWEST_NAME = 20  # to which the first column's cells are elided


def lay_out(table: Table, width: int) -> Iterator[str]:
    """The lines of a table in `width` characters.

    Cells of the first column, which names rows, are elided where that helps; the others wrap between words. A table
    that is still too wide becomes a list.
    """
    if table.title:
        yield from wrap(table.title, width)
    widths = _fit(table, width)
    if widths is None:
        for row in table.rows:
            yield from _list_cells(table.columns, row, width)
        return
    yield from _lay_row(table.columns, widths)
    yield BETWEEN.join("-" * one for one in widths)
    for row in table.rows:
        yield from _lay_row(row, widths)


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """`text` in lines of at most `width` characters, broken between words only; `indent` begins all but the first."""
    if cell_len(text) <= width:
        return [text]
    lines, line = [], text[: len(text) - len(text.lstrip())]
    for word in text.split():
        if line.strip() and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = indent + word
        else:
            line += f" {word}" if line.strip() else word
    return [*lines, line]


def elide(text: str, width: int) -> str:
    """`text` in at most `width` characters, one or more; where it is longer, its middle is left out."""
    if cell_len(text) <= width:
        return text
    room = width - len(GAP)
    if room <= 0:
        return GAP[:width]
    head = _take(text, room // 3)  # the end of a file's name tells more
    return head + GAP + _take(text[::-1], room - cell_len(head))[::-1]


def _take(text: str, width: int) -> str:
    """The beginning of `text` that is no wider than `width`."""
    end = min(len(text), width)
    while cell_len(text[:end]) > width:
        end -= 1
    return text[:end]


def _fit(table: Table, width: int) -> list[int] | None:
    """The columns' widths within `width`; None where their longest words do not fit side by side."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for cell in column for word in cell.split() or ("",)) for column in columns]
    least[0] = min(widths[0], NARROWEST_NAME)
    excess = sum(widths) + len(BETWEEN) * (len(widths) - 1) - width
    for places in (range(1, len(widths)), range(1)):  # names are elided last
        while excess > 0 and (wide := [place for place in places if widths[place] > least[place]]):
            widths[max(wide, key=lambda place: widths[place])] -= 1
            excess -= 1
    if excess > 0:
        return None
    cells = [[line for cell in column for line in wrap(cell, one)] for column, one in zip(columns, widths, strict=True)]
    return [widths[0], *(max(map(cell_len, lines)) for lines in cells[1:])]


def _lay_row(cells: Row, widths: Sequence[int]) -> Iterator[str]:
    """A row as one line or more; the first column stands at the left, the others at the right of their columns."""
    wrapped = [
        [elide(cells[0], widths[0])],
        *(wrap(cell, one) for cell, one in zip(cells[1:], widths[1:], strict=True)),
    ]
    for number in range(max(map(len, wrapped))):
        line = [lines[number] if number < len(lines) else "" for lines in wrapped]
        spaces = [" " * (one - cell_len(text)) for text, one in zip(line, widths, strict=True)]
        rest = (space + text for space, text in zip(spaces[1:], line[1:], strict=True))
        yield BETWEEN.join((line[0] + spaces[0], *rest)).rstrip()


def _list_cells(columns: Row, cells: Row, width: int) -> Iterator[str]:
    """A row as its name, and below it the other cells with their columns' names."""
    yield elide(cells[0], width)
    line = ""
    for column, cell in zip(columns[1:], cells[1:], strict=True):
        item = f"{column} {cell}".strip() if cell else ""
        if line and item and cell_len(line) + 2 + cell_len(item) > width:
            yield f"{line},"
            line = ""
        if item:
            line = f"{line}, {item}" if line else f"  {item}"
    if line:
        yield line

"""Progress where there is no terminal: a line now and then, with what is left."""

from __future__ import annotations

import time

import pytest
from dualexport.commands import console


def test_counted_work_tells_how_much_time_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter((0.0, 2.0, 10.0, 200.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with console.show_progress() as progress:
        for done in (4, 5, 14, 104):
            progress("measuring ranges", done, 104)
    assert capsys.readouterr().err.splitlines() == [
        "measuring ranges 4/104",
        "measuring ranges 14/104, about 1 min 30 s left",
        "measuring ranges 104/104",
    ]

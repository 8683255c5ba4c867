"""Times as lines show them."""

from __future__ import annotations

from datetime import datetime

from dualexport.commands.camera_lines import say_time


def test_a_file_has_seconds_and_a_live_source_the_time_of_day() -> None:
    assert say_time(3661.128) == "3661.13 s"
    assert say_time(datetime(2026, 2, 3, 4, 5, 6, 780_000).timestamp()) == "2026-02-03 04:05:06.78"

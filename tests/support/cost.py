"""The cost of tests, in CPU seconds: they depend less than a clock on what else runs."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import pytest

MOST_CPU_SECONDS = 2.0  # of a test that is not marked slow; who first uses a library pays for its imports, too
CPU_SECONDS = "cpu_seconds"


def count_cpu_seconds() -> float:
    """CPU seconds of this process so far, with those of its children that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


@contextmanager
def measuring(item: pytest.Item) -> Iterator[None]:
    """Note the CPU seconds of the block among the test's properties."""
    before = count_cpu_seconds()
    try:
        yield
    finally:
        item.user_properties.append((CPU_SECONDS, round(count_cpu_seconds() - before, 3)))


class PythonGuard:
    """Refuses to start another Python while it is told to: its imports alone are not quick."""

    def __init__(self) -> None:
        self._is_on = False
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._is_on and event == "subprocess.Popen" and Path(str(arguments[0])).name.startswith("python"):
            raise RuntimeError("a test that starts Python is to be marked slow")

    @contextmanager
    def refusing(self, *, is_on: bool) -> Iterator[None]:
        """Let the block start no Python."""
        self._is_on = is_on
        try:
            yield
        finally:
            self._is_on = False


def deal_to_workers(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests in the order that xdist cuts into one share a worker: files with many slow tests come first in each.

    What a worker that is done takes over from another's end is then quick.
    """
    files = [list(found) for _, found in groupby(items, key=lambda item: item.path)]
    files.sort(key=lambda found: -sum(item.get_closest_marker("slow") is not None for item in found))
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for found in files:
        min(shares, key=len).extend(found)
    return [item for share in shares for item in share]


class Costs:
    """Shows where the CPU seconds of a run went, and which tests are too long for ones not marked slow."""

    def __init__(self) -> None:
        self._folders: dict[str, list[float]] = defaultdict(list)
        self._too_long: list[tuple[float, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        used = sum(float(str(value)) for name, value in report.user_properties if name == CPU_SECONDS)
        self._folders[Path(report.nodeid.partition("::")[0]).parent.as_posix()].append(used)
        if used > MOST_CPU_SECONDS and "slow" not in report.keywords:
            self._too_long.append((used, report.nodeid))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("CPU seconds")
        for folder, used in sorted(self._folders.items(), key=lambda one: -sum(one[1])):
            terminalreporter.write_line(f"{sum(used):8.1f}  {len(used):5} tests  {folder}")
        for seconds, name in sorted(self._too_long, reverse=True):
            terminalreporter.write_line(f"{seconds:8.1f}  is to be marked slow: {name}", red=True)

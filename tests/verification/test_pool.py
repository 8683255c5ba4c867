"""Jobs come back in order, whatever happens to the workers who do them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from dualexport.core.errors import ClipError, CudaError, RunnerError
from dualexport.verification.pool import Answer, map_ordered, open_processes, run_all

SQUARES = [number * number for number in range(40)]


class Squaring:
    """A worker; it ends its process over the job `deadly`, and where `fails` it raises."""

    def __init__(self, deadly: int | None = None, fails: int | None = None, mark: Path | None = None) -> None:
        self.info = os.getpid()
        self._deadly, self._fails, self._mark = deadly, fails, mark

    def run(self, jobs: Iterable[int]) -> Iterator[int]:
        for number in jobs:
            if number == self._deadly and (self._mark is None or not self._mark.exists()):
                if self._mark is not None:
                    self._mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self._fails:
                raise CudaError("no memory", 2, fix="free some")
            time.sleep(0.002 * (number % 3))
            yield number * number

    def close(self) -> tuple[str, ...]:
        return ("not closed properly",)


def call(worker: Squaring) -> Callable[[Sequence[int]], Future[Answer[int]]]:
    """A worker on a thread."""
    thread = ThreadPoolExecutor(1)
    return lambda jobs: thread.submit(run_all, worker, jobs)


def lost_after(calls: int) -> Callable[[Sequence[int]], Future[Answer[int]]]:
    """A worker that is lost over its call behind so many."""
    left = iter(range(calls))
    return lost_over(lambda _: next(left, None) is None)


def lost_over(ends: Callable[[Sequence[int]], bool]) -> Callable[[Sequence[int]], Future[Answer[int]]]:
    """A worker that some jobs end."""
    whole = call(Squaring())

    def submit(jobs: Sequence[int]) -> Future[Answer[int]]:
        if not ends(jobs):
            return whole(jobs)
        future: Future[Answer[int]] = Future()
        future.set_exception(BrokenExecutor())
        return future

    return submit


def test_results_come_in_order_though_workers_are_lost() -> None:
    assert list(map_ordered(range(40), [call(Squaring()) for _ in range(3)])) == SQUARES
    assert list(map_ordered(range(40), [call(Squaring()), lost_after(3), lost_after(0)])) == SQUARES
    assert list(map_ordered([], [call(Squaring())])) == []


def test_without_a_worker_it_is_an_error_and_no_endless_wait() -> None:
    with pytest.raises(RunnerError, match="no worker is left"):
        list(map_ordered(range(40), [lost_after(2), lost_after(1)]))


def test_jobs_that_end_their_workers_are_not_tried_for_ever() -> None:
    with pytest.raises(RunnerError, match="3 workers ended over the same clips"):
        list(map_ordered(range(40), [lost_over(lambda jobs: 5 in jobs) for _ in range(9)]))


def test_an_error_comes_in_its_turn_behind_all_results_before_it() -> None:
    class Failing(Squaring):
        def run(self, jobs: Iterable[int]) -> Iterator[int]:
            for number in jobs:
                if number == 13:
                    raise ClipError("no video", fix="give one")
                yield number

    found = []
    with pytest.raises(ClipError):
        for number in map_ordered(range(40), [call(Failing()), call(Failing())]):
            found.append(number)
    assert found == list(range(13))


def test_processes_do_the_same_though_one_is_killed_and_say_what_closing_went_wrong_with(tmp_path: Path) -> None:
    notes: list[str] = []
    with open_processes(partial(Squaring, 17, None, tmp_path / "killed"), 2, notes.append) as pool:
        assert len(set(pool.workers)) == 2
        assert list(pool.map(range(40))) == SQUARES
    assert (tmp_path / "killed").exists()
    assert notes == ["not closed properly"]
    assert multiprocessing.active_children() == []


def test_an_error_of_a_process_arrives_with_its_code_and_ends_them_all() -> None:
    with pytest.raises(CudaError) as raised, open_processes(partial(Squaring, None, 5), 2, print) as pool:
        list(pool.map(range(40)))
    assert (raised.value.code, raised.value.fix) == (2, "free some")
    assert multiprocessing.active_children() == []


def dies() -> Squaring:
    os._exit(3)


def cannot_open() -> Squaring:
    raise ClipError("no reference", fix="give one")


def test_a_process_that_is_never_ready_is_an_error() -> None:
    with pytest.raises(RunnerError, match="a worker ended before it was ready"), open_processes(dies, 2, print):
        pytest.fail("it is open")
    with pytest.raises(ClipError, match="no reference"), open_processes(cannot_open, 2, print):
        pytest.fail("it is open")
    assert multiprocessing.active_children() == []


PARENT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_pool import Squaring
from dualexport.verification.pool import open_processes
if __name__ == "__main__":
    with open_processes(Squaring, 2, print) as pool:
        print(*pool.workers, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them_however_that_ends(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 30
    left = [Path(f"/proc/{number}") for number in done.stdout.split()]
    assert len(left) == 2
    while any(path.exists() and "Z" not in (path / "stat").read_text().split()[2] for path in left):
        assert time.monotonic() < deadline, "they are still there"
        time.sleep(0.05)

"""Deals work out to lanes, which may lie in other processes and may be lost, and takes the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from threading import Event, Lock
from typing import Generic, TypeVar

from ..contracts import RunnerError

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 3  # at one task, before it is held to be what ends the workers
AHEAD = 2  # tasks a lane that may be done before their turn


class LaneLostError(Exception):
    """The worker behind a lane has ended; the task is not done."""


def deal(tasks: Iterable[T], lanes: Sequence[Callable[[T], R]]) -> Generator[R]:
    """What `lanes` make of the tasks, in the order of the tasks; a lane does one at a time.

    A task whose lane raises LaneLostError is given to another one, and that lane gets nothing more. Other errors are
    raised in their task's turn. Raises RunnerError when no lane is left, or a task has lost several.
    """
    dealer = _Dealer(lanes)
    pool = ThreadPoolExecutor(len(lanes), thread_name_prefix="lane")
    pending: deque[Future[R]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(dealer.perform, task))
            if len(pending) >= AHEAD * len(lanes):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        dealer.stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


class _Dealer(Generic[T, R]):
    """Gives each task to a lane that is free."""

    def __init__(self, lanes: Sequence[Callable[[T], R]]) -> None:
        self.stopped = Event()
        self._free: Queue[Callable[[T], R] | None] = Queue()
        self._left = len(lanes)
        self._lock = Lock()
        for lane in lanes:
            self._free.put(lane)

    def perform(self, task: T) -> R:
        for _ in range(ATTEMPTS):
            lane = self._free.get()
            if lane is None or self.stopped.is_set():
                self._free.put(None)  # for the next one who waits
                raise RunnerError("no worker is left", fix="see what they printed, or run with fewer --workers")
            try:
                result = lane(task)
            except LaneLostError:
                self._lose()
            except BaseException:
                self._free.put(lane)
                raise
            else:
                self._free.put(lane)
                return result
        raise RunnerError(
            f"{ATTEMPTS} workers ended over the same clips",
            fix="see what they printed, and whether memory is short",
        )

    def _lose(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._free.put(None)

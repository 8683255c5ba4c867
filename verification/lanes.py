"""Deals work out to lanes, which may lie in other processes and may be lost, and takes the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from queue import Queue
from threading import Event, Lock
from typing import Generic, TypeVar

from ..core.errors import RunnerError

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 3  # at one task, before it is held to be what ends the workers
AHEAD = 2  # tasks a lane that may be done before their turn


class LaneLostError(Exception):
    """The worker behind a lane has ended; the task is not done."""


def deal(tasks: Iterable[T], workers: Sequence[Sequence[Callable[[T], R]]]) -> Generator[R]:
    """What the workers' lanes make of the tasks, in the order of the tasks; a lane does one at a time.

    Where a lane raises LaneLostError its worker gets nothing more, and the task is given to another one. Other errors
    are raised in their task's turn. Raises RunnerError when no worker is left, or a task has lost several.
    """
    dealer = _Dealer(workers)
    lanes = sum(map(len, workers))
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
    pending: deque[Future[R]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(dealer.perform, task))
            if len(pending) >= AHEAD * lanes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        dealer.stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


class _Dealer(Generic[T, R]):
    """Gives each task to a lane that is free."""

    def __init__(self, workers: Sequence[Sequence[Callable[[T], R]]]) -> None:
        self.stopped = Event()
        self._workers = len(workers)
        self._lost: set[int] = set()
        self._lock = Lock()
        self._free: Queue[tuple[int, Callable[[T], R]] | None] = Queue()
        for one_of_each in zip_longest(*workers):  # so that few tasks are spread over all workers
            for number, lane in enumerate(one_of_each):
                if lane is not None:
                    self._free.put((number, lane))

    def perform(self, task: T) -> R:
        ended: set[int] = set()
        while len(ended) < ATTEMPTS:
            worker, lane = self._take()
            try:
                result = lane(task)
            except LaneLostError:
                ended.add(worker)
                self._lose(worker)
            except BaseException:
                self._free.put((worker, lane))
                raise
            else:
                self._free.put((worker, lane))
                return result
        raise RunnerError(
            f"{ATTEMPTS} workers ended over the same clips",
            fix="see what they printed, and whether memory is short",
        )

    def _take(self) -> tuple[int, Callable[[T], R]]:
        """A free lane of a worker that is there."""
        while True:
            free = self._free.get()
            if free is None or self.stopped.is_set():
                self._free.put(None)  # for the next one who waits
                raise RunnerError("no worker is left", fix="see what they printed, or run with fewer --workers")
            if free[0] not in self._lost:
                return free

    def _lose(self, worker: int) -> None:
        with self._lock:
            self._lost.add(worker)
            if len(self._lost) == self._workers:
                self._free.put(None)

"""Ordered parallel map over workers that may die, and workers in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, Generic, Protocol, TypeVar

from ..core.errors import DualExportError, RunnerError
from ..core.reporter import Notify

J = TypeVar("J")
R = TypeVar("R")

ATTEMPTS = 3  # at some jobs, before they are held to be what ends the workers
AHEAD = 2  # calls a worker that may be done before their turn
MOST_JOBS = 16  # a call
CALLS_A_WORKER = 4  # at least, where there are as many jobs: so that all end at about the same time

Answer = tuple[list[R], DualExportError | None]  # the results, and the error that ended them
Submit = Callable[[Sequence[J]], "Future[Answer[R]]"]


class Worker(Protocol):
    """Does jobs in their order. `info` is of what it has opened; `close` returns what closing went wrong with."""

    @property
    def info(self) -> Any: ...
    def run(self, jobs: Iterable[Any]) -> Iterator[Any]: ...
    def close(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Pool(Generic[J, R]):
    """Workers that are ready: the info of each, and the map of jobs to results in the order of the jobs."""

    workers: tuple[Any, ...]
    map: Callable[[Sequence[J]], Iterator[R]]


def map_ordered(
    jobs: Sequence[J], workers: Sequence[Submit[J, R]], lost: type[BaseException] = BrokenExecutor
) -> Generator[R]:
    """Yield the results of `jobs` in their order; a worker gets some consecutive jobs at a time.

    Where a call ends in `lost` its worker gets nothing more, and its jobs go to another one. Other errors are raised
    in their job's turn. Raises RunnerError when no worker is left, or the same jobs have lost several.
    """
    calls = _split(jobs, len(workers))
    waiting, idle = deque(range(len(calls))), deque(workers)
    running: dict[Future[Answer[R]], tuple[Submit[J, R], int]] = {}
    done: dict[int, Answer[R]] = {}
    ended: Counter[int] = Counter()
    for turn in range(len(calls)):
        while turn not in done:
            while idle and waiting and waiting[0] < turn + AHEAD * len(workers):
                worker, number = idle.popleft(), waiting.popleft()
                running[worker(calls[number])] = worker, number
            if not running:
                raise RunnerError("no worker is left", fix="see what they printed, or run with fewer --workers")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, number = running.pop(future)
                if isinstance(future.exception(), lost):
                    ended[number] += 1
                    waiting.appendleft(number)
                else:
                    done[number] = future.result()
                    idle.append(worker)
            if ended and max(ended.values()) >= ATTEMPTS:
                raise RunnerError(
                    f"{ATTEMPTS} workers ended over the same clips",
                    fix="see what they printed, and whether memory is short",
                )
        results, error = done.pop(turn)
        yield from results
        if error is not None:
            raise error


@contextmanager
def open_processes(make: Callable[[], Worker], workers: int, note: Notify) -> Iterator[Pool[Any, Any]]:
    """Start `workers` processes; each calls `make`, which must pickle.

    An executor each, for one whose process ends is of no more use. Started afresh, not forked, for the threads of the
    libraries would not come along. Raises what `make` raises, and RunnerError for a process that ends before it is
    ready. They end with this process, however that ends.
    """
    context = multiprocessing.get_context("spawn")
    executors = [ProcessPoolExecutor(1, context, initializer=_start) for _ in range(workers)]
    processes: list[int] = []
    try:
        processes += _ask_all(executors, os.getpid)
        infos = tuple(_ask_all(executors, partial(_open, make)))
        yield Pool(infos, partial(map_ordered, workers=[partial(_submit, executor) for executor in executors]))
        for executor in executors:
            closed = _submit(executor, None)
            if not isinstance(closed.exception(), BrokenExecutor):
                for message in closed.result():
                    note(message)
    finally:
        for child in multiprocessing.active_children():
            if child.pid in processes:
                child.terminate()
        for executor in executors:
            executor.shutdown(cancel_futures=True)


def run_all(worker: Worker, jobs: Iterable[Any]) -> Answer[Any]:
    """Do jobs; an expected error comes behind the results that were there before it."""
    results = []
    try:
        for result in worker.run(jobs):
            results.append(result)
    except DualExportError as error:
        return results, error
    return results, None


def _split(jobs: Sequence[J], workers: int) -> list[Sequence[J]]:
    size = min(MOST_JOBS, max(1, len(jobs) // (workers * CALLS_A_WORKER)))
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def _ask_all(executors: Sequence[ProcessPoolExecutor], question: Callable[[], R]) -> list[R]:
    futures = [executor.submit(question) for executor in executors]
    try:
        return [future.result() for future in futures]
    except BrokenExecutor as error:
        raise RunnerError(
            "a worker ended before it was ready",
            fix="see what it printed; with little memory, run with fewer --workers",
        ) from error


def _submit(executor: ProcessPoolExecutor, jobs: Sequence[Any] | None) -> Future[Any]:
    """Have a worker do `jobs`, or close it with None; where its process is gone, the future says so."""
    try:
        return executor.submit(_close) if jobs is None else executor.submit(_run, jobs)
    except BrokenExecutor as error:
        broken: Future[Any] = Future()
        broken.set_exception(error)
        return broken


_opened: list[Worker] = []  # of this process, where it is one of those that `open_processes` started


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one ends it
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _open(make: Callable[[], Worker]) -> Any:
    _opened.append(make())
    return _opened[0].info


def _run(jobs: Sequence[Any]) -> Answer[Any]:
    return run_all(_opened[0], jobs)


def _close() -> tuple[str, ...]:
    return _opened[0].close()

"""Workers in processes of their own on this machine, each with several lanes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, Generic, Protocol, TypeVar

from ..core.errors import DualExportError, RunnerError
from .lanes import LaneLostError

T = TypeVar("T")
R = TypeVar("R")
O_co = TypeVar("O_co", covariant=True)

END_SECONDS = 5.0


class Worker(Protocol):
    """What a process makes: it says what it has opened, and runs a task on each of several threads."""

    @property
    def opened(self) -> Any: ...
    def run(self, task: Any) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Crew(Generic[T, R]):
    """Workers that are ready: what each has opened, and the lanes to each."""

    opened: tuple[Any, ...]
    lanes: tuple[tuple[Callable[[T], R], ...], ...]


@contextmanager
def open_processes(make: Callable[[], Worker], workers: int, lanes_each: int) -> Iterator[Crew[Any, Any]]:
    """Start `workers` processes; each calls `make`, which must pickle, and has so many lanes.

    Started afresh, not forked, for the threads of the libraries would not come along. Raises what `make` raises, and
    RunnerError for a process that ends before it is ready. They end with this process, however that ends.
    """
    context = multiprocessing.get_context("spawn")
    processes, ends = [], []
    try:
        for number in range(workers):
            pairs = [context.Pipe() for _ in range(lanes_each)]
            process = context.Process(
                target=_serve, args=(make, [theirs for _, theirs in pairs]), name=f"verify {number}", daemon=True
            )
            process.start()
            processes.append(process)
            ends.append([ours for ours, _ in pairs])
            for _, theirs in pairs:
                theirs.close()  # so that a worker's end is noticed
        opened = tuple(_receive_opened(connections[0]) for connections in ends)
        yield Crew(opened, tuple(tuple(map(_make_lane, connections)) for connections in ends))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(END_SECONDS)
            if process.is_alive():
                process.kill()
        for end in (end for connections in ends for end in connections):
            end.close()


def answer(run: Callable[[T], R], task: T) -> R | DualExportError:
    """The result, or an expected error as a value, which travels; any other error is the worker's end."""
    try:
        return run(task)
    except DualExportError as error:
        return error


def _make_lane(connection: Connection) -> Callable[[Any], Any]:
    def lane(task: Any) -> Any:
        try:
            connection.send(task)
            result = connection.recv()
        except (EOFError, OSError) as error:
            raise LaneLostError from error
        if isinstance(result, DualExportError):
            raise result
        return result

    return lane


def _receive_opened(connection: Connection) -> Any:
    try:
        opened = connection.recv()
    except (EOFError, OSError) as error:
        raise RunnerError(
            "a worker ended before it was ready",
            fix="see what it printed; with little memory, run with fewer --workers",
        ) from error
    if isinstance(opened, DualExportError):
        raise opened
    return opened


def _serve(make: Callable[[], Worker], connections: Sequence[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one ends it
    try:
        worker = make()
    except DualExportError as error:
        connections[0].send(error)
        return
    connections[0].send(worker.opened)
    threads = [Thread(target=_run_lane, args=(worker, connection)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.close()


def _run_lane(worker: Worker, connection: Connection) -> None:
    """Answer tasks until nobody is there to ask."""
    try:
        while True:
            try:
                task = connection.recv()
            except (EOFError, OSError):
                return
            connection.send(answer(worker.run, task))
    except BrokenPipeError:
        return
    except BaseException:  # noqa: BLE001  # a thread alone would end unnoticed
        traceback.print_exc()
        os._exit(1)

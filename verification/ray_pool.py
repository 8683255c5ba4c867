"""Workers on a Ray cluster: one actor each."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported and when it starts a cluster

import ray
import ray.exceptions

from ..core.errors import DualExportError, RunnerError
from ..core.reporter import Notify
from .pool import Answer, Pool, Worker, map_ordered, run_all

AUTO, LOCAL = "auto", "local"
FIX = "install the same dualexport with its extras on every machine of the cluster; paths must be the same there"


@contextmanager
def open_ray(
    address: str, make: Callable[[int], Worker], workers: int | None, note: Notify, *, on_gpu: bool = False
) -> Iterator[Pool[Any, Any]]:
    """Start `workers` actors, or one a machine; each calls `make` with its number of threads.

    `address` is that of a cluster; "auto" is the one that runs here or that RAY_ADDRESS names, else one that is
    started for this run alone. Raises what `make` raises, and RunnerError where the cluster or a worker is not there.
    """
    try:
        with redirect_stdout(sys.stderr), _connected(address):  # where Ray says what becomes of workers
            threads, count = _share_processors(workers, on_gpu)
            needs = {"num_cpus": threads, "num_gpus": int(on_gpu), "scheduling_strategy": "SPREAD"}
            remote = ray.remote(_Actor).options(**needs)
            actors = [remote.remote(make, threads) for _ in range(count)]
            infos = ray.get([actor.open.remote() for actor in actors])
            for info in infos:
                if isinstance(info, DualExportError):
                    raise info
            lost = ray.exceptions.RayActorError
            calls = [partial(_submit, actor) for actor in actors]
            yield Pool(tuple(infos), partial(map_ordered, workers=calls, lost=lost))
            for actor in actors:
                _close(actor, note)
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise RunnerError(f"Ray: {str(error).strip().splitlines()[-1]}", fix=FIX) from error


class _Actor:
    """A worker on some machine; errors that are expected are given back as values."""

    def __init__(self, make: Callable[[int], Worker], threads: int) -> None:
        self._make, self._threads = make, threads

    def open(self) -> Any:
        try:
            self._worker = self._make(self._threads)
        except DualExportError as error:
            return error
        return self._worker.info

    def run(self, jobs: Sequence[Any]) -> Answer[Any]:
        return run_all(self._worker, jobs)

    def close(self) -> tuple[str, ...]:
        return self._worker.close()


def _submit(actor: Any, jobs: Sequence[Any]) -> Any:
    return actor.run.remote(jobs).future()


def _close(actor: Any, note: Notify) -> None:
    """Close the actor's runners; one that is gone has closed them."""
    try:
        messages = ray.get(actor.close.remote())
    except ray.exceptions.RayActorError:
        return
    for message in messages:
        note(message)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == AUTO:
        try:
            ray.init(address=AUTO, **quiet)
        except ConnectionError:
            address = LOCAL
    if address == LOCAL:
        try:
            ray.init(address=LOCAL, include_dashboard=False, **quiet)
        except Exception as error:  # of no narrower class where its processes do not start in time
            fix = "free memory and processors, or use --workers without --ray"
            raise RunnerError(f"Ray does not start here: {error}", fix=fix) from error
    elif address != AUTO:
        ray.init(address=address, **quiet)
    try:
        yield
    finally:
        ray.shutdown()  # ends the actors, and the cluster where it was started here


def _share_processors(workers: int | None, on_gpu: bool) -> tuple[int, int]:
    """Threads a worker, and how many workers; as many threads as find room when all run at once."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if on_gpu:
        machines = [resources for resources in machines if resources.get("GPU", 0) >= 1]
    processors = [int(resources["CPU"]) for resources in machines]
    count = workers or len(machines)
    fitting = [
        threads
        for threads in range(1, max(processors, default=0) + 1)
        if sum(one // threads for one in processors) >= count
    ]
    if not fitting or not count:
        what = "GPUs" if on_gpu else "processors"
        raise RunnerError(
            f"{count} workers do not fit into the Ray cluster: {len(machines)} machines with {what}, "
            f"{sum(processors)} processors",
            fix="run with fewer --workers, or add machines",
        )
    return fitting[-1], count

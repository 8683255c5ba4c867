"""Folders that are made once for all worker processes of a test run."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class SharedFolders:
    """Makes a folder when the first worker asks for it, and gives every worker a copy of its own to work in."""

    common: Path
    own: Path

    def copy_of(self, name: str, make: Callable[[Path], object]) -> Path:
        """A copy of the folder `name`, which `make` writes into the path it is given."""
        target = self.own / name / name
        if not target.exists():
            with (self.common / f"{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                source = self.common / "shared" / name
                done = source.with_suffix(".done")
                if not done.exists():
                    shutil.rmtree(source, ignore_errors=True)
                    source.parent.mkdir(exist_ok=True)
                    make(source)
                    done.touch()
            shutil.copytree(source, target)
        return target


def open_shared_folders(factory: pytest.TempPathFactory) -> SharedFolders:
    """Those of this run: a worker's base folder lies in that of the run."""
    base = factory.getbasetemp()
    return SharedFolders(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base, factory.mktemp("own"))


def take_own_cores() -> None:
    """Confine a worker to its part of the cores, so that the threads of two do not wait for each other."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[int(number) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])] or cores)

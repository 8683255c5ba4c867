"""ONNX Runtime computes on the cores that the process may use, and on no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dualexport.runtimes.onnx_runner import OnnxRunner


@pytest.fixture
def one_core() -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity") or os.cpu_count() == 1:
        pytest.skip("needs Linux and a second core")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def count_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.usefixtures("one_core")
def test_a_process_on_one_core_gets_no_second_thread(exported: Path) -> None:
    threads = count_threads()
    with OnnxRunner(exported / "dualformer-n.fp32.onnx"):
        assert count_threads() == threads
    with OnnxRunner(exported / "dualformer-n.fp32.onnx", threads=2):
        assert count_threads() == threads + 1

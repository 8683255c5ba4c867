"""A TensorRT that is broken is told as such, and what it logs is kept in bounds and told by its cause."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.engines import NEEDS_TENSORRT


def import_library(place: Path) -> str:
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r})\n"
        "from dualexport.core.errors import MissingDependencyError\n"
        "try: import dualexport.runtimes.tensorrt.library\n"
        "except MissingDependencyError as error: print(error)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10: cannot open"),
        ("raise OSError('libcudart.so.12: wrong ELF class')", "libcudart.so.12: wrong ELF class"),
        ("import tensorrt_bindings_of_another_version", "No module named 'tensorrt_bindings_of_another_version'"),
    ],
    ids=["its library is missing", "its library is another machine's", "a module of its own is missing"],
)
def test_a_broken_tensorrt_is_not_called_missing(tmp_path: Path, source: str, words: str) -> None:
    for name, text in (("tensorrt", source), ("tensorrt_rtx", "raise AssertionError('taken in its place')")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    said = import_library(tmp_path)
    assert said.startswith("the module tensorrt is installed and cannot be loaded: ")
    assert words in said


def test_the_log_of_a_running_engine_is_bounded_and_gives_the_cause() -> None:
    pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)
    from dualexport.runtimes.tensorrt.library import KEPT_LINES, RecordingLogger, trt

    levels = trt.ILogger.Severity
    logger = RecordingLogger(verbose=False)
    for number in range(3 * KEPT_LINES):
        logger.log(levels.VERBOSE, f"detail {number}")
        logger.log(levels.INFO, f"line {number}")
        logger.log(levels.ERROR, f"error {number}")
    assert len(logger.lines) == len(logger.errors) == KEPT_LINES
    assert not any(line.startswith("detail") for line in logger.lines)
    assert logger.take_error() == "error 0"
    assert logger.take_error() == "it gives no reason"
    logger.log(levels.ERROR, "no memory for the tensor")
    logger.log(levels.ERROR, "catchCudaError: the operation failed")
    assert logger.take_error() == "no memory for the tensor"

    whole = RecordingLogger()
    for number in range(KEPT_LINES + 1):
        whole.log(levels.VERBOSE, f"layer {number}")
    assert len(whole.lines) == KEPT_LINES + 1  # a build's log holds the plan

"""A build that fails is told by its own reason, and by memory only where memory was the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.core.errors import EngineError, PlanError
from dualexport.runtimes.tensorrt.cuda import GpuDevice
from support.engines import NEEDS_TENSORRT

pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)

from dualexport.runtimes.tensorrt.library import RecordingLogger, trt
from dualexport.runtimes.tensorrt.messages import explain_failure

ORIN = GpuDevice("Orin", "8.7", 8 << 30, "12.6", shares_memory=True)
LEVELS = trt.ILogger.Severity
SKIPPED = (
    "Skipping tactic 0x0000000000000074 due to insufficient memory on requested size of 4229 detected for tactic "
    "0x0000000000000074."
)


def explain(*errors: str) -> Exception:
    logger = RecordingLogger()
    logger.log(LEVELS.WARNING, SKIPPED)
    for line in errors:
        logger.log(LEVELS.ERROR, line)
    return explain_failure(PlanError("cannot compile it: why", fix=""), logger, Path("net.onnx"), ORIN)


def test_a_skipped_kernel_is_no_reason_for_another_failure() -> None:
    found = explain("IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (node top: K is above 3840)")
    assert (type(found), str(found)) == (PlanError, "cannot compile it: why")


def test_where_every_kernel_was_skipped_the_size_asked_for_is_told() -> None:
    found = explain("Error Code 10: Internal Error (Could not find any implementation for node fc1.)")
    assert isinstance(found, EngineError)
    assert "(4.1 GiB were asked for), Orin has 8.0 GiB" in str(found)
    assert "Could not find any implementation for node fc1" in str(found)


def test_tensorrt_s_own_sentence_stands_in_the_message() -> None:
    found = explain("[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)")
    assert isinstance(found, EngineError)
    assert "GiB were asked for" not in str(found)
    assert "Cuda Runtime (out of memory)" in str(found)

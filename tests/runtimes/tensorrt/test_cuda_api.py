"""Every CUDA name that the code uses exists in cuda-bindings for CUDA 12 and for CUDA 13."""

from __future__ import annotations

import re
from pathlib import Path

from support.fake_gpu import FakeRuntime

SOURCE = Path(__file__).parents[3] / "runtimes" / "tensorrt" / "cuda.py"

# Looked up in dir(cuda.bindings.runtime) of cuda-bindings 12.9.4 and 13.5.0.
NAMES = frozenset(
    [
        "cudaDriverGetVersion",
        "cudaEventCreate",
        "cudaEventDestroy",
        "cudaEventElapsedTime",
        "cudaEventRecord",
        "cudaEventSynchronize",
        "cudaFree",
        "cudaFreeHost",
        "cudaGetDeviceCount",
        "cudaGetDeviceProperties",
        "cudaGetErrorName",
        "cudaGetLastError",
        "cudaGraphDestroy",
        "cudaGraphExecDestroy",
        "cudaGraphInstantiate",
        "cudaGraphLaunch",
        "cudaHostAlloc",
        "cudaMalloc",
        "cudaMemcpyAsync",
        "cudaMemcpyKind",
        "cudaMemGetInfo",
        "cudaStreamBeginCapture",
        "cudaStreamCaptureMode",
        "cudaRuntimeGetVersion",
        "cudaStreamCreateWithFlags",
        "cudaStreamDestroy",
        "cudaStreamEndCapture",
        "cudaStreamSynchronize",
    ]
)


def test_every_name_exists_in_the_library_and_in_the_fake() -> None:
    text = SOURCE.read_text()
    used = set(re.findall(r'_call\("(\w+)"', text)) | set(re.findall(r"_runtime\.(\w+)", text))
    assert len(used) > 20
    assert used <= NAMES
    for name in used:
        assert getattr(FakeRuntime(), name)

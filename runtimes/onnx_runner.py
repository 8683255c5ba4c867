"""Runs an ONNX file with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from ..contracts import Array, RunnerError, TensorSpec

ERRORS_ONLY = 3
FAILURES = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NoSuchFile,
    failures.NotImplemented,
    failures.RuntimeException,
)
NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


class OnnxRunner:
    """One session on the CPU; the file is read once, when the runner is made."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.enable_mem_pattern = False  # no faster here, and it keeps a second set of buffers from run two on
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except FAILURES as error:
            raise RunnerError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name}: {str(error).splitlines()[0]}",
                fix="export it again with `dualexport onnx`",
            ) from error
        self.name = f"ONNX Runtime {onnxruntime.__version__} (CPU)"
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; shapes and types as `inputs` and `outputs` say. Raises RunnerError where it breaks off."""
        try:
            values = self._session.run(None, dict(feeds))
        except FAILURES as error:
            raise RunnerError(
                f"{self.name} broke off: {str(error).splitlines()[0]}", fix="export it again with `dualexport onnx`"
            ) from error
        return {spec.name: np.asarray(value) for spec, value in zip(self.outputs, values, strict=True)}

    def __enter__(self) -> OnnxRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session  # its memory goes now, not when the collector comes by


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    return TensorSpec(value.name, NUMPY_TYPES[value.type], tuple(int(extent) for extent in value.shape))

"""Runs an ONNX file with ONNX Runtime, on the CPU or through one of its GPU providers."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph

from ..core.choices import Provider
from ..core.errors import DualExportError, MissingDependencyError, RunnerError
from ..core.runner import DeviceTime
from ..core.types import Array, TensorSpec
from ..graphs.batch import parse_batches, spec_of_range
from ..graphs.load import GRAPH

ERRORS_ONLY = 3
FIX = "give a file that `dualexport onnx` wrote: one input of fixed shape, and logits"
NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


PROVIDER_TITLES = {"cpu": "CPU", "cuda": "CUDA", "tensorrt-rtx": "TensorRT for RTX"}


class OnnxRunner:
    """One session; the file is read once, when the runner is made. Without `threads`, one computes on each core.

    Its threads are `spinning` between two operators, which is fastest where nothing else wants the cores.
    Raises MissingDependencyError for a provider that is not there, rather than taking another one.
    """

    def __init__(
        self, path: Path, provider: Provider = Provider.CPU, *, threads: int | None = None, spinning: bool = True
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = threads or _count_allowed_cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.enable_mem_pattern = False  # no faster here, and it keeps a second set of buffers from run two on
        arguments = _choose_provider(provider, options)
        with translated(f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name}"):
            self._session = _open_session(GRAPH.require(path), options, arguments)
        self.name = f"ONNX Runtime {onnxruntime.__version__} ({PROVIDER_TITLES[provider]})"
        self._memory = "cpu" if provider is Provider.CPU else "cuda"
        batches = parse_batches(self._session.get_modelmeta().custom_metadata_map)
        self.inputs = tuple(read_spec(value, path, batches) for value in self._session.get_inputs())
        self.outputs = tuple(read_spec(value, path, batches) for value in self._session.get_outputs())

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; shapes and types as `inputs` and `outputs` say. Raises RunnerError where it breaks off."""
        with translated(f"{self.name} broke off"):
            values = self._session.run(None, dict(feeds))
        return {spec.name: np.asarray(value) for spec, value in zip(self.outputs, values, strict=True)}

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], DeviceTime | None]]:
        """A function that runs one batch on inputs that are where the provider computes, and leaves outputs there."""
        with translated(f"{self.name} cannot take its inputs"):
            binding = self._session.io_binding()
            for spec in self.inputs:
                values = np.ascontiguousarray(feeds[spec.name])
                value = onnxruntime.OrtValue.ortvalue_from_numpy(values, self._memory, 0)
                binding.bind_ortvalue_input(spec.name, value)
            for spec in self.outputs:
                binding.bind_output(spec.name, self._memory)

        def run() -> None:
            with translated(f"{self.name} broke off"):
                self._session.run_with_iobinding(binding)
                binding.synchronize_outputs()

        yield run

    def __enter__(self) -> OnnxRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session  # its memory goes now, not when the collector comes by


def _open_session(
    path: Path, options: onnxruntime.SessionOptions, arguments: dict[str, Any]
) -> onnxruntime.InferenceSession:
    """A session; one of an FP8 graph leaves Q/DQ pairs where they are.

    ONNX Runtime moves them behind operators that it does not have in FP8, and then refuses the graph.
    """
    try:
        return onnxruntime.InferenceSession(path, options, **arguments)
    except InvalidGraph as error:
        if "float8" not in str(error):
            raise
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        return onnxruntime.InferenceSession(path, options, **arguments)


def _count_allowed_cores() -> int:
    """The cores that this process is confined to, of which ONNX Runtime takes no notice; 0 leaves the number to it."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = len(os.sched_getaffinity(0))
    return 0 if allowed == os.cpu_count() else allowed


def _choose_provider(provider: Provider, options: onnxruntime.SessionOptions) -> dict[str, Any]:
    """The session's arguments for a provider, which is loaded here where it comes as a package of its own."""
    if provider is Provider.TENSORRT_RTX:
        _add_rtx_devices(options)
        return {}
    if provider.registered_name not in onnxruntime.get_available_providers():
        raise _missing(provider, "pip install onnxruntime-gpu in the place of onnxruntime")
    return {"providers": [provider.registered_name]}


def _add_rtx_devices(options: onnxruntime.SessionOptions) -> None:
    fix = "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13, on a machine with an RTX GPU"
    try:
        package = importlib.import_module("onnxruntime_ep_nv_tensorrt_rtx")
    except ImportError as error:
        raise _missing(Provider.TENSORRT_RTX, fix) from error
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise _missing(Provider.TENSORRT_RTX, "pip install -U onnxruntime: providers can be added since 1.22")
    name = Provider.TENSORRT_RTX.registered_name
    if not any(device.ep_name == name for device in onnxruntime.get_ep_devices()):
        try:
            onnxruntime.register_execution_provider_library(name, package.get_library_path())
        except Exception as error:  # see `translated`
            raise _missing(Provider.TENSORRT_RTX, fix) from error
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise _missing(Provider.TENSORRT_RTX, fix)
    options.add_provider_for_devices(devices, {})


def _missing(provider: Provider, fix: str) -> MissingDependencyError:
    here = ", ".join(onnxruntime.get_available_providers())
    return MissingDependencyError(
        f"ONNX Runtime {onnxruntime.__version__} has no {provider.registered_name} here (it has {here})", fix=fix
    )


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn whatever ONNX Runtime raises into a RunnerError.

    It has no common base: there are its own errors, and those of its binding (UnicodeDecodeError for a message with
    bytes of a damaged file, RuntimeError, ValueError, MemoryError).
    """
    try:
        yield
    except DualExportError:
        raise
    except Exception as error:  # as above
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunnerError(f"{doing}: {reason}", fix="export it again with `dualexport onnx`") from error


def read_spec(value: onnxruntime.NodeArg, path: Path, batches: tuple[int, int] | None) -> TensorSpec:
    """An input or output of a session; raises RunnerError for one of another type, or of a shape that is not known."""
    if value.type not in NUMPY_TYPES:
        known = ", ".join(NUMPY_TYPES.values())
        raise RunnerError(f"{path.name}: {value.name} is a {value.type}, not one of {known}", fix=FIX)
    is_ranged = batches is not None and len(value.shape) > 1 and isinstance(value.shape[0], str)
    if not all(isinstance(extent, int) and extent > 0 for extent in value.shape[is_ranged:]):
        shown = ", ".join(map(str, value.shape))
        raise RunnerError(f"{path.name}: {value.name} has the dynamic shape ({shown})", fix=FIX)
    if is_ranged and batches is not None:
        return spec_of_range(value.name, NUMPY_TYPES[value.type], tuple(value.shape[1:]), batches)
    return TensorSpec(value.name, NUMPY_TYPES[value.type], tuple(value.shape))

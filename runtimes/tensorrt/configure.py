"""Turns build options into TensorRT's builder configuration, and refuses what this TensorRT or GPU cannot do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.choices import Compatibility
from ...core.errors import CudaError, EngineError, MissingDependencyError
from ...core.files import staged_path
from ...core.reading import FileKind
from ...core.reporter import Notify
from ...core.versions import is_older
from ..machine.host import Host
from ..machine.memory import read_available_bytes
from .cuda import NO_DEVICE, GpuDevice, open_cuda
from .engine_file import GIB, EngineOptions
from .library import is_for_rtx, needs_gpu, trt

TIMINGS = FileKind("a timing cache", EngineError, "give another file name: it is made there", max_bytes=GIB)
SHARED_WORKSPACE = 0.5  # of the memory that is free
FIRST_FP8 = "8.9"  # Ada; Hopper is 9.0
COPIES_IN_A_BUILD = 3  # of the weights: as parsed, as compiled, and as serialized


def find_device() -> GpuDevice | None:
    """The GPU to build for; None where there is none and this TensorRT builds without, ahead of time."""
    try:
        return open_cuda().device()
    except (CudaError, MissingDependencyError) as error:
        if is_for_rtx():
            return None
        if isinstance(error, CudaError) and error.code in NO_DEVICE:
            raise needs_gpu(str(error)) from error
        raise


def require_possible(options: EngineOptions, device: GpuDevice | None, host: Host) -> None:
    """Refuse what this TensorRT, GPU or machine cannot do, before the work."""
    levels = trt.HardwareCompatibilityLevel
    if is_for_rtx():
        if options.compatible != Compatibility.NONE or options.version_compatible:
            raise EngineError(
                "TensorRT for RTX has no --compatible and no --version-compatible: its engines run on every RTX GPU",
                fix="leave the option out, or build with TensorRT on the device",
            )
        if options.targets and not hasattr(trt, "ComputeCapability"):
            raise EngineError(
                f"--target needs the module tensorrt_rtx; the bindings here ({trt.__version__}) do not have it",
                fix="pip install tensorrt-rtx in another environment, or leave --target out for an engine that runs on "
                "RTX GPUs of compute capability 8.0, 8.6, 8.9, 12.0 and later",
            )
        return
    if options.targets:
        raise EngineError(
            "--target is for TensorRT for RTX: TensorRT builds for the GPU that it runs on",
            fix="leave --target out, or pip install tensorrt-rtx",
        )
    if device is None:
        raise EngineError("TensorRT needs the GPU that the engine is for", fix="run `dualexport trt` on that device")
    if options.compatible != Compatibility.NONE and host.l4t is not None:
        raise EngineError(
            f"a Jetson builds no --compatible {Compatibility(options.compatible).value} engines: TensorRT has that for "
            "graphics cards",
            fix="leave --compatible out, and build on each kind of Jetson",
        )
    if options.compatible == Compatibility.SAME_SM and not hasattr(levels, "SAME_COMPUTE_CAPABILITY"):
        raise EngineError(
            f"TensorRT {trt.__version__} has no same-sm engines", fix="use TensorRT 10.16, or leave it out"
        )
    if options.workspace_gib is not None and options.workspace_gib * GIB > device.memory_bytes:
        raise EngineError(
            f"a workspace of {options.workspace_gib:g} GiB needs more than the {device.memory_bytes / GIB:.1f} GiB of "
            f"{device.name}",
            fix=f"give --workspace at most {device.memory_bytes / GIB / 2:.0f}",
        )


def require_fp8(device: GpuDevice | None) -> None:
    """Refuse FP8 where this TensorRT or GPU has none."""
    if not hasattr(trt.DataType, "FP8"):
        raise EngineError(f"TensorRT {trt.__version__} has no FP8", fix="install TensorRT 10, or build the INT8 file")
    if device is not None and is_older(device.compute_capability, FIRST_FP8):
        raise EngineError(
            f"{device.name} (compute capability {device.compute_capability}) has no FP8: GPUs have it from 8.9 on",
            fix="build the FP16 or the INT8 file",
        )


def limit_workspace(options: EngineOptions, device: GpuDevice | None, source: Path, note: Notify) -> EngineOptions:
    """Return options that leave the host its memory where the GPU shares it; elsewhere `options`.

    There TensorRT's default, all of the device's memory, would let the system end the process. Raises EngineError
    where less is free than a build holds in copies of the weights.
    """
    if device is None or not device.shares_memory or (free := read_available_bytes()) is None:
        return options
    size = source.stat().st_size
    if free < COPIES_IN_A_BUILD * size:
        raise EngineError(
            f"{source.name}: {free / GIB:.1f} GiB of memory are free, a build holds about {COPIES_IN_A_BUILD} copies "
            f"of its {size / GIB:.2f} GiB",
            fix="end what else runs (a desktop too), or add swap on a Jetson (docs/jetson.md)",
        )
    if options.workspace_gib is not None:
        return options
    limit = round(free * SHARED_WORKSPACE / GIB, 2)
    shared = f"{device.name} shares its memory with the host, of which {free / GIB:.1f} GiB are free"
    note(f"builds as with --workspace {limit:g}: {shared}")
    return replace(options, workspace_gib=limit)


def configure(config: Any, options: EngineOptions, cache: Path, named: Path | None) -> None:
    levels, pools = trt.HardwareCompatibilityLevel, trt.MemoryPoolType
    if options.workspace_gib is not None:
        config.set_memory_pool_limit(pools.WORKSPACE, int(options.workspace_gib * GIB))
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.compatible == Compatibility.AMPERE:
        config.hardware_compatibility_level = levels.AMPERE_PLUS
    elif options.compatible == Compatibility.SAME_SM:
        config.hardware_compatibility_level = levels.SAME_COMPUTE_CAPABILITY
    if options.targets:
        config.num_compute_capabilities = len(options.targets)
        for index, target in enumerate(options.targets):
            capability = getattr(trt.ComputeCapability, f"SM{target.replace('.', '')}", None)
            if capability is None:
                raise EngineError(f"TensorRT for RTX does not build for {target}", fix="see its support matrix")
            config.set_compute_capability(capability, index)
    _use_timings(config, cache, named)


def _use_timings(config: Any, cache: Path, named: Path | None) -> None:
    """Start from the timings of the last build; a file that the user named has to fit this device and version."""
    timings = config.create_timing_cache(TIMINGS.read_bytes(cache) if cache.is_file() else b"")
    if timings is not None and config.set_timing_cache(timings, ignore_mismatch=False):
        return
    if named is not None:
        raise EngineError(
            f"{named} is no timing cache of this GPU and TensorRT {trt.__version__}",
            fix="give another file name: it is made there",
        )
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep_timings(config: Any, cache: Path) -> None:
    timings = config.get_timing_cache()
    if timings is not None:
        with staged_path(cache) as staged:
            staged.write_bytes(memoryview(timings.serialize()))

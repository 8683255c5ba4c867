"""Builds an engine from an ONNX file, proves what it computes in, and writes it with the record for the manifest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.choices import Compatibility, Precision
from ...core.errors import DualExportError, EngineError, PlanError
from ...core.files import StagedSet, hash_file, staged_set
from ...core.reporter import Progress, no_progress
from ...core.types import Artifact
from ...graphs.work import GraphWork, read_graph_work
from ..machine.host import UNKNOWN_HOST, Host
from ..plans.attribution import make_plan
from ..plans.parse import Compilation
from ..plans.plan import EnginePlan
from ..plans.precision import require_asked, shows_precision
from .compile import compile_engine
from .configure import configure, keep_timings, limit_workspace, require_fp8, require_possible
from .cuda import GpuDevice
from .engine_file import FORMAT, EngineOptions, EngineRecord, name_engine, name_place
from .library import RecordingLogger, is_for_rtx, library_name, library_version, require_supported_version
from .messages import explain_failure, list_warnings
from .proof import describes_roughly, prove_precision


def _ignore(*_: object) -> None:
    """Discard what is told."""


@dataclass(frozen=True, slots=True)
class BuildPlace:
    """The surroundings of a build: the GPU (None for an engine built ahead of time), the host's versions, the folder.

    `timing_cache` keeps the timings of kernels, by default a file beside the engine for each device and version. `tell`
    is given the warnings that matter, and with `verbose` every message; `check` may refuse the engine by raising before
    it gets its name; `add` stages what is to appear together with the engine, its entry in a manifest.
    """

    folder: Path
    device: GpuDevice | None = None
    host: Host = UNKNOWN_HOST
    timing_cache: Path | None = None
    tell: Callable[[str], None] = _ignore
    verbose: bool = False
    check: Callable[[Artifact], None] = _ignore
    add: Callable[[StagedSet, Artifact], object] = _ignore


def build_engine(
    source: Artifact, name: str, place: BuildPlace, options: EngineOptions, progress: Progress = no_progress
) -> Artifact:
    """Compile the ONNX artifact `source` into `place.folder`; `name` is the network's, `dualformer-b`.

    The precision is the source's. Raises EngineError for what this TensorRT or GPU cannot do and for an engine that
    does not compute in that precision, which is kept as PATH.unproven, PlanError for a network it refuses; nothing else
    is left behind then.
    """
    version = library_version()
    require_supported_version(version)
    require_possible(options, place.device, place.host)
    if source.precision is Precision.FP8:
        require_fp8(place.device)
    options = limit_workspace(options, place.device, source.path, place.tell)
    device = name_target(place.device, options)
    path = place.folder / name_engine(name, source.precision, device, version)
    cache = place.timing_cache or place.folder / f"timing.{name_place(device, version)}.cache"
    work = read_graph_work(source.path)
    require_asked(source.path.name, work.shares, source.precision)
    logger = RecordingLogger(place.tell if place.verbose else None)
    with staged_set(place.folder) as staged:  # a folder that cannot be written is found out now, not after the work
        target = staged.path(path.name)
        started = time.monotonic()
        try:
            built = compile_engine(
                source.path,
                logger,
                lambda config: configure(config, options, cache, place.timing_cache),
                profile=_choose_profile(source, options.optimal_batch),
                progress=progress,
            )
        except DualExportError as error:
            raise explain_failure(error, logger, source.path, place.device) from error
        seconds = time.monotonic() - started
        plan = _read_plan(source, built.compilation, work, place.tell)
        if plan is not None:
            strict = options.strict or not describes_roughly(version)
            for line in prove_precision(plan, source.precision, built.serialized, path, strict=strict):
                place.tell(line)
        if not place.verbose:
            for line in list_warnings(built.warnings):
                place.tell(line)
        target.write_bytes(memoryview(built.serialized))
        engine = _describe(source, target, replace(_record(place, options, plan), build_seconds=round(seconds, 1)))
        place.check(engine)
        keep_timings(built.config, cache)
        engine = replace(engine, path=path)
        place.add(staged, engine)
    return engine


def _choose_profile(source: Artifact, optimal: int | None) -> tuple[int, int, int] | None:
    """The batches that the engine is built for, fastest with the second of them; None for a file of one batch."""
    (spec,) = source.inputs
    if spec.least_batch is None:
        if optimal is not None:
            raise EngineError(
                f"{source.path.name} takes batches of {spec.shape[0]} and no others: there is none to choose",
                fix="leave --batch-opt out, or export a range with `dualexport onnx --batch 1-8`",
            )
        return None
    if optimal is not None and optimal not in spec.batches:
        raise EngineError(
            f"{source.path.name} takes batches of {spec.least_batch} to {spec.shape[0]}, not {optimal}",
            fix="give --batch-opt one of these",
        )
    return spec.least_batch, optimal or spec.shape[0], spec.shape[0]


def _describe(source: Artifact, path: Path, record: EngineRecord) -> Artifact:
    """The engine file at `path` as an artifact made from `source`."""
    return Artifact(
        format=FORMAT,
        precision=source.precision,
        graph=source.graph,
        path=path,
        sha256=hash_file(path),
        inputs=source.inputs,
        outputs=source.outputs,
        parent=source.sha256,
        options=replace(record, size_bytes=path.stat().st_size).document(),
    )


def name_target(device: GpuDevice | None, options: EngineOptions) -> str:
    """The GPUs that an engine is built for, as in its file name: `sm87`, `rtx-sm86-sm89`, or `rtx` for any RTX GPU."""
    if not is_for_rtx() and device is not None:
        return device.short_name
    return "-".join(("rtx", *(f"sm{target.replace('.', '')}" for target in options.targets)))


def _read_plan(
    source: Artifact, compilation: Compilation, work: GraphWork, tell: Callable[[str], None]
) -> EnginePlan | None:
    """The engine's plan, or None, which is told, where this TensorRT does not describe its layers well enough.

    The types of the file's tensors are binding for the builder, so that the engine is still what the file says.
    """
    try:
        plan = make_plan(source.path.name, compilation, work)
    except PlanError as error:
        reason = str(error)
    else:
        if shows_precision(plan):
            return plan
        reason = "it names too few of the layers that the work is done in"
    tell(
        f"{compilation.compiler} does not describe the engine ({reason}): that it computes in {source.precision.value} "
        "follows from the types in the file, but is not proven by the plan"
    )
    return None


def _record(place: BuildPlace, options: EngineOptions, plan: EnginePlan | None) -> EngineRecord:
    shares, device = (plan.work_shares if plan else {"unattributed": 1.0}), place.device
    targets = " ".join(options.targets) or None
    return EngineRecord(
        compiler=library_name(),
        tensorrt=library_version(),
        compute_capability=targets if is_for_rtx() or device is None else device.compute_capability,
        compatible=Compatibility(options.compatible).value,
        version_compatible=options.version_compatible,
        gpu=device.name if device else None,
        cuda=device.cuda if device else None,
        driver=place.host.driver,
        l4t=place.host.l4t,
        jetpack=place.host.jetpack,
        workspace_gib=options.workspace_gib,
        optimization_level=options.optimization_level,
        optimal_batch=options.optimal_batch,
        layers=len(plan.layers) if plan else 0,
        attentions=plan.attentions if plan else 0,
        fused_attentions=plan.fused_attentions if plan else 0,
        unknown_share=round(shares.get("unattributed", 0.0) + shares.get("other", 0.0), 4),
        fp32_share=round(shares.get("fp32", 0.0), 4),
        fp16_share=round(shares.get("fp16", 0.0), 4),
        fp8_share=round(shares.get("fp8", 0.0), 4),
        int8_share=round(shares.get("int8", 0.0), 4),
    )

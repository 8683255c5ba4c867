"""The latency of candidates: estimated by plans for a device that is not here, or measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ...core.choices import DeviceName, Runtime
from ...core.errors import MissingDependencyError, ParityError, PlanError, QuantizationError
from ...core.reporter import Reporter
from ...core.types import Artifact
from ...runtimes.plans.devices import DEVICES, estimate
from ..plan import plan_onnx
from ..runners import open_artifact
from .candidates import Candidate
from .journal import Journal
from .workshop import Workshop

ROUNDS = 5
ESTIMATED = "estimated for the {} from TensorRT's compiled plan and the device's published peaks"
MEASURED = "measured on this machine with {}, copies included, in {} alternating rounds"


@dataclass(frozen=True, slots=True)
class Timed:
    """The milliseconds an inference of each candidate by name, and how they were found; `left_out` says why not."""

    milliseconds: Mapping[str, float]
    how: str
    left_out: Mapping[str, str]
    is_estimate: bool


def require_planner() -> None:
    """Raise MissingDependencyError where no TensorRT can plan."""
    try:
        from ...runtimes.tensorrt.library import library_version  # noqa: F401
    except MissingDependencyError as error:
        raise MissingDependencyError(str(error), fix=f"{error.fix}; or measure with --device here") from error


def estimate_latencies(
    candidates: Sequence[Candidate], device: DeviceName, workshop: Workshop, journal: Journal, reporter: Reporter
) -> Timed:
    """Estimate each candidate for a device of the table; what is worth nothing there is left out."""
    from ...runtimes.tensorrt.library import library_version

    milliseconds: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for number, one in enumerate(candidates):
        reporter("estimating candidates", number, len(candidates))
        sha256 = workshop.export(one).artifact_of("onnx", one.form.base).sha256
        layers = one.form.name if one.form.agreement is None else f"{one.form.name} {workshop.stamp(one)}"
        key = f"estimate {device.value} {library_version()} {sha256} {layers} {one.batch}"
        known = journal.find_number(key)
        if known is None:
            try:
                with workshop.draft(one) as path:
                    known = estimate(plan_onnx(path, one.batch), DEVICES[device]).total_ms
            except (ParityError, PlanError, QuantizationError) as error:
                left_out[one.name] = str(error)
                continue
            journal.add_number(key, known)
        milliseconds[one.name] = known
    reporter("estimating candidates", len(candidates), len(candidates))
    return Timed(milliseconds, ESTIMATED.format(DEVICES[device].title), left_out, is_estimate=True)


def measure_latencies(
    candidates: Sequence[Candidate], runtime: Runtime, workshop: Workshop, journal: Journal, seconds: float
) -> Timed:
    """Measure all candidates in one run, with finished files; what cannot be made is left out."""
    from ...runtimes.benchmark import benchmark
    from ...runtimes.latency import Copies, Subject, Timing
    from ...runtimes.machine.environment import read_environment

    artifacts: dict[str, Artifact] = {}
    left_out: dict[str, str] = {}
    for one in candidates:
        try:
            artifacts[one.name] = workshop.make_runnable(one, runtime)
        except (ParityError, QuantizationError) as error:
            left_out[one.name] = str(error)
    machine = read_environment()
    keys = {
        name: f"measured {runtime.value} {machine.cpu} {machine.gpu} {machine.power_mode} {artifact.sha256} {seconds}"
        for name, artifact in artifacts.items()
    }
    known = {name: journal.find_number(key) for name, key in keys.items()}
    if any(value is None for value in known.values()):  # times of different runs are not to be compared
        subjects = [Subject(name, one.sha256, partial(open_artifact, one)) for name, one in artifacts.items()]
        measured = benchmark(subjects, Timing(seconds, ROUNDS, warm_up_seconds=seconds), workshop.reporter)
        known = {one.artifact: one.p50_ms for one in measured.results if one.copies is Copies.INCLUDED}
        for name, value in known.items():
            if value is not None:
                journal.add_number(keys[name], value)
        for warning in measured.warnings:
            workshop.reporter.note(warning)
    title = "ONNX Runtime" if runtime is Runtime.ONNX else "TensorRT"
    milliseconds = {name: value for name, value in known.items() if value is not None}
    return Timed(milliseconds, MEASURED.format(title, ROUNDS), left_out, is_estimate=False)

"""What `verify` is composed of: which artifacts, against which reference, within which limits, on which labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact, Clip, LabelError, ManifestError, Precision, Progress, Runner, RunnerError
from . import console, steps

if TYPE_CHECKING:
    from ..exporter.manifest import Manifest
    from ..runtimes.compare import Candidate
    from ..runtimes.limits import Limits
    from ..runtimes.plan import EnginePlan


BENCH_FILE, BENCH_FORMAT = "bench.json", 1


class Reference(str, Enum):
    """What artifacts are compared with."""

    TORCH = "torch"
    ONNX = "onnx"


def select_artifacts(manifest: Manifest, against: str) -> tuple[Artifact, ...]:
    """The artifacts named by `against`: `all`, or precisions and file names with commas between.

    Raises ManifestError for a name that no artifact answers to.
    """
    if not manifest.artifacts:
        raise ManifestError(f"{manifest.path} lists no artifact", fix="run `dualexport onnx` first")
    if against == "all":
        return manifest.artifacts
    chosen: list[Artifact] = []
    for name in (part.strip() for part in against.split(",")):
        found = [artifact for artifact in manifest.artifacts if name in (artifact.precision.value, artifact.path.name)]
        if not found:
            known = dict.fromkeys(artifact.precision.value for artifact in manifest.artifacts)
            raise ManifestError(
                f"{manifest.path} lists no artifact {name!r}", fix=f"say all, {', '.join(known)}, or a file's name"
            )
        chosen += [artifact for artifact in found if artifact not in chosen]
    return tuple(chosen)


def open_reference(manifest: Manifest, checkpoint: Path | None, reference: Reference) -> Runner:
    """The unmodified FP32 PyTorch network; or, where there is no PyTorch, the FP32 ONNX file, and that is noted."""
    if reference is Reference.TORCH:
        with steps.needing_extra("verify"):
            from ..exporter.loading import restore_network
        return steps.open_network(restore_network(manifest, checkpoint))
    artifact = manifest.artifact_of("onnx", Precision.FP32)
    if artifact.precision is not Precision.FP32:
        raise ManifestError(
            f"{manifest.path} lists no FP32 ONNX file to compare with", fix="export one, or use --reference torch"
        )
    console.note(f"the reference is {artifact.path.name}, not the trained network: an error in it stays unseen")
    return steps.open_runner(artifact)


def open_candidates(
    artifacts: Sequence[Artifact], limits: Mapping[Precision, Limits], tolerance: float | None, opened: ExitStack
) -> dict[str, Candidate]:
    """A runner an artifact, closed with `opened`; what does not load is a candidate that failed."""
    from ..runtimes.compare import Candidate

    candidates = {}
    for artifact in artifacts:
        limit = limits[artifact.precision]
        if tolerance is not None:
            limit = replace(limit, logit_difference=tolerance)
        try:
            candidates[artifact.path.name] = Candidate(opened.enter_context(steps.open_runner(artifact)), limit)
        except RunnerError as error:
            candidates[artifact.path.name] = Candidate(None, limit, str(error))
    return candidates


def label_clips(source: Iterable[Clip], labels: Path | None) -> Iterable[Clip]:
    """The clips with the labels of a list. Raises LabelError for clips that have no names to find them by."""
    if labels is None:
        return source
    from ..calibration.clips import ClipSource
    from ..calibration.labels import label_videos

    if not isinstance(source, ClipSource):
        raise LabelError("--labels is of videos, and no clips were given", fix="pass --clips too")
    return source.of(label_videos(source.videos, labels))


def measure_parts(
    manifest: Manifest, artifacts: Sequence[Artifact], *, plan: bool, progress: Progress
) -> dict[str, Any]:
    """What a report shows beside the comparison: the environment, measured latencies, plans; None where not known."""
    from ..runtimes.environment import read_environment

    plans = None
    if plan:
        from ..runtimes.planning import plan_onnx

        plans = [
            _document_plan(plan_onnx(artifact.path, progress=progress))
            for artifact in artifacts
            if artifact.format == "onnx"
        ]
    return {"environment": read_environment(), "latency": read_latency(manifest), "layers": None, "plans": plans}


def read_latency(manifest: Manifest) -> dict[str, Any] | None:
    """What `dualexport bench` left beside the manifest of the files that are there now; None where nothing fits."""
    path = manifest.folder / BENCH_FILE
    if not path.is_file():
        return None
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
        hashes = {artifact.sha256 for artifact in manifest.artifacts}
        results = [result for result in measured["results"] if result["sha256"] in hashes]
        if measured["format"] > BENCH_FORMAT:
            raise ValueError(f"format {measured['format']}")
    except (ValueError, KeyError, TypeError) as error:
        console.note(f"{path} is left out, it is no measurement that can be read: {error}")
        return None
    return {**measured, "results": results} if results else None


def _document_plan(plan: EnginePlan) -> dict[str, Any]:
    """A plan's figures, without its layers."""
    moved: dict[str, float] = {}
    for layer in plan.layers:
        moved[layer.kind.value] = moved.get(layer.kind.value, 0.0) + layer.moved_bytes / 1e6
    figures = {key: value for key, value in plan.document().items() if key not in ("layers", "movement", "heaviest")}
    return {**figures, "moved_mb_by_kind": moved}

"""What `verify` is composed of: which artifacts, against which reference, within which limits, on which labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ..contracts import Artifact, Clip, LabelError, ManifestError, Precision, Runner, RunnerError
from . import console, steps

if TYPE_CHECKING:
    from ..exporter.manifest import Manifest
    from ..runtimes.compare import Candidate
    from ..runtimes.limits import Limits


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

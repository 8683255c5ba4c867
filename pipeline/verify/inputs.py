"""The parts of a verification: artifacts, their reference, their limits, and labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.choices import Precision, Reference, Runtime
from ...core.class_names import find_class
from ...core.errors import DualExportError, LabelError, ManifestError, MissingDependencyError, OptionError, RunnerError
from ...core.extras import needing_extra
from ...core.logit_store import REFERENCE_NAME
from ...core.manifest import Manifest
from ...core.reporter import Notify, Reporter
from ...core.runner import Runner, open_noting
from ...core.types import Artifact, Clip, Preprocessing
from ...exporter.dualformer.architecture import CONFIGS
from ..runners import choose_artifact, list_artifacts, open_beside_others, open_network

if TYPE_CHECKING:
    from ...verification.compare import Candidate
    from ...verification.limits import Limits


def find_networks(folders: Path | str | Sequence[Path | str]) -> list[Manifest]:
    """The networks in a folder or several, or the only one here; those without token selection come first.

    Raises ManifestError.
    """
    from ...core.manifest import find_manifest

    named = [Path(one) for one in ((folders,) if isinstance(folders, (str, Path)) else folders)]
    found = [find_manifest(folder) for folder in dict.fromkeys(named or (None,))]
    return sorted(found, key=lambda manifest: bool(manifest.selections))


def select_artifacts(
    manifest: Manifest, against: str, runtime: Runtime | None = None, reference: Reference = Reference.TORCH
) -> tuple[Artifact, ...]:
    """The artifacts of `runtime` named by `against`: `all`, or precisions and file names with commas between.

    The reference is left out. Raises ManifestError for a name that no artifact answers to, and when none is left.
    """
    if not manifest.artifacts:
        raise ManifestError(f"{manifest.path} lists no artifact", fix="run `dualexport onnx` first")
    artifacts = manifest.artifacts if runtime is None else list_artifacts(manifest, runtime)
    if reference is Reference.ONNX:
        artifacts = tuple(artifact for artifact in artifacts if artifact.path != require_fp32(manifest).path)
    if not artifacts:
        raise ManifestError("nothing is left to compare with the reference", fix="build or export another artifact")
    if against == "all":
        return artifacts
    chosen: list[Artifact] = []
    for name in (part.strip() for part in against.split(",")):
        found = [artifact for artifact in artifacts if name in (artifact.precision.value, artifact.path.name)]
        if not found:
            known = dict.fromkeys(artifact.precision.value for artifact in artifacts)
            raise ManifestError(
                f"{manifest.path} lists no artifact {name!r}", fix=f"say all, {', '.join(known)}, or a file's name"
            )
        chosen += [artifact for artifact in found if artifact not in chosen]
    return tuple(chosen)


def open_reference(
    manifest: Manifest, checkpoint: Path | None, reference: Reference, threads: int | None = None
) -> Runner:
    """Open what artifacts are compared with."""
    if reference in (Reference.TORCH, Reference.WHOLE):
        return _open_torch(manifest, checkpoint, threads, whole=reference is Reference.WHOLE)
    if reference is Reference.STORED:
        from ...runtimes.stored_runner import open_stored

        return open_stored(manifest.folder / REFERENCE_NAME, describe_network(manifest), manifest.preprocessing)
    if reference is Reference.EXPECTED:
        from ...runtimes.expected import FILE_NAME, read_expected

        stored = read_expected(manifest.folder / FILE_NAME, manifest.preprocessing)
        if (classes := stored.outputs[0].shape[1]) != manifest.classes:
            raise RunnerError(
                f"{manifest.folder / FILE_NAME} has logits of {classes} classes, the network has {manifest.classes}",
                fix="make the bundle again",
            )
        return stored
    from ...core.manifest import check_artifact

    artifact = require_fp32(manifest)
    check_artifact(artifact)
    with needing_extra("verify"):
        return open_beside_others(artifact, threads)


def note_reference(manifest: Manifest, reference: Reference, reporter: Reporter) -> None:
    """Say which errors stay unseen where the reference is a file that was made from the network."""
    if reference is Reference.ONNX:
        name = require_fp32(manifest).path.name
        reporter.note(f"the reference is {name}, not the trained network: an error in it stays unseen")


def describe_network(manifest: Manifest) -> dict[str, Any]:
    """All that the reference's logits for given frames depend on: weights, architecture, preprocessing."""
    weights = manifest.weights
    return {
        "size": manifest.size.value,
        "classes": manifest.classes,
        "selections": [str(selection) for selection in manifest.selections],
        "sha256": weights.sha256,
        "seed": weights.seed,
        "selector_seed": weights.selector_seed,
        "preprocessing": asdict(manifest.preprocessing),
    }


def find_whole_clip(manifest: Manifest) -> Preprocessing:
    """The clips that the network was trained on; raises OptionError where it is on those already."""
    whole = CONFIGS[manifest.size].preprocessing
    if (whole.frames, whole.stride) == (manifest.preprocessing.frames, manifest.preprocessing.stride):
        raise OptionError(
            f"{manifest.name} works on all frames: there is no wholer network", fix="leave --reference whole out"
        )
    return whole


def _open_torch(manifest: Manifest, checkpoint: Path | None, threads: int | None, *, whole: bool = False) -> Runner:
    try:
        with needing_extra("verify"):
            network = open_network(manifest, checkpoint, whole=whole)
            if threads is not None:
                from ...runtimes.torch_runner import use_threads

                use_threads(threads)
            return network
    except MissingDependencyError as error:
        raise suggest_references(error) from error


def suggest_references(error: MissingDependencyError) -> MissingDependencyError:
    """Name the references that do without PyTorch."""
    fix = (
        f"{error.fix}, or without PyTorch pass --reference expected (in a bundle) or --reference onnx, or "
        "--reference stored where an earlier run left its reference's logits"
    )
    return MissingDependencyError(str(error), fix=fix)


def require_fp32(manifest: Manifest) -> Artifact:
    """The FP32 ONNX file; raises ManifestError without one."""
    artifact = choose_artifact(manifest, Runtime.ONNX)
    if artifact.precision is not Precision.FP32:
        raise ManifestError(
            f"{manifest.path} lists no FP32 ONNX file to compare with", fix="run `dualexport onnx --precision fp32`"
        )
    return artifact


def open_candidates(
    artifacts: Sequence[Artifact],
    limits: Mapping[str, Limits],
    opened: ExitStack,
    note: Notify,
    threads: int | None = None,
) -> dict[str, Candidate]:
    """Open a runner an artifact; one that is gone, changed or does not load is a candidate that failed.

    `limits` are by file name. The runners are closed with `opened`, and errors of that are noted.
    """
    from ...core.manifest import check_artifact
    from ...verification.compare import Candidate

    candidates = {}
    for artifact in artifacts:
        name = artifact.path.name
        try:
            check_artifact(artifact)
            runner = opened.enter_context(open_noting(open_beside_others(artifact, threads), note))
            candidates[name] = Candidate(runner, limits[name])
        except DualExportError as error:
            candidates[name] = Candidate(None, limits[name], str(error))
    return candidates


def list_class_names(manifest: Manifest, source: Iterable[Clip], reporter: Reporter) -> tuple[str, ...] | None:
    """The class names that labels are looked up in; None, noted, where the network has none and labels are names."""
    if not has_unknown_labels(manifest, source):
        return manifest.labels
    reporter.note("the labels are names, and the network was exported without class names: accuracy is left out")
    return None


def require_known_labels(source: Iterable[Clip], names: Sequence[str], classes: int) -> None:
    """Raise LabelError for the first video whose label is no class."""
    for video in getattr(source, "videos", ()):
        if video.label is not None:
            try:
                find_class(video.label, names, classes)
            except LabelError as error:
                raise LabelError(f"{video.where}: {error}", fix=error.fix) from error


def has_unknown_labels(manifest: Manifest, source: Iterable[Clip]) -> bool:
    """True where a label is a name that a network without class names cannot know."""
    labels = [video.label for video in getattr(source, "videos", ()) if video.label is not None]
    return not manifest.labels and not all(label.isdigit() for label in labels)

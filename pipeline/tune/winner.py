"""The winner's folder: its files, its calibration, and why it won."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.errors import ManifestError
from ...core.files import staged_path, staged_set
from ...core.manifest import Manifest, read_manifest
from ...core.plain import to_json
from ...core.types import Artifact
from ...report.tune import TuneDocument
from ..cascade import CASCADE_FILE, CHEAP, FORMAT, Cascade
from .candidates import Candidate
from .cascade import JudgedCascade
from .workshop import copy_files, link_calibration

TUNE_FILE = "tune.json"


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate, the manifest that lists its files, and the one that is run."""

    candidate: Candidate
    manifest: Manifest
    artifact: Artifact


def write_cascade(folder: Path, cheap: Made, dear: Made, cascade: JudgedCascade, document: TuneDocument) -> Artifact:
    """Write the dear network's files to `folder`, the cheap one's to the folder in it, and what joins them."""
    write_winner(folder / CHEAP, cheap, None)
    placed = write_winner(folder, dear, document)
    joined = Cascade(
        format=FORMAT,
        cheap=cheap.artifact.path.name,
        dear=dear.artifact.path.name,
        margin=cascade.margin,
        share=cascade.share,
    )
    with staged_path(folder / CASCADE_FILE) as staged:
        staged.write_text(to_json(joined), encoding="utf-8")
    return placed


def write_winner(folder: Path, made: Made, document: TuneDocument | None) -> Artifact:
    """Write a candidate's files to `folder`, all or none, and return the one that is run as it lies there.

    Files of a former winner that this one has not are removed. Raises OutputError.
    """
    manifest, artifact, form = made.manifest, made.artifact, made.candidate.form
    (folder / CASCADE_FILE).unlink(missing_ok=True)
    former: tuple[Artifact, ...] = ()
    with suppress(ManifestError):
        former = read_manifest(folder).artifacts
    kept = tuple(one for one in manifest.artifacts if one.format == "onnx" or one.path == artifact.path)
    with staged_set(folder) as staging:
        copy_files(manifest, kept, staging)
        if form.target is not None:
            link_calibration(manifest.folder, form.precision, staging)
        if document is not None:
            staging.path(TUNE_FILE).write_text(to_json(document), encoding="utf-8")
    names = {one.path.name for one in kept}
    for one in former:
        if one.path.name not in names:
            one.path.unlink(missing_ok=True)
    return replace(artifact, path=folder / artifact.path.name)

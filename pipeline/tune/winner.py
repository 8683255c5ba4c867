"""The winner's folder: its files, its calibration, and why it won."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...core.errors import ManifestError
from ...core.files import staged_set
from ...core.manifest import Manifest, read_manifest
from ...core.plain import to_json
from ...core.types import Artifact
from ...report.tune import TuneDocument
from .candidates import Candidate
from .workshop import copy_files, link_calibration

TUNE_FILE = "tune.json"


def write_winner(
    folder: Path, candidate: Candidate, manifest: Manifest, artifact: Artifact, document: TuneDocument
) -> Artifact:
    """Write the files of `manifest` to `folder`, all or none, and return `artifact` as it lies there.

    Files of a former winner that this one has not are removed. Raises OutputError.
    """
    former: tuple[Artifact, ...] = ()
    with suppress(ManifestError):
        former = read_manifest(folder).artifacts
    kept = tuple(one for one in manifest.artifacts if one.format == "onnx" or one == artifact)
    with staged_set(folder) as staging:
        copy_files(manifest, kept, staging)
        if candidate.form.target is not None:
            link_calibration(manifest.folder, candidate.form.precision, staging)
        staging.path(TUNE_FILE).write_text(to_json(document), encoding="utf-8")
    names = {one.path.name for one in kept}
    for one in former:
        if one.path.name not in names:
            one.path.unlink(missing_ok=True)
    return replace(artifact, path=folder / artifact.path.name)

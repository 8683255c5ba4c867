"""The manifest beside the artifacts: what they are, what they were made from, how clips are made for them.

Documented for readers in docs/manifest.md. Needs neither torch nor onnx, so an edge device can read it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from .choices import ModelSize, Precision
from .errors import ManifestError, ManifestNotFoundError, SelectionError, one_line
from .files import COMMIT, StagedSet, finish_commit, hash_file
from .manifest_document import (
    ArtifactDocument,
    ManifestDocument,
    ModelDocument,
    PreprocessingDocument,
    SchemaDocument,
    SelectionDocument,
    WeightsDocument,
)
from .reading import FileKind, is_file
from .selection import SelectedGrid, Selection, parse_selections
from .types import Artifact, Preprocessing, Weights

SCHEMA = 1
FILE_NAME = "manifest.json"
DEMO = "demo"
LAYOUT = "RGB; float32 (batch, 3, frames, height, width)"
MANIFEST = FileKind(
    "a manifest",
    ManifestError,
    "export again with `dualexport onnx`",
    max_bytes=16 << 20,
    missing=ManifestNotFoundError,
    missing_fix="run `dualexport onnx` first, or name the folder it wrote",
)
ARTIFACT = FileKind(
    "the file that the manifest lists",
    ManifestError,
    "export again, or restore the file",
    max_bytes=64 << 30,
    missing=ManifestNotFoundError,
)
TOOLS = ("dualexport", "torch", "onnx", "onnxruntime", "onnxsim", "onnxscript", "numpy", "av", "opencv-python-headless")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One network and the artifacts made from it; `folder` is where the manifest and the artifacts lie."""

    folder: Path
    size: ModelSize
    classes: int
    weights: Weights
    preprocessing: Preprocessing
    artifacts: tuple[Artifact, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    selected: tuple[SelectedGrid, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The token selections, in the order in which the network makes them."""
        return tuple(one.selection for one in self.selected)

    @property
    def name(self) -> str:
        """The name of the network's files, before precision and suffix."""
        return name_network(
            DEMO if self.weights.demo else self.size.value, self.selections, name_clip(self.size, self.preprocessing)
        )

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME

    def artifact_of(self, file_format: str, preferred: Precision) -> Artifact:
        """The artifact of that format in `preferred`, else in another precision; raises ManifestError without any."""
        found = [artifact for artifact in self.artifacts if artifact.format == file_format]
        if not found:
            raise ManifestError(f"{self.path} lists no {file_format} artifact", fix="run `dualexport onnx` first")
        return next((artifact for artifact in found if artifact.precision is preferred), found[0])

    def with_artifact(self, artifact: Artifact) -> Manifest:
        """The manifest with `artifact` in the place of an older one of the same file name, or at the end."""
        kept = tuple(other for other in self.artifacts if other.path.name != artifact.path.name)
        return replace(self, artifacts=(*kept, artifact))

    def describes_same_network(self, other: Manifest) -> bool:
        """True where both come from the same weights, so that their artifacts may stand side by side."""
        mine, others = self.weights, other.weights
        return (self.name, mine.sha256, mine.seed, mine.selector_seed) == (
            other.name,
            others.sha256,
            others.seed,
            others.selector_seed,
        )


def name_network(model: str, selections: tuple[Selection, ...] = (), clip: str = "") -> str:
    """`dualformer-t`, or `dualformer-t-16x4-T0_0.5-S2_0.74` with other clips than usual and where tokens are selected.

    `model` is a size, or `demo`; `clip` what `name_clip` gives.
    """
    kept = (str(selection).replace(":", "_") for selection in selections)
    return "-".join(("dualformer", model, *((clip,) if clip else ()), *kept))


def name_clip(size: ModelSize, clip: Preprocessing) -> str:
    """`16x4` for 16 frames of which each is the fourth; empty for the clips that the size was trained on."""
    usual = (size.frames, Preprocessing().stride)
    return "" if (clip.frames, clip.stride) == usual else f"{clip.frames}x{clip.stride}"


@cache  # which reads the metadata of them all
def tool_versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that shape an artifact."""
    versions = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            versions[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return versions


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` as JSON to `path` (a staged name; paths inside are relative to the manifest's folder)."""
    document = ManifestDocument(
        schema=SCHEMA,
        model=ModelDocument(manifest.size, manifest.classes),
        weights=WeightsDocument.of(manifest.weights, manifest.folder),
        preprocessing=PreprocessingDocument(**asdict(manifest.preprocessing), layout=LAYOUT),
        tools=dict(manifest.tools),
        artifacts=tuple(ArtifactDocument.of(artifact, manifest.folder) for artifact in manifest.artifacts),
        labels=manifest.labels or msgspec.UNSET,
        selections=tuple(SelectionDocument(str(one.selection), one.grid, one.kept) for one in manifest.selected),
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def add_artifacts(staged: StagedSet, manifest: Manifest, artifacts: tuple[Artifact, ...]) -> Manifest:
    """Stage `manifest` with `artifacts` beside those that its folder lists by now; call it when all else is written.

    The folder is locked from here to the end of the set, so that two runs lose no entry.
    """
    staged.lock()
    merged = open_manifest(manifest)
    for artifact in artifacts:
        merged = merged.with_artifact(artifact)
    write_manifest(merged, staged.path(FILE_NAME))
    return merged


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/manifest.json; what a killed run had begun to put into the folder is finished first.

    Raises ManifestError when it is missing, malformed, of a newer schema, or names a file outside `folder`.
    """
    if is_file(folder):
        raise ManifestError(
            f"{folder} is a file, not an exported folder", fix="name the folder that `dualexport onnx` wrote"
        )
    finish_commit(folder)
    path = folder / FILE_NAME
    content = MANIFEST.read_bytes(path)
    schema = MANIFEST.parse_json(path, content, SchemaDocument).schema
    if schema > SCHEMA:
        raise ManifestError(
            f"{path} has schema {schema}, this dualexport reads up to {SCHEMA}", fix="upgrade dualexport"
        )
    try:
        return _parse(MANIFEST.parse_json(path, content, ManifestDocument), folder)
    except (SelectionError, ValueError) as error:
        raise MANIFEST.refuse(path, str(error)) from error


def find_manifest(folder: Path | None) -> Manifest:
    """The manifest in `folder`; without one, in the current folder or in the only folder there that has one.

    Raises ManifestError when there is none, or more than one to choose from.
    """
    if folder is not None:
        return read_manifest(folder)
    if _has_manifest(Path()):
        return read_manifest(Path())
    found = [entry for entry in sorted(Path().iterdir()) if not entry.name.startswith(".") and _has_manifest(entry)]
    ours = [entry for entry in found if entry.name.startswith("dualformer-") or _is_ours(entry)]
    if len(ours) > 1:
        names = ", ".join(path.name for path in ours)
        raise ManifestError(f"{len(ours)} exported networks are here: {names}", fix="name the one you mean")
    if not ours:
        raise ManifestError("no exported network is here", fix="run `dualexport onnx` first, or name its folder")
    return read_manifest(ours[0])


def _has_manifest(folder: Path) -> bool:
    """True where a manifest is there, or what a killed run left, which has put all but the manifest in place."""
    return any(os.path.lexists(folder / name) for name in (FILE_NAME, COMMIT))


def _is_ours(folder: Path) -> bool:
    """True for the manifest of an exported network: other programs call their files manifest.json, too."""
    try:
        read_manifest(folder)
    except ManifestError:
        return False
    return True


def open_manifest(fresh: Manifest) -> Manifest:
    """`fresh` with what the manifest in its folder knows besides, if that is of the same network.

    That is its artifacts, and its class names where `fresh` has none. Raises ManifestError when the one that is there
    cannot be read: it is never overwritten then.
    """
    finish_commit(fresh.folder)
    if not os.path.lexists(fresh.path):
        return fresh
    existing = read_manifest(fresh.folder)
    if not fresh.describes_same_network(existing):
        return fresh
    return replace(fresh, artifacts=existing.artifacts, labels=fresh.labels or existing.labels)


def check_artifact(artifact: Artifact) -> None:
    """Raise ManifestError unless the artifact's file is there and is the one the manifest was written for."""
    found = hash_file(ARTIFACT.require(artifact.path))
    if found != artifact.sha256:
        raise ManifestError(
            f"{artifact.path.name} has changed since it was written: SHA-256 {found[:12]}, the manifest says "
            f"{artifact.sha256[:12]}",
            fix="export again, or restore the file",
        )


def _parse(document: ManifestDocument, folder: Path) -> Manifest:
    clip = document.preprocessing
    return Manifest(
        folder=folder,
        size=document.model.size,
        classes=document.model.classes,
        weights=document.weights.read(folder),
        preprocessing=Preprocessing(clip.frames, clip.stride, clip.size, clip.mean, clip.std),
        artifacts=tuple(entry.read(folder) for entry in document.artifacts),
        tools=document.tools,
        selected=_parse_selected(document.selections),
        labels=tuple(map(one_line, document.labels or ())),
    )


def _parse_selected(entries: tuple[SelectionDocument, ...]) -> tuple[SelectedGrid, ...]:
    selections = parse_selections(",".join(entry.selection for entry in entries)) if entries else ()
    return tuple(
        SelectedGrid(selection, entry.grid, entry.kept) for selection, entry in zip(selections, entries, strict=True)
    )

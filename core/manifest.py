"""The manifest beside the artifacts: what they are, what they were made from, how clips are made for them.

Documented for readers in docs/manifest.md. Needs neither torch nor onnx, so an edge device can read it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .choices import Graph, ModelSize, Precision
from .errors import ManifestError, SelectionError
from .files import hash_file
from .selection import Grid, SelectedGrid, Selection, parse_selections
from .types import Artifact, Preprocessing, TensorSpec

SCHEMA = 1
FILE_NAME = "manifest.json"
DEMO = "demo"
TOOLS = ("dualexport", "torch", "onnx", "onnxruntime", "onnxsim", "onnxscript", "numpy", "av", "opencv-python-headless")


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the network's weights came from: a checkpoint file, or a seed for random ones.

    `selector_seed` is that of selectors which the checkpoint did not have; `demo` says that the checkpoint is
    dualexport's own, which is found wherever that is installed: only its file's name counts.
    """

    checkpoint: Path | None = None
    sha256: str | None = None
    seed: int | None = None
    selector_seed: int | None = None
    demo: bool = False

    @property
    def are_random(self) -> bool:
        return self.checkpoint is None


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
        """What the network's files are called, before precision and suffix."""
        return name_network(DEMO if self.weights.demo else self.size.value, self.selections)

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
        """Whether both come from the same weights, so that their artifacts may stand side by side."""
        mine, others = self.weights, other.weights
        return (self.size, mine.sha256, mine.seed, mine.selector_seed, self.selections) == (
            other.size,
            others.sha256,
            others.seed,
            others.selector_seed,
            other.selections,
        )


def name_network(model: str, selections: tuple[Selection, ...] = ()) -> str:
    """`dualformer-t`, or `dualformer-t-T0_0.5-S2_0.74` where tokens are selected; `model` is a size, or `demo`."""
    return "-".join(("dualformer", model, *(str(selection).replace(":", "_") for selection in selections)))


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
    document = {
        "schema": SCHEMA,
        "model": {"size": manifest.size.value, "classes": manifest.classes},
        **({"labels": list(manifest.labels)} if manifest.labels else {}),
        "weights": _weights_document(manifest.weights, manifest.folder),
        "selections": [
            {"selection": str(one.selection), "grid": one.grid, "kept": one.kept} for one in manifest.selected
        ],
        "preprocessing": {
            **asdict(manifest.preprocessing),
            "layout": "RGB; float32 (batch, 3, frames, height, width)",
        },
        "tools": dict(manifest.tools),
        "artifacts": [_artifact_document(artifact, manifest.folder) for artifact in manifest.artifacts],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/manifest.json.

    Raises ManifestError when it is missing, malformed, of a newer schema, or names a file outside `folder`.
    """
    path = folder / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path}: no such file", fix="run `dualexport onnx` first, or name the folder it wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise _malformed(path, str(error)) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, int):
        raise _malformed(path, "no schema number")
    if schema > SCHEMA:
        raise ManifestError(
            f"{path} has schema {schema}, this dualexport reads up to {SCHEMA}", fix="upgrade dualexport"
        )
    try:
        return _parse(document, folder)
    except (KeyError, TypeError, ValueError, SelectionError) as error:
        raise _malformed(path, f"{type(error).__name__}: {error}") from error


def find_manifest(folder: Path | None) -> Manifest:
    """The manifest in `folder`; without one, in the current folder or in the only `dualformer-*` folder there.

    Raises ManifestError when there is none, or more than one to choose from.
    """
    if folder is not None:
        return read_manifest(folder)
    if Path(FILE_NAME).is_file():
        return read_manifest(Path())
    found = sorted(path.parent for path in Path().glob(f"dualformer-*/{FILE_NAME}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ManifestError(f"{len(found)} exported networks are here: {names}", fix="name the one you mean")
    if not found:
        raise ManifestError("no exported network is here", fix="run `dualexport onnx` first, or name its folder")
    return read_manifest(found[0])


def open_manifest(fresh: Manifest) -> Manifest:
    """`fresh`, with the artifacts of the manifest that is already in its folder where that is of the same network.

    Raises ManifestError when the one that is there cannot be read: it is never overwritten then.
    """
    if not fresh.path.exists():
        return fresh
    existing = read_manifest(fresh.folder)
    return replace(fresh, artifacts=existing.artifacts) if fresh.describes_same_network(existing) else fresh


def check_artifact(artifact: Artifact) -> None:
    """Raise ManifestError unless the artifact's file is there and is the one the manifest was written for."""
    if not artifact.path.is_file():
        raise ManifestError(f"{artifact.path}: no such file", fix="export again, or restore the file")
    found = hash_file(artifact.path)
    if found != artifact.sha256:
        raise ManifestError(
            f"{artifact.path.name} has changed since it was written: SHA-256 {found[:12]}, the manifest says "
            f"{artifact.sha256[:12]}",
            fix="export again, or restore the file",
        )


def _malformed(path: Path, reason: str) -> ManifestError:
    return ManifestError(f"{path} is not a manifest: {reason}", fix="export again with `dualexport onnx`")


def _weights_document(weights: Weights, folder: Path) -> dict[str, Any]:
    if weights.checkpoint is None:
        return {"random": True, "seed": weights.seed}
    return {
        "random": False,
        "file": weights.checkpoint.name,
        **({"demo": True} if weights.demo else {"path": Path(os.path.relpath(weights.checkpoint, folder)).as_posix()}),
        "sha256": weights.sha256,
        **({} if weights.selector_seed is None else {"untrained_selector_seed": weights.selector_seed}),
    }


def _artifact_document(artifact: Artifact, folder: Path) -> dict[str, Any]:
    return {
        "format": artifact.format,
        "precision": artifact.precision.value,
        "graph": artifact.graph.value,
        "path": artifact.path.relative_to(folder).as_posix(),
        "sha256": artifact.sha256,
        "inputs": [asdict(spec) for spec in artifact.inputs],
        "outputs": [asdict(spec) for spec in artifact.outputs],
        "parent": artifact.parent,
        "options": dict(artifact.options),
    }


def _parse(document: dict[str, Any], folder: Path) -> Manifest:
    clip = document["preprocessing"]
    return Manifest(
        folder=folder,
        size=ModelSize(document["model"]["size"]),
        classes=int(document["model"]["classes"]),
        weights=_parse_weights(document["weights"], folder),
        preprocessing=Preprocessing(
            frames=int(clip["frames"]),
            stride=int(clip["stride"]),
            size=int(clip["size"]),
            mean=_rgb(clip["mean"]),
            std=_rgb(clip["std"]),
        ),
        artifacts=tuple(_parse_artifact(entry, folder) for entry in document["artifacts"]),
        tools={str(name): str(value) for name, value in document["tools"].items()},
        selected=_parse_selected(document.get("selections", ())),
        labels=_parse_labels(document),
    )


def _parse_labels(document: dict[str, Any]) -> tuple[str, ...]:
    labels = tuple(map(str, document.get("labels", ())))
    if labels and len(labels) != document["model"]["classes"]:
        raise ValueError(f"{len(labels)} labels for {document['model']['classes']} classes")
    return labels


def _parse_selected(entries: Sequence[dict[str, Any]]) -> tuple[SelectedGrid, ...]:
    selections = parse_selections(",".join(entry["selection"] for entry in entries)) if entries else ()
    return tuple(
        SelectedGrid(selection, _grid(entry["grid"]), _grid(entry["kept"]))
        for selection, entry in zip(selections, entries, strict=True)
    )


def _grid(extents: Sequence[int]) -> Grid:
    frames, height, width = map(int, extents)
    return (frames, height, width)


def _parse_weights(source: dict[str, Any], folder: Path) -> Weights:
    if source["random"]:
        return Weights(seed=int(source["seed"]))
    demo, selector_seed = bool(source.get("demo")), source.get("untrained_selector_seed")
    return Weights(
        checkpoint=Path(source["file"]) if demo else folder / source["path"],
        sha256=str(source["sha256"]),
        selector_seed=selector_seed,
        demo=demo,
    )


def _parse_artifact(entry: dict[str, Any], folder: Path) -> Artifact:
    relative = Path(entry["path"])
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"the artifact path {entry['path']!r} leaves the manifest's folder")
    return Artifact(
        format=str(entry["format"]),
        precision=Precision(entry["precision"]),
        graph=Graph(entry["graph"]),
        path=folder / relative,
        sha256=str(entry["sha256"]),
        inputs=tuple(_parse_spec(spec) for spec in entry["inputs"]),
        outputs=tuple(_parse_spec(spec) for spec in entry["outputs"]),
        parent=entry["parent"],
        options=entry.get("options", {}),
    )


def _parse_spec(spec: dict[str, Any]) -> TensorSpec:
    return TensorSpec(str(spec["name"]), str(spec["dtype"]), tuple(int(extent) for extent in spec["shape"]))


def _rgb(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return (red, green, blue)

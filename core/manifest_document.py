"""The manifest as JSON: a typed and bounded document, since a bundle's may be a stranger's. See docs/manifest.md."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from .choices import Graph, ModelSize, Precision
from .types import Artifact, TensorSpec, Weights

MAX_CLASSES = 100_000
MAX_CLIP_BYTES = 1 << 30  # of one clip's float32 input
MAX_INPUT_BYTES = 8 << 30  # of one batch
MAX_NAME = 255  # what file systems take

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Extent = Annotated[int, Meta(ge=1, le=1 << 20)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=1024)]
Deviation = Annotated[float, Meta(ge=1e-3, le=1e6)]
Mean = Annotated[float, Meta(ge=-1e6, le=1e6)]
GridDocument = tuple[Extent, Extent, Extent]
Known = TypeVar("Known", int, str)


def _known(value: Known | None) -> Known | UnsetType:
    return UNSET if value is None else value


class ModelDocument(Struct):
    """The network: its size and number of classes."""

    size: ModelSize
    classes: Annotated[int, Meta(ge=1, le=MAX_CLASSES)]


class WeightsDocument(Struct, omit_defaults=True):
    """A checkpoint's file and hash, or the seed of random weights."""

    random: bool
    seed: Seed | UnsetType = UNSET
    file: Name | UnsetType = UNSET
    demo: bool = False
    path: Annotated[str, Meta(min_length=1, max_length=4096)] | UnsetType = UNSET
    sha256: Sha256 | UnsetType = UNSET
    untrained_selector_seed: Seed | None = None

    def __post_init__(self) -> None:
        needed = {"seed"} if self.random else {"file", "sha256", *(() if self.demo else ("path",))}
        missing = sorted(name for name in needed if getattr(self, name) is UNSET)
        if missing:
            raise ValueError(f"weights without {' and '.join(missing)}")

    @classmethod
    def of(cls, weights: Weights, folder: Path) -> WeightsDocument:
        """The document of `weights` in a manifest that lies in `folder`."""
        if weights.checkpoint is None:
            return cls(random=True, seed=_known(weights.seed))
        path = Path(os.path.relpath(weights.checkpoint, folder)).as_posix()
        return cls(
            random=False,
            file=weights.checkpoint.name,
            demo=weights.demo,
            path=UNSET if weights.demo else path,
            sha256=_known(weights.sha256),
            untrained_selector_seed=weights.selector_seed,
        )

    def read(self, folder: Path) -> Weights:
        """The weights that a manifest in `folder` was made from."""
        if self.random:
            return Weights(seed=self.seed or 0)
        return Weights(
            checkpoint=Path(self.file or "") if self.demo else folder / (self.path or ""),
            sha256=self.sha256 or None,
            selector_seed=self.untrained_selector_seed,
            demo=self.demo,
        )


class SelectionDocument(Struct):
    """A token selection, the grid of tokens it selects from and what it keeps."""

    selection: Annotated[str, Meta(max_length=32)]
    grid: GridDocument
    kept: GridDocument

    def __post_init__(self) -> None:
        if any(kept > extent for kept, extent in zip(self.kept, self.grid, strict=True)):
            raise ValueError(f"{self.selection} keeps {self.kept} of {self.grid}")


class PreprocessingDocument(Struct):
    """The rules by which a video becomes a clip."""

    frames: Annotated[int, Meta(ge=1, le=4096)]
    stride: Annotated[int, Meta(ge=1, le=4096)]
    size: Annotated[int, Meta(ge=1, le=8192)]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    layout: Text = ""

    def __post_init__(self) -> None:
        if self.frames * self.size**2 * 3 * 4 > MAX_CLIP_BYTES:
            raise ValueError(f"clips of {self.frames} frames of {self.size}x{self.size} need more than 1 GiB each")


class SpecDocument(Struct, omit_defaults=True):
    """An input or output: the first dimension is the batch, or the largest one where there is a least one."""

    name: Name
    dtype: Annotated[str, Meta(pattern="^(float(16|32|64)|u?int(8|16|32|64)|bool)$")]
    shape: Annotated[tuple[Extent, ...], Meta(max_length=8)]
    least_batch: Extent | None = None

    def __post_init__(self) -> None:
        size = 1
        for extent in self.shape:
            size *= extent
        if size > MAX_INPUT_BYTES:
            raise ValueError(f"{self.name} of {self.shape} needs more than 8 GiB")
        if self.least_batch is not None and not (self.shape and self.least_batch < self.shape[0]):
            raise ValueError(f"{self.name} takes batches from {self.least_batch} to those of {self.shape}")

    @classmethod
    def of(cls, spec: TensorSpec) -> SpecDocument:
        """The document of `spec`."""
        return cls(spec.name, spec.dtype, spec.shape, spec.least_batch)

    def read(self) -> TensorSpec:
        """The specification that the document holds."""
        return TensorSpec(self.name, self.dtype, self.shape, self.least_batch)


class ArtifactDocument(Struct):
    """A file that computes the network."""

    format: Annotated[str, Meta(pattern="^[a-z0-9-]{1,32}$")]
    precision: Precision
    graph: Graph
    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    sha256: Sha256
    inputs: Annotated[tuple[SpecDocument, ...], Meta(max_length=16)]
    outputs: Annotated[tuple[SpecDocument, ...], Meta(max_length=16)]
    parent: Sha256 | None
    options: dict[Name, Text | int | float | bool] = {}

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "\0" in self.path or not path.name:
            raise ValueError(f"the artifact path {self.path!r} leaves the manifest's folder")
        if any(len(part.encode(errors="surrogatepass")) > MAX_NAME for part in path.parts):
            raise ValueError("an artifact path has a part that is longer than file names can be")
        if (base := self.options.get("base")) is not None and base not in [precision.value for precision in Precision]:
            raise ValueError(f"the base {base!r} is no precision")

    @classmethod
    def of(cls, artifact: Artifact, folder: Path) -> ArtifactDocument:
        """The document of `artifact`, which lies in `folder`."""
        return cls(
            format=artifact.format,
            precision=artifact.precision,
            graph=artifact.graph,
            path=artifact.path.relative_to(folder).as_posix(),
            sha256=artifact.sha256,
            inputs=tuple(map(SpecDocument.of, artifact.inputs)),
            outputs=tuple(map(SpecDocument.of, artifact.outputs)),
            parent=artifact.parent,
            options=dict(artifact.options),
        )

    def read(self, folder: Path) -> Artifact:
        """The artifact in `folder`."""
        return Artifact(
            format=self.format,
            precision=self.precision,
            graph=self.graph,
            path=folder / self.path,
            sha256=self.sha256,
            inputs=tuple(spec.read() for spec in self.inputs),
            outputs=tuple(spec.read() for spec in self.outputs),
            parent=self.parent,
            options=self.options,
        )


class ManifestDocument(Struct):
    """One network and its artifacts."""

    schema: Annotated[int, Meta(ge=1)]
    model: ModelDocument
    weights: WeightsDocument
    preprocessing: PreprocessingDocument
    tools: Annotated[dict[Name, Text], Meta(max_length=256)]
    artifacts: Annotated[tuple[ArtifactDocument, ...], Meta(max_length=256)]
    labels: Annotated[tuple[Text, ...], Meta(max_length=MAX_CLASSES)] | UnsetType = UNSET
    selections: Annotated[tuple[SelectionDocument, ...], Meta(max_length=8)] = ()

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != self.model.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.model.classes} classes")
        for artifact in self.artifacts:
            logits = artifact.outputs[0].shape if artifact.outputs else ()
            if len(logits) != 2 or logits[1] != self.model.classes:
                raise ValueError(f"{artifact.path} gives {logits}, not (batch, {self.model.classes})")
            clip = self.preprocessing
            shapes = {
                "float32": (3, clip.frames, clip.size, clip.size),
                "uint8": (clip.frames, clip.size, clip.size, 3),
            }
            given = [(spec.dtype, spec.shape[1:]) for spec in artifact.inputs]
            if given not in [[shape] for shape in shapes.items()]:
                raise ValueError(f"{artifact.path} takes {given}, clips are {shapes}")
        names = [PurePosixPath(artifact.path).name for artifact in self.artifacts]
        if len(set(names)) < len(names):
            raise ValueError("two artifacts have one file name")


class SchemaDocument(Struct):
    """The number of the format alone, read before anything else."""

    schema: int

"""The workshop: a folder in which each file of a candidate is made once, and found again by what it is made of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...calibration.stored import name_files
from ...core.choices import Place, Precision, Runtime
from ...core.errors import ManifestError
from ...core.files import StagedSet, staged_set
from ...core.manifest import FILE_NAME as MANIFEST_NAME
from ...core.manifest import Manifest, check_artifact, read_manifest, tool_versions, write_manifest
from ...core.reading import is_file
from ...core.reporter import Reporter
from ...core.types import Artifact
from ...runtimes.tensorrt.engine_file import FORMAT as ENGINE_FORMAT
from ..build import build
from ..calibrate import find_folded
from ..clips import Clips
from ..distill import DistillOptions, distill
from ..export import export
from ..export_options import ExportOptions
from ..placement import place_layers
from ..quantize import QuantizeOptions, quantize
from ..runners import find_loadable
from ..verify.spread import list_stamps
from .candidates import Candidate

PROOF_CLIPS = 4
KEY_LENGTH = 10
INPUT = "uint8"


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes what candidates need in `root`.

    Files are compared on `clips` and calibrated on `calibration`; networks that are distilled learn from `lessons`.
    """

    root: Path
    clips: Clips
    calibration: Clips | None
    labels: Path | str | None
    reporter: Reporter
    lessons: Clips | None = None

    def train(self, candidate: Candidate) -> Candidate:
        """The candidate with its network distilled, where it is to be; the same one otherwise."""
        choice = candidate.network.choice
        if not choice.distilled:
            return candidate
        assert self.lessons is not None, "asked for before anything is made"
        key = digest([candidate.network.weights.sha256, choice.selections, self._list_stamps(candidate, self.lessons)])
        path = self.root / f"{candidate.network.name}-{key[:KEY_LENGTH]}.safetensors"
        if not is_file(path):
            self.reporter.note(f"distilling {candidate.network.name}")
            teacher = replace(choice, selections=None, distilled=False).load(self.labels)
            options = DistillOptions(selections=(str(choice.selections),), frames=_list_given(choice.frames))
            distill(teacher, self.lessons, path, options, progress=self.reporter.progress, notify=self.reporter.note)
        trained = replace(choice, checkpoint=path, distilled=False)
        network = replace(candidate.network, choice=trained, weights=trained.load(self.labels).weights)
        return replace(candidate, network=network)

    def export(self, candidate: Candidate) -> Manifest:
        """The FP32 and FP16 files of the candidate's network. Raises what `dualexport.export` raises."""
        network = candidate.network
        folder = self.root / f"{network.name}-{self._key(candidate)}"
        if (found := _read_whole(folder)) is not None:
            return found
        self.reporter.note(f"exporting {network.name}")
        options = ExportOptions(input=INPUT, batch=candidate.batch, proof_clips=PROOF_CLIPS)
        made = network.choice.load(self.labels)
        export(made, folder, options, self.clips, progress=self.reporter.progress, notify=self.reporter.note)
        return read_manifest(folder)

    def make(self, candidate: Candidate) -> tuple[Manifest, Artifact]:
        """The finished file, and the manifest that lists it. Raises QuantizationError and ParityError besides."""
        manifest, target = self.export(candidate), candidate.form.target
        if target is None:
            return manifest, _find_file(manifest, candidate)
        folder = self._find_folder(candidate, manifest)
        if (found := _read_whole(folder)) is not None and _has_file(found, candidate):
            return found, _find_file(found, candidate)
        self.reporter.note(f"making {candidate.name}")
        with staged_set(folder) as staging:
            copy_files(manifest, manifest.artifacts, staging)
            if (measured := self._find_calibration(manifest, folder, candidate.form.precision)) is not None:
                link_calibration(measured, candidate.form.precision, staging)
        form = candidate.form
        device = target.name if target.place is Place.DEVICE else None
        options = QuantizeOptions(
            base=form.base,
            place=target.place,
            device=device,
            precision=form.precision,
            target_agreement=form.agreement,
        )
        quantize(folder, self.calibration, options, progress=self.reporter.progress, notify=self.reporter.note)
        found = read_manifest(folder)
        return found, _find_file(found, candidate)

    def make_runnable(self, candidate: Candidate, runtime: Runtime) -> Artifact:
        """The file that `runtime` runs of a candidate: the finished one, or an engine of it, built here."""
        manifest, artifact = self.make(candidate)
        if runtime is not Runtime.TENSORRT:
            return artifact
        engines = [one for one in manifest.artifacts if one.parent == artifact.sha256 and one.format == ENGINE_FORMAT]
        if loadable := find_loadable(engines):
            return loadable[0]
        return build(artifact, progress=self.reporter.progress, notify=self.reporter.note).engine

    @contextmanager
    def draft(self, candidate: Candidate) -> Iterator[Path]:
        """A graph like the finished file to plan, before any calibration: of 8 bits with made-up scales.

        Where clips decide which layers have 8 bits, it is the finished file. Raises QuantizationError where no layer is
        worth 8 bits there, or none may have them.
        """
        manifest, target = self.export(candidate), candidate.form.target
        if target is None or candidate.form.agreement is not None:
            yield self.make(candidate)[1].path
            return
        import onnx

        from ...calibration.calibrate import draft_calibration
        from ...calibration.linear_layers import find_layers
        from ...calibration.qdq import quantize_graph
        from ...graphs.load import load_graph

        base, precision = find_folded(manifest, candidate.form.base), candidate.form.precision
        model = load_graph(base.path)
        layers = find_layers(model)
        names = frozenset(layer.name for layer in layers)
        placed = place_layers(base, names, target, precision, self.reporter)
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            path = Path(folder) / f"{candidate.name}.onnx"
            draft = draft_calibration(layers, precision)
            onnx.save(quantize_graph(model, layers, draft, names - placed.layers), path)
            yield path

    def _key(self, candidate: Candidate) -> str:
        network = candidate.network
        return digest(
            {
                "weights": [network.weights.sha256, network.weights.seed, network.weights.selector_seed],
                "selections": network.choice.selections,
                "clip": asdict(network.preprocessing),
                "labels": network.labels,
                "batch": candidate.batch,
                "input": INPUT,
                "tools": tool_versions(),
            }
        )[:KEY_LENGTH]

    def _find_folder(self, candidate: Candidate, manifest: Manifest) -> Path:
        """The folder of a file in 8 bits; its end says what it is calibrated on."""
        return manifest.folder.with_name(f"{manifest.folder.name}.{candidate.form.name}-{self.stamp(candidate)}")

    def stamp(self, candidate: Candidate) -> str:
        """A digest of the clips that a file in 8 bits is calibrated on, and of whether some of them are held out."""
        clips = self._list_stamps(candidate, self.calibration)
        return digest([*clips, "held out"] if candidate.form.agreement is not None else clips)[:KEY_LENGTH]

    def _list_stamps(self, candidate: Candidate, clips: Clips | None) -> list[Any]:
        """The clips as they are now."""
        assert clips is not None, "asked for before anything is made"
        source = clips.open(candidate.network.preprocessing)
        return [[(video.name, list_stamps(video.path)) for video in source.videos], source.views, clips.max_clips]

    def _find_calibration(self, manifest: Manifest, folder: Path, precision: Precision) -> Path | None:
        """Another folder of the same network with a calibration on the same clips."""
        start, end = f"{manifest.folder.name}.{precision.value}-", f"-{folder.name.rpartition('-')[2]}"
        others = (one for one in sorted(self.root.iterdir()) if one.name.startswith(start) and one.name.endswith(end))
        names = name_files(precision)
        return next((one for one in others if one != folder and all(is_file(one / name) for name in names)), None)


def copy_files(manifest: Manifest, artifacts: Sequence[Artifact], staging: StagedSet) -> None:
    """Stage `artifacts` of an exported folder, and a manifest of them; the files are shared where the disk allows."""
    for artifact in artifacts:
        _link(artifact.path, staging.path(artifact.path.name))
    placed = tuple(replace(one, path=staging.folder / one.path.name) for one in artifacts)
    write_manifest(replace(manifest, folder=staging.folder, artifacts=placed), staging.path(MANIFEST_NAME))


def link_calibration(folder: Path, precision: Precision, staging: StagedSet) -> None:
    """Stage the calibration that lies in `folder`."""
    for name in name_files(precision):
        _link(folder / name, staging.path(name))


def _list_given(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _read_whole(folder: Path) -> Manifest | None:
    """The manifest of a folder whose files are all there and unchanged; None otherwise."""
    try:
        manifest = read_manifest(folder)
        for artifact in manifest.artifacts:
            check_artifact(artifact)
    except ManifestError:
        return None
    return manifest


def _has_file(manifest: Manifest, candidate: Candidate) -> bool:
    return any(one.precision is candidate.form.precision for one in manifest.artifacts if one.format == "onnx")


def _find_file(manifest: Manifest, candidate: Candidate) -> Artifact:
    return next(one for one in manifest.artifacts if one.format == "onnx" and one.precision is candidate.form.precision)

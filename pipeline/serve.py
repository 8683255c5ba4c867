"""Packages an exported network for inference servers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.choices import Precision, Runtime, TritonBackend, choose_or_none
from ..core.errors import EngineError, ManifestError, OutputError
from ..core.files import staged_path
from ..core.manifest import FILE_NAME, Manifest, check_artifact, find_manifest, read_manifest, write_manifest
from ..core.reporter import Notify, Progress, no_notes, no_progress
from ..core.types import Artifact, Weights
from ..runtimes.tensorrt.engine_file import FORMAT as ENGINE_FORMAT
from ..runtimes.tensorrt.engine_file import read_record
from ..serving import triton as texts
from ..serving.triton import LABELS_FILE, MODEL_FILES, ServedNetwork
from .build import BuildOptions, Built, build, find_source
from .runners import NARROWEST_FIRST, list_artifacts

MOST_VIDEO_BYTES = 256 << 20
MODEL_FILE = """\
from dualexport.pipeline.triton_models import {name} as TritonPythonModel  # noqa: F401
"""
TEMPLATES = Path(texts.__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """The file and the server's use of it.

    `backend` None: TensorRT where an engine is listed, else ONNX Runtime; `precision` None: the narrowest engine, or
    the FP32 file. So many `instances` of the network and `decoders` run side by side.
    """

    backend: TritonBackend | str | None = None
    precision: Precision | str | None = None
    batch: int | None = None
    instances: int = 1
    decoders: int = 2


@dataclass(frozen=True, slots=True)
class ServedRepository:
    """A model repository that was written: its folder, the models in it, and the file that runs the network."""

    folder: Path
    models: tuple[str, ...]
    artifact: Artifact
    backend: TritonBackend


def triton(
    folder: Path | str | None = None,
    output: Path | str = "models",
    options: TritonOptions | None = None,
    *,
    notify: Notify = no_notes,
) -> ServedRepository:
    """Write a model repository for Triton Inference Server from an exported folder into `output`, a new folder.

    Raises ManifestError when the folder lists no file that the options ask for, EngineError for an engine that Triton
    does not load, and OutputError when `output` is there.
    """
    options = options or TritonOptions()
    backend = choose_or_none(TritonBackend, options.backend, "backend")
    precision = choose_or_none(Precision, options.precision, "precision")
    manifest = find_manifest(None if folder is None else Path(folder))
    backend = backend or _choose_backend(manifest)
    artifact = _choose_artifact(manifest, backend, precision, options.batch)
    check_artifact(artifact)
    _require_new(Path(output))
    return _write_repository(Path(output), manifest, artifact, backend, options, notify)


def build_into(
    source: Path | str | Artifact | None,
    output: Path | str,
    options: BuildOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Built:
    """Build an engine as `build` does, and write a model repository with it for Triton's `tensorrt` backend.

    Raises what `build` and `triton` raise; what Triton could not serve is refused before anything is built.
    """
    from ..runtimes.tensorrt.library import is_for_rtx, library_name

    _require_new(Path(output))
    if is_for_rtx():
        raise _refuse_for_rtx(library_name())
    options = options or BuildOptions()
    found = find_source(source, choose_or_none(Precision, options.precision, "precision"))
    if found.manifest is None:
        raise ManifestError(
            f"no manifest lists {found.artifact.path.name}: how its clips are made is not known",
            fix="build from a folder or a bundle",
        )
    built = build(found.artifact, options, progress=progress, notify=notify)
    manifest = read_manifest(found.manifest.folder)
    _write_repository(Path(output), manifest, built.engine, TritonBackend.TENSORRT, TritonOptions(), notify)
    notify(f"{output} serves the engine: start it as {output}/README.md says")
    return built


def _require_new(output: Path) -> None:
    if output.exists():
        raise OutputError(f"{output} is there already", fix="name a new folder, or delete it")


def _refuse_for_rtx(what: str) -> EngineError:
    return EngineError(
        f"{what}: Triton's tensorrt backend loads engines of TensorRT, not of TensorRT for RTX",
        fix="build with TensorRT, or serve by --backend python",
    )


def _write_repository(
    output: Path,
    manifest: Manifest,
    artifact: Artifact,
    backend: TritonBackend,
    options: TritonOptions,
    notify: Notify,
) -> ServedRepository:
    network = ServedNetwork(
        manifest.name, backend, artifact.inputs, artifact.outputs, options.instances, bool(manifest.labels)
    )
    if backend is TritonBackend.TENSORRT:
        record = read_record(artifact)
        if record.for_rtx:
            raise _refuse_for_rtx(artifact.path.name)
        notify(f"the server has to have TensorRT {record.tensorrt}, which built the engine: see its release notes")
    with staged_path(output) as staged:
        _write_models(staged, manifest, artifact, network, options)
    return ServedRepository(output, tuple(_configurations(network, options)), artifact, backend)


def _choose_backend(manifest: Manifest) -> TritonBackend:
    has_engine = any(artifact.format == ENGINE_FORMAT for artifact in manifest.artifacts)
    return TritonBackend.TENSORRT if has_engine else TritonBackend.ONNXRUNTIME


def _choose_artifact(
    manifest: Manifest, backend: TritonBackend, precision: Precision | None, batch: int | None
) -> Artifact:
    """The engine for TensorRT, the ONNX file for ONNX Runtime; the Python backend runs either, an engine first."""
    runtime = Runtime.ONNX if backend is TritonBackend.ONNXRUNTIME else Runtime.TENSORRT
    if backend is TritonBackend.PYTHON and all(artifact.format != ENGINE_FORMAT for artifact in manifest.artifacts):
        runtime = Runtime.ONNX
    order = tuple(Precision) if runtime is Runtime.ONNX else NARROWEST_FIRST
    found = [
        artifact
        for artifact in sorted(list_artifacts(manifest, runtime), key=lambda one: order.index(one.precision))
        if precision in (None, artifact.precision) and (batch is None or batch in artifact.inputs[0].batches)
    ]
    if not found:
        asked = " ".join(str(part) for part in (precision and precision.value, batch) if part)
        raise ManifestError(
            f"{manifest.path} lists no {runtime.value} file of {asked}",
            fix="leave --precision and --batch out, or make it",
        )
    return found[0]


def _write_models(
    staged: Path, manifest: Manifest, artifact: Artifact, network: ServedNetwork, options: TritonOptions
) -> None:
    for name, configuration in _configurations(network, options).items():
        version = staged / name / "1"
        version.mkdir(parents=True)
        (staged / name / "config.pbtxt").write_text(configuration, encoding="utf-8")
        if network.labelled and not name.endswith("-clips"):
            (staged / name / LABELS_FILE).write_text("\n".join(manifest.labels) + "\n", encoding="utf-8")
    served = replace(manifest, weights=_without_place(manifest.weights))
    _write_python(staged / f"{network.name}-clips" / "1", "ClipsModel", replace(served, artifacts=()))
    _write_python(staged / f"{network.name}-classes" / "1", "ClassesModel")
    version = staged / network.name / "1"
    if network.backend is TritonBackend.PYTHON:
        shutil.copyfile(artifact.path, version / artifact.path.name)
        _write_python(version, "NetworkModel", replace(served, artifacts=(artifact,)))
    else:
        shutil.copyfile(artifact.path, version / MODEL_FILES[network.backend])
    shutil.copyfile(TEMPLATES / "ask.py", staged / "ask.py")
    text = (TEMPLATES / "triton.md").read_text(encoding="utf-8")
    (staged / "README.md").write_text(text.replace("NAME", network.name), encoding="utf-8")


def _without_place(weights: Weights) -> Weights:
    """The weights' record without the folder that the checkpoint lies in here."""
    return replace(weights, checkpoint=Path(weights.checkpoint.name)) if weights.checkpoint else weights


def _write_python(version: Path, name: str, manifest: Manifest | None = None) -> None:
    """The class `name` as the backend's model.py, and what it reads."""
    (version / "model.py").write_text(MODEL_FILE.format(name=name), encoding="utf-8")
    if manifest is not None:
        artifacts = tuple(replace(one, path=version / one.path.name) for one in manifest.artifacts)
        write_manifest(replace(manifest, folder=version, artifacts=artifacts), version / FILE_NAME)


def _configurations(network: ServedNetwork, options: TritonOptions) -> dict[str, str]:
    """The text of each model's config.pbtxt, by its name."""
    return {
        network.name: texts.write_network_config(network),
        f"{network.name}-clips": texts.write_clips_config(network, MOST_VIDEO_BYTES, options.decoders),
        f"{network.name}-classes": texts.write_classes_config(network),
        f"{network.name}-video": texts.write_ensemble_config(network),
    }

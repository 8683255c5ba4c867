"""The doors to PyTorch, ONNX Runtime and TensorRT: from a folder or a file to something that infers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import Precision, Runtime, choose
from ..core.errors import CudaError, EngineError, ManifestError, MissingDependencyError, RunnerError
from ..core.manifest import FILE_NAME, Manifest, check_artifact, find_manifest, read_manifest
from ..core.reading import is_file
from ..core.reporter import Notify, no_notes
from ..core.runner import TimedRunner
from ..core.types import Artifact, TensorSpec
from ..runtimes.tensorrt.engine_file import FORMAT, SUFFIX, read_record, rebuild_command
from .cascade import has_cascade, open_cascade

if TYPE_CHECKING:
    from ..exporter.dualformer.network import DualFormer
    from ..verification.limits import Limits

CLIP_RANK = 5  # (batch, 3, frames, height, width), or (batch, frames, height, width, 3) of uint8
NARROWEST_FIRST = (Precision.INT8, Precision.FP8, Precision.FP16, Precision.FP32)


def list_artifacts(manifest: Manifest, runtime: Runtime) -> tuple[Artifact, ...]:
    """The manifest's files that a runtime runs; raises ManifestError when there is none."""
    file_format = FORMAT if runtime is Runtime.TENSORRT else "onnx"
    found = tuple(artifact for artifact in manifest.artifacts if artifact.format == file_format)
    if not found:
        fix = rebuild_command(manifest.folder, Precision.FP16) if runtime is Runtime.TENSORRT else "`dualexport onnx`"
        raise ManifestError(f"{manifest.path} lists no {file_format} artifact", fix=f"run {fix} first")
    return found


def choose_artifact(manifest: Manifest, runtime: Runtime) -> Artifact:
    """The one file to run: the FP32 graph on a CPU, the narrowest engine that this machine can load."""
    found = list_artifacts(manifest, runtime)
    if runtime is Runtime.TENSORRT:
        return _choose_engine(found)
    return next((artifact for artifact in found if artifact.precision is Precision.FP32), found[0])


def find_artifact(manifest: Manifest, runtime: Runtime) -> Artifact | None:
    """The one file to run, unchanged since it was written; None for the PyTorch network, and for a cascade."""
    if runtime is Runtime.TORCH or has_cascade(manifest.folder):
        return None
    artifact = choose_artifact(manifest, runtime)
    check_artifact(artifact)
    return artifact


def open_runner(
    source: Path | str | Artifact | Manifest | None = None,
    runtime: Runtime | str = Runtime.ONNX,
    *,
    checkpoint: Path | None = None,
    cuda_graph: bool = False,
    notify: Notify = no_notes,
) -> TimedRunner:
    """Open what runs a network: a context manager, whose `infer` takes and returns arrays by name.

    `source` is a file, or an exported folder (the only one here, if it is left out) or its manifest. Of a folder
    `runtime` chooses: "onnx" the FP32 file, "tensorrt" the narrowest engine that loads here, "torch" the network that
    all were made from; of a cascade the files that it names. `notify` is told where a CUDA graph was asked for and
    cannot be captured. Raises ManifestError, RunnerError and EngineError.
    """
    chosen = choose(Runtime, runtime, "runtime")
    if isinstance(source, (str, Path)) and is_file(Path(source)):
        return _open_file(Path(source), cuda_graph, notify)
    if isinstance(source, Artifact):
        return open_artifact(source, cuda_graph=cuda_graph, notify=notify)
    manifest = source if isinstance(source, Manifest) else find_manifest(None if source is None else Path(source))
    artifact = find_artifact(manifest, chosen)
    if artifact is not None:
        return open_artifact(artifact, cuda_graph=cuda_graph, notify=notify)
    if chosen is Runtime.TORCH:
        return open_network(manifest, checkpoint)
    return open_cascade(manifest, chosen, partial(open_artifact, cuda_graph=cuda_graph, notify=notify))


def _open_file(path: Path, cuda_graph: bool, notify: Notify) -> TimedRunner:
    """A file as the manifest beside it lists it, or else as it describes itself."""
    for artifact in read_manifest(path.parent).artifacts if is_file(path.parent / FILE_NAME) else ():
        if artifact.path.name == path.name:
            check_artifact(artifact)
            return open_artifact(artifact, cuda_graph=cuda_graph, notify=notify)
    if path.suffix == SUFFIX:
        from ..runtimes.tensorrt.runner import TensorRTRunner

        return TensorRTRunner(path, cuda_graph=cuda_graph, notify=notify)
    from ..runtimes.onnx_runner import OnnxRunner

    return OnnxRunner(path)


def open_artifact(artifact: Artifact, *, cuda_graph: bool = False, notify: Notify = no_notes) -> TimedRunner:
    """A runner of the artifact's format: ONNX Runtime on the CPU, or TensorRT."""
    if artifact.format == FORMAT:
        from ..runtimes.tensorrt.runner import TensorRTRunner

        return TensorRTRunner(artifact.path, read_record(artifact), cuda_graph=cuda_graph, notify=notify)
    from ..runtimes.onnx_runner import OnnxRunner

    return _require_listed(OnnxRunner(artifact.path), artifact)


def open_beside_others(artifact: Artifact, threads: int | None = None) -> TimedRunner:
    """The same, for where decoding and other runners want the cores too: its threads sleep when they have to wait."""
    if artifact.format == FORMAT:
        return open_artifact(artifact)
    from ..runtimes.onnx_runner import OnnxRunner

    return _require_listed(OnnxRunner(artifact.path, threads=threads, spinning=False), artifact)


def _require_listed(runner: TimedRunner, artifact: Artifact) -> TimedRunner:
    """The runner, if it takes clips and gives logits, and just as the manifest says; raises RunnerError otherwise."""
    taken, given = runner.inputs, runner.outputs[:1]
    seen = f"{artifact.path.name} takes {_show(taken)} and gives {_show(given)}"
    takes_clips = len(taken) == 1 and len(taken[0].shape) == CLIP_RANK
    gives_logits = len(given) == 1 and len(given[0].shape) == 2
    if not (takes_clips and gives_logits and taken[0].shape[0] == given[0].shape[0]):
        raise RunnerError(f"{seen}, not clips and their logits", fix="give a file that `dualexport onnx` wrote")
    if (taken, given) != (artifact.inputs, artifact.outputs[:1]):
        listed = f"{_show(artifact.inputs)} and {_show(artifact.outputs[:1])}"
        raise RunnerError(f"{seen}; its manifest says {listed}", fix="export again with `dualexport onnx`")
    return runner


def _show(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.dtype} {spec.shape}" for spec in specs) or "nothing"


def open_network(manifest: Manifest, checkpoint: Path | None = None, *, whole: bool = False) -> TimedRunner:
    """The PyTorch network that the artifacts were made from; `whole`, on the clips that it was trained on."""
    from ..exporter.loading import restore_network, restore_whole

    network = restore_whole(manifest, checkpoint) if whole else restore_network(manifest, checkpoint)
    config = network.config
    if whole and config.trained_frames not in (None, config.frames):
        raise ManifestError(
            f"{manifest.name} was distilled to {config.frames} frames, and is not meant for more",
            fix="verify it beside the folder of its teacher",
        )
    return wrap_network(network)


def wrap_network(network: DualFormer) -> TimedRunner:
    """A PyTorch network as a runner, one clip at a time."""
    from ..runtimes.torch_runner import TorchRunner

    inputs = (TensorSpec("clip", "float32", (1, *network.config.clip_shape)),)
    return TorchRunner(network, inputs, (TensorSpec("logits", "float32", (1, network.config.classes)),))


def limits_of(artifact: Artifact, limits: Mapping[Precision, Limits], logit_difference: float | None) -> Limits:
    """The limits of an artifact; `logit_difference` is the user's own, None for that of the precision.

    An FP32 engine multiplies in TF32, TensorRT's default, which has the mantissa of FP16.
    """
    in_tf32 = artifact.format == FORMAT and artifact.precision is Precision.FP32
    limit = limits[Precision.FP16 if in_tf32 else artifact.precision]
    return limit if logit_difference is None else replace(limit, logit_difference=logit_difference)


def skip_stale(artifacts: Sequence[Artifact], note: Notify) -> tuple[Artifact, ...]:
    """`artifacts` without the engines that do not load here, each of which is noted; the refusal where none is left."""
    engines = tuple(artifact for artifact in artifacts if artifact.format == FORMAT)
    try:
        refusals = _find_refusals(engines) if engines else {}
    except (CudaError, EngineError, MissingDependencyError):  # nothing here loads engines: opening one says why
        return tuple(artifacts)
    left = tuple(artifact for artifact in artifacts if artifact.path not in refusals)
    if not left and refusals:
        raise next(iter(refusals.values()))
    for refusal in refusals.values():
        note(f"left out: {refusal} ({refusal.fix})")
    return left


def find_loadable(engines: Sequence[Artifact]) -> list[Artifact]:
    """The engines that load here. Raises CudaError, EngineError and MissingDependencyError where none could."""
    refusals = _find_refusals(tuple(engines)) if engines else {}
    return [engine for engine in engines if engine.path not in refusals]


def _choose_engine(engines: tuple[Artifact, ...]) -> Artifact:
    """A folder may hold engines for several devices; without one for this one, the narrowest is refused by name."""
    refusals = _find_refusals(engines)
    narrowest_first = sorted(engines, key=lambda engine: NARROWEST_FIRST.index(engine.precision))
    for engine in narrowest_first:
        if engine.path not in refusals:
            return engine
    raise refusals[narrowest_first[0].path]


def _find_refusals(engines: tuple[Artifact, ...]) -> dict[Path, EngineError]:
    """The reasons of engines that cannot be loaded here."""
    from ..runtimes.tensorrt.admission import Installation, require_loadable
    from ..runtimes.tensorrt.load import installed_layer

    layer = installed_layer()
    here = Installation(layer.version, layer.for_rtx, layer.cuda.device().compute_capability)
    refusals: dict[Path, EngineError] = {}
    for engine in engines:
        try:
            require_loadable(engine.path, read_record(engine), here)
        except EngineError as error:
            refusals[engine.path] = error
    return refusals

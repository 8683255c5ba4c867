"""Packages an exported network for DeepStream's application for action recognition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from ..core.choices import InputType, Precision, choose_or_none
from ..core.errors import EngineError, ExportError, ManifestError, OptionError, OutputError
from ..core.files import staged_path
from ..core.manifest import Manifest, check_artifact, find_manifest
from ..core.reporter import Notify, Progress, no_notes, no_progress
from ..core.types import Artifact
from ..serving import deepstream as texts
from ..serving.deepstream import Application
from .build import build, list_graphs, unpack

FORBIDDEN = frozenset(';\\"\n\r\t ')  # in an address: they end it, or begin an escape
SMALLEST_FRAME, LARGEST_FRAME = 16, 16384
PREFERRED = (Precision.FP16, Precision.FP32, Precision.INT8, Precision.FP8)
TENSORRT_MAJOR = "10"  # of DeepStream 9
TEMPLATE = Path(texts.__file__).parent / "templates" / "deepstream.md"


@dataclass(frozen=True, slots=True)
class DeepStreamOptions:
    """The cameras, and the file that classifies their clips.

    `precision` None: the FP16 file, else the FP32 file. `frame` is the (width, height) of the cameras' frames, `every`
    the frames from one clip of a camera to its next, by default half a clip, `threshold` the least probability of a
    class that is shown. With `build_engine` the engine is made here, else by DeepStream when it first starts.
    """

    cameras: tuple[str, ...] = ("rtsp://camera-0/stream", "rtsp://camera-1/stream")
    frame: tuple[int, int] = (1920, 1080)
    every: int | None = None
    precision: Precision | str | None = None
    threshold: float = 0.0
    build_engine: bool = False


@dataclass(frozen=True, slots=True)
class DeepStreamApplication:
    """An application that was written: its folder, its ONNX file, and its engine where one was built."""

    folder: Path
    model: Artifact
    engine: Artifact | None


def deepstream(
    folder: Path | str | None = None,
    output: Path | str = "app",
    options: DeepStreamOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> DeepStreamApplication:
    """Write an application for DeepStream 9 from an exported folder or a bundle into `output`, a new folder.

    Raises ManifestError, ExportError, OptionError and EngineError for what DeepStream would refuse or misread, and
    OutputError when `output` is there.
    """
    from ..graphs.describe import describe_onnx
    from ..graphs.edit import write_probabilities

    options, output = options or DeepStreamOptions(), Path(output)
    manifest = find_manifest(unpack(None if folder is None else Path(folder)))
    source = _choose_graph(manifest, options.precision)
    _require_possible(options)
    hop = _count_hop(options.every, manifest)
    if output.exists():
        raise OutputError(f"{output} is there already", fix="name a new folder with --output, or delete it")
    if options.build_engine:
        _require_tensorrt()
    check_artifact(source)
    with staged_path(output) as staged:
        staged.mkdir()
        path = staged / f"{manifest.name}.{source.precision.value}.onnx"
        write_probabilities(source.path, path)
        model = describe_onnx(path)
        engine = build(path, progress=progress, notify=notify).engine if options.build_engine else None
        application = Application(
            path.name,
            engine.path.name if engine else None,
            model.inputs[0],
            manifest.preprocessing,
            options.cameras,
            options.frame,
            hop,
            options.threshold,
        )
        _write_texts(staged, application, manifest)
    moved = replace(engine, path=output / engine.path.name) if engine else None
    return DeepStreamApplication(output, replace(model, path=output / path.name), moved)


def _choose_graph(manifest: Manifest, precision: Precision | str | None) -> Artifact:
    """The ONNX file to serve; raises ManifestError without one, ExportError for one that takes other clips."""
    wanted = choose_or_none(Precision, precision, "precision")
    found = [graph for graph in list_graphs(manifest) if wanted in (None, graph.precision)]
    if not found:
        raise ManifestError(
            f"{manifest.path} lists no {wanted.value if wanted else ''} ONNX file for a GPU",
            fix=f"run `dualexport {wanted.value if wanted and wanted.is_eight_bit else 'onnx'}` first",
        )
    graph = min(found, key=lambda one: (1 not in one.inputs[0].batches, PREFERRED.index(one.precision)))
    clip = graph.inputs[0]
    if clip.dtype != InputType.FLOAT32.value:
        raise ExportError(
            f"{graph.path.name} takes {clip.dtype} frames, DeepStream's sequence library writes float32 clips",
            fix="export again without --input uint8",
        )
    if 1 not in clip.batches:
        raise ExportError(
            f"{graph.path.name} takes {clip.batches[0]} clips at a time or more: cameras' clips are ready at different "
            "times, and DeepStream refuses a part of a batch",
            fix="export again with --batch 1, which serves any number of cameras, or with a range like --batch 1-8",
        )
    return graph


def _require_possible(options: DeepStreamOptions) -> None:
    """Raise OptionError for addresses, sizes and thresholds that the configurations cannot hold."""
    if not 0 <= options.threshold <= 1:
        raise OptionError(f"a threshold of {options.threshold:g}", fix="give a probability, 0 to 1")
    if not options.cameras:
        raise OptionError("no camera is given", fix="give at least one address")
    for address in options.cameras:
        if not urlsplit(address).scheme or FORBIDDEN.intersection(address):
            raise OptionError(
                f"{address!r} is no address", fix="give a URI: rtsp://camera/stream, or file:///videos/a.mp4"
            )
    width, height = options.frame
    if not all(SMALLEST_FRAME <= side <= LARGEST_FRAME for side in options.frame):
        raise OptionError(
            f"frames of {width}x{height}, {SMALLEST_FRAME} to {LARGEST_FRAME} pixels a side are taken",
            fix="give the width and the height of the cameras' frames",
        )


def _count_hop(every: int | None, manifest: Manifest) -> int:
    """The frames that are taken from one clip to the next, of which the sequence library counts."""
    clip = manifest.preprocessing
    if every is None:
        return max(1, clip.frames // 2)
    if every < 1 or every % clip.stride:
        raise OptionError(
            f"a clip every {every} frames: the network takes every {clip.stride}th frame",
            fix=f"give a multiple of {clip.stride}",
        )
    return every // clip.stride


def _require_tensorrt() -> None:
    """Raise EngineError where engines are built that DeepStream does not load."""
    from ..runtimes.tensorrt.library import library_name, library_version

    name, version = library_name(), library_version()
    if name != "TensorRT" or version.partition(".")[0] != TENSORRT_MAJOR:
        raise EngineError(
            f"DeepStream 9 loads engines of TensorRT {TENSORRT_MAJOR}, this is {name} {version}",
            fix="leave the engine to DeepStream, which builds it when it first starts",
        )


def _write_texts(folder: Path, application: Application, manifest: Manifest) -> None:
    files = {
        texts.PREPROCESS_FILE: texts.write_sections(texts.describe_preprocessing(application)),
        texts.INFER_FILE: texts.write_sections(texts.describe_inference(application)),
        texts.APPLICATION_FILE: texts.write_sections(texts.describe_application(application)),
        texts.LABELS_FILE: texts.write_labels(manifest.labels, manifest.classes),
        "README.md": TEMPLATE.read_text(encoding="utf-8").replace("NAME", application.model),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")

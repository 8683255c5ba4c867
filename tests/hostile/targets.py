"""Every kind of file that is read from outside: a valid one, and what reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dualexport.calibration.calibrate import read_calibration
from dualexport.calibration.stored import FILE_NAME
from dualexport.clips.addresses import parse_sources
from dualexport.clips.camera import StreamOptions
from dualexport.clips.labels import label_videos
from dualexport.clips.listing import Video
from dualexport.clips.live import LiveWindows
from dualexport.clips.source import ClipSource
from dualexport.core.class_names import read_labels
from dualexport.core.files import hash_file
from dualexport.core.logit_store import LogitStore, ReferenceInfo, StoredLogits
from dualexport.core.manifest import check_artifact, read_manifest
from dualexport.core.reporter import Reporter
from dualexport.exporter.bundle import unpack_bundle
from dualexport.exporter.checkpoint import read_checkpoint
from dualexport.graphs.describe import describe_onnx
from dualexport.graphs.lint import lint_onnx
from dualexport.graphs.load import load_graph
from dualexport.graphs.work import read_graph_work
from dualexport.pipeline.latency import MEASUREMENT, read_latency
from dualexport.report.bench import Bench
from dualexport.runtimes.expected import read_expected
from dualexport.runtimes.onnx_runner import OnnxRunner
from dualexport.runtimes.tensorrt.engine_file import read_engine_version
from dualexport.verification.limits import read_limits

from .valid import (
    CLASSES,
    CLIP,
    STORED_KEY,
    make_arrays,
    make_bench,
    make_bundle,
    make_calibration,
    make_checkpoint,
    make_engine,
    make_expected,
    make_graph,
    make_labels_of,
    make_manifest,
    make_picture,
    make_safetensors,
    make_stored,
    make_text,
    make_video,
    make_weights,
)


@dataclass(frozen=True, slots=True)
class Target:
    """Makes a valid file in a folder, and uses the file at that path.

    `is_json` says that it can be changed as such, `is_taken` that the valid one is no error.
    """

    make: Callable[[Path], Path]
    use: Callable[[Path], object]
    is_json: bool = False
    is_taken: bool = True


def use_manifest(path: Path) -> None:
    """Read the manifest and look at what it lists."""
    for artifact in read_manifest(path.parent).artifacts:
        check_artifact(artifact)


def use_graph(path: Path) -> None:
    """Everything that reads an ONNX file; what one reader takes, another may refuse."""
    load_graph(path)
    lint_onnx(path)
    read_graph_work(path)
    describe_onnx(path)
    with OnnxRunner(path, threads=1) as runner:
        runner.infer({spec.name: np.zeros(spec.shape, spec.dtype) for spec in runner.inputs})


def use_weights(path: Path) -> None:
    """Read the calibration, whose document names the weights as they are by now."""
    document = json.loads((path.parent / FILE_NAME).read_text())
    if path.is_file():
        document["weights"]["sha256"] = hash_file(path)
    (path.parent / FILE_NAME).write_text(json.dumps(document))
    read_calibration(path.parent)


def use_bundle(path: Path) -> None:
    """Unpack the bundle; a failure must leave nothing."""
    target = path.parent / "to"
    target.mkdir(exist_ok=True)
    try:
        unpack_bundle(path, target)
    finally:
        left = [entry.name for entry in target.iterdir() if entry.name.startswith(".")]
        shutil.rmtree(target)
        assert not left, left


def use_bench(path: Path) -> None:
    """Read the measurement, and show it as a report would."""
    if not path.is_file():  # a report leaves it out then
        raise MEASUREMENT.refuse(path, "no such file")
    MEASUREMENT.read_json(path, Bench)
    read_latency(read_manifest(path.parent), Reporter())


def use_stored(path: Path) -> None:
    """Find the clip's logits, then all of them."""
    with closing(StoredLogits(path)) as stored:
        stored.find(STORED_KEY)
    with LogitStore(None, {}) as store:
        store.add({b"y" * 32: np.zeros(CLASSES, np.float32)})
        store.publish(path, ReferenceInfo({}, "torch", CLASSES))


def read_clips(path: Path) -> None:
    """Read all clips of a source."""
    for _ in ClipSource(path, CLIP, views=2):
        pass


def read_windows(path: Path) -> None:
    """Read all windows of a file as a stream."""
    with LiveWindows(parse_sources([str(path)]), CLIP, StreamOptions(every=4), lambda _: None) as windows:
        for _ in windows:
            pass


TARGETS: Mapping[str, Target] = {
    "manifest": Target(make_manifest, use_manifest, is_json=True),
    "graph": Target(make_graph, use_graph),
    "calibration": Target(make_calibration, lambda path: read_calibration(path.parent), is_json=True),
    "weights of a calibration": Target(make_weights, use_weights),
    "limits": Target(make_text("limits.toml", "[int8]\ncosine = 0.9\nsnr_db = false\n"), read_limits),
    "list": Target(make_text("list.csv", "path,label\na.mp4,x\n"), read_clips),
    "text list": Target(make_text("list.txt", "a.mp4 x\n# no\na.mp4\tx\n"), read_clips),
    "Kinetics list": Target(
        make_text("val.csv", "label,youtube_id,time_start,time_end,split\nx,ab-_c,1,11,val\n"), read_clips
    ),
    "class names": Target(make_text("labels.txt", "a\nb\nc\n"), lambda path: read_labels(path, CLASSES)),
    "labels": Target(make_labels_of, lambda path: label_videos((Video(Path("a.mp4"), "a.mp4"),), path)),
    "mp4": Target(make_video(".mp4"), read_clips),
    "mkv": Target(make_video(".mkv"), read_clips),
    "avi": Target(make_video(".avi"), read_clips),
    "ts": Target(make_video(".ts"), read_clips),
    "stream": Target(make_video(".mp4"), read_windows),
    "npy": Target(make_arrays("clips.npy"), read_clips),
    "npz": Target(make_arrays("clips.npz"), read_clips),
    "picture": Target(make_picture, lambda path: read_clips(path.parent)),
    "expected outputs": Target(make_expected, lambda path: read_expected(path, CLIP)),
    "bundle": Target(make_bundle, use_bundle),
    "checkpoint": Target(make_checkpoint, read_checkpoint, is_taken=False),
    "safetensors": Target(make_safetensors, read_checkpoint, is_taken=False),
    "measurement": Target(make_bench, use_bench, is_json=True),
    "stored logits": Target(make_stored, use_stored),
    "engine": Target(make_engine, read_engine_version),
}

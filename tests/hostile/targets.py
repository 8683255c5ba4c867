"""Every kind of file that is read from outside: a valid one, and what reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from dualexport.calibration.calibrate import ActivationRange, Calibration, read_calibration, write_calibration
from dualexport.calibration.gptq import RoundedWeight
from dualexport.calibration.observe import ClipRecord
from dualexport.calibration.stored import FILE_NAME, WEIGHTS_NAME
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import write_video
from dualexport.core.choices import Graph, Method, ModelSize, Precision
from dualexport.core.class_names import read_labels
from dualexport.core.files import hash_file
from dualexport.core.manifest import Manifest, Weights, check_artifact, read_manifest, write_manifest
from dualexport.core.types import Artifact, Preprocessing, TensorSpec
from dualexport.exporter.bundle import staged_bundle, unpack_bundle
from dualexport.graphs.describe import describe_onnx
from dualexport.graphs.lint import lint_onnx
from dualexport.graphs.load import load_graph
from dualexport.graphs.work import read_graph_work
from dualexport.runtimes.expected import read_expected
from dualexport.runtimes.onnx_runner import OnnxRunner
from dualexport.verification.limits import read_limits
from onnx import TensorProto, helper, numpy_helper

CLIP = Preprocessing(frames=4, stride=2, size=16)
CLASSES = 3
SHAPE = (1, 3, CLIP.frames, CLIP.size, CLIP.size)


@dataclass(frozen=True, slots=True)
class Target:
    """Makes a valid file in a folder, and uses the file at that path; `is_json` says that it can be changed as such."""

    make: Callable[[Path], Path]
    use: Callable[[Path], object]
    is_json: bool = False


def make_graph(folder: Path) -> Path:
    """A network of one linear layer over the mean colour of a clip."""
    weights = np.arange(3 * CLASSES, dtype=np.float32).reshape(3, CLASSES) / 10
    axes = numpy_helper.from_array(np.array([2, 3, 4], np.int64), "axes")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["clip", "axes"], ["colour"], name="pool", keepdims=0),
            helper.make_node("Gemm", ["colour", "head.weight", "head.bias"], ["logits"], name="head"),
        ],
        "network",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, CLASSES))],
        [axes, numpy_helper.from_array(weights, "head.weight"), numpy_helper.from_array(weights[0], "head.bias")],
    )
    path = folder / "network.fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def make_manifest(folder: Path) -> Path:
    """The folder of an exported network, as far as a command can tell."""
    path = make_graph(folder)
    specs = (TensorSpec("clip", "float32", SHAPE),), (TensorSpec("logits", "float32", (1, CLASSES)),)
    artifact = Artifact("onnx", Precision.FP32, Graph.FOLDED, path, hash_file(path), *specs, None, {"opset": 18})
    manifest = Manifest(folder, ModelSize.N, CLASSES, Weights(seed=0), CLIP, (artifact,), {}, labels=("a", "b", "c"))
    write_manifest(manifest, manifest.path)
    return manifest.path


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


def make_calibration(folder: Path) -> Path:
    """A calibration of one layer on one clip."""
    rounded = RoundedWeight(np.ones((4, 3), np.int8), np.full(4, 0.25, np.float32))
    clips = (ClipRecord("a.mp4", 0, (0, 2), "ab" * 32),)
    ranges = {"pool/x": ActivationRange(-1.0, 1.0, 0.125)}
    calibration = Calibration("cd" * 32, Method.MAX, clips, ranges, {"blocks.0.0.fc1": rounded})
    write_calibration(calibration, folder / FILE_NAME, folder / WEIGHTS_NAME)
    return folder / FILE_NAME


def make_weights(folder: Path) -> Path:
    """The weights of that calibration."""
    make_calibration(folder)
    return folder / WEIGHTS_NAME


def use_weights(path: Path) -> None:
    """Read the calibration, whose document names the weights as they are by now."""
    document = json.loads((path.parent / FILE_NAME).read_text())
    if path.is_file():
        document["weights"]["sha256"] = hash_file(path)
    (path.parent / FILE_NAME).write_text(json.dumps(document))
    read_calibration(path.parent)


def make_video(suffix: str) -> Callable[[Path], Path]:
    """Makes a video of 12 frames; `suffix` says in which container."""

    def make(folder: Path) -> Path:
        path = folder / f"video{suffix}"
        frames = np.random.default_rng(0).integers(0, 255, (12, 24, 32, 3), np.uint8)
        write_video(path.with_suffix(".mp4"), frames, keyframe_interval=4)
        if suffix != ".mp4":
            path.with_suffix(".mp4").rename(path)
        return path

    return make


def make_text(name: str, text: str) -> Callable[[Path], Path]:
    """Makes a file of that text, beside an empty a.mp4."""

    def make(folder: Path) -> Path:
        (folder / "a.mp4").touch()
        (folder / name).write_text(text)
        return folder / name

    return make


def make_arrays(name: str) -> Callable[[Path], Path]:
    """Makes a .npy or .npz file of two clips."""

    def make(folder: Path) -> Path:
        clips = np.zeros((2, CLIP.frames, CLIP.size, CLIP.size, 3), np.uint8)
        if name.endswith(".npz"):
            np.savez_compressed(folder / name, clips)
        else:
            np.save(folder / name, clips)
        return folder / name

    return make


def make_expected(folder: Path) -> Path:
    """Expected outputs of one clip."""
    clips = np.zeros((1, CLIP.frames, CLIP.size, CLIP.size, 3), np.uint8)
    logits = np.zeros((1, CLASSES), np.float32)
    np.savez_compressed(
        folder / "expected.npz", clips=clips, logits=logits, names=np.array(["a"]), reference=np.array("torch")
    )
    return folder / "expected.npz"


def make_bundle(folder: Path) -> Path:
    """A bundle of the small network."""
    place = folder / "from"
    place.mkdir()
    make_manifest(place)
    with staged_bundle(read_manifest(place), folder / "bundle.tar.gz"):
        pass
    return folder / "bundle.tar.gz"


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


def make_picture(folder: Path) -> Path:
    """A picture of noise, alone in a folder."""
    place = folder / "frames"
    place.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    cv2.imwrite(str(place / "1.png"), noise)
    return place / "1.png"


def read_clips(path: Path) -> None:
    """Read all clips of a source."""
    for _ in ClipSource(path, CLIP, views=2):
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
    "mp4": Target(make_video(".mp4"), read_clips),
    "npy": Target(make_arrays("clips.npy"), read_clips),
    "npz": Target(make_arrays("clips.npz"), read_clips),
    "picture": Target(make_picture, lambda path: read_clips(path.parent)),
    "expected outputs": Target(make_expected, lambda path: read_expected(path, CLIP)),
    "bundle": Target(make_bundle, use_bundle),
}

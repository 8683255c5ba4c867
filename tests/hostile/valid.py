"""Makes a valid file of every kind that is read from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from dualexport.calibration.calibrate import ActivationRange, Calibration, write_calibration
from dualexport.calibration.gptq import RoundedWeight
from dualexport.calibration.observe import ClipRecord
from dualexport.calibration.stored import FILE_NAME, WEIGHTS_NAME
from dualexport.clips.synthetic import write_video
from dualexport.core.choices import Graph, Method, ModelSize, Precision
from dualexport.core.files import hash_file
from dualexport.core.logit_store import REFERENCE_NAME, LogitStore, ReferenceInfo
from dualexport.core.manifest import Manifest, read_manifest, write_manifest
from dualexport.core.types import Artifact, Preprocessing, TensorSpec, Weights
from dualexport.exporter.bundle import staged_bundle
from dualexport.exporter.checkpoint import FIRST_WEIGHT, HEAD_WEIGHT
from dualexport.pipeline.latency import BENCH_FILE
from dualexport.report.bench import FORMAT
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

CLIP = Preprocessing(frames=4, stride=2, size=16)
CLASSES = 3
STORED_KEY = b"x" * 32
SHAPE = (1, 3, CLIP.frames, CLIP.size, CLIP.size)


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


def make_video(suffix: str) -> Callable[[Path], Path]:
    """Makes a video of 12 frames; `suffix` says in which container."""

    def make(folder: Path) -> Path:
        path = folder / f"video{suffix}"
        frames = np.random.default_rng(0).integers(0, 255, (12, 24, 32, 3), np.uint8)
        write_video(path, frames, keyframe_interval=4)
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


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint in the published format of two of the network's tensors, which are too few."""
    state = {FIRST_WEIGHT: torch.ones(32, 3, 2, 4, 4), HEAD_WEIGHT: torch.ones(CLASSES, 256)}
    torch.save({"state_dict": state, "meta": {"epoch": 1}}, folder / "network.pth")
    return folder / "network.pth"


def make_safetensors(folder: Path) -> Path:
    """The same as .safetensors."""
    save_file(torch.load(make_checkpoint(folder))["state_dict"], folder / "network.safetensors")
    return folder / "network.safetensors"


def make_bench(folder: Path) -> Path:
    """A measurement of two files of the small network."""
    make_manifest(folder)
    (sha256,) = (artifact.sha256 for artifact in read_manifest(folder).artifacts)
    times = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "clip_ms", "clips_a_second", "load_seconds", "round_spread")
    measured = {"runner": "ONNX Runtime", "copies": "included", "batch": 1, "runs": 3, **dict.fromkeys(times, 2.0)}
    measured |= {"samples_ms": [1.0, 2.0, 3.0], "host_peak_mb": 1.5, "device_peak_mb": None, "ratio": None}
    results = [{"artifact": f"{number}.onnx", "sha256": sha256, **measured} for number in range(2)]
    document = {"format": FORMAT, "reference": "0.onnx", "results": results, "warnings": ["x"], "environment": {}}
    document |= {"copies": "all", "tools": {"numpy": "2"}, "folders": ["D"]}
    (folder / BENCH_FILE).write_text(json.dumps(document))
    return folder / BENCH_FILE


def make_stored(folder: Path) -> Path:
    """Logits of one clip as `verify` stores them."""
    with LogitStore(None, {}) as store:
        store.add({STORED_KEY: np.zeros(CLASSES, np.float32)})
        store.publish(folder / REFERENCE_NAME, ReferenceInfo({}, "torch", CLASSES))
    return folder / REFERENCE_NAME


def make_engine(folder: Path) -> Path:
    """The header of an engine file."""
    (folder / "x.engine").write_bytes(b"ptrt" + bytes(20) + b"\x0a\x0d\x00\x00" + bytes(100))
    return folder / "x.engine"


def make_labels_of(folder: Path) -> Path:
    """Labels for a.mp4."""
    return make_text("labels.csv", "path,label\na.mp4,x\n")(folder)


def make_picture(folder: Path) -> Path:
    """A picture of noise, alone in a folder."""
    place = folder / "frames"
    place.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    cv2.imwrite(str(place / "1.png"), noise)
    return place / "1.png"

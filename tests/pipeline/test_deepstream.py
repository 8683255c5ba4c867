"""An application folder is what DeepStream's published source reads, and its keys compute the clips of `predict`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from dualexport.clips.source import ClipSource
from dualexport.core.choices import Precision
from dualexport.core.errors import EngineError, ExportError, ManifestError, OptionError, OutputError
from dualexport.core.manifest import read_manifest, write_manifest
from dualexport.core.types import TensorSpec
from dualexport.exporter.bundle import staged_bundle
from dualexport.pipeline.deepstream import DeepStreamOptions, deepstream
from dualexport.pipeline.runners import open_artifact, open_runner
from dualexport.serving.deepstream import (
    Application,
    describe_inference,
    describe_preprocessing,
    find_centre_square,
)
from dualexport.verification.measures import softmax
from hypothesis import given
from hypothesis import strategies as st
from support.cli import run
from support.deepstream import prepare_clips, read_application, read_inference, read_preprocessing

Image = np.typing.NDArray[np.uint8]
RECORDED = ("arm_wrestling.mp4", "flipping_a_pancake.mkv", "test.avi", "test.mp4")


@pytest.fixture(scope="module")
def application(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model's, for three cameras of 640x480 and a clip every ten frames."""
    cameras = ("rtsp://one/stream", "rtsp://two/stream", "file:///videos/three.mp4")
    options = DeepStreamOptions(cameras, (640, 480), every=10, threshold=0.25)
    return deepstream(demo, tmp_path_factory.mktemp("deepstream") / "app", options).folder


def test_configurations_are_what_deepstream_reads_and_fit_the_network(application: Path, demo: Path) -> None:
    clip = read_manifest(demo).preprocessing
    keys = read_preprocessing(application / "preprocess.txt")
    infer = read_inference(application / "infer.txt")
    whole = read_application(application / "application.txt")
    settings, user, group = keys["property"], keys["user-configs"], keys["group-0"]

    assert settings["network-input-shape"] == (1, 3, clip.frames, clip.size, clip.size)
    assert settings["tensor-name"] == "clip"
    assert settings["network-input-order"] == 2
    assert settings["custom-tensor-preparation-function"] == "CustomSequenceTensorPreparation"
    assert settings["tensor-buf-pool-size"] > 3  # each camera keeps one while it fills it
    assert settings["target-unique-ids"] == (infer["gie-unique-id"],)
    np.testing.assert_allclose(user["channel-scale-factors"], 1 / np.array(clip.std), rtol=1e-8)
    assert user["channel-mean-offsets"] == clip.mean
    assert user["subsample"] == clip.stride - 1
    assert user["stride"] * clip.stride == 10
    assert group["src-ids"] == (0, 1, 2)
    assert [group[f"roi-params-src-{camera}"] for camera in range(3)] == [(80, 0, 480, 480)] * 3

    assert (infer["input-tensor-from-meta"], infer["network-type"], infer["strongly-typed"]) == (True, 1, True)
    assert infer["network-mode"] == 0  # a type beside the file's own is an error in a strongly typed network
    assert infer["batch-size"] == 1
    assert infer["classifier-threshold"] == 0.25
    assert infer["model-engine-file"] == f"{infer['onnx-file']}_b1_gpu0_fp32.engine"
    assert len(whole["uri-list"]) == 3
    assert (whole["muxer-width"], whole["muxer-height"]) == (640, 480)
    for name in (infer["onnx-file"], infer["labelfile-path"], whole["preprocess-config"], whole["infer-config"]):
        assert (application / name).is_file()
    labels = (application / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(";") for line in labels] == [list(read_manifest(demo).labels)]
    assert all(str(Path.home()) not in path.read_text() for path in application.glob("*.txt"))


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.FP32])
def test_the_network_gives_the_probabilities_of_the_exported_file_s_logits(
    demo: Path, tmp_path: Path, precision: Precision
) -> None:
    written = deepstream(demo, tmp_path / "app", DeepStreamOptions(precision=precision))
    assert written.model.precision is precision
    assert [(spec.name, spec.dtype) for spec in written.model.outputs] == [("probabilities", "float32")]
    (original,) = (one for one in read_manifest(demo).artifacts if one.precision is precision)
    clip = np.random.default_rng(1).normal(size=original.inputs[0].shape).astype(np.float32)
    with open_artifact(original) as network, open_runner(written.model.path) as served:
        logits = network.infer({"clip": clip})["logits"]
        np.testing.assert_allclose(served.infer({"clip": clip})["probabilities"], softmax(logits), atol=1e-6)


def test_the_command_writes_it_and_names_what_it_wrote(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("--frame", "320x240", "--camera", "file:///videos/a.mp4")
    code, out, _ = run(capsys, "deepstream", demo, "-o", tmp_path / "app", *size, "--json")
    document = json.loads(out)
    assert (code, document["engine"]) == (0, None)
    assert Path(document["model"]["path"]).is_file()
    keys = read_preprocessing(tmp_path / "app" / "preprocess.txt")
    assert keys["group-0"] == {"src-ids": (0,), "process-on-roi": True, "roi-params-src-0": (40, 0, 240, 240)}
    assert read_application(tmp_path / "app" / "application.txt")["uri-list"] == ("file:///videos/a.mp4",)
    code, _, err = run(capsys, "deepstream", demo, "-o", tmp_path / "other", "--frame", "320")
    assert code == 2
    assert "'320' is not a size like 1920x1080" in err


def test_a_bundle_is_unpacked_for_it(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with staged_bundle(read_manifest(demo), tmp_path / "demo.tar.gz"):
        pass
    monkeypatch.chdir(tmp_path)
    written = deepstream("demo.tar.gz", Path("app"))
    assert (tmp_path / "dualformer-demo" / "manifest.json").is_file()
    assert written.model.path.is_file()


@pytest.mark.parametrize("name", RECORDED)
def test_its_keys_make_the_clips_of_predict_from_real_videos(
    demo: Path, tmp_path: Path, recordings: Path, name: str
) -> None:
    (clip,) = ClipSource(recordings / name, read_manifest(demo).preprocessing)
    frames = _decode(recordings / name, clip.frame_indices[0])
    first = next(frames)
    size = (first.shape[1], first.shape[0])
    written = deepstream(demo, tmp_path / "app", DeepStreamOptions(frame=size, precision=Precision.FP32))
    keys = read_preprocessing(written.folder / "preprocess.txt")
    made = next(prepare_clips(_then(first, frames), keys))

    expected = clip.network_input("float32")[None]
    steps = np.abs(made - expected) * np.array(clip.preprocessing.std)[:, None, None, None]  # of 255
    with open_runner(written.model.path) as runner:
        ours, theirs = (runner.infer({"clip": one})["probabilities"] for one in (expected, made))
    assert ours.argmax() == theirs.argmax()
    assert np.abs(ours - theirs).max() < 0.05
    assert steps.mean() < 4


def test_a_camera_s_clips_follow_each_other_and_are_normalized_as_ours(demo: Path, tmp_path: Path) -> None:
    clip = read_manifest(demo).preprocessing
    options = DeepStreamOptions(frame=(clip.size, clip.size), every=6 * clip.stride)
    keys = read_preprocessing(deepstream(demo, tmp_path / "app", options).folder / "preprocess.txt")
    length = clip.frames * clip.stride
    frames = np.random.default_rng(2).integers(0, 256, (length + 14 * clip.stride, clip.size, clip.size, 3), np.uint8)
    made = list(prepare_clips(frames, keys))
    firsts = (0, 6 * clip.stride, 12 * clip.stride)
    expected = [clip.normalize(frames[first : first + length : clip.stride])[None] for first in firsts]
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_what_deepstream_would_refuse_or_misread_is_refused_here(demo: Path, size_t: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="takes uint8 frames"):
        deepstream(size_t, tmp_path / "app")
    with pytest.raises(ManifestError, match="lists no int8 ONNX file"):
        deepstream(demo, tmp_path / "app", DeepStreamOptions(precision="int8"))
    for options, problem in (
        (DeepStreamOptions(cameras=()), "no camera"),
        (DeepStreamOptions(cameras=("videos/a.mp4",)), "is no address"),
        (DeepStreamOptions(cameras=("rtsp://a;rtsp://b",)), "is no address"),
        (DeepStreamOptions(frame=(1920, 0)), "1920x0"),
        (DeepStreamOptions(threshold=1.5), "threshold of 1.5"),
        (DeepStreamOptions(every=3), "every 2th frame"),
    ):
        with pytest.raises(OptionError, match=problem):
            deepstream(demo, tmp_path / "app", options)
    assert not (tmp_path / "app").exists()
    (tmp_path / "app").mkdir()
    with pytest.raises(OutputError, match="is there already"):
        deepstream(demo, tmp_path / "app")


def test_cameras_share_a_batch_only_where_the_file_takes_a_part_of_it(demo: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo, tmp_path / "dualformer-demo"))
    manifest = read_manifest(folder)
    clip = TensorSpec("clip", "float32", (4, *manifest.artifacts[0].inputs[0].shape[1:]))
    artifacts = tuple(replace(one, inputs=(clip,)) for one in manifest.artifacts)
    write_manifest(replace(manifest, artifacts=artifacts), manifest.path)
    with pytest.raises(ExportError, match="takes 4 clips at a time or more"):
        deepstream(folder, tmp_path / "app")

    cameras = ("rtsp://one/stream", "rtsp://two/stream", "rtsp://three/stream")
    application = Application(
        "a.onnx", None, replace(clip, least_batch=1), manifest.preprocessing, cameras, (64, 64), 1, 0.0
    )
    shape = describe_preprocessing(application)["property"]["network-input-shape"]
    assert isinstance(shape, Sequence)
    assert shape[0] == 3
    assert describe_inference(application)["property"]["batch-size"] == 3
    assert describe_inference(application)["property"]["model-engine-file"] == "a.onnx_b3_gpu0_fp32.engine"


def test_an_engine_of_another_tensorrt_is_refused(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip(
        "dualexport.runtimes.tensorrt.library", reason="needs TensorRT; scripts/install-cpu-tensorrt installs one"
    )
    monkeypatch.setattr(library, "library_name", lambda: "TensorRT")
    monkeypatch.setattr(library, "library_version", lambda: "11.0.0.114")
    with pytest.raises(EngineError, match="loads engines of TensorRT 10, this is TensorRT 11"):
        deepstream(demo, tmp_path / "app", DeepStreamOptions(build_engine=True))
    assert not (tmp_path / "app").exists()


@given(st.integers(16, 5000), st.integers(16, 5000))
def test_the_square_is_even_inside_the_frame_and_in_its_middle(width: int, height: int) -> None:
    left, top, wide, high = find_centre_square(width, height)
    assert all(value % 2 == 0 for value in (left, top, wide, high))
    assert min(width, height) - 2 < wide == high <= min(width, height)
    assert abs(2 * left + wide - width) <= 4
    assert abs(2 * top + high - height) <= 4


def _decode(path: Path, first: int) -> Iterator[Image]:
    """RGB frames of a video from number `first` on."""
    with av.open(path) as container:
        for frame in islice(container.decode(video=0), first, None):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _then(first: Image, rest: Iterator[Image]) -> Iterator[Image]:
    yield first
    yield from rest

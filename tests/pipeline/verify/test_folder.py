"""A verification as a call: prerequisites first, what was computed dropped last, caveats that are true."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from dualexport.clips import gstreamer
from dualexport.clips.listing import Video
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import moving_patterns
from dualexport.core.choices import Reference
from dualexport.core.errors import (
    ClipError,
    CudaError,
    DualExportError,
    LabelError,
    ManifestError,
    MissingDependencyError,
    OutputError,
    RunnerError,
)
from dualexport.core.manifest import Manifest, read_manifest
from dualexport.core.types import Clip, Weights
from dualexport.pipeline.clips import Clips
from dualexport.pipeline.verify.folder import VerifyOptions, verify
from dualexport.pipeline.verify.job import Batch, VerifyJob
from dualexport.pipeline.verify.spread import _key as key_of_batch
from dualexport.runtimes.expected import write_expected
from dualexport.runtimes.onnx_runner import OnnxRunner


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, in which runs leave what they leave."""
    return Path(shutil.copytree(exported, tmp_path / "dualformer-n"))


@pytest.fixture
def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when a clip is read."""

    def read(_: ClipSource) -> Iterator[Clip]:
        pytest.fail("a clip was decoded")

    monkeypatch.setattr(ClipSource, "read", read)


PREREQUISITES: dict[str, tuple[VerifyOptions, tuple[str, ...], str]] = {
    "plan": (VerifyOptions(plan=True), ("tensorrt", "tensorrt_rtx"), "TensorRT is not installed"),
    "layers": (VerifyOptions(layers=True, reference="onnx"), ("torch",), "verify --layers` needs torch"),
    "bisect": (VerifyOptions(bisect=True), ("onnxruntime",), "verify --bisect` needs onnxruntime"),
    "ray": (VerifyOptions(ray="auto"), ("ray",), "needs ray"),
    "pytorch": (VerifyOptions(), ("torch",), "needs torch"),
    "report": (VerifyOptions(reports=(Path("file/report.html"),)), (), "cannot write"),
    "folder": (VerifyOptions(reports=(Path("bench.json"),)), (), "cannot write bench.json"),
    "junit": (VerifyOptions(junit=Path("file/verify.xml")), (), "cannot write"),
    "suffix": (VerifyOptions(reports=(Path("report.pdf"),)), (), "report.pdf ends in none of"),
    "checkpoint": (VerifyOptions(checkpoint=Path("gone.pth")), (), "was made from random weights"),
    "stored": (VerifyOptions(reference="stored"), (), "reference.logits: no such file"),
    "layers of other pixels": (VerifyOptions(decoder="gstreamer", layers=True), (), "compare on the same pixels"),
    "whole": (VerifyOptions(reference="whole"), (), "works on all frames"),
    "limits": (VerifyOptions(limits=Path("gone.toml")), (), "gone.toml"),
    "artifact": (VerifyOptions(against="int8"), (), "lists no artifact 'int8'"),
}


@pytest.mark.usefixtures("nothing_is_decoded")
@pytest.mark.parametrize("name", PREREQUISITES)
def test_what_is_missing_is_said_before_the_first_clip_is_decoded(
    name: str, exported: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, missing, words = PREREQUISITES[name]
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "bench.json").mkdir()
    monkeypatch.chdir(tmp_path)
    for library in missing:
        monkeypatch.setitem(sys.modules, library, None)
    for module in ("tensorrt.library", "torch_runner"):
        monkeypatch.delitem(sys.modules, f"dualexport.runtimes.{module}", raising=False)
    monkeypatch.delitem(sys.modules, "dualexport.exporter.loading", raising=False)
    with pytest.raises(DualExportError, match=words):
        verify([exported], Clips(video), options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "file"]


@pytest.mark.usefixtures("nothing_is_decoded")
def test_every_label_of_every_folder_is_looked_up_first(copy: Path, video: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "labels.csv").write_text("path,label\na.mp4,7\nb.mp4,dancing\n")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "labels": [f"action {n}" for n in range(400)]}))
    with pytest.raises(LabelError, match=r"b\.mp4: the label 'dancing' is no class of the network"):
        verify([copy], Clips(tmp_path / "labels.csv"))


@pytest.mark.usefixtures("nothing_is_decoded")
def test_a_changed_reference_of_any_folder_is_found_first(exported: Path, copy: Path, video: Path) -> None:
    (copy / "dualformer-n.fp32.onnx").write_bytes(b"changed")
    with pytest.raises(ManifestError, match="has changed since it was written"):
        verify([exported, copy], Clips(video), VerifyOptions(reference="onnx"))


def test_limits_from_a_pipe_hold(copy: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "limits.toml"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=("[fp32]\nsnr_db = 500\n",), daemon=True)
    writer.start()
    result = verify([copy], options=VerifyOptions(against="fp32", limits=pipe))
    writer.join()
    (report,) = result.networks[0].comparison.reports
    assert [check.name for check in report.failed_checks] == ["snr_db"]
    assert not result.passed


def test_what_was_computed_is_dropped_when_the_reports_are_written(
    copy: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OutputError("cannot write report.json: no space left", fix="make room")

    notes: list[str] = []
    report = tmp_path / "report.json"
    options = VerifyOptions(against="fp32", reports=(report,))
    with monkeypatch.context() as context:
        context.setattr("dualexport.pipeline.verify.folder.write_reports", refuse)
        with pytest.raises(OutputError):
            verify([copy], Clips(video), options)
    assert len(list(copy.glob("verify-*.logits"))) == 1
    verify([copy], Clips(video), options, notify=notes.append)
    assert any(note.startswith("going on after 1 clips") for note in notes)
    assert not list(copy.glob("verify-*"))
    assert json.loads(report.read_text())["passed"]


@pytest.mark.usefixtures("nothing_is_decoded")
def test_a_decoder_that_is_not_there_is_named_with_the_line_that_installs_it(
    exported: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gstreamer, "list_elements", frozenset)
    with pytest.raises(MissingDependencyError, match=r"gst-launch-1\.0, which is not installed") as missing:
        verify([exported], Clips(video), VerifyOptions(decoder="gstreamer"))
    assert missing.value.fix.startswith("apt install gstreamer1.0-tools")


@pytest.mark.skipif(not gstreamer.list_elements() >= gstreamer.SOFTWARE, reason=f"needs GStreamer: {gstreamer.APT}")
@pytest.mark.slow
def test_another_decoder_shows_its_pixels_to_the_artifacts_and_not_to_the_reference(
    copy: Path, recordings: Path, tmp_path: Path
) -> None:
    path = recordings / "arm_wrestling.mp4"
    options = VerifyOptions(against="fp32", decoder="gstreamer")
    result = verify([copy], Clips(path, views=2), options)
    (network,) = result.networks
    (report,) = network.comparison.reports
    assert report.clips == 2
    assert report.largest_difference > 1e-4  # the same network on the same frames, from another scaler
    assert report.cosine > 0.9
    assert "logit_difference" not in [check.name for check in report.checks]
    assert any(line.startswith("GStreamer decoded and scaled") for line in network.verification.decision.caveats)
    with pytest.raises(ClipError, match="no video, which GStreamer would decode"):
        np.save(tmp_path / "clips.npy", np.zeros((1, 16, 64, 64, 3), np.uint8))
        verify([copy], Clips(tmp_path / "clips.npy"), options)


def test_an_error_while_closing_is_noted_and_hides_no_result(
    copy: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CudaError("an illegal address", 700, fix="x")

    monkeypatch.setattr(OnnxRunner, "__exit__", refuse)
    for clips in (None, Clips(video)):
        notes: list[str] = []
        assert verify([copy], clips, VerifyOptions(against="fp32"), notify=notes.append).passed
        assert any("was not closed properly: an illegal address" in note for note in notes)


def list_caveats(folder: Path, options: VerifyOptions, clips: Clips | None = None) -> str:
    result = verify([folder], clips, options)
    return "\n".join(result.networks[0].verification.decision.caveats)


def test_caveats_say_what_was_compared_with_what(copy: Path, video: Path) -> None:
    by_file = list_caveats(copy, VerifyOptions(reference=Reference.ONNX), Clips(video))
    assert "is an exported file, not the trained network: an error in it stays unseen" in by_file
    assert "generated clips" not in by_file
    manifest = read_manifest(copy)
    with OnnxRunner(copy / "dualformer-n.fp32.onnx") as runner:
        write_expected(copy / "expected.npz", runner, ClipSource(video, manifest.preprocessing))
        of_videos = list_caveats(copy, VerifyOptions(reference="expected", against="fp32"))
        write_expected(copy / "expected.npz", runner, moving_patterns(1, manifest.preprocessing))
        of_patterns = list_caveats(copy, VerifyOptions(reference="expected", against="fp32"))
    assert "generated clips" not in of_videos
    assert "compared on generated clips, not on videos of yours" in of_patterns
    assert "(expected outputs of ONNX Runtime" in of_videos
    assert "exported file" not in list_caveats(copy, VerifyOptions(against="fp32"))


def test_a_worker_in_another_folder_finds_every_file(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported.parent)
    manifest = read_manifest(Path(exported.name))
    trained = replace(manifest, weights=Weights(checkpoint=Path("models/b.pth"), sha256="0" * 64))
    job = VerifyJob(trained, trained.artifacts, Reference.TORCH, Path("moved/b.pth"), {}).absolute()
    monkeypatch.chdir(tmp_path)
    found: Manifest = job.manifest
    assert found.weights.checkpoint == exported.parent / "models/b.pth"
    assert job.checkpoint == exported.parent / "moved/b.pth"
    assert all(artifact.path.is_file() for artifact in (*job.artifacts, *found.artifacts))


def test_a_frame_edited_in_place_makes_another_batch(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        np.save(frames / f"{number}.png", np.zeros(4))
    batch = Batch(0, (Video(frames, "frames"),))
    before, folder = key_of_batch(batch), frames.stat()
    assert key_of_batch(batch) == before
    (frames / "1.png.npy").write_bytes(b"another frame")
    os.utime(frames, ns=(folder.st_atime_ns, folder.st_mtime_ns))
    assert key_of_batch(batch) != before


def test_a_reference_that_breaks_off_ends_the_verification_with_the_clip(
    copy: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CudaError("no memory", 2, fix="free some")

    monkeypatch.setattr("dualexport.runtimes.torch_runner.TorchRunner.infer", refuse)
    with pytest.raises(RunnerError, match=r"pattern\.mp4: no memory"):
        verify([copy], Clips(video), VerifyOptions(against="fp32"))

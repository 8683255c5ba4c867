"""Exporting from Python: one trace for all files, few clips, and everything that can fail is asked first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import render_pattern
from dualexport.core.choices import ModelSize
from dualexport.core.errors import ClipError, DualExportError, LabelError, OptionError
from dualexport.core.types import Clip, Weights
from dualexport.exporter import onnx_export
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.pipeline import export_options
from dualexport.pipeline.clips import Clips
from dualexport.pipeline.export import export
from dualexport.pipeline.export_options import ExportOptions
from dualexport.pipeline.load import Network, load


@pytest.fixture
def network(nano: DualFormer) -> Network:
    return Network(nano, Weights(seed=0))


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The operator set of each tracing."""
    opsets: list[int] = []
    trace = onnx_export.trace_network  # type: ignore[attr-defined] # shared by all tests

    def count(*arguments: Any) -> Any:
        opsets.append(arguments[3])
        return trace(*arguments)

    monkeypatch.setattr(onnx_export, "trace_network", count)
    return opsets


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[ClipSource]:
    """The source of each pass over clips."""
    begun: list[ClipSource] = []
    read = ClipSource.read

    def count(source: ClipSource) -> Iterator[Clip]:
        begun.append(source)
        return read(source)

    monkeypatch.setattr(ClipSource, "read", count)
    return begun


@pytest.mark.slow
def test_both_files_come_from_one_trace_and_are_compared_on_eight_clips_that_are_read_once(
    network: Network, traces: list[int], passes: list[ClipSource], tmp_path: Path
) -> None:
    np.save(tmp_path / "ten.npy", np.stack([render_pattern(seed, 16, 224, 224) for seed in range(10)]))
    tasks: list[str] = []
    notes: list[str] = []
    exported = export(
        network,
        tmp_path / "out",
        clips=Clips(tmp_path / "ten.npy"),
        progress=lambda task, done=0, total=None: tasks.append(task),  # noqa: ARG005
        notify=notes.append,
    )
    assert (traces, len(passes)) == ([20], 1)
    assert [report.clips for report in exported.reports] == [8, 8]
    assert all(report.passed for report in exported.reports)
    assert [file.path.name for file in exported.artifacts] == ["dualformer-n.fp32.onnx", "dualformer-n.fp16.onnx"]
    assert "tracing the network" in tasks
    assert notes == ["the weights are random (seed 0): give --checkpoint to export a trained network"]


def test_a_video_that_does_not_decode_ends_it_before_the_network_is_traced(
    network: Network, traces: list[int], tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ClipError, match=r"bad\.mp4 cannot be decoded"):
        export(network, tmp_path / "out", clips=Clips(tmp_path / "bad.mp4"))
    assert (traces, (tmp_path / "out").exists()) == ([], False)


def test_clips_of_another_shape_are_refused_before_the_network_is_traced(
    network: Network, traces: list[int], tmp_path: Path
) -> None:
    np.save(tmp_path / "short.npy", render_pattern(0, 8, 64, 64))
    with pytest.raises(ClipError, match=r"the clip is \(3, 8, 224, 224\)"):
        export(network, tmp_path / "out", clips=Clips(tmp_path / "short.npy"))
    assert traces == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ExportOptions(precisions=("fp4",)), "'fp4' is no precision"),
        (ExportOptions(precisions=()), "no precision"),
        (ExportOptions(precisions=("int8",)), "int8 is calibrated on --clips"),
        (ExportOptions(graph="plain", input="uint8"), "the plain graph takes float32 clips"),
        (ExportOptions(opset=21), "opset 21"),
        (ExportOptions(batch=0), "batch 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    network: Network, traces: list[int], tmp_path: Path, options: ExportOptions, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        export(network, tmp_path / "out", options)
    assert (traces, list(tmp_path.iterdir())) == ([], [])


def test_a_batch_beyond_memory_is_refused_before_the_network_is_traced(
    network: Network, traces: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_options, "read_available_bytes", lambda: 16 << 30)
    with pytest.raises(OptionError, match=r"a batch of 1024 clips takes about 1\d\d GiB .* 16 GiB are free"):
        export(network, tmp_path / "new", ExportOptions(batch=1024))
    assert not traces
    assert not (tmp_path / "new").exists()


def test_what_loading_needs_is_asked_first(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="neither a checkpoint nor a size"):
        load()
    with pytest.raises(OptionError, match="'huge' is no model size"):
        load(size="huge")
    with pytest.raises(OptionError, match="without a ratio"):
        load(size="n", untrained_selector=True)
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(LabelError, match="names 2 classes"):
        load(size="n", labels=tmp_path / "few.txt")
    with pytest.raises(DualExportError):
        load(tmp_path / "gone.pth")


def test_a_network_tells_what_it_is() -> None:
    network = load(size=ModelSize.N, selections="T0:0.5")
    assert (network.name, network.weights) == ("dualformer-n-T0_0.5", Weights(seed=0))
    assert network.selected == ("T0:0.5 keeps 4 x 56 x 56 of 8 x 56 x 56 tokens",)
    assert network.macs < 0.52 * 5.1e9

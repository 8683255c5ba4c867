"""A network on clips of another number of frames: the same parameters, kernels as trained, and a name of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dualexport.core.choices import ModelSize
from dualexport.core.errors import OptionError, SelectionError
from dualexport.core.manifest import name_clip, read_manifest
from dualexport.core.types import Preprocessing
from dualexport.exporter.dualformer.network import CONFIGS, DualFormer, count_macs
from dualexport.exporter.loading import restore_network, use_on_clips
from dualexport.pipeline.load import load, load_demo
from support.cli import run


@pytest.mark.slow
def test_the_parameters_are_shared_and_the_kernels_stay(nano: DualFormer) -> None:
    fewer = use_on_clips(nano, 8, None)
    assert (fewer.config.frames, fewer.config.stride, fewer.config.trained_frames) == (8, 4, 16)
    assert fewer.config.trained_grid(0) == nano.config.trained_grid(0)
    for (name, mine), (_, other) in zip(fewer.named_parameters(), nano.named_parameters(), strict=True):
        assert mine.data_ptr() == other.data_ptr(), name
    assert fewer(torch.zeros(1, 3, 8, 224, 224)).shape == (1, 400)
    assert 1.8 < count_macs(nano.config) / count_macs(fewer.config) < 2.8
    assert use_on_clips(fewer, 16, 2).config.frames == 16
    assert use_on_clips(nano, None, None) is nano


@pytest.mark.parametrize("frames", [8, 10, 12, 16, 22, 24, 48])
def test_any_even_count_that_the_kernels_reach_into_is_taken(frames: int) -> None:
    config = replace(CONFIGS[ModelSize.T], frames=frames, trained_frames=32)
    assert config.token_grid(3) == (frames // 2, 7, 7)


@pytest.mark.parametrize(
    ("frames", "nearest"),
    [(0, "8"), (1, "8"), (6, "8"), (7, "8"), (9, "8 or 10"), (17, "16 or 18"), (33, "32 or 34")],
)
def test_other_counts_are_refused_with_the_nearest_that_work(frames: int, nearest: str) -> None:
    with pytest.raises(OptionError, match=f"{frames} frames") as refused:
        replace(CONFIGS[ModelSize.B], frames=frames, trained_frames=32)
    assert refused.value.fix == f"counts that work: {nearest}"


def test_a_selection_has_to_fit_the_frames_that_are_left() -> None:
    network = load(size="n", selections="T0:0.25")
    with pytest.raises(SelectionError, match=r"T0:0\.25"):
        network.with_clips(4)


def test_it_has_a_name_and_a_span_of_its_own() -> None:
    network = load_demo()
    assert [network.with_clips(frames, stride).name for frames, stride in ((16, 2), (8, None), (16, 1), (8, 2))] == [
        "dualformer-demo",
        "dualformer-demo-8x4",
        "dualformer-demo-16x1",
        "dualformer-demo-8x2",
    ]
    assert name_clip(ModelSize.T, Preprocessing(frames=32)) == ""


@pytest.mark.slow
def test_its_files_are_made_proven_and_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(
        capsys, "onnx", "--model", "demo", "--frames", "8", "--precision", "fp32", "-o", tmp_path / "few"
    )
    assert code == 0
    assert "clips of 8 frames, of a network trained on 16" in err
    manifest = read_manifest(tmp_path / "few")
    assert (manifest.name, manifest.preprocessing.stride) == ("dualformer-demo-8x4", 4)
    assert manifest.artifacts[0].inputs[0].shape == (1, 3, 8, 224, 224)
    assert restore_network(manifest).config == load_demo().with_clips(8).module.config
    code, _, _ = run(capsys, "verify", tmp_path / "few")
    assert code == 0
    result = run(capsys, "onnx", "--model", "demo", "--frames", "5", "-o", tmp_path / "odd")
    assert result[0] == 2
    assert "counts that work: 4 or 6" in " ".join(result[2].split())
    assert not (tmp_path / "odd").exists()

"""Fixtures that several test files share: a network of size n, what was exported of it, and small videos."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.calibration.synthetic import render_pattern, write_video
from dualexport.cli import main
from dualexport.contracts import ModelSize, Preprocessing
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.dualformer import DualFormer

GOLDEN = Path(__file__).parent / "golden"
RECORDINGS = Path(__file__).parents[2] / "shared" / "clips"
NANO_CLIP = Preprocessing(frames=16)


@pytest.fixture(scope="session")
def nano() -> DualFormer:
    return build_random_network(ModelSize.N, seed=0)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `dualexport onnx --model n` wrote; tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("exported") / "dualformer-n"
    with pytest.raises(SystemExit) as exit_:
        main(["onnx", "--model", "n", "--output", str(folder)])
    assert exit_.value.code == 0
    return folder


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H.264 .mp4 of 60 frames with a keyframe at every twelfth."""
    path = tmp_path_factory.mktemp("video") / "pattern.mp4"
    write_video(path, render_pattern(1, 60, 120, 160), keyframe_interval=12)
    return path


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Real recordings, where the checkout has them beside it."""
    if not RECORDINGS.is_dir():
        pytest.skip("needs the folder shared/clips with real recordings beside the project")
    return RECORDINGS

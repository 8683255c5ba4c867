"""Fixtures that several test files share: a network of size n, what was exported of it, and small videos."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dualexport.cli import main
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.choices import ModelSize
from dualexport.core.errors import CudaError, MissingDependencyError
from dualexport.core.types import Preprocessing
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.dualformer.network import CONFIGS, DualFormer
from dualexport.runtimes.tensorrt.cuda import open_cuda
from torch import nn

GOLDEN = Path(__file__).parent / "golden"
RECORDINGS = Path(__file__).parents[2] / "shared" / "clips"
NANO_CLIP = Preprocessing(frames=16)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a GPU says in its skip what is missing: the library, the driver or the device."""
    if item.get_closest_marker("gpu"):
        try:
            open_cuda().device()
        except (CudaError, MissingDependencyError) as error:
            pytest.skip(f"needs an NVIDIA GPU: {error}")


@pytest.fixture(scope="session")
def nano() -> DualFormer:
    return build_random_network(ModelSize.N, seed=0)


@pytest.fixture(scope="session")
def make_network() -> Callable[[int], DualFormer]:
    """Makes networks of size n for clips of so many frames, no parameter or statistic at its trivial value."""

    def make(frames: int) -> DualFormer:
        torch.manual_seed(5)
        network = DualFormer(replace(CONFIGS[ModelSize.N], frames=frames)).eval()
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                nn.init.uniform_(value, 0.5, 2.0)
            elif value.dim() == 1:
                nn.init.normal_(value, 1.0 if name.endswith("weight") else 0.0, 0.2)
            elif value.dim() > 1:
                nn.init.normal_(value, 0.0, math.prod(value.shape[1:]) ** -0.5)
        return network

    return make


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

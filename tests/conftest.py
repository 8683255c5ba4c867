"""Fixtures that several test files share: a network of size n, what was exported of it, and small videos."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.choices import ModelSize
from dualexport.core.errors import CudaError, MissingDependencyError
from dualexport.core.types import Preprocessing
from dualexport.exporter import onnx_export
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.dualformer.network import CONFIGS, DualFormer
from dualexport.exporter.tracing import trace_network
from dualexport.runtimes.tensorrt.cuda import open_cuda
from hypothesis import settings
from support.cli import succeed
from support.cost import MOST_CPU_SECONDS, Costs, PythonGuard, deal_to_workers, measuring
from support.shared import SharedFolders, open_shared_folders, take_own_cores
from support.traces import SharedTraces
from torch import nn

take_own_cores()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a run in the background: commands would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("suite", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("suite")

GOLDEN = Path(__file__).parent / "golden"
RECORDINGS = Path(__file__).parents[2] / "shared" / "clips"
NANO_CLIP = Preprocessing(frames=16)
EXPORTS = {"exported", "demo", "ranged", "size_t"}  # fixtures that take seconds to make: what asks for one is slow
guard = PythonGuard()


def pytest_addoption(parser: pytest.Parser) -> None:
    text = f"show the CPU seconds of tests by folder, and those not marked slow that take over {MOST_CPU_SECONDS:g}"
    parser.addoption("--cost", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cost") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Costs())


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if EXPORTS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        items[:] = deal_to_workers(items, workers)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with guard.refusing(is_on=item.get_closest_marker("slow") is None), measuring(item):
        yield


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
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedFolders:
    return open_shared_folders(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def shared_traces(shared: SharedFolders) -> Iterator[None]:
    """Each network is traced once for given options, whichever tests export it; tracing is most of an export."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(onnx_export, "trace_network", SharedTraces(shared.common / "traces", trace_network))
        yield


@pytest.fixture(scope="session")
def exported(shared: SharedFolders) -> Path:
    """A folder that `dualexport onnx --model n` wrote; tests read it and change nothing."""
    return shared.copy_of("dualformer-n", lambda folder: succeed("onnx", "--model", "n", "--output", folder))


@pytest.fixture(scope="session")
def demo(shared: SharedFolders) -> Path:
    """The demo model in FP32 and FP16; tests read it and change nothing."""
    return shared.copy_of("dualformer-demo", lambda folder: succeed("onnx", "--model", "demo", "--output", folder))


@pytest.fixture(scope="session")
def ranged(shared: SharedFolders) -> Path:
    """The demo model for any batch from 1 to 8, with an INT8 file; `clips.npy` lies beside the folder."""

    def make(root: Path) -> None:
        folder = root / "dualformer-demo"
        succeed("onnx", "--model", "demo", "--batch", "1-8", "--input", "uint8", "--output", folder)
        np.save(root / "clips.npy", np.random.default_rng(0).integers(0, 256, (3, 16, 224, 224, 3), np.uint8))
        succeed("int8", folder, "--clips", root / "clips.npy")

    return shared.copy_of("ranged", make) / "dualformer-demo"


@pytest.fixture(scope="session")
def size_t(shared: SharedFolders) -> Path:
    """Size t of random weights that selects half of the frames, for raw frames, in FP32 and FP16."""
    options = ("--model", "t", "--stts", "T0:0.5", "--input", "uint8")
    return shared.copy_of("dualformer-t", lambda folder: succeed("onnx", *options, "--output", folder))


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

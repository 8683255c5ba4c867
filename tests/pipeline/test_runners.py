"""The doors to what runs a network: by folder, by file, by runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dualexport.core.choices import Graph, Precision, Runtime
from dualexport.core.errors import DualExportError, EngineError, ManifestError
from dualexport.core.manifest import read_manifest
from dualexport.core.types import Artifact
from dualexport.pipeline.deepstream import PREFERRED
from dualexport.pipeline.runners import NARROWEST_FIRST, open_runner, skip_stale
from support.engines import NEEDS_TENSORRT


def test_a_folder_and_its_file_open_the_same_runner(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = np.random.default_rng(0).standard_normal((1, 3, 16, 224, 224)).astype(np.float32)
    monkeypatch.chdir(exported)
    found = []
    sources = (None, str(exported), exported / "dualformer-n.fp32.onnx", read_manifest(exported).artifacts[0])
    for source in sources:
        with open_runner(source) as runner:
            found.append(runner.infer({"clip": clip})["logits"])
    with open_runner(exported, "torch") as runner:
        assert runner.name.startswith("PyTorch")
        found.append(runner.infer({"clip": clip})["logits"])
    for logits in found:
        np.testing.assert_allclose(logits, found[0], atol=1e-3)


def test_what_cannot_be_opened_is_refused_by_name(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="lists no tensorrt artifact"):
        open_runner(exported, Runtime.TENSORRT)
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    (copy / "dualformer-n.fp32.onnx").write_bytes(b"changed")
    for source in (copy, copy / "dualformer-n.fp32.onnx"):
        with pytest.raises(ManifestError, match="has changed since it was written"):
            open_runner(source)
    (copy / "other.engine").write_bytes(b"no engine")
    with pytest.raises(DualExportError):  # which of them depends on what of TensorRT, CUDA and a GPU is here
        open_runner(copy / "other.engine")


def test_engines_of_another_tensorrt_are_left_out_by_name_and_are_an_error_where_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)
    from dualexport.runtimes.tensorrt import load
    from support.fake_gpu import FAKE_ENGINE, FakeEngine, FakeRuntime, make_layer

    layer = make_layer(FakeEngine(FakeRuntime((8, 7)), ((), ()), lambda _: {}))
    monkeypatch.setattr(load, "installed_layer", lambda: layer)

    def engine(version: str, capability: str) -> Artifact:
        path = tmp_path / f"net.fp16.sm{capability.replace('.', '')}-trt{version}.engine"
        path.write_bytes(FAKE_ENGINE)
        options = {"compiler": "TensorRT", "tensorrt": version, "compute_capability": capability}
        return Artifact("tensorrt", Precision.FP16, Graph.FOLDED, path, "0" * 64, (), (), None, options)

    fits, older, elsewhere = engine("10.3.0", "8.7"), engine("10.1.0", "8.7"), engine("10.3.0", "8.9")
    graph = Artifact("onnx", Precision.FP16, Graph.FOLDED, tmp_path / "net.fp16.onnx", "0" * 64, (), (), None)
    notes: list[str] = []
    assert skip_stale((graph, older, fits, elsewhere), notes.append) == (graph, fits)
    assert len(notes) == 2
    assert all("left out" in note and "dualexport trt" in note for note in notes)
    with pytest.raises(EngineError, match=r"built by TensorRT 10\.1\.0"):
        skip_stale((older,), notes.append)


@pytest.mark.parametrize("order", [NARROWEST_FIRST, PREFERRED])
def test_every_precision_has_its_place_where_one_is_chosen(order: tuple[Precision, ...]) -> None:
    assert sorted(order) == sorted(Precision)

"""The doors to what runs a network: by folder, by file, by runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dualexport.core.choices import Runtime
from dualexport.core.errors import DualExportError, ManifestError
from dualexport.core.manifest import read_manifest
from dualexport.pipeline.runners import open_runner


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

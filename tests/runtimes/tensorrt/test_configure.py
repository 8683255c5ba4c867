"""A device that shares its memory with the host is left some of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.core.choices import Compatibility
from dualexport.core.errors import EngineError
from dualexport.runtimes.machine.host import Host
from dualexport.runtimes.tensorrt.cuda import GpuDevice
from dualexport.runtimes.tensorrt.engine_file import GIB, EngineOptions
from support.engines import NEEDS_TENSORRT

pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)

from dualexport.runtimes.tensorrt import configure
from dualexport.runtimes.tensorrt.configure import limit_workspace, require_possible
from dualexport.runtimes.tensorrt.library import trt

ORIN = GpuDevice("Orin", "8.7", 8 << 30, "12.6", shares_memory=True)
SERVER = GpuDevice("NVIDIA L4", "8.9", 24 << 30, "12.8")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (path := tmp_path / "net.onnx").write_bytes(bytes(1 << 20))
    return path


def test_the_workspace_is_half_of_what_is_free_where_the_host_needs_the_memory_too(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configure, "read_available_bytes", lambda: 5 * GIB)
    told: list[str] = []
    assert limit_workspace(EngineOptions(), ORIN, model, told.append).workspace_gib == 2.5
    assert told == ["builds as with --workspace 2.5: Orin shares its memory with the host, of which 5.0 GiB are free"]
    own = EngineOptions(workspace_gib=4)
    assert limit_workspace(own, ORIN, model, told.append) is own
    assert limit_workspace(EngineOptions(), SERVER, model, told.append).workspace_gib is None
    assert limit_workspace(EngineOptions(), None, model, told.append).workspace_gib is None
    assert len(told) == 1


def test_too_little_memory_is_refused_before_the_system_ends_the_process(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configure, "read_available_bytes", lambda: 2 << 20)
    with pytest.raises(EngineError, match=r"net\.onnx: 0\.0 GiB of memory are free"):
        limit_workspace(EngineOptions(), ORIN, model, print)


def test_a_jetson_has_no_engines_for_other_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configure, "is_for_rtx", lambda: False)
    with pytest.raises(EngineError, match=r"a Jetson builds no --compatible ampere\+ engines"):
        require_possible(EngineOptions(compatible=Compatibility.AMPERE), ORIN, Host(l4t="36.4.3"))
    require_possible(EngineOptions(compatible=Compatibility.AMPERE), SERVER, Host())


def test_fp8_is_refused_where_the_gpu_or_tensorrt_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    configure.require_fp8(SERVER)
    with pytest.raises(EngineError, match=r"Orin \(compute capability 8\.7\) has no FP8"):
        configure.require_fp8(ORIN)
    monkeypatch.setattr(trt, "DataType", type("DataType", (), {}))
    with pytest.raises(EngineError, match="has no FP8"):
        configure.require_fp8(SERVER)

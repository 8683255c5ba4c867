"""Plans as a caller of the API asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dualexport.core.choices import DeviceName
from dualexport.core.errors import EngineError, OptionError, OutputError
from dualexport.pipeline import plan as planning
from dualexport.runtimes.plans.layer_kind import LayerKind
from dualexport.runtimes.plans.plan import EnginePlan, PlanLayer, PlanTensor


def make_plan(dtype: str, precision: str, moved: int) -> EnginePlan:
    tensor = PlanTensor("x", (8,), dtype, "")
    gemm = PlanLayer("g", LayerKind.GEMM, (tensor,), (tensor,), (tensor,), ("fc1/MatMul",), moved, 10**9)
    return EnginePlan(
        "m.onnx", "TensorRT 10.3", "engine inspector", (gemm,), 0, 0, 10**9, asked_shares={precision: 1.0}
    )


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were compiled: those called int8 move half of what the others do."""
    asked: list[Path] = []

    def compile_it(path: Path, _: int | None, **__: object) -> EnginePlan:
        asked.append(path)
        return make_plan("int8", "int8", 10**8) if "int8" in path.name else make_plan("float16", "fp16", 2 * 10**8)

    monkeypatch.setattr(planning, "plan_onnx", compile_it)
    return asked


def test_several_files_are_planned_estimated_and_saved(compiled: list[Path], tmp_path: Path) -> None:
    models, saved = (tmp_path / "a.int8.onnx", tmp_path / "a.fp16.onnx"), tmp_path / "plan.json"
    planned = planning.plan(models, planning.PlanOptions(("agx-orin", "l4", "agx-orin"), saved))
    assert compiled == list(models)
    devices = [DeviceName.AGX_ORIN, DeviceName.L4]
    assert [[one.device.name for one in of_plan] for of_plan in planned.estimates] == [devices, devices]
    assert [verdict.device for verdict in planned.verdicts] == devices
    assert planned.verdicts[0].speedup == pytest.approx(2.0)  # of the INT8 file, though it was named first
    assert [one["model"] for one in json.loads(saved.read_text())["plans"]] == ["m.onnx", "m.onnx"]
    planned.require("fp16")
    with pytest.raises(EngineError, match="asks for no int8"):
        planned.require("int8")


def test_one_file_without_a_device_has_no_estimate(compiled: list[Path], tmp_path: Path) -> None:
    planned = planning.plan(str(tmp_path / "a.fp16.onnx"))
    assert (len(compiled), len(planned.plans), planned.estimates, planned.verdicts) == (1, 1, (), ())


def test_what_cannot_be_saved_is_refused_before_anything_is_compiled(compiled: list[Path], tmp_path: Path) -> None:
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(OutputError):
        planning.plan(tmp_path / "a.onnx", planning.PlanOptions(save=tmp_path / "plan.json"))
    with pytest.raises(OptionError, match="'gx' is no device"):
        planning.plan(tmp_path / "a.onnx", planning.PlanOptions(("gx",)))
    with pytest.raises(OptionError, match="no model"):
        planning.plan(())
    assert compiled == []

"""An engine whose precision its plan does not prove took minutes to build: it is kept, under a name that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from dualexport.core.errors import EngineError
from dualexport.core.types import Artifact
from dualexport.graphs.describe import describe_onnx
from dualexport.runtimes.tensorrt.cuda import GpuDevice
from dualexport.runtimes.tensorrt.engine_file import EngineOptions
from onnx import TensorProto, helper, numpy_helper
from support.engines import NEEDS_TENSORRT

pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)

from dualexport.runtimes.tensorrt import build, configure, proof
from dualexport.runtimes.tensorrt.build import BuildPlace, build_engine

SERVER = GpuDevice("NVIDIA L4", "8.9", 24 << 30, "12.8")


@pytest.fixture
def product(tmp_path: Path) -> Artifact:
    """An FP16 graph of one linear layer."""
    weight = numpy_helper.from_array(np.ones((64, 64), np.float16), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, (8, 64)) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc/MatMul")
    graph = helper.make_graph([node], "graph", values[:1], values[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "p.onnx")
    return describe_onnx(tmp_path / "p.onnx")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the installed TensorRT pass for a release whose plans prove nothing."""

    def refuse(*_: object) -> None:
        raise EngineError("p.onnx: the engine does not compute as asked", fix="look at the plan")

    def become(version: str) -> None:
        for module in (build, configure, proof):
            monkeypatch.setattr(module, "is_for_rtx", lambda: False)
        monkeypatch.setattr(build, "library_version", lambda: version)
        monkeypatch.setattr(proof, "require_precision", refuse)

    return become


def test_tensorrt_10_warns_and_the_engine_stays_with_its_plan(
    product: Artifact, tmp_path: Path, pretend: Callable[[str], None]
) -> None:
    pretend("10.13.3")
    told: list[str] = []
    place = BuildPlace(tmp_path / "out", device=SERVER, tell=told.append)
    engine = build_engine(product, "net", place, EngineOptions())
    assert engine.path.name == "net.fp16.sm89-trt10.13.engine"
    assert engine.path.is_file()
    plan = json.loads((tmp_path / "out" / "net.fp16.sm89-trt10.13.plan.json").read_text())
    assert plan["layers"]
    assert "does not compute as asked" in told[0]
    assert "the engine is kept, and its plan in net.fp16.sm89-trt10.13.plan.json" in told[0]


@pytest.mark.parametrize(("version", "strict"), [("10.13.3", True), ("11.4.0", False)])
def test_a_refused_engine_is_kept_under_another_name(
    product: Artifact, tmp_path: Path, pretend: Callable[[str], None], version: str, strict: bool
) -> None:
    pretend(version)
    place = BuildPlace(tmp_path / "out", device=SERVER)
    with pytest.raises(EngineError, match=r"does not compute as asked \(the engine is kept as net\.fp16\..*unproven"):
        build_engine(product, "net", place, EngineOptions(strict=strict))
    names = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert names == [".json", ".unproven"]

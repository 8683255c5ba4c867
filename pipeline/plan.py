"""Plans an ONNX file with the TensorRT that is installed."""

from __future__ import annotations

from pathlib import Path

from ..core.reporter import Progress, no_progress
from ..graphs.work import read_graph_work
from ..runtimes.plans.attribution import make_plan
from ..runtimes.plans.plan import EnginePlan
from ..runtimes.tensorrt.compile import compile_onnx


def plan_onnx(path: Path, *, progress: Progress = no_progress) -> EnginePlan:
    """The plan that the installed TensorRT makes of the ONNX file at `path`; needs no GPU.

    Raises PlanError when the file cannot be read or compiled.
    """
    work = read_graph_work(path)
    return make_plan(path.name, compile_onnx(path, progress=progress), work)

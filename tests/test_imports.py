"""Heavy libraries wait until they are needed. Which part may import which is import-linter's to check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
HEAVY = ("av", "cv2", "onnx", "onnx_ir", "onnxruntime", "onnxsim", "safetensors", "tensorrt", "torch")
EDGE_MODULES = (
    "cli",
    "clips.source",
    "commands.console",
    "commands.trt",
    "core.logit_store",
    "core.manifest",
    "pipeline.classify",
    "pipeline.parity",
    "pipeline.runners",
    "runtimes.machine.host",
    "runtimes.plans.devices",
    "runtimes.plans.plan",
    "runtimes.stored_runner",
    "runtimes.tensorrt.admission",
    "runtimes.tensorrt.cuda",
    "runtimes.tensorrt.engine_file",
    "verification.compare",
)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in output.splitlines()[-1].split()}


def test_help_loads_no_heavy_library() -> None:
    statement = "from dualexport.cli import main\ntry: main(['onnx', '--help'])\nexcept SystemExit: pass"
    assert not loaded_by(statement) & set(HEAVY)


@pytest.mark.parametrize("module", EDGE_MODULES)
def test_an_edge_device_needs_no_exporting_library(module: str) -> None:
    loaded = loaded_by(f"import dualexport.{module}")
    assert not loaded & {"torch", "onnxruntime", "onnxsim", "onnxscript", "onnx_ir"}

"""The house's rules that a machine can hold: imports form a star, and heavy libraries wait until they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("exporter", "calibration", "runtimes", "report")
HEAVY = ("av", "cv2", "onnx", "onnx_ir", "onnxruntime", "onnxsim", "safetensors", "tensorrt", "torch")
EDGE_MODULES = (
    "cli",
    "commands.console",
    "commands.running",
    "commands.steps",
    "commands.trt",
    "contracts",
    "calibration.clips",
    "exporter.manifest",
    "runtimes.classify",
    "runtimes.compare",
    "runtimes.cuda",
    "runtimes.devices",
    "runtimes.engine",
    "runtimes.engine_admission",
    "runtimes.expected",
    "runtimes.host",
    "runtimes.plan",
)


def sources() -> list[Path]:
    found = [*ROOT.glob("*.py"), *(file for part in (*PARTS, "commands") for file in (ROOT / part).rglob("*.py"))]
    assert len(found) > 10
    return found


def imported_siblings(path: Path) -> set[str]:
    """First names below the package of everything that a file imports from it, type checking included."""
    depth = len(path.relative_to(ROOT).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dualexport":
            pytest.fail(f"{path.name}: imports inside the package are relative")
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_form_a_star(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0]
    siblings = imported_siblings(path)
    if part in PARTS:
        assert siblings <= {"contracts", part}
    elif part == "contracts.py":
        assert not siblings
    elif part == "commands":
        assert siblings <= {"contracts", "commands", *PARTS}


def test_contracts_import_only_the_standard_library_and_numpy() -> None:
    tree = ast.parse((ROOT / "contracts.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"numpy"}


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

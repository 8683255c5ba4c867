"""Every name of TensorRT's API that the code uses exists in TensorRT 10 and in TensorRT 11.

`tensorrt_api.json` lists the names in the published bindings of four releases, so that this needs none of them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNTIMES = Path(__file__).parents[3] / "runtimes" / "tensorrt"
API = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text())

# The classes that these names stand for wherever the code uses them.
VARIABLES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "first": "ParserError",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "_context": "IExecutionContext",
    "context": "IExecutionContext",
    "timings": "ITimingCache",
    "levels": "HardwareCompatibilityLevel",
    "pools": "MemoryPoolType",
    "flags": "NetworkDefinitionCreationFlag",
}
# Names that a release may lack, because the code asks before it uses them, or refuses what needs them.
ASKED_FOR = {
    ("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"),  # since 10.9
    ("ICudaEngine", "create_runtime_config"),  # since 10.9
    ("ICudaEngine", "device_memory_size"),  # until 10
    ("ICudaEngine", "device_memory_size_v2"),  # since 10.1
}
ONLY_IN_RTX = {
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("tensorrt", "ComputeCapability"),
}


def used_names(path: Path) -> Iterator[tuple[str, str]]:
    """(class, name) of every attribute of TensorRT's module and objects in a source file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
        if name == "trt" and not node.attr.startswith("__"):
            yield "tensorrt", node.attr
        elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "trt":
            yield name, node.attr
        elif name == "Severity":
            yield "ILogger.Severity", node.attr
        elif name in VARIABLES:
            yield VARIABLES[name], node.attr


def modules() -> list[Path]:
    """The modules that call TensorRT."""
    found = [path for path in RUNTIMES.glob("*.py") if "import" in path.read_text() and " trt" in path.read_text()]
    return [*found, RUNTIMES / "context.py"]


def names_in(release: str, owner: str) -> set[str]:
    listed = API["classes"][owner]
    return {*listed["all"], *listed.get(release, ())}


def test_the_modules_that_call_tensorrt_are_found() -> None:
    names = {path.name for path in modules()}
    assert {"library.py", "compile.py", "load.py", "configure.py"} <= names
    used = {name for path in modules() for name in used_names(path)}
    assert ("IBuilderConfig", "progress_monitor") in used
    assert ("IExecutionContext", "execute_async_v3") in used
    assert ("Runtime", "deserialize_cuda_engine") in used
    assert ("ITimingCache", "serialize") in used
    assert len(used) > 40


@pytest.mark.parametrize("release", API["releases"])
@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_every_name_exists(path: Path, release: str) -> None:
    for owner, name in set(used_names(path)) - ASKED_FOR - ONLY_IN_RTX:
        assert name in names_in(release, owner), f"TensorRT {release} has no {owner}.{name}"


def test_what_is_asked_for_first_exists_somewhere() -> None:
    for owner, name in ASKED_FOR:
        assert any(name in names_in(release, owner) for release in API["releases"])


def test_what_tensorrt_calls_back_is_called_so_in_every_release() -> None:
    (times,) = (
        node
        for node in ast.walk(ast.parse((RUNTIMES / "load.py").read_text()))
        if isinstance(node, ast.ClassDef) and node.name == "LayerTimes"
    )
    assert ast.unparse(times.bases[0]) == "trt.IProfiler"
    own = {node.name for node in times.body if isinstance(node, ast.FunctionDef)}
    assert all(names_in(release, "IProfiler") <= own for release in API["releases"])


def test_the_flags_that_tensorrt_11_took_away_are_not_used() -> None:
    gone = {"FP16", "INT8", "BF16", "FP8", "OBEY_PRECISION_CONSTRAINTS"}
    assert not gone & names_in("11.4.0", "BuilderFlag")
    assert not {name for path in modules() for owner, name in used_names(path) if owner == "BuilderFlag"} & gone


def test_the_installed_tensorrt_has_the_names_too() -> None:
    trt = pytest.importorskip(
        "tensorrt", reason="needs TensorRT; without a GPU, scripts/install-cpu-tensorrt installs one"
    )
    for path in modules():
        for owner, name in set(used_names(path)) - ASKED_FOR - ONLY_IN_RTX:
            place = trt if owner == "tensorrt" else trt.ILogger.Severity if "." in owner else getattr(trt, owner)
            assert hasattr(place, name), f"TensorRT {trt.__version__} has no {owner}.{name}"

"""`import dualexport`: light, complete, and the same for a program, an editor and a type checker."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path

import dualexport
import dualexport as dx
import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"av", "cv2", "numpy", "onnx", "onnx_ir", "onnxruntime", "onnxsim", "rich", "safetensors", "torch", "typer"}


VERBS = (
    *("load", "load_demo", "export", "quantize", "build", "verify", "bench", "plan", "lint", "bundle", "classify"),
    *("open_runner", "synth", "triton", "deepstream", "distill"),
)


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_importing_it_loads_nothing() -> None:
    loaded = {name.partition(".")[0] for name in run_python("import dualexport, sys; print(*sys.modules)").split()}
    assert not loaded & HEAVY


@pytest.mark.slow
def test_asking_for_names_loads_no_library_that_a_device_lacks() -> None:
    code = "import dualexport, sys; [getattr(dualexport, n) for n in dualexport.__all__]; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in run_python(code).split()}
    assert not loaded & {"torch", "onnxruntime", "onnxsim", "onnx_ir", "tensorrt"}


@pytest.mark.parametrize("name", [name for names in dualexport.MODULES.values() for name in names])
def test_every_name_is_that_of_its_module(name: str) -> None:
    (module,) = (module for module, names in dualexport.MODULES.items() if name in names)
    assert getattr(dualexport, name) is getattr(import_module(f"dualexport.{module}"), name)
    assert name in dir(dualexport)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_takes_few_arguments_and_tells_what_it_raises(name: str) -> None:
    verb = getattr(dualexport, name)
    assert len(inspect.signature(verb).parameters) <= 6
    assert "Raises" in verb.__doc__ or "raises" in verb.__doc__


UNKNOWN: dict[str, Callable[[], object]] = {
    "bench": lambda: dx.bench("gone", dx.BenchOptions(runtimes=("gpu",))),
    "build": lambda: dx.build("gone", dx.BuildOptions(precision="fp4")),
    "build for others": lambda: dx.build("gone", dx.BuildOptions(compatible="all")),
    "bundle": lambda: dx.bundle("gone", options=dx.BundleOptions(reference="truth")),
    "lint": lambda: dx.lint("gone.onnx", ["9.9"]),
    "load": lambda: dx.load(size="xl"),
    "open_runner": lambda: dx.open_runner("gone", "gpu"),
    "plan": lambda: dx.plan("gone.onnx", dx.PlanOptions("toaster")),
    "quantize": lambda: dx.quantize("gone", options=dx.QuantizeOptions(base="fp4")),
    "triton": lambda: dx.triton("gone", "models", dx.TritonOptions("perl")),
    "verify": lambda: dx.verify("gone", options=dx.VerifyOptions(reference="truth")),
    "verify on": lambda: dx.verify("gone", options=dx.VerifyOptions(runtime="gpu")),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_word_that_is_no_choice_is_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(dx.DualExportError, match=r"'[\w.]+' is no ") as caught:
        UNKNOWN[name]()
    assert caught.value.fix.startswith("choose one of")
    assert caught.value.exit_code == 2


def test_options_and_results_are_frozen() -> None:
    classes = [value for name in dualexport.__all__ if isinstance(value := getattr(dualexport, name), type)]
    options = [one for one in classes if one.__name__.endswith("Options")]
    assert len(options) >= 7
    for one in filter(is_dataclass, classes):
        assert getattr(one, "__dataclass_params__").frozen, one  # noqa: B009  # typeshed does not know it


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        dualexport.nothing  # noqa: B018


@pytest.mark.slow
def test_editors_are_told_the_same_names() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "write-api", "--check"], check=True)

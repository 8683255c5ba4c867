"""`dualexport doctor` says what is missing, with a remedy, and which command that stops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dualexport.runtimes.machine.diagnose import COMMANDS, DECODERS, Diagnosis, Machine, Requirement, diagnose
from dualexport.runtimes.machine.environment import Environment

SERVER = Environment("PC", "x86", 8, 32.0, "Debian", "6.1", "NVIDIA L4", "580.65", None, None)
WHOLE = Machine(
    python=(3, 12),
    requirements=(
        Requirement("av", "14.2", "", "18.1.0"),
        Requirement("torch", "2.9", "export", "2.13.0+cpu"),
        Requirement("onnxruntime", "1.20", "export", "1.31.0"),
        Requirement("cuda-bindings", "12.8", "gpu", "13.0"),
    ),
    tensorrt="11.4.0.106",
    for_rtx=False,
    cuda_generation=13,
    decoders=frozenset(DECODERS),
    environment=SERVER,
    free_memory_gb=20.0,
    free_disk_gb=100.0,
    unwritable=None,
)


def find(subject: str, **changes: Any) -> Diagnosis:
    return next(finding for finding in diagnose(replace(WHOLE, **changes)) if finding.subject == subject)


def test_a_whole_machine_needs_nothing() -> None:
    assert [finding.subject for finding in diagnose(WHOLE) if finding.remedy or finding.stops] == []


@pytest.mark.parametrize(
    ("subject", "changes", "stops"),
    [
        ("Python", {"python": (3, 9)}, COMMANDS),
        ("av", {"requirements": [Requirement("av", "14.2", "", "14.1")]}, COMMANDS),
        (
            "torch",
            {"requirements": [Requirement("torch", "2.9", "export", None), *WHOLE.requirements[2:]]},
            ("onnx", "tune", "distill"),
        ),
        ("TensorRT", {"tensorrt": None}, ("trt", "plan")),
        ("TensorRT", {"tensorrt": "8.6.2"}, ("trt", "plan")),
        ("GPU", {"environment": replace(SERVER, gpu=None)}, ("trt",)),
        ("driver", {"environment": replace(SERVER, gpu_driver="535.183")}, ("trt",)),
        ("memory", {"free_memory_gb": 1.5}, ()),
        ("decoder h264", {"decoders": frozenset()}, ()),
        ("current folder", {"unwritable": "cannot be written"}, ("onnx", "synth")),
    ],
)
def test_what_is_missing_has_a_remedy_and_stops_what_needs_it(
    subject: str, changes: dict[str, Any], stops: tuple[str, ...]
) -> None:
    finding = find(subject, **changes)
    assert finding.stops == stops
    assert finding.remedy


@pytest.mark.parametrize(
    ("here", "tensorrt", "stops"),
    [
        (("cuda-bindings",), "11.4.0", ("onnx", "int8", "fp8", "tune", "bundle")),
        (("torch",), None, ("onnx", "int8", "fp8", "verify", "tune")),
        ((), "11.4.0", ("onnx", "int8", "fp8", "verify", "predict", "bench", "tune", "stream", "bundle")),
    ],
    ids=["a device with TensorRT", "PyTorch alone", "TensorRT that cannot reach the GPU"],
)
def test_without_onnx_runtime_another_runtime_will_do(
    here: tuple[str, ...], tensorrt: str | None, stops: tuple[str, ...]
) -> None:
    requirements = [one if one.name in here else replace(one, found=None) for one in WHOLE.requirements]
    assert find("onnxruntime", requirements=requirements, tensorrt=tensorrt).stops == stops


def test_the_extra_that_is_recommended_is_the_machine_s() -> None:
    without = [replace(one, found=None) if one.extra == "gpu" else one for one in WHOLE.requirements]
    assert find("cuda-bindings", requirements=without).remedy == 'pip install "dualexport[tensorrt]"'
    assert find("TensorRT", tensorrt=None).remedy.startswith('pip install "dualexport[tensorrt]"')
    jetson = replace(SERVER, jetson_release="36.4.3 (JetPack 6.2)")
    assert find("cuda-bindings", requirements=without, environment=jetson).remedy == 'pip install "dualexport[jetson]"'
    assert "never pip install tensorrt" in find("TensorRT", tensorrt=None, environment=jetson).remedy


def test_a_jetson_s_driver_is_its_jetpack_s() -> None:
    jetson = replace(
        SERVER, gpu=None, gpu_driver=None, machine="Jetson AGX Orin", jetson_release="36.4.3 (JetPack 6.2)"
    )
    assert find("GPU", environment=jetson).found == "Jetson AGX Orin"
    assert find("driver", environment=jetson).found == "L4T 36.4.3 (JetPack 6.2)"


def test_tensorrt_for_rtx_counts_from_one_and_needs_no_gpu() -> None:
    changes = {"tensorrt": "1.7.1", "for_rtx": True, "environment": replace(SERVER, gpu=None)}
    assert find("TensorRT", **changes).stops == find("GPU", **changes).stops == ()

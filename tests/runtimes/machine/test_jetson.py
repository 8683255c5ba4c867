"""`dualexport doctor --jetson` looks at what can fail on a Jetson, in that order, and has a remedy for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dualexport.pipeline.doctor import doctor
from dualexport.runtimes.machine.host import Host
from dualexport.runtimes.machine.jetson import ELEMENTS, JetsonState, examine_jetson

ORIN = JetsonState(
    host=Host(l4t="36.4.3", jetpack="6.2"),
    tensorrt="10.3.0",
    cuda="12.6",
    cuda_error="",
    cuda_fix="",
    power_mode="MAXN",
    locked_clocks=True,
    memory_gb=65.9,
    free_gb=50.0,
    swap_gb=32.0,
    cameras=("/dev/video0",),
    missing_elements=(),
)


def test_a_jetson_that_is_ready_needs_nothing() -> None:
    findings = examine_jetson(ORIN)
    assert [one.subject for one in findings] == [
        "JetPack", "TensorRT", "CUDA", "power mode", "GPU clock", "memory", "swap", "camera", "GStreamer",
    ]  # fmt: skip
    assert [one.subject for one in findings if one.remedy or one.stops] == []


@pytest.mark.parametrize(
    ("subject", "changes", "remedy", "stops"),
    [
        ("JetPack", {"host": Host(l4t="36.3.0", jetpack="6.0")}, "JetPack 6.2", ("trt",)),
        ("TensorRT", {"tensorrt": None}, "python3-libnvinfer", ("trt", "plan")),
        ("CUDA", {"cuda": None, "cuda_error": "no", "cuda_fix": "pin it"}, "pin it", ("trt", "bench", "stream")),
        ("power mode", {"power_mode": "MODE_15W"}, "nvpmodel -m 0", ()),
        ("GPU clock", {"locked_clocks": False}, "jetson_clocks", ()),
        ("memory", {"free_gb": 1.0}, "multi-user.target", ()),
        ("swap", {"memory_gb": 7.4, "swap_gb": 0.0}, "swapon", ()),
        ("camera", {"cameras": ()}, "connect one", ()),
        ("GStreamer", {"missing_elements": ("nvvidconv",)}, "apt-get install nvidia-l4t-gstreamer", ()),
        ("GStreamer", {"missing_elements": None}, "gstreamer1.0-tools", ()),
    ],
)
def test_what_is_missing_has_its_remedy(
    subject: str, changes: dict[str, Any], remedy: str, stops: tuple[str, ...]
) -> None:
    (finding,) = (one for one in examine_jetson(replace(ORIN, **changes)) if one.remedy)
    assert (finding.subject, finding.stops) == (subject, stops)
    assert remedy in finding.remedy


def test_swap_is_not_asked_of_a_large_module() -> None:
    assert not any(one.remedy for one in examine_jetson(replace(ORIN, swap_gb=0.0)))
    assert set(ELEMENTS) == {"nvarguscamerasrc", "nvvidconv", "nvv4l2decoder", "rtspsrc"}


def test_elsewhere_it_says_that_this_is_no_jetson() -> None:
    (finding,) = examine_jetson(replace(ORIN, host=Host()))
    assert "run this on the Jetson" in finding.remedy
    assert any(one.subject == "Jetson" for one in doctor(jetson=True).findings)

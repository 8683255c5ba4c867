"""The placement of INT8, as options name it, and the times of a plan by stage."""

from __future__ import annotations

import pytest
from dualexport.core.choices import DeviceName, Place, Precision
from dualexport.core.errors import OptionError
from dualexport.pipeline.placement import Target
from dualexport.pipeline.stage_times import sum_stages


@pytest.mark.parametrize(
    ("place", "device", "base", "target"),
    [
        (None, None, Precision.FP16, Target(Place.FREE)),
        (None, None, Precision.FP32, Target(Place.ALL)),  # a CPU has no kernels to save
        ("all", None, Precision.FP16, Target(Place.ALL)),
        (None, "l4", Precision.FP16, Target(Place.DEVICE, DeviceName.L4)),
        ("device", "l4", Precision.FP16, Target(Place.DEVICE, DeviceName.L4)),
        (None, "here", Precision.FP16, Target(Place.DEVICE)),
    ],
)
def test_options_name_a_target(place: str | None, device: str | None, base: Precision, target: Target) -> None:
    assert Target.choose(place, device, base) == target


@pytest.mark.parametrize(
    ("place", "device", "base", "message"),
    [
        ("device", None, Precision.FP16, "needs one"),
        ("free", "l4", Precision.FP16, "asks no device"),
        (None, "l4", Precision.FP32, "files for GPUs"),
        ("all", "here", Precision.FP16, "--device here names one"),
        ("some", None, Precision.FP16, "'some' is no place"),
        (None, "gx", Precision.FP16, "'gx' is no device"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    place: str | None, device: str | None, base: Precision, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Target.choose(place, device, base)


def test_a_layer_that_names_no_stage_counts_to_that_of_the_one_before_it() -> None:
    origins = ((), ("blocks.0.0.mlp.fc1/Gemm",), (), ("blocks.0.1/Add", "blocks.1.0.attn.qkv/MatMul"), ("head/Gemm",))
    assert sum_stages(zip(origins, (1.0, 2.0, 4.0, 8.0, 16.0), strict=True)) == {"": 1.0, "0": 6.0, "1": 24.0}

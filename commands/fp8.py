"""`dualexport fp8`: the folded graph with its linear layers in FP8, calibrated on clips."""

from __future__ import annotations

from ..core.choices import Precision
from ..pipeline.calibrate import USUAL_CLIPS
from ..pipeline.quantize import QuantizeOptions
from .int8 import (
    CalibrationClips,
    KeepFp16,
    MaxClips,
    PlaceDevice,
    PlaceOption,
    Sensitivity,
    TargetAgreement,
    run_quantize,
)
from .options import Folder, Json, SkipUnreadable, Views

EPILOG = "Example:\n\ndualexport fp8 dualformer-demo --clips calibration"


def fp8(
    folder: Folder = None,
    clips: CalibrationClips = None,
    max_clips: MaxClips = USUAL_CLIPS,
    views: Views = 1,
    keep_fp16: KeepFp16 = None,
    sensitivity: Sensitivity = False,
    target_agreement: TargetAgreement = None,
    place: PlaceOption = None,
    device: PlaceDevice = None,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Write DIR/dualformer-MODEL.fp8.onnx: linear layers in FP8 (E4M3), for GPUs from Ada and Hopper on.

    Made like INT8, with everything else in FP16. Ranges and weights are kept in DIR/calibration.fp8.json and
    .safetensors for the next run.
    """
    options = QuantizeOptions(
        keep=tuple(keep_fp16 or ()),
        sensitivity=sensitivity,
        target_agreement=target_agreement,
        place=place,
        device=device,
        precision=Precision.FP8,
    )
    run_quantize(folder, clips, (views, skip_unreadable, max_clips), options, as_json=as_json)

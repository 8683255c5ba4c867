"""Configurations of DeepStream's application for action recognition: what makes clips, what classifies, what runs both.

Source: deepstream-3d-action-recognition with its sequence library, nvdspreprocess and nvinfer in NVIDIA/DeepStream,
release 9.1. The sequence library writes float32 RGB (batch, 3, frames, height, width) and nothing else. As cameras'
clips are ready at different times, the network has to take any batch from 1 on: nvinfer refuses a part of a fixed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.types import Preprocessing, TensorSpec

Value = str | int | float | Sequence[str] | Sequence[int] | Sequence[float]
Sections = Mapping[str, Mapping[str, Value]]

PREPROCESS_FILE, INFER_FILE, APPLICATION_FILE = "preprocess.txt", "infer.txt", "application.txt"
LABELS_FILE = "labels.txt"
SEQUENCE_LIBRARY = "/opt/nvidia/deepstream/deepstream/lib/libnvds_custom_sequence_preprocess.so"
RGB, CUSTOM_ORDER, FLOAT32, BILINEAR = 0, 2, 0, 1  # as nvdspreprocess numbers them
CLASSIFIER, FULL_FRAMES, TYPES_OF_THE_FILE = 1, 1, 0  # as nvinfer does
NETWORK_ID = 1
SPARE_TENSORS = 4  # clips on their way to the network, beside the one that each camera fills
TIMEOUT_US = 40_000


@dataclass(frozen=True, slots=True)
class Application:
    """A network, its cameras' addresses and what DeepStream does between them.

    `clip` is the network's input, `frame` the (width, height) of the cameras' frames, `hop` the taken frames from one
    clip of a camera to its next, `threshold` the probability below which a clip has no class. `engine` None: the one
    that nvinfer builds.
    """

    model: str
    engine: str | None
    clip: TensorSpec
    preprocessing: Preprocessing
    cameras: tuple[str, ...]
    frame: tuple[int, int]
    hop: int
    threshold: float

    @property
    def batch(self) -> int:
        """Cameras whose clips share an inference when they are ready together."""
        return min(self.clip.shape[0], len(self.cameras))


def describe_preprocessing(application: Application) -> Sections:
    """The configuration of nvdspreprocess: frames to clips, as its sequence library makes them."""
    clip, cameras = application.preprocessing, range(len(application.cameras))
    return {
        "property": {
            "enable": 1,
            "target-unique-ids": NETWORK_ID,
            "process-on-frame": 1,
            "network-input-order": CUSTOM_ORDER,
            "network-input-shape": (application.batch, *application.clip.shape[1:]),
            "network-color-format": RGB,
            "tensor-data-type": FLOAT32,
            "tensor-name": application.clip.name,
            "processing-width": clip.size,
            "processing-height": clip.size,
            "maintain-aspect-ratio": 0,
            "scaling-filter": BILINEAR,
            "scaling-pool-memory-type": 0,
            "scaling-pool-compute-hw": 0,
            "tensor-buf-pool-size": len(cameras) + SPARE_TENSORS,
            "custom-lib-path": SEQUENCE_LIBRARY,
            "custom-tensor-preparation-function": "CustomSequenceTensorPreparation",
        },
        "user-configs": {
            "channel-scale-factors": [1 / value for value in clip.std],
            "channel-mean-offsets": clip.mean,
            "subsample": clip.stride - 1,
            "stride": application.hop,
        },
        "group-0": {
            "src-ids": cameras,
            "process-on-roi": 1,
            **{f"roi-params-src-{camera}": find_centre_square(*application.frame) for camera in cameras},
        },
    }


def describe_inference(application: Application) -> Sections:
    """The configuration of nvinfer: it builds the engine where there is none, and classifies clips."""
    return {
        "property": {
            "gpu-id": 0,
            "gie-unique-id": NETWORK_ID,
            "process-mode": FULL_FRAMES,
            "input-tensor-from-meta": 1,
            "onnx-file": application.model,
            "model-engine-file": application.engine or name_engine(application.model, application.batch),
            "batch-size": application.batch,
            "network-mode": TYPES_OF_THE_FILE,
            "strongly-typed": 1,
            "network-type": CLASSIFIER,
            "classifier-threshold": application.threshold,
            "labelfile-path": LABELS_FILE,
        }
    }


def describe_application(application: Application) -> Sections:
    """The configuration of the application: cameras, their frames' size, and the two files above."""
    width, height = application.frame
    return {
        "action-recognition": {
            "uri-list": application.cameras,
            "preprocess-config": PREPROCESS_FILE,
            "infer-config": INFER_FILE,
            "muxer-width": width,
            "muxer-height": height,
            "muxer-batch-timeout": TIMEOUT_US,
            "tiler-width": 1280,
            "tiler-height": 720,
            "display-sync": 0,
            "fakesink": 0,
            "enable-fps": 1,
            "debug": 1,  # prints each clip's class
        }
    }


def name_engine(model: str, batch: int) -> str:
    """The file that nvinfer keeps the engine in that it builds from `model`."""
    return f"{model}_b{batch}_gpu0_fp32.engine"


def find_centre_square(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of the largest square in the middle, all even: NVIDIA's scaler rounds odd ones."""
    side = min(width, height) // 2 * 2
    return (width - side) // 4 * 2, (height - side) // 4 * 2, side, side


def write_sections(sections: Sections) -> str:
    """The text of a configuration: groups of `key=value`, lists with semicolons."""
    groups = (
        "\n".join([f"[{name}]", *(f"{key}={_write_value(value)}" for key, value in keys.items())])
        for name, keys in sections.items()
    )
    return "\n\n".join(groups) + "\n"


def write_labels(labels: Sequence[str], classes: int) -> str:
    """Class names as nvinfer reads them: on one line, between semicolons."""
    names = labels or [f"class {index}" for index in range(classes)]
    return ";".join(name.replace(";", ",") for name in names) + "\n"


def _write_value(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ";".join(map(_write_value, value))
    return f"{value:.9g}" if isinstance(value, float) else str(value)

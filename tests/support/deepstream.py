"""DeepStream's side of an application folder: keys of its configurations, and a NumPy model of its sequence library.

Keys and types are those of NVIDIA/DeepStream, release 9.1: the parsers of nvdspreprocess, nvinfer and of
deepstream-3d-action-recognition; the arithmetic is that of its custom_sequence_preprocess.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = Mapping[str, Any]
Keywords = Mapping[str, Callable[[str], Any]]


def _switch(text: str) -> bool:
    return bool(_one_of(0, 1)(text))


def _list_of(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(kind(part) for part in text.split(";"))


def _one_of(*known: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        assert value in known, text
        return value

    return parse


PREPROCESS: Keywords = {
    "enable": _switch,
    "target-unique-ids": _list_of(int),
    "process-on-frame": _switch,
    "network-input-order": _one_of(0, 1, 2),
    "network-input-shape": _list_of(int),
    "network-color-format": _one_of(0, 1, 2),
    "tensor-data-type": _one_of(*range(8)),
    "tensor-name": str,
    "processing-width": int,
    "processing-height": int,
    "maintain-aspect-ratio": _switch,
    "scaling-filter": _one_of(*range(7)),
    "scaling-pool-memory-type": _one_of(*range(5)),
    "scaling-pool-compute-hw": _one_of(0, 1, 2),
    "tensor-buf-pool-size": int,
    "custom-lib-path": str,
    "custom-tensor-preparation-function": str,
}
PREPROCESS_OPTIONAL = frozenset(("enable", "target-unique-ids", "process-on-frame", "maintain-aspect-ratio"))
USER: Keywords = {
    "channel-scale-factors": _list_of(float),
    "channel-mean-offsets": _list_of(float),
    "subsample": int,
    "stride": int,
}
GROUP: Keywords = {"src-ids": _list_of(int), "process-on-roi": _switch}
ROI_PREFIX = "roi-params-src-"
INFER: Keywords = {
    "gpu-id": int,
    "gie-unique-id": int,
    "process-mode": _one_of(1, 2),
    "input-tensor-from-meta": _switch,
    "onnx-file": str,
    "model-engine-file": str,
    "batch-size": int,
    "network-mode": _one_of(0, 1, 2, 3),
    "strongly-typed": _switch,
    "network-type": _one_of(0, 1, 2, 3, 100),
    "classifier-threshold": float,
    "labelfile-path": str,
}
APPLICATION: Keywords = {
    "uri-list": _list_of(str),
    "preprocess-config": str,
    "infer-config": str,
    "muxer-width": int,
    "muxer-height": int,
    "muxer-batch-timeout": int,
    "tiler-width": int,
    "tiler-height": int,
    "display-sync": _switch,
    "fakesink": _switch,
    "enable-fps": _switch,
    "debug": _one_of(0, 1, 2),
}


def read_preprocessing(path: Path) -> dict[str, Keys]:
    """The configuration of nvdspreprocess; every key it needs is there, and none that it does not know."""
    groups = _read(path)
    assert next(iter(groups)) == "property"  # it decides how the groups after it are read
    cameras = [key for key in groups["group-0"] if key.startswith(ROI_PREFIX)]
    assert list(groups["group-0"]).index("process-on-roi") < list(groups["group-0"]).index(cameras[0])
    squares = {camera: _list_of(int) for camera in cameras}
    return {
        "property": _parse(groups["property"], PREPROCESS, PREPROCESS_OPTIONAL),
        "user-configs": _parse(groups["user-configs"], USER),
        "group-0": _parse(groups["group-0"], {**GROUP, **squares}),
    }


def read_inference(path: Path) -> Keys:
    return _parse(_read(path)["property"], INFER)


def read_application(path: Path) -> Keys:
    return _parse(_read(path)["action-recognition"], APPLICATION)


def prepare_clips(frames: Iterable[NDArray[np.uint8]], keys: Mapping[str, Keys]) -> Iterator[NDArray[np.float32]]:
    """The tensors that the sequence library hands on for camera 0: RGB frames in, (1, 3, frames, height, width) out."""
    settings, user = keys["property"], keys["user-configs"]
    _, channels, length, height, width = settings["network-input-shape"]
    assert channels == 3
    assert (settings["network-color-format"], settings["tensor-data-type"], settings["scaling-filter"]) == (0, 0, 1)
    assert (height, width) == (settings["processing-height"], settings["processing-width"])
    left, top, wide, high = keys["group-0"][f"{ROI_PREFIX}0"]
    scale = np.array(user["channel-scale-factors"], np.float32)
    offset = -scale * np.array(user["channel-mean-offsets"], np.float32)
    step, hop = user["subsample"] + 1, user["stride"]
    taken: list[NDArray[np.float32]] = []
    ready = (length - 1) * step  # the frame that makes the first sequence whole
    for number, frame in enumerate(frames):
        if number % step:
            continue
        square = frame[top : top + high, left : left + wide]
        assert square.shape[:2] == (high, wide)  # else it would be cut, and stretched
        resized = resize_bilinear(square, height, width)
        taken = [*taken, resized.astype(np.float32) * scale + offset][-length:]
        if number >= ready:
            yield np.ascontiguousarray(np.stack(taken).transpose(3, 0, 1, 2)[None])
            ready, taken = number + hop * step, taken[hop:]


def resize_bilinear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bilinear scaling between pixel centres, without a filter against aliasing."""
    values = image.astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        places = (np.arange(size) + 0.5) * values.shape[axis] / size - 0.5
        places = places.clip(0, values.shape[axis] - 1)
        lower = np.floor(places).astype(int)
        upper = np.minimum(lower + 1, values.shape[axis] - 1)
        weight = (places - lower).reshape([-1 if one == axis else 1 for one in range(3)])
        values = values.take(lower, axis) * (1 - weight) + values.take(upper, axis) * weight
    return (values + 0.5).astype(np.uint8)


def _read(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they are written
    parser.read_string(path.read_text(encoding="utf-8"))
    return {name: dict(parser[name]) for name in parser.sections()}


def _parse(group: Mapping[str, str], known: Keywords, optional: frozenset[str] = frozenset()) -> Keys:
    assert set(known) - optional <= set(group) <= set(known), set(group) ^ set(known)
    return {name: known[name](value) for name, value in group.items()}

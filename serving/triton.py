"""Model configurations of Triton Inference Server: the network, and what makes clips before it and classes behind it.

Four models stand in a repository: NAME (the network), NAME-clips (an encoded video to the network's input),
NAME-classes (logits to probabilities), and NAME-video, an ensemble of the three from an encoded video to probabilities.
Source: Triton's model_config.proto and its documentation of model repositories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.choices import TritonBackend
from ..core.types import TensorSpec
from .pbtxt import Message, Symbol, write_message

LABELS_FILE = "labels.txt"
VIDEO, CLIPS, PROBABILITIES = "video", "clips", "probabilities"
DATA_TYPES = {
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
}


MODEL_FILES = {
    TritonBackend.TENSORRT: "model.plan",
    TritonBackend.ONNXRUNTIME: "model.onnx",
    TritonBackend.PYTHON: "model.py",
}
INSTANCE_KINDS = {
    TritonBackend.TENSORRT: "KIND_GPU",
    TritonBackend.ONNXRUNTIME: "KIND_AUTO",  # a GPU where the server has one
    TritonBackend.PYTHON: "KIND_CPU",  # the process; its runner takes the GPU by itself
}


@dataclass(frozen=True, slots=True)
class ServedNetwork:
    """A network as Triton serves it: its name, what runs it, and its tensors, of which the first of each kind count.

    So many `instances` of it run side by side. `labelled`: class names lie beside the configuration.
    """

    name: str
    backend: TritonBackend
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    instances: int = 1
    labelled: bool = False

    @property
    def views(self) -> int:
        """Views of a video that are one request: as many as the smallest batch."""
        return self.inputs[0].batches[0]

    @property
    def most_batch(self) -> int:
        """Clips up to which the server may put requests together; 0 for a file that takes other batches than these."""
        return self.inputs[0].shape[0] if self.inputs[0].least_batch == 1 else 0

    @property
    def classes(self) -> int:
        return self.outputs[0].shape[-1]


def write_network_config(network: ServedNetwork) -> str:
    """The network's config.pbtxt: exact names, types and extents, one version, a warm-up on random input."""
    first, batch = network.inputs[0], network.most_batch
    warm_dims = first.shape[1:] if batch else first.shape
    warm_up: Message = {
        "key": first.name,
        "value": {"data_type": Symbol(DATA_TYPES[first.dtype]), "dims": warm_dims, "random_data": True},
    }
    return write_message(
        {
            "name": network.name,
            "backend": network.backend.value,
            "default_model_filename": MODEL_FILES[network.backend],
            "max_batch_size": batch,
            **({"dynamic_batching": {"preferred_batch_size": [batch]}} if batch else {}),
            "input": [_tensor(spec, batched=batch > 0) for spec in network.inputs],
            "output": [
                _tensor(spec, batched=batch > 0, labelled=network.labelled and not index)
                for index, spec in enumerate(network.outputs)
            ],
            "instance_group": {
                "count": network.instances,
                "kind": Symbol(INSTANCE_KINDS[network.backend]),
            },
            "version_policy": {"latest": {"num_versions": 1}},
            "response_cache": {"enable": False},
            "model_warmup": {"name": "random clips", "batch_size": batch or 1, "inputs": warm_up},
        }
    )


def write_clips_config(network: ServedNetwork, most_bytes: int, instances: int) -> str:
    """The config.pbtxt of the model that decodes: a video's bytes in, `views` clips as the network takes them out."""
    clip = network.inputs[0]
    return write_message(
        {
            **_python_model(f"{network.name}-clips", instances),
            "input": [_tensor(TensorSpec(VIDEO, "uint8", (-1,)))],
            "output": [_tensor(TensorSpec(CLIPS, clip.dtype, (network.views, *clip.shape[1:])))],
            "parameters": _parameters(views=network.views, dtype=clip.dtype, most_bytes=most_bytes),
        }
    )


def write_classes_config(network: ServedNetwork) -> str:
    """The config.pbtxt of the model that averages the views' probabilities."""
    return write_message(
        {
            **_python_model(f"{network.name}-classes", 1),
            "input": [_tensor(replace(network.outputs[0], shape=(network.views, network.classes), least_batch=None))],
            "output": [_tensor(TensorSpec(PROBABILITIES, "float32", (network.classes,)), labelled=network.labelled)],
        }
    )


def write_ensemble_config(network: ServedNetwork) -> str:
    """The config.pbtxt of the ensemble: from a video's bytes to the probability of each class."""
    clip, logits = network.inputs[0].name, network.outputs[0].name
    steps = (
        (f"{network.name}-clips", {VIDEO: VIDEO}, {CLIPS: CLIPS}),
        (network.name, {clip: CLIPS}, {logits: "logits"}),
        (f"{network.name}-classes", {logits: "logits"}, {PROBABILITIES: PROBABILITIES}),
    )
    return write_message(
        {
            "name": f"{network.name}-video",
            "platform": "ensemble",
            "max_batch_size": 0,
            "input": [_tensor(TensorSpec(VIDEO, "uint8", (-1,)))],
            "output": [_tensor(TensorSpec(PROBABILITIES, "float32", (network.classes,)), labelled=network.labelled)],
            "ensemble_scheduling": {
                "step": [
                    {
                        "model_name": name,
                        "model_version": -1,
                        "input_map": [{"key": key, "value": value} for key, value in inputs.items()],
                        "output_map": [{"key": key, "value": value} for key, value in outputs.items()],
                    }
                    for name, inputs, outputs in steps
                ]
            },
        }
    )


def _python_model(name: str, instances: int) -> Message:
    return {
        "name": name,
        "backend": TritonBackend.PYTHON.value,
        "max_batch_size": 0,
        "instance_group": {"count": instances, "kind": Symbol("KIND_CPU")},
        "version_policy": {"latest": {"num_versions": 1}},
    }


def _tensor(spec: TensorSpec, *, batched: bool = False, labelled: bool = False) -> Message:
    """A tensor, without its batch where the server adds it (`batched`), with any where the file takes a range."""
    whole = spec.shape if spec.least_batch is None else (-1, *spec.shape[1:])
    return {
        "name": spec.name,
        "data_type": Symbol(DATA_TYPES[spec.dtype]),
        "dims": whole[1:] if batched else whole,
        **({"label_filename": LABELS_FILE} if labelled else {}),
    }


def _parameters(**values: str | int) -> Sequence[Message]:
    return [{"key": key, "value": {"string_value": str(value)}} for key, value in values.items()]

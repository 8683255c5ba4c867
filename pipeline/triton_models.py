"""The models that run inside Triton's Python backend; each repository's model.py takes its class from here.

Tensors go in and out by DLPack: the backend's own conversion to NumPy is compiled for NumPy 1 and misreads NumPy 2.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..clips.source import ClipSource
from ..core.errors import ClipError, DualExportError
from ..core.manifest import read_manifest
from ..core.types import Array
from ..serving.triton import CLIPS, PROBABILITIES, VIDEO
from ..verification.measures import softmax
from .runners import open_artifact

CONTAINER_SUFFIX = ".mp4"  # decoders look at the content, a source at the name


class _Model:
    """Answers requests one by one; an expected error is the answer to its request alone."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called once by the backend; `args` hold the configuration and where the model lies."""
        import triton_python_backend_utils  # exists inside the server only

        self._server: ModuleType = triton_python_backend_utils
        self.open(Path(args["model_repository"]) / args["model_version"], json.loads(args["model_config"]))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response a request, in order."""
        return [self._respond(request) for request in requests]

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        """Load what the model needs from its version's folder."""

    def answer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The outputs for one request's inputs; raises DualExportError for inputs that cannot be answered."""
        raise NotImplementedError

    def _respond(self, request: Any) -> Any:
        server = self._server
        inputs = {tensor.name(): np.from_dlpack(tensor) for tensor in request.inputs()}
        try:
            outputs = self.answer(inputs)
        except DualExportError as error:
            return server.InferenceResponse(error=server.TritonError(f"{error}; fix: {error.fix}"))
        tensors = [server.Tensor.from_dlpack(name, np.ascontiguousarray(value)) for name, value in outputs.items()]
        return server.InferenceResponse(tensors)


class ClipsModel(_Model):
    """Samples, resizes and crops an encoded video's frames, as `dualexport predict` does."""

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._preprocessing = read_manifest(folder).preprocessing
        self._views, self._most_bytes = int(parameters["views"]), int(parameters["most_bytes"])
        self._dtype = parameters["dtype"]

    def answer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        video = inputs[VIDEO]
        if video.size > self._most_bytes:
            raise ClipError(
                f"the video has {video.size} bytes, at most {self._most_bytes} are taken",
                fix="send a shorter part, or raise most_bytes in the model's config.pbtxt",
            )
        with tempfile.NamedTemporaryFile(suffix=CONTAINER_SUFFIX) as file:
            file.write(video.tobytes())
            file.flush()
            clips = ClipSource(Path(file.name), self._preprocessing, views=self._views)
            return {CLIPS: np.stack([clip.network_input(self._dtype) for clip in clips])}


class NetworkModel(_Model):
    """Runs the network with dualexport's own runner: ONNX Runtime, or TensorRT with its checks of the engine."""

    def open(self, folder: Path, config: dict[str, Any]) -> None:  # noqa: ARG002
        (artifact,) = read_manifest(folder).artifacts
        self._runner = open_artifact(artifact)

    def answer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return self._runner.infer(inputs)

    def finalize(self) -> None:
        """Called by the backend when the model is unloaded."""
        self._runner.__exit__(None, None, None)


class ClassesModel(_Model):
    """Averages the probabilities of a video's views."""

    def answer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        (logits,) = inputs.values()
        return {PROBABILITIES: softmax(logits).mean(axis=0).astype(np.float32)}

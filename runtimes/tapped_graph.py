"""TODO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from ..core.errors import RunnerError
from ..core.types import LOGITS, Array, Clip
from .onnx_runner import ERRORS_ONLY, FAILURES, NUMPY_TYPES


class TappedGraph:
    """An ONNX file whose intermediate tensors come out beside its logits; `tensors` gives them by the taps' names."""

    def __init__(self, path: Path, tensors: Mapping[str, str]) -> None:
        try:
            model = onnx.load(path)
        except (OSError, DecodeError) as error:
            raise RunnerError(f"{path.name} cannot be read: {error}", fix="export it again") from error
        made = {name for node in model.graph.node for name in node.output}
        self.missing = tuple(name for name, tensor in tensors.items() if tensor not in made)
        self._tensors = {name: tensor for name, tensor in tensors.items() if tensor in made}
        self._logits = model.graph.output[0].name
        batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        if batch != 1:
            raise RunnerError(
                f"{path.name} takes {batch} clips at once, blocks are compared clip by clip",
                fix="export with --batch 1",
            )
        model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in self._tensors.values())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except FAILURES as error:
            raise RunnerError(
                f"{path.name} cannot be run with its blocks' outputs: {str(error).splitlines()[0]}",
                fix="export it again with `dualexport onnx`",
            ) from error

    def run(self, clip: Clip) -> dict[str, Array]:
        """The taps of one clip, then the logits."""
        feed = self._session.get_inputs()[0]
        values = clip.network_input(NUMPY_TYPES[feed.type])[None]
        outputs = self._session.run([*self._tensors.values(), self._logits], {feed.name: values})
        return dict(zip((*self._tensors, LOGITS), outputs, strict=True))

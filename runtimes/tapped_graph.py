"""Runs an ONNX file with intermediate tensors as further outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime

from ..core.errors import RunnerError
from ..core.types import LOGITS, Array, Clip
from ..graphs.batch import fix_batch, read_batches
from ..graphs.load import load_graph
from .onnx_runner import ERRORS_ONLY, read_spec, translated


class TappedGraph:
    """An ONNX file whose intermediate tensors come out beside its logits; `tensors` gives them by the taps' names."""

    def __init__(self, path: Path, tensors: Mapping[str, str]) -> None:
        model = load_graph(path)
        if 1 in range(*(read_batches(model) or (0, 0))):
            fix_batch(model, 1)
        made = {name for node in model.graph.node for name in node.output}
        self.missing = tuple(name for name, tensor in tensors.items() if tensor not in made)
        self._tensors = {name: tensor for name, tensor in tensors.items() if tensor in made}
        self._logits = model.graph.output[0].name
        model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in self._tensors.values())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        with translated(f"{path.name} cannot be run with its blocks' outputs"):
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        self._input = read_spec(self._session.get_inputs()[0], path, None)
        if self._input.shape[:1] != (1,):
            raise RunnerError(
                f"{path.name} takes {self._input.shape}, blocks are compared clip by clip", fix="export with --batch 1"
            )

    def run(self, clip: Clip) -> dict[str, Array]:
        """The taps of one clip, then the logits."""
        values = clip.network_input(self._input.dtype)[None]
        with translated("the graph broke off with its blocks' outputs"):
            outputs = self._session.run([*self._tensors.values(), self._logits], {self._input.name: values})
        return dict(zip((*self._tensors, LOGITS), outputs, strict=True))

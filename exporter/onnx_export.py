"""Export a network to self-contained ONNX files, in FP32 and in FP16, from one trace."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import ModelProto, numpy_helper
from torch import nn

from ..core.choices import Graph, InputType, Precision
from ..core.errors import ExportError
from ..core.reporter import Progress, no_progress
from ..core.types import LOGITS, Artifact, TensorSpec
from ..graphs.batch import free_batch
from .dualformer.network import DualFormer, SelectionOutputs
from .folding.fold import fold
from .folding.identities import centre_rows
from .folding.layers import Attend
from .folding.selectors import RowSelector
from .half_graph import halve_graph
from .tracing import INPUT, simplify_graph, take_weights, trace_network

OPSETS = range(18, 21)  # the exporter writes 18 and later; TensorRT 10.0 reads up to 20
KEPT_FRAMES = "kept_frames"


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """An ONNX file's graph, precision and input, its clips an inference, and its operator set.

    With `least_batch` the file takes any batch from that to `batch`.

    With selection the token frames that the network selected are a second output.
    """

    graph: Graph = Graph.FOLDED
    precision: Precision = Precision.FP32
    input_type: InputType = InputType.FLOAT32
    batch: int = 1
    least_batch: int | None = None
    opset: int = OPSETS[-1]
    with_selection: bool = False


@dataclass(frozen=True, slots=True)
class TracedNetwork:
    """A network as an FP32 ONNX graph that can be written in FP32 and in FP16.

    `module` is the PyTorch module that was traced. `model` has its `weights`, which share the module's memory, as
    inputs after the clip, and the batch `traced_batch`.
    """

    module: nn.Module
    model: ModelProto
    weights: Mapping[str, ir.TensorProtocol]
    options: OnnxOptions
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    traced_batch: int

    def write(
        self, path: Path, precision: Precision, *, parent: str | None, dividing_behind: Collection[str] = ()
    ) -> Artifact:
        """Write one self-contained file; `parent` is the SHA-256 of the weights' file.

        In FP16 the layers named in `dividing_behind`, which `half_precision.inspect_half` found on clips,
        standardize by a factor on their product. The caller stages `path`, so that a file which is not proven yet never
        carries its final name. Raises ExportError for a graph that does not pass ONNX's checker.
        """
        if precision not in (Precision.FP32, Precision.FP16):
            raise ExportError(f"there is no {precision.value} form of the network", fix="choose fp32 or fp16")
        is_half = precision is Precision.FP16
        model = halve_graph(self.model, dividing_behind) if is_half else _copy(self.model)
        graph = model.graph
        del graph.input[1:]
        centred = {f"{layer}.weight" for layer in dividing_behind} if is_half else set()
        for name, weight in self.weights.items():
            values = weight.numpy()
            if name in centred:
                values = centre_rows(torch.from_numpy(values).double()).float().numpy()
            if is_half:
                with np.errstate(over="ignore"):  # what overflows is named by `half_precision`
                    values = values.astype(np.float16)
            graph.initializer.append(numpy_helper.from_array(values, name))
        if self.options.least_batch is not None:
            free_batch(model, self.traced_batch, (self.options.least_batch, self.options.batch))
        nodes = len(graph.node)
        content = model.SerializeToString()
        del model, graph  # a copy of the weights
        check_model(content)
        path.write_bytes(content)
        return Artifact(
            format="onnx",
            precision=precision,
            graph=self.options.graph,
            path=path,
            sha256=hashlib.sha256(content).hexdigest(),
            inputs=self.inputs,
            outputs=self.outputs,
            parent=parent,
            options={"opset": self.options.opset, "nodes": nodes},
        )


def export_onnx(
    network: DualFormer, path: Path, options: OnnxOptions, *, parent: str | None, progress: Progress = no_progress
) -> Artifact:
    """Write `network` to one file, as `trace` and `TracedNetwork.write` do."""
    return trace(network, options, progress).write(path, options.precision, parent=parent)


def trace(network: DualFormer, options: OnnxOptions, progress: Progress = no_progress) -> TracedNetwork:
    """Trace `network` once for all precisions: input `clip`, output `logits` float32 (batch, classes).

    The input is float32 (batch, 3, frames, 224, 224), normalized, or uint8 (batch, frames, 224, 224, 3), raw RGB.
    With selection the second output is `kept_frames`, int32 (batch, kept): the token frames that were selected,
    ascending. `network` is never changed. Raises ExportError for what cannot be exported.
    """
    outputs = _list_outputs(network, options)
    progress("tracing the network")
    module, rest = _make_module(network, options), network.config.input_shape(options.input_type)
    batch = options.batch
    if options.least_batch is not None:
        batch = _choose_traced_batch((*rest, network.config.kept_frames or 1))
        for part in module.modules():
            if isinstance(part, Attend):
                part.clips = batch
            elif isinstance(part, RowSelector):
                part.any_batch = True
    example = torch.zeros((batch, *rest), dtype=getattr(torch, options.input_type.value))
    traced = trace_network(module, example, [spec.name for spec in outputs], options.opset)
    progress("simplifying the graph")
    weights = take_weights(traced)
    model = simplify_graph(traced, weights)
    clip = TensorSpec(INPUT, options.input_type.value, (options.batch, *rest), options.least_batch)
    return TracedNetwork(module, model, weights, options, (clip,), outputs, batch)


def _make_module(network: DualFormer, options: OnnxOptions) -> nn.Module:
    """The module to trace: the network as it is, or folded."""
    if options.graph is Graph.FOLDED:
        return fold(
            network,
            input_dtype=getattr(torch, options.input_type.value),
            preprocessing=network.config.preprocessing,
            with_selection=options.with_selection,
        )
    if options.input_type is not InputType.FLOAT32:
        raise ExportError(
            f"the plain graph takes float32 clips, not {options.input_type.value}",
            fix="leave --graph plain or --input out",
        )
    return SelectionOutputs(network).eval() if options.with_selection else network


def check_model(content: bytes) -> None:
    """Raise ExportError unless a file of that content passes ONNX's checker with full shape inference."""
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}",
            fix="install the versions in constraints.txt",
        ) from error


def _list_outputs(network: DualFormer, options: OnnxOptions) -> tuple[TensorSpec, ...]:
    logits = TensorSpec(LOGITS, "float32", (options.batch, network.config.classes), options.least_batch)
    if not options.with_selection:
        return (logits,)
    kept = network.config.kept_frames
    if kept is None:
        raise ExportError(
            "the network selects no frames that could be an output",
            fix="select some, for example with --stts T0:0.5, or leave --with-selection out",
        )
    return (logits, TensorSpec(KEPT_FRAMES, "int32", (options.batch, kept), options.least_batch))


def _choose_traced_batch(extents: Sequence[int]) -> int:
    """A prime that no extent of the network has in it: what it divides in a traced shape, the batch is in."""
    return next(prime for prime in (11, 13, 17, 19, 23) if all(extent % prime for extent in extents))


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy

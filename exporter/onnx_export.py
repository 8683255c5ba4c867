"""Trace a network to one self-contained ONNX file whose node names are the network's own."""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxsim
import torch
from onnx import ModelProto
from torch import Tensor, nn

from ..core.choices import Graph, InputType, Precision
from ..core.errors import ExportError
from ..core.files import hash_file
from ..core.reporter import Progress, no_progress
from ..core.types import Artifact, TensorSpec
from ..graphs.batch import free_batch
from .dualformer.network import DualFormer
from .folding.layers import Attend
from .variants import make_variant

OPSETS = range(18, 21)  # the exporter writes 18 and later; TensorRT 10.0 reads up to 20
INPUT, OUTPUT, KEPT_FRAMES = "clip", "logits", "kept_frames"
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
# The exporter logs every torchvision operator that it cannot register, whether or not the network has one.
REGISTRATION_LOGGER = "torch.onnx._internal.exporter._registration"


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """What the file computes with and puts out, and how it is written: clips an inference, and the ONNX operator set.

    With `least_batch` the file takes any batch from that to `batch`.

    With selection the token frames that the network selected are a second output. `dividing_behind` are the layers
    that `half_precision.find_dividing_behind` found on clips; they matter to the folded graph in FP16.
    """

    graph: Graph = Graph.FOLDED
    precision: Precision = Precision.FP32
    input_type: InputType = InputType.FLOAT32
    batch: int = 1
    least_batch: int | None = None
    opset: int = OPSETS[-1]
    with_selection: bool = False
    dividing_behind: frozenset[str] = frozenset()


def export_onnx(
    network: DualFormer, path: Path, options: OnnxOptions, *, parent: str | None, progress: Progress = no_progress
) -> Artifact:
    """Write `network` to `path`: input `clip`, output `logits` float32 (batch, classes).

    The input is float32 (batch, 3, frames, 224, 224), normalized, or uint8 (batch, frames, 224, 224, 3), raw RGB.
    `parent` is the SHA-256 of the weights' file. The caller stages `path`, so that a file which is not proven yet
    never carries its final name. With selection the second output is `kept_frames`, int32 (batch, kept): the token
    frames that were selected, ascending. Raises ExportError for what cannot be exported, or does not pass ONNX's
    checker.
    """
    name = f"{options.precision.value} {options.graph.value} graph"
    outputs = _list_outputs(network, options)
    progress(f"tracing the {name}")
    variant = make_variant(
        network,
        options.graph,
        options.precision,
        options.input_type,
        with_selection=options.with_selection,
        dividing_behind=options.dividing_behind,
    )
    rest = network.config.input_shape(options.input_type)
    traced_batch = options.batch
    if options.least_batch is not None:
        traced_batch = _choose_traced_batch(rest)
        for attend in (module for module in variant.modules() if isinstance(module, Attend)):
            attend.clips = traced_batch
    example = torch.zeros((traced_batch, *rest), dtype=getattr(torch, options.input_type.value))
    traced = trace_network(variant, example, [spec.name for spec in outputs], options.opset)
    progress(f"simplifying the {name}")
    model = simplify_graph(traced)
    if options.least_batch is not None:
        free_batch(model, traced_batch, (options.least_batch, options.batch))
    nodes = len(model.graph.node)
    path.write_bytes(model.SerializeToString())
    del traced, model, variant  # a copy of the weights each; the check needs the room for its own
    progress(f"checking the {name}")
    check_model(path)
    return Artifact(
        format="onnx",
        precision=options.precision,
        graph=options.graph,
        path=path,
        sha256=hash_file(path),
        inputs=(TensorSpec(INPUT, options.input_type.value, (options.batch, *rest), options.least_batch),),
        outputs=outputs,
        parent=parent,
        options={"opset": options.opset, "nodes": nodes},
    )


def trace_network(network: nn.Module, example: Tensor, outputs: Sequence[str], opset: int) -> ir.Model:
    """The network as PyTorch's exporter writes it, with every node and tensor named after its module."""
    logger = logging.getLogger(REGISTRATION_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, about its pytree module
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT],
                output_names=list(outputs),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"PyTorch {torch.__version__} could not trace the network: {str(error).splitlines()[0]}",
            fix="install the versions in constraints.txt",
        ) from error
    finally:
        logger.setLevel(level)
    assert program is not None  # it is None only where a file name was given
    name_after_modules(program.model)
    return program.model


def name_after_modules(model: ir.Model) -> None:
    """Rename nodes `blocks.2.5.attn.qkv/MatMul`, their outputs alike and unnamed weights after their reader.

    What else the exporter notes on a node is dropped: it holds source lines and paths of the exporting machine.
    """
    seen: Counter[str] = Counter()
    kept = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get(NAME_SCOPES, "['']"))
        module = scopes[-2].removeprefix("backbone.") if len(scopes) > 1 else ""
        name = f"{module or 'network'}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        for index, value in enumerate(node.outputs):
            if value.name not in kept:
                value.name = node.name if index == 0 else f"{node.name}.{index}"
        for weight in node.inputs:
            if weight is not None and _is_weight(weight) and "." not in str(weight.name):
                _rename_initializer(model.graph, weight, f"{module}.weight_transposed")
        node.metadata_props.clear()


def simplify_graph(model: ir.Model) -> ModelProto:
    """Fold constants and drop what computes nothing (onnxsim); `model` gives its weights up.

    The weights stand aside meanwhile, as inputs: no simplification touches them, and the simplifier then copies
    kilobytes where it would copy the network several times.
    """
    weights = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if _is_weight(value) and value.const_value is not None
    }
    for name in weights:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)
    model.producer_name, model.producer_version = "dualexport", ""
    simplified: ModelProto = onnxsim.simplify(ir.to_proto(model))[0]
    graph = simplified.graph
    for node in graph.node:
        if "/" not in node.name:  # made by the simplifier
            node.name = f"{node.input[0]}/{node.op_type}"
    inputs = [value for value in graph.input if value.name not in weights]
    used = {name for node in graph.node for name in node.input}
    del graph.input[:]
    graph.input.extend(inputs)
    for name, tensor in weights.items():
        if name in used:
            graph.initializer.append(ir.to_proto(tensor))
            graph.initializer[-1].name = name
    return simplified


def check_model(path: Path) -> None:
    """Raise ExportError unless the file passes ONNX's checker with full shape inference, all shapes static."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}",
            fix="install the versions in constraints.txt",
        ) from error


def _list_outputs(network: DualFormer, options: OnnxOptions) -> tuple[TensorSpec, ...]:
    logits = TensorSpec(OUTPUT, "float32", (options.batch, network.config.classes), options.least_batch)
    if not options.with_selection:
        return (logits,)
    kept = network.config.kept_frames
    if kept is None:
        raise ExportError(
            "the network selects no frames that could be an output",
            fix="select some, for example with --stts T0:0.5, or leave --with-selection out",
        )
    return (logits, TensorSpec(KEPT_FRAMES, "int32", (options.batch, kept), options.least_batch))


def _choose_traced_batch(clip_shape: Sequence[int]) -> int:
    """A prime that no extent of the network has in it: what it divides in a traced shape, the batch is in."""
    return next(prime for prime in (11, 13, 17, 19, 23) if all(extent % prime for extent in clip_shape))


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    return value.is_initializer() and tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape) > 0


def _rename_initializer(graph: ir.Graph, value: ir.Value, name: str) -> None:
    graph.initializers.pop(str(value.name))
    value.name = name
    graph.initializers.add(value)

"""Trace a network to an ONNX graph whose node names are the network's own, and simplify it."""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import onnx_ir as ir
import onnxsim
import torch
from onnx import ModelProto
from torch import Tensor, nn

from ..core.errors import ExportError, was_interrupted

INPUT = "clip"
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
# The exporter logs every torchvision operator that it cannot register, whether or not the network has one.
REGISTRATION_LOGGER = "torch.onnx._internal.exporter._registration"


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
        if was_interrupted(error):
            raise KeyboardInterrupt from error
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


def simplify_graph(model: ir.Model, weights: Mapping[str, ir.TensorProtocol]) -> ModelProto:
    """Fold constants and drop what computes nothing (onnxsim).

    `weights`, which are inputs of `model` by name, are not read: no simplification touches them, and the simplifier
    then copies kilobytes where it would copy the network several times. Those that nothing reads are no input any more.
    """
    model.producer_name, model.producer_version = "dualexport", ""
    simplified: ModelProto = onnxsim.simplify(ir.to_proto(model))[0]
    graph = simplified.graph
    for node in graph.node:
        if "/" not in node.name:  # made by the simplifier
            node.name = f"{node.input[0]}/{node.op_type}"
    used = {name for node in graph.node for name in node.input}
    inputs = [value for value in graph.input if value.name in used or value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    return simplified


def take_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Make the weights inputs of `model`, after the clip, and return them."""
    weights = {}
    for name, value in list(model.graph.initializers.items()):
        if _is_weight(value) and value.const_value is not None:
            weights[name] = value.const_value
            model.graph.initializers.pop(name).const_value = None
            model.graph.inputs.append(value)
    return weights


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    return value.is_initializer() and tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape) > 0


def _rename_initializer(graph: ir.Graph, value: ir.Value, name: str) -> None:
    graph.initializers.pop(str(value.name))
    value.name = name
    graph.initializers.add(value)

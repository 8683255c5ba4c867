"""The share of the output's error that each quantized layer is to blame for.

One layer is quantized at a time. What flows into its block is the same as without, so it is kept from one run of the
whole network, and only the rest of the network, from the block on, runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, helper

from ..core.errors import QuantizationError
from ..core.reporter import Progress
from ..core.runner import Runner
from ..core.types import Array, Clip
from .calibrate import Calibration
from .linear_layers import LinearLayer, block_of
from .observe import fill_batch
from .qdq import quantize_graph

OpenRunner = Callable[[ModelProto], AbstractContextManager[Runner]]


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """The power of the logits' error with only this layer quantized: a share of the sum over layers, and in dB.

    `decibels` is the power of the logits over that of their error.
    """

    layer: str
    share: float
    decibels: float


def rank_layers(
    model: ModelProto,
    layers: Sequence[LinearLayer],
    calibration: Calibration,
    clips: Iterable[Clip],
    open_runner: OpenRunner,
    progress: Progress,
) -> tuple[LayerNoise, ...]:
    """The noise of every layer of the FP32 graph `model` on a few clips, kept in memory; the worst first."""
    starts = _find_block_inputs(model, layers)
    shapes = _infer_types(model)
    kept = _run_to_blocks(model, sorted(set(starts.values())), clips, open_runner, shapes)
    output = model.graph.output[0].name
    expected = [values[output] for values in kept]
    power = float(np.mean([np.square(logits).sum() for logits in expected]))
    noise: dict[str, float] = {}
    for done, layer in enumerate(layers):
        progress("quantizing one layer at a time", done, len(layers))
        start = starts[block_of(layer.name)]
        rest = quantize_graph(_cut_before(model, start, shapes), (layer,), calibration)
        with open_runner(rest) as runner:
            got = [runner.infer({start: values[start]})[output] for values in kept]
        noise[layer.name] = float(np.mean([np.square(a - b).sum() for a, b in zip(got, expected, strict=True)]))
    progress("quantizing one layer at a time", len(layers), len(layers))
    total = sum(noise.values()) or 1.0
    worst = sorted(noise, key=lambda name: noise[name], reverse=True)
    tiny = np.finfo(np.float64).tiny
    return tuple(
        LayerNoise(name, noise[name] / total, float(10 * np.log10(power / max(noise[name], tiny)))) for name in worst
    )


def _find_block_inputs(model: ModelProto, layers: Sequence[LinearLayer]) -> dict[str, str]:
    """The tensor of residual rows that each block reads: what the LayerNorm before its query standardizes."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for layer in layers:
        if layer.name.rpartition(".")[2] in ("q", "qkv"):
            tensor = layer.reads
            while (maker := makers.get(tensor)) is not None and maker.op_type != "LayerNormalization":
                tensor = maker.input[0] if maker.input else ""
            if maker is None:
                raise QuantizationError(
                    f"{layer.name} reads no standardized rows",
                    fix="give the folded FP32 graph that `dualexport onnx` wrote",
                )
            found[block_of(layer.name)] = maker.input[0]
    return found


def _run_to_blocks(
    model: ModelProto,
    tensors: Sequence[str],
    clips: Iterable[Clip],
    open_runner: OpenRunner,
    types: Mapping[str, onnx.ValueInfoProto],
) -> list[dict[str, Array]]:
    """The tensors that flow into the blocks, and the logits, for each clip."""
    observable = ModelProto()
    observable.CopyFrom(model)
    observable.graph.output.extend(types[tensor] for tensor in tensors)
    with open_runner(observable) as runner:
        return [runner.infer({runner.inputs[0].name: fill_batch(clip, runner)}) for clip in clips]


def _cut_before(model: ModelProto, start: str, types: Mapping[str, onnx.ValueInfoProto]) -> ModelProto:
    """The part of `model` that computes its logits from the tensor `start`."""
    output = model.graph.output[0]
    needed, nodes = {output.name}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and start not in node.output:
            needed.update(node.input)
            nodes.append(node)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(list(reversed(nodes)), model.graph.name, [types[start]], [output], constants)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _infer_types(model: ModelProto) -> dict[str, onnx.ValueInfoProto]:
    return {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}

"""Makes a plan of what TensorRT says: gives each compiled layer the work of the ONNX nodes it was made from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from ...graphs.work import GraphWork
from .layer_kind import LayerKind
from .parse import Compilation, parse_build_log, parse_inspection
from .plan import DTYPES, EnginePlan, PlanLayer, PlanTensor


def make_plan(model: str, compilation: Compilation, work: GraphWork) -> EnginePlan:
    """The plan of a compiled engine, from the engine inspector where it could be asked, else from the build log."""
    if compilation.inspection is not None:
        source, layers = "engine inspector", parse_inspection(compilation.inspection)
    else:
        source, layers = "build log", parse_build_log(compilation.log)
    return EnginePlan(
        model=model,
        compiler=compilation.compiler,
        source=source,
        layers=attribute_work(attribute_weights(layers, work), work),
        attentions=len(work.attentions),
        fused_attentions=_count_fused(layers, work),
        graph_macs=sum(work.macs.values()),
        uncounted_nodes=work.uncounted,
        asked_shares=work.shares,
    )


def attribute_work(layers: tuple[PlanLayer, ...], work: GraphWork) -> tuple[PlanLayer, ...]:
    """`layers` with the multiply-accumulates of the ONNX nodes they were made from.

    A node's work goes to the layers that name it and multiply matrices, in proportion to their outputs where the
    compiler split it. If none does, it goes to the one layer that names it; where several do, or none, it stays
    unattributed.
    """
    macs = [0] * len(layers)
    for node, indices in _find_naming(layers, work).items():
        workers = [index for index in indices if layers[index].kind.multiplies_matrices] or indices
        if len(workers) > 1 and not layers[workers[0]].kind.multiplies_matrices:
            continue
        for index, part in zip(workers, _split(work.macs[node], [layers[index] for index in workers]), strict=True):
            macs[index] += part
    return tuple(replace(layer, macs=count) for layer, count in zip(layers, macs, strict=True))


def attribute_weights(layers: tuple[PlanLayer, ...], work: GraphWork) -> tuple[PlanLayer, ...]:
    """`layers` with the weights of the ONNX nodes they were made from, where TensorRT lists none at all.

    A layer's precision goes by what TensorRT lists, so that it is the same before and after.
    """
    if any(layer.weights for layer in layers):
        return layers
    weights: list[list[PlanTensor]] = [[] for _ in layers]
    for node, indices in _find_naming(layers, work).items():
        workers = [index for index in indices if layers[index].kind.multiplies_matrices]
        if node in work.weights and node in work.precisions and workers:
            dtype = DTYPES[work.precisions[node]]
            parts = _split(work.weights[node], [layers[index] for index in workers])
            for index, part in zip(workers, parts, strict=True):
                weights[index].append(PlanTensor(node, (part,), dtype, ""))
    return tuple(replace(layer, graph_weights=tuple(own)) for layer, own in zip(layers, weights, strict=True))


def _find_naming(layers: tuple[PlanLayer, ...], work: GraphWork) -> dict[str, list[int]]:
    """The layers that name each node which has work."""
    naming: dict[str, list[int]] = defaultdict(list)
    for index, layer in enumerate(layers):
        for origin in set(layer.origins) & work.macs.keys():
            naming[origin].append(index)
    return naming


def _split(macs: int, layers: list[PlanLayer]) -> list[int]:
    """`macs` in whole parts, in proportion to what `layers` put out."""
    sizes = [max(1, sum(tensor.elements for tensor in layer.outputs)) for layer in layers]
    parts = [macs * size // sum(sizes) for size in sizes]
    parts[-1] += macs - sum(parts)
    return parts


def _count_fused(layers: tuple[PlanLayer, ...], work: GraphWork) -> int:
    """Count the graph's attentions that became one kernel: one that names the softmax or both of the products."""
    fused = [set(layer.origins) for layer in layers if layer.kind is LayerKind.ATTENTION]
    return sum(any(len(attention & origins) * 2 > len(attention) for origins in fused) for attention in work.attentions)

"""Takes INT8 out of a quantized graph again, layer by layer: what a file computes where some are as they were before.

Nothing is quantized anew, which could mend what is broken: all but the named layers stays what the file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto

from ..core.errors import QuantizationError
from ..core.reporter import Progress
from ..core.types import Clip
from ..graphs.load import load_graph
from .linear_layers import LinearLayer, find_layers
from .observe import fill_batch
from .qdq import assemble
from .sensitivity import OpenRunner

FIX = "make it again with `dualexport int8`"


@dataclass(frozen=True, slots=True)
class QuantizedGraph:
    """A quantized graph, the folded graph `base` that it was made from, and base's linear layers that are INT8 in it.

    `linear` are all linear layers of `base`.
    """

    model: ModelProto
    base: ModelProto
    linear: tuple[LinearLayer, ...]
    layers: tuple[str, ...]

    def without(self, layers: frozenset[str]) -> ModelProto:
        """A copy in which these layers are computed as in the base.

        Raises QuantizationError where the graph does not compute what one of them puts out.
        """
        originals = {node.name: node for node in self.base.graph.node}
        makers = {name: node for node in self.base.graph.node for name in node.output}
        made = {name for node in self.model.graph.node for name in node.output}
        chosen = [originals[layer.node] for layer in self.linear if layer.name in layers]
        wanted = {node.output[0]: node for node in chosen}
        if missing := sorted(wanted.keys() - made):
            raise QuantizationError(f"it computes no {missing[0]}, as its base does", fix=FIX)
        nodes: list[NodeProto] = []

        def restore(node: NodeProto) -> None:
            """Append the node of the base, after what it reads of the base and this graph does not compute."""
            for name in node.input:
                if name in makers and name not in made:
                    restore(makers[name])
            nodes.append(node)
            made.update(node.output)

        for node in self.model.graph.node:
            if original := wanted.get(node.output[0]):
                restore(original)
            else:
                nodes.append(node)
        here = {tensor.name for tensor in self.model.graph.initializer}
        return assemble(self.model, nodes, [one for one in self.base.graph.initializer if one.name not in here])


def read_quantized(path: Path, base: Path) -> QuantizedGraph:
    """The quantized graph at `path` beside its base. Raises QuantizationError where no layer of the base is INT8."""
    model, original = load_graph(path), load_graph(base)
    linear = find_layers(original)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    products = {
        node.name.rpartition("/")[0]
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and any(makers.get(name) == "DequantizeLinear" for name in node.input)
    }
    layers = tuple(layer.name for layer in linear if layer.name in products)
    if not layers:
        raise QuantizationError(f"no linear layer of {base.name} is INT8 in {path.name}", fix=FIX)
    return QuantizedGraph(model, original, linear, layers)


def rank_damage(
    graph: QuantizedGraph,
    groups: Sequence[frozenset[str]],
    clips: Sequence[Clip],
    open_runner: OpenRunner,
    progress: Progress,
) -> tuple[frozenset[str], ...]:
    """`groups` of layers by the energy of the error that each alone makes in the logits, the rest as in the base.

    The worst first. The reference is the base, on a few clips that are kept in memory.
    """
    with open_runner(graph.base) as runner:
        output, feed = runner.outputs[0].name, runner.inputs[0].name
        feeds = [{feed: fill_batch(clip, runner)} for clip in clips]
        expected = [runner.infer(one)[output].astype(np.float64) for one in feeds]
    damage: dict[frozenset[str], float] = {}
    for done, group in enumerate(groups):
        progress("ranking by the error that each makes alone", done, len(groups))
        with open_runner(graph.without(frozenset(graph.layers) - group)) as runner:
            errors = [runner.infer(one)[output] - logits for one, logits in zip(feeds, expected, strict=True)]
        energy = float(sum(np.square(error).sum() for error in errors))
        damage[group] = energy if np.isfinite(energy) else np.inf
    return tuple(sorted(groups, key=lambda group: damage[group], reverse=True))

"""Signal to noise of INT8 with and without two things: levelled weights, and weights rounded against what flows in.

Usage: python benchmarks/levelling.py [--checkpoint FILE] [--calibrate 24] [--held-out 20] [--seed 0]

Of the demo model, or of a checkpoint's network. Exports the folded FP32 graph (uint8 input) as it is, and again with
the identities left out that level query against key and the value against the key; calibrates both on generated clips,
and quantizes all linear layers or the free ones, one scale a stack, in the FP32 graph, with the weights rounded as
`dualexport int8` does and to the nearest. Signal to noise is of the logits on other generated clips, against FP32.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
from dualexport.calibration.calibrate import Calibration
from dualexport.calibration.gptq import round_weight
from dualexport.calibration.linear_layers import find_layers
from dualexport.calibration.placement import free_layers
from dualexport.calibration.qdq import quantize_graph
from dualexport.clips.synthetic import generated_clips
from dualexport.core.choices import Graph, InputType, Method, Precision
from dualexport.core.reporter import Reporter
from dualexport.core.types import Clip
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.exporter.folding import fold
from dualexport.exporter.folding.identities import Affine
from dualexport.exporter.loading import load_demo, load_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.graphs.load import load_graph
from dualexport.pipeline.calibrate import FoldedGraphs, measure
from int8 import infer
from torch import Tensor

COLUMNS = ("weights levelled", "rounded against what flows in", "layers", "dB", "agreement")


@contextmanager
def unlevelled() -> Iterator[None]:
    """Fold without the identities that level."""

    def leave_pair(query: Affine, key: Tensor) -> tuple[Affine, Tensor]:
        return query, key

    def leave_value(value: Tensor, proj: Affine, key: Tensor) -> tuple[Tensor, Affine]:  # noqa: ARG001
        return value, proj

    with patch.multiple(fold, level_query_key=leave_pair, level_value=leave_value):
        yield


def export(network: DualFormer, path: Path) -> FoldedGraphs:
    options = OnnxOptions(Graph.FOLDED, Precision.FP32, InputType.UINT8)
    artifact = export_onnx(network, path, options, parent=None)
    return FoldedGraphs(artifact, artifact, find_layers(load_graph(path)))


def round_to_nearest(graphs: FoldedGraphs, calibration: Calibration) -> Calibration:
    """The same with the weights rounded as if their inputs did not depend on each other."""
    weights = {
        layer.name: round_weight(layer.weight, np.eye(layer.weight.shape[1]), layer.scales) for layer in graphs.layers
    }
    return replace(calibration, weights=weights)


def list_rows(
    graphs: FoldedGraphs, calibrate: list[Clip], held_out: list[Clip], scratch: Path
) -> Iterator[tuple[str, str, str, str]]:
    """The rounding of weights, the layers, signal to noise and agreement, as a table's cells."""
    expected = infer(graphs.reference.path, held_out)
    calibration = measure(graphs, calibrate, Method.PERCENTILE, Precision.INT8, Reporter())
    model, every = load_graph(graphs.base.path), frozenset(layer.name for layer in graphs.layers)
    for rounded, used in (("yes", calibration), ("no", round_to_nearest(graphs, calibration))):
        for name, kept in (("all", frozenset[str]()), ("free", every - free_layers(graphs.layers))):
            quantized = scratch / "quantized.onnx"
            onnx.save(quantize_graph(model, graphs.layers, used, kept), quantized)
            got = infer(quantized, held_out)
            decibels = 10 * np.log10(np.square(expected).sum() / np.square(got - expected).sum())
            agreement = float((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
            yield rounded, name, f"{decibels:.1f}", f"{agreement:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the demo model")
    parser.add_argument("--calibrate", type=int, default=24, help="generated clips")
    parser.add_argument("--held-out", type=int, default=20, help="generated clips")
    parser.add_argument("--seed", type=int, default=0, help="of the clips")
    options = parser.parse_args()
    network = (load_network(None, options.checkpoint, 0) if options.checkpoint else load_demo(0)).module
    clips = list(generated_clips(options.calibrate + options.held_out, network.config.preprocessing, seed=options.seed))
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        levelled = export(network, scratch / "levelled.onnx")
        with unlevelled():
            as_it_was = export(network, scratch / "unlevelled.onnx")
        for word, graphs in (("yes", levelled), ("no", as_it_was)):
            for row in list_rows(graphs, clips[: options.calibrate], clips[options.calibrate :], scratch):
                print("| " + " | ".join((word, *row)) + " |", flush=True)


if __name__ == "__main__":
    main()

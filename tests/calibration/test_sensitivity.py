"""Layers are blamed for the output's error, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from dualexport.calibration.calibrate import ActivationRange, Calibration
from dualexport.calibration.gptq import RoundedWeight
from dualexport.calibration.linear_layers import find_layers
from dualexport.calibration.sensitivity import rank_layers
from dualexport.core.choices import Method
from dualexport.core.reporter import no_progress
from dualexport.core.types import Clip, Preprocessing
from dualexport.graphs.load import load_graph
from dualexport.runtimes.onnx_runner import OnnxRunner


def test_a_layer_with_a_ruined_weight_is_the_worst(exported: Path, tmp_path: Path) -> None:
    model = load_graph(exported / "dualformer-n.fp32.onnx")
    layers = find_layers(model)
    weights = {}
    for layer in layers:
        grouped = layer.weight.reshape(layer.scales, -1)  # the outputs that share a scale
        scales = np.abs(grouped).max(axis=1) / (2.0 if layer.name == "blocks.3.1.mlp.fc2" else 127.0)
        values = np.rint(grouped / scales[:, None]).astype(np.int8).reshape(layer.weight.shape)
        weights[layer.name] = RoundedWeight(values, scales.astype(np.float32))
    ranges = {layer.reads: ActivationRange(-6.0, 6.0, 0.05) for layer in layers}
    calibration = Calibration("hash", Method.MAX, (), ranges, weights)
    clip = Clip("c", 0, np.random.default_rng(0).integers(0, 255, (16, 224, 224, 3), np.uint8), Preprocessing(16))

    @contextmanager
    def open_runner(graph: onnx.ModelProto) -> Iterator[OnnxRunner]:
        onnx.save(graph, tmp_path / "graph.onnx")
        with OnnxRunner(tmp_path / "graph.onnx") as runner:
            yield runner

    last = tuple(layer for layer in layers if layer.name.startswith("blocks.3."))
    ranking = rank_layers(model, last, calibration, (clip,), open_runner, no_progress)
    assert ranking[0].layer == "blocks.3.1.mlp.fc2"
    assert sum(noise.share for noise in ranking) == pytest.approx(1.0)
    assert ranking[0].decibels < ranking[-1].decibels

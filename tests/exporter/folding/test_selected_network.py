"""DualFormer with token selection: the same function where all is kept, the same choice in every runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dualexport.core.choices import Graph, ModelSize
from dualexport.core.errors import ExportError
from dualexport.core.selection import parse_selections
from dualexport.core.types import Artifact, TensorSpec
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.dualformer.network import DualFormer, SelectionOutputs
from dualexport.exporter.dualformer.selectors import set_sigma
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.runtimes.onnx_runner import OnnxRunner
from golden import recipe

BATCH = 2


def build(text: str) -> DualFormer:
    return build_random_network(ModelSize.N, 0, parse_selections(text))


def clips_of(network: DualFormer, seed: int = 5) -> torch.Tensor:
    return torch.from_numpy(recipe.clip(seed, (BATCH, *network.config.clip_shape)))


@pytest.fixture(scope="module")
def selecting() -> DualFormer:
    return build("T0:0.5,S2:0.74")


@pytest.fixture(scope="module", params=list(Graph))
def artifact(
    request: pytest.FixtureRequest, selecting: DualFormer, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """The exported graph, two clips an inference, with the kept frames."""
    path = tmp_path_factory.mktemp("selecting") / "n.onnx"
    return export_onnx(selecting, path, OnnxOptions(request.param, batch=BATCH, with_selection=True), parent=None)


@pytest.fixture(scope="module")
def runner(artifact: Artifact) -> Iterator[OnnxRunner]:
    with OnnxRunner(artifact.path) as runner:
        yield runner


@pytest.mark.slow
def test_keeping_everything_is_the_network_without_selection(nano: DualFormer) -> None:
    clips = clips_of(nano)
    with torch.inference_mode():
        assert torch.equal(build("T0:1,S0:1,T2:1,S3:1")(clips), nano(clips))


def test_parameters_have_the_published_names_and_count_the_selections_of_a_kind() -> None:
    shapes = {name: tuple(value.shape) for name, value in build("T0:0.5,T3:0.5,S2:0.74").state_dict().items()}
    prefix, suffix = "backbone", "score_network.in_conv.0.weight"
    assert shapes[f"{prefix}.time_score_predictor.0.{suffix}"] == (2 * 32,)
    assert shapes[f"{prefix}.time_score_predictor.1.{suffix}"] == (2 * 256,)
    assert shapes[f"{prefix}.space_score_predictor.0.{suffix}"] == (128,)


def test_the_rest_of_a_random_network_does_not_depend_on_the_selection(nano: DualFormer, selecting: DualFormer) -> None:
    state = selecting.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in nano.state_dict().items())


@pytest.mark.slow
def test_the_graph_selects_per_clip_what_the_network_selects(selecting: DualFormer, runner: OnnxRunner) -> None:
    clips = clips_of(selecting)
    with torch.inference_mode():
        logits, kept = SelectionOutputs(selecting)(clips)
        alone = torch.cat([selecting(clip.unsqueeze(0)) for clip in clips])
    outputs = runner.infer({"clip": clips.numpy()})
    assert runner.outputs == (TensorSpec("logits", "float32", (2, 400)), TensorSpec("kept_frames", "int32", (2, 4)))
    np.testing.assert_array_equal(outputs["kept_frames"], kept)
    np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(outputs["logits"], alone, rtol=0, atol=1e-4)
    assert not np.array_equal(kept[0], kept[1])  # else the test would show nothing
    assert (np.diff(kept) > 0).all()


@pytest.mark.slow
def test_of_a_still_video_every_runtime_keeps_the_first_frames(selecting: DualFormer, runner: OnnxRunner) -> None:
    still = clips_of(selecting)[:, :, :1].expand(BATCH, *selecting.config.clip_shape).contiguous()
    with torch.inference_mode():
        logits, kept = SelectionOutputs(selecting)(still)
    outputs = runner.infer({"clip": still.numpy()})
    np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=1e-4)
    assert kept.tolist() == outputs["kept_frames"].tolist() == [[0, 1, 2, 3]] * BATCH


@pytest.mark.slow
def test_frames_kept_by_two_selections_are_counted_in_the_clip() -> None:
    network = build("T0:0.75,T2:0.34")
    clips = clips_of(network)
    with torch.inference_mode():
        first = SelectionOutputs(build("T0:0.75"))(clips)[1]
        both = SelectionOutputs(network)(clips)[1]
    assert both.shape == (BATCH, 2)
    for kept, candidates in zip(both.tolist(), first.tolist(), strict=True):
        assert set(kept) <= set(candidates)


@pytest.mark.slow
def test_the_graph_is_static_and_gathers_tokens_once_a_selection(artifact: Artifact) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(artifact.path), strict_mode=True).graph
    types = {value.name: value.type.tensor_type for value in graph.value_info}
    gathers = [types[node.output[0]] for node in graph.node if node.op_type == "Gather"]
    assert all(extent.HasField("dim_value") for gathered in gathers for extent in gathered.shape.dim)
    tokens = [gathered for gathered in gathers if gathered.elem_type == onnx.TensorProto.FLOAT]  # others are indices
    assert len(tokens) == 2
    assert not {node.op_type for node in graph.node} & {
        "TopK",
        "GatherElements",
        "GatherND",
        "NonZero",
        "OneHot",
        "Loop",
    }


def test_kept_frames_are_refused_where_no_frame_is_selected(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="selects no frames"):
        export_onnx(build("S2:0.74"), tmp_path / "n.onnx", OnnxOptions(with_selection=True), parent=None)


@pytest.mark.slow
def test_training_reaches_the_selectors_and_without_noise_it_selects_as_inference_does() -> None:
    torch.manual_seed(0)
    network = build("T3:0.5,S3:0.51").train()
    network.backbone.time_score_predictor.requires_grad_(True)
    network.backbone.space_score_predictor.requires_grad_(True)
    clips = clips_of(network)[:1]
    network(clips).square().sum().backward()
    for predictors in (network.backbone.time_score_predictor, network.backbone.space_score_predictor):
        gradients = [value.grad for name, value in predictors.named_parameters() if "in_conv" in name]
        assert gradients
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    set_sigma(network, 0.0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(clips), network.eval()(clips))

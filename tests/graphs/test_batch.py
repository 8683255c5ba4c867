"""A file that takes any batch of a range computes what files of one batch do, and compiles as they do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dualexport.core.choices import ModelSize
from dualexport.core.errors import GraphError
from dualexport.core.manifest import read_manifest
from dualexport.core.selection import parse_selections
from dualexport.core.types import TensorSpec
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.graphs.batch import BATCH_KEY, fix_batch, free_batch, parse_batches
from dualexport.graphs.describe import describe_onnx
from dualexport.graphs.lint import lint_onnx
from dualexport.graphs.load import load_graph
from dualexport.pipeline.plan import plan_onnx
from dualexport.runtimes.onnx_runner import OnnxRunner
from onnx import TensorProto, helper, numpy_helper
from support.cli import assert_refused, run
from support.engines import require_builder

RANGE = (1, 8)


@pytest.mark.slow
def test_any_batch_gives_what_single_clips_give(ranged: Path, demo: Path) -> None:
    clips = np.load(ranged.parent / "clips.npy")
    with OnnxRunner(ranged / "dualformer-demo.fp32.onnx") as runner:
        assert runner.inputs == (TensorSpec("clip", "uint8", (8, 16, 224, 224, 3), 1),)
        together = runner.infer({"clip": clips})["logits"]
        apart = np.concatenate([runner.infer({"clip": clip[None]})["logits"] for clip in clips])
    np.testing.assert_allclose(together, apart, atol=1e-4)
    preprocessing = read_manifest(demo).preprocessing
    with OnnxRunner(demo / "dualformer-demo.fp32.onnx") as fixed:
        alone = fixed.infer({"clip": preprocessing.normalize(clips[0])[None]})["logits"]
    np.testing.assert_allclose(apart[:1], alone, atol=1e-3)


@pytest.mark.slow
def test_any_batch_selects_tokens_clip_by_clip(tmp_path: Path) -> None:
    network = build_random_network(ModelSize.N, 0, parse_selections("T0:0.5,S2:0.74"))
    options = OnnxOptions(batch=4, least_batch=1, with_selection=True)
    artifact = export_onnx(network, tmp_path / "any.onnx", options, parent=None)
    random = np.random.default_rng(0)
    clips = random.normal(size=(3, *artifact.inputs[0].shape[1:])).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(clips)).numpy()
    with OnnxRunner(artifact.path) as runner:
        for batch in (3, 1):
            outputs = runner.infer({"clip": clips[:batch]})
            np.testing.assert_allclose(outputs["logits"], expected[:batch], atol=1e-4)
            assert outputs["kept_frames"].shape[0] == batch


@pytest.mark.slow
def test_the_manifest_the_file_and_lint_say_the_same(ranged: Path) -> None:
    for artifact in read_manifest(ranged).artifacts:
        described = describe_onnx(artifact.path)
        assert (described.inputs, described.outputs) == (artifact.inputs, artifact.outputs)
        assert artifact.inputs[0].batches == range(1, 9)
        assert lint_onnx(artifact.path) == ()


@pytest.mark.slow
def test_every_batch_is_planned_with_all_attentions_fused(ranged: Path) -> None:
    require_builder()
    half = ranged / "dualformer-demo.fp16.onnx"
    one, eight = plan_onnx(half, 1), plan_onnx(half)
    assert [(plan.attentions, plan.fused_attentions) for plan in (one, eight)] == [(8, 8), (8, 8)]
    assert len(one.layers) <= 90  # those of a file of one clip
    assert eight.moved_bytes > 6 * one.moved_bytes
    with pytest.raises(GraphError, match="takes batches of 1 to 8, not 9"):
        plan_onnx(half, 9)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_is_built_for_the_range(
    ranged: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    require_builder()
    file = tmp_path / f"net.{precision}.onnx"
    file.write_bytes((ranged / f"dualformer-demo.{precision}.onnx").read_bytes())
    code, out, _ = run(capsys, "trt", file, "--batch-opt", "4", "--json")
    engine = json.loads(out)["engine"]
    assert (code, engine["options"]["optimal_batch"], engine["options"]["fused_attentions"]) == (0, 4, 8)
    assert engine["inputs"][0]["least_batch"] == 1
    result = run(capsys, "trt", file, "--batch-opt", "9")
    assert_refused(result, "takes batches of 1 to 8, not 9")


@pytest.mark.slow
def test_verify_compares_it_and_its_blocks(ranged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = ("--clips", ranged.parent / "clips.npy")
    assert run(capsys, "verify", ranged, *clips, "--against", "fp32", "--layers")[0] == 0


@pytest.mark.parametrize("text", ["8-1", "4-4", "0-8", "1-2000", "1-8-9", "a", "-1", "1.5"])
def test_what_is_no_range_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "onnx", "--model", "n", f"--batch={text}")
    assert (code, out) == (2, "")
    assert "neither a number from 1 to 1024 nor a range like 1-8" in " ".join(err.split())


@pytest.mark.parametrize("text", ["", "1", "8-1", "1-99999", "a-b", "1-8\n"])
def test_a_file_whose_metadata_hold_no_range_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match="is no range of batches"):
        parse_batches({BATCH_KEY: text})
    assert parse_batches({}) is None


def make_graph(*shape: int, constant: tuple[int, ...] = ()) -> onnx.ModelProto:
    """A graph traced with a batch of 11 that reshapes its input, and may add a constant of that shape."""
    initializers = [numpy_helper.from_array(np.array(shape, np.int64), "shape")]
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshape")]
    if constant:
        initializers.append(numpy_helper.from_array(np.zeros(constant, np.float32), "rows"))
        nodes.append(helper.make_node("Add", ["y", "rows"], ["z"], name="add"))
    result = nodes[-1].output[0]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (11, 6)) for name in ("x", result)]
    return helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], initializers), opset_imports=[helper.make_opsetid("", 18)]
    )


def test_the_batch_is_freed_where_it_stands_alone_and_fixed_again(tmp_path: Path) -> None:
    model = make_graph(22, 3)
    free_batch(model, 11, RANGE)
    assert list(numpy_helper.to_array(model.graph.initializer[0])) == [-1, 3]
    onnx.save(model, tmp_path / "free.onnx")
    fixed = load_graph(tmp_path / "free.onnx")
    fix_batch(fixed, 5)
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in fixed.graph.input] == [5]
    assert parse_batches({entry.key: entry.value for entry in fixed.metadata_props}) is None


@pytest.mark.parametrize("model", [make_graph(11, 11), make_graph(-1, 22), make_graph(11, 6, constant=(11, 6))])
def test_a_graph_in_which_the_batch_is_more_than_one_extent_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(GraphError):
        free_batch(model, 11, RANGE)

"""Files that compute something else fail `dualexport verify`, which names the place; `--bisect` finds what to keep."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from dualexport.calibration.restore import read_quantized
from dualexport.clips.synthetic import render_pattern
from dualexport.pipeline.sensitivity import open_graph
from support.breaking import BREAKAGES, HINTS, Breakage, break_file, cut_a_residual, scale_wrongly
from support.cli import run, succeed
from support.shared import SharedFolders

FP32, INT8 = "dualformer-demo.fp32.onnx", "dualformer-demo.int8.onnx"


@pytest.fixture(scope="module")
def demo(demo: Path, shared: SharedFolders) -> Path:
    """The demo model in FP32, FP16 and INT8; `clip.npy`, which it was calibrated on, lies beside the folder."""

    def calibrate(root: Path) -> None:
        shutil.copytree(demo, root / "demo")
        np.save(root / "clip.npy", render_pattern(1, 16, 224, 224)[None])
        succeed("int8", root / "demo", "--clips", root / "clip.npy", "--place", "all")

    return shared.copy_of("calibrated-demo", calibrate) / "demo"


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo, tmp_path / "demo"))


@pytest.mark.slow
def test_all_files_are_sound_and_there_is_nothing_to_bisect(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("verify", demo, "--clips", demo.parent / "clip.npy", "--layers", "--bisect", "--json")
    code, out, err = run(capsys, *given)
    document = json.loads(out)
    assert (code, document["bisection"]) == (0, [])
    assert [one["enters_at"] for one in document["layers"]] == [None] * 3
    assert "note: nothing to bisect: every artifact holds its limits" in err


@pytest.mark.slow
@pytest.mark.parametrize(("breakage", "block"), BREAKAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_file_fails_and_its_block_is_named(
    copy: Path, demo: Path, breakage: Breakage, block: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (FP32, INT8):
        break_file(copy / name, breakage)
    asked = ("--clips", demo.parent / "clip.npy", "--against", "fp32,int8", "--layers", "--json")
    code, out, err = run(capsys, "verify", copy, *asked)
    document = json.loads(out)
    assert (code, [report["passed"] for report in document["reports"]]) == (1, [False, False])
    assert f"{FP32} differs from the PyTorch network" in err
    assert HINTS.get(block, block) in err.splitlines()[-1]
    assert [one["enters_at"] for one in document["layers"]] == [block, block]
    assert all(HINTS.get(block, block) in one["remark"] for one in document["layers"])


@pytest.mark.slow
def test_the_layers_that_are_quantized_wrongly_are_found_and_the_command_mends_it(
    copy: Path, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = ["blocks.1.0.mlp.fc1", "blocks.2.1.attn.proj"]
    break_file(copy / INT8, *map(scale_wrongly, broken))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    asked = ("verify", copy, "--clips", demo.parent / "clip.npy", "--against", "int8", "--json")
    written = [tmp_path / "report.html", tmp_path / "report.md"]
    code, out, _ = run(capsys, *asked, "--bisect", "--report", written[0], "--report", written[1])
    (found,) = json.loads(out)["bisection"]
    assert (code, found["layers"], found["patterns"]) == (1, broken, broken)
    assert found["reaches"]["cosine"] > 0.98
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert all(found["command"] in path.read_text() for path in written)

    program, *arguments = shlex.split(found["command"])
    assert (program, run(capsys, *arguments)[0]) == ("dualexport", 0)
    assert run(capsys, *asked)[0] == 0


@pytest.mark.slow
def test_an_error_that_is_not_the_quantization_s_is_said_to_be_none(
    copy: Path, demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_file(copy / INT8, cut_a_residual)
    break_file(copy / FP32, cut_a_residual)
    code, out, err = run(capsys, "verify", copy, "--clips", demo.parent / "clip.npy", "--bisect")
    assert code == 1
    assert f"{INT8} misses its limits even with every layer in FP16: the error is not the quantization's" in out
    assert f"{FP32} is not bisected: bisecting is of INT8" in err


@pytest.mark.slow
def test_without_int8_a_graph_computes_what_its_base_does(demo: Path) -> None:
    graph = read_quantized(demo / INT8, demo / "dualformer-demo.fp16.onnx")
    clip = {"clip": np.random.default_rng(0).standard_normal((1, 3, 16, 224, 224), np.float32)}
    with open_graph(graph.base) as base, open_graph(graph.without(frozenset(graph.layers))) as whole:
        assert np.array_equal(base.infer(clip)["logits"], whole.infer(clip)["logits"])
    part = graph.without(frozenset(("blocks.0.0.attn.qkv",)))
    onnx.checker.check_model(part, full_check=True)
    names = {node.name for node in part.graph.node}
    assert "blocks.0.0.attn.qkv.weight/DequantizeLinear" not in names
    assert "blocks.0.0.attn.proj.weight/DequantizeLinear" in names

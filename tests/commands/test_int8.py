"""`dualexport int8` as a user types it: what it writes, what it reuses, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from dualexport.clips.synthetic import render_pattern, write_dataset
from dualexport.core.files import hash_file
from onnx import numpy_helper
from support.cli import assert_refused, run, succeed
from support.documents import make_bench, make_latency
from support.engines import require_builder
from support.shared import SharedFolders

FEW_CLIPS, MANY_CLIPS = 4, 20
ALL = ("--place", "all")
PEAK_SCRIPT = """
import resource, sys
import numpy as np
from dualexport.calibration import calibrate, linear_layers
from dualexport.core.choices import Method, Precision
from dualexport.core.types import Clip, Preprocessing, TensorSpec

class Repeats:
    name, inputs = "random numbers", (TensorSpec("clip", "uint8", (1, 2, 4, 4, 3)),)
    def __init__(self): self.rng = np.random.default_rng(0)
    def infer(self, feeds):
        rows = self.rng.normal(size=(2000, 64)).astype(np.float32)
        return {"rows/0": rows, "low/0": rows.min(axis=0), "high/0": rows.max(axis=0)}

layer = linear_layers.LinearLayer("blocks.0.0.mlp.fc1", "n", "x", np.ones((8, 64), np.float32))
data = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
clips = (Clip("c", 0, data, Preprocessing(2, 1, 4)) for _ in range(int(sys.argv[1])))
calibrate.calibrate(Repeats(), "hash", (layer,), clips, calibrate.Recipe(Precision.INT8, Method.MSE))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def calibrated(exported: Path, shared: SharedFolders) -> Path:
    """A folder with an export of size n, calibrated on two clips; `videos.npy` lies beside it."""

    def calibrate(root: Path) -> None:
        shutil.copytree(exported, root / "dualformer-n")
        np.save(root / "videos.npy", np.stack([render_pattern(seed, 16, 224, 224) for seed in (1, 2)]))
        succeed("int8", root / "dualformer-n", "--clips", root / "videos.npy", *ALL)

    return shared.copy_of("calibrated", calibrate) / "dualformer-n"


@pytest.fixture
def copy(calibrated: Path, tmp_path: Path) -> Path:
    shutil.copy(calibrated.parent / "videos.npy", tmp_path)
    return Path(shutil.copytree(calibrated, tmp_path / "dualformer-n"))


def read_layers(path: Path) -> dict[str, dict[str, onnx.NodeProto]]:
    """The nodes of the blocks' linear layers, by layer and operator."""
    layers: dict[str, dict[str, onnx.NodeProto]] = {}
    for node in onnx.load(path).graph.node:
        module, _, operator = node.name.rpartition("/")
        if module.startswith("blocks.") and module.rpartition(".")[2] in ("qkv", "q", "kv", "proj", "fc1", "fc2"):
            layers.setdefault(module, {})[operator] = node
    return layers


def test_the_int8_file_and_its_calibration_are_in_the_folder(calibrated: Path) -> None:
    manifest = json.loads((calibrated / "manifest.json").read_text())
    (entry,) = (artifact for artifact in manifest["artifacts"] if artifact["precision"] == "int8")
    assert entry["path"] == "dualformer-n.int8.onnx"
    assert entry["sha256"] == hash_file(calibrated / entry["path"])
    assert entry["parent"] == hash_file(calibrated / "dualformer-n.fp16.onnx")
    options = {name: entry["options"][name] for name in ("base", "clips", "kept", "place")}
    assert options == {"base": "fp16", "clips": 2, "kept": "", "place": "all"}
    calibration = json.loads((calibrated / "calibration.json").read_text())
    assert calibration["graph"] == hash_file(calibrated / "dualformer-n.fp32.onnx")
    assert [clip["name"] for clip in calibration["clips"]] == ["videos.npy[0]", "videos.npy[1]"]
    for range_ in calibration["ranges"].values():
        assert 0 < range_["limit"] <= 1.01 * max(-range_["low"], range_["high"])


def test_linear_layers_are_int8_under_their_own_names_and_attention_is_not(calibrated: Path) -> None:
    model = onnx.load(calibrated / "dualformer-n.int8.onnx")
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = read_layers(calibrated / "dualformer-n.int8.onnx")
    assert len(layers) == 35
    for name, nodes in layers.items():
        activation, weight = (makers[tensor] for tensor in nodes["MatMul"].input)
        assert (activation.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear"), name
        values, scales, zeros = (constants[tensor] for tensor in weight.input)
        assert (values.dtype.name, scales.dtype.name) == ("int8", "float16")
        assert values.ndim == (3 if name.endswith("kv") else 2)
        assert scales.shape == ((values.shape[1],) if "Add" in nodes else ())  # several wait for the pass that adds
        assert not zeros.any()
        assert constants[activation.input[1]].ndim == 0
    attentions = [node for node in model.graph.node if node.op_type == "MatMul" and ".attend/" in node.name]
    assert len(attentions) == 16
    assert all(makers[tensor].op_type != "DequantizeLinear" for node in attentions for tensor in node.input)


def test_layers_that_read_the_same_tensor_share_its_pair(calibrated: Path) -> None:
    inputs = [
        node.input[0]
        for node in onnx.load(calibrated / "dualformer-n.int8.onnx").graph.node
        if node.op_type == "QuantizeLinear"
    ]
    assert len(inputs) == len(set(inputs))


def test_the_share_of_int8_is_told(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "int8", copy, *ALL, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["reused_calibration"] is True
    assert sum(result["work_shares"].values()) == pytest.approx(1.0)
    assert result["work_shares"]["int8"] > 0.4
    assert "fp32" not in result["work_shares"]
    assert "used the calibration" in err


def test_what_was_measured_of_the_same_files_is_said(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Whether INT8 is worth it was not measured" in run(capsys, "int8", copy, *ALL)[1]
    timed = [
        {**make_latency(name, clip_ms, 1.0, hash_file(copy / name)), "clip_ms": clip_ms}
        for name, clip_ms in (("dualformer-n.fp16.onnx", 170.0), ("dualformer-n.int8.onnx", 211.0))
    ]
    (copy / "bench.json").write_text(json.dumps(make_bench(*timed)))
    out = run(capsys, "int8", copy, *ALL)[1]
    assert "INT8 is not worth it on the CPU with ONNX Runtime (x86): keep FP16" in out
    assert "was not measured" not in out
    (verdict,) = json.loads(run(capsys, "int8", copy, *ALL, "--json")[1])["verdicts"]
    assert verdict["on_gpu"] is False
    another_file = run(capsys, "int8", copy, *ALL, "--json", "--keep-fp16", "*.fc2")[1]
    assert json.loads(another_file)["verdicts"] == []


def test_kept_layers_stay_as_they_were_and_are_recorded(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "int8", copy, *ALL, "--keep-fp16", "*.fc2", "--keep-fp16", "blocks.0.0.*", "--json")
    kept = json.loads(out)["kept"]
    assert code == 0
    assert len(kept) == 11
    layers = read_layers(copy / "dualformer-n.int8.onnx")
    assert {name for name, nodes in layers.items() if "Gemm" in nodes or len(nodes) < 3} >= set(kept) - {
        "blocks.0.0.attn.qkv"
    }
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest["artifacts"][-1]["options"]["kept"] == ",".join(sorted(kept))


@pytest.mark.slow
def test_the_same_clips_are_not_measured_again_and_others_are(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = copy.parent / "videos.npy"
    assert json.loads(run(capsys, "int8", copy, "--clips", clips, "--json")[1])["reused_calibration"] is True
    np.save(clips, np.load(clips)[1:])
    code, out, err = run(capsys, "int8", copy, "--clips", clips, "--method", "max", "--base", "fp32", "--json")
    result = json.loads(out)
    assert (code, result["reused_calibration"], result["clips"]) == (0, False, 1)
    assert "about 500 are usual" in err
    assert result["parity"]["cosine"] > 0.98
    assert (copy / "dualformer-n.int8.onnx").exists()
    assert "fp16" not in result["work_shares"]
    assert Path(result["file"]["path"]).name == "dualformer-n.int8-fp32.onnx"


@pytest.mark.slow
def test_verify_holds_the_int8_file_to_its_own_limits(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "verify", copy, "--clips", copy.parent / "videos.npy", "--json")
    report = json.loads(out)["reports"][-1]
    checks = {check["name"]: check for check in report["checks"]}
    assert report["artifact"] == "dualformer-n.int8.onnx"
    assert checks["top1_agreement"]["limit"] == 0.95  # two clips through random weights may miss it
    assert checks["cosine"]["passed"]


def test_without_clips_and_calibration_it_refuses(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(run(capsys, "int8", exported), "INT8 needs clips")


def test_a_calibration_of_another_graph_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "calibration.json"
    path.write_text(path.read_text().replace(hash_file(copy / "dualformer-n.fp32.onnx"), "0" * 64))
    before = (copy / "dualformer-n.int8.onnx").read_bytes()
    assert_refused(run(capsys, "int8", copy, *ALL), "was measured on another graph")
    assert (copy / "dualformer-n.int8.onnx").read_bytes() == before


def test_flat_clips_are_refused_and_leave_nothing(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "dualformer-n"))
    before = sorted(path.name for path in folder.iterdir())
    np.save(tmp_path / "black.npy", np.zeros((16, 224, 224, 3), np.uint8))
    assert_refused(run(capsys, "int8", folder, "--clips", tmp_path / "black.npy"), "one flat colour")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_wrong_layer_names_and_too_few_clips_are_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(run(capsys, "int8", copy, "--keep-fp16", "fc9"), "no linear layer is called fc9")
    assert_refused(run(capsys, "int8", copy, "--keep-fp16", "*"), "every linear layer is kept")
    assert run(capsys, "int8", copy, "--clips", copy.parent / "videos.npy", "--max-clips", 2, "--views", 3)[0] == 2


@pytest.mark.slow
def test_memory_does_not_grow_with_clips() -> None:
    peaks = [
        int(subprocess.run([sys.executable, "-c", PEAK_SCRIPT, str(clips)], capture_output=True, check=True).stdout)
        for clips in (10, 500)
    ]
    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.slow
def test_memory_of_the_whole_command_does_not_grow_with_clips(copy: Path, tmp_path: Path) -> None:
    videos = write_dataset(tmp_path / "videos", MANY_CLIPS, seed=1).videos
    (tmp_path / "few.txt").write_text("".join(f"{video}\n" for video in videos[:FEW_CLIPS]))
    peaks = []
    for source in (tmp_path / "few.txt", tmp_path / "videos"):
        command = [sys.executable, "-m", "dualexport", "int8", str(copy), "--clips", str(source), "--method", "max"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # what `wait` would have left
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.slow
def test_interrupting_leaves_what_was_there(copy: Path, tmp_path: Path) -> None:
    before = {path.name: hash_file(path) for path in copy.iterdir()}
    write_dataset(tmp_path / "videos", MANY_CLIPS, seed=1)
    command = [sys.executable, "-m", "dualexport", "int8", str(copy), "--clips", str(tmp_path / "videos")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("measuring ranges"):
                break
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert {path.name: hash_file(path) for path in copy.iterdir()} == before


def test_by_default_nothing_is_quantized_that_would_cost_a_layer_or_a_byte(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads(run(capsys, "int8", copy, "--json")[1])
    layers = read_layers(copy / "dualformer-n.int8.onnx")
    model = onnx.load(copy / "dualformer-n.int8.onnx")
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    placed = {name for name, nodes in layers.items() if "MatMul" in nodes and nodes["MatMul"].input[1] in dequantized}
    assert set(result["placement"]["layers"]) == placed
    assert {name.rpartition(".")[2] for name in placed} == {"qkv", "kv"}  # its queries have convolutions beside them
    assert (result["kept"], result["file"]["options"]["place"]) == ([], "free")
    require_builder()
    models = [copy / f"dualformer-n.{precision}.onnx" for precision in ("fp16", "int8")]
    half, int8 = json.loads(run(capsys, "plan", *models, "--json", "--require", "int8")[1])["plans"]
    assert int8["layer_count"] <= half["layer_count"]
    assert int8["moved_mb"] < half["moved_mb"]
    assert int8["fused_attentions"] == 8


def test_layers_placed_for_a_device_are_estimated_faster_there(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_builder()
    code, out, _ = run(capsys, "int8", copy, "--device", "orin-nano", "--keep-fp16", "blocks.3.*", "--json")
    result = json.loads(out)
    placement = result["placement"]
    assert code == 0
    assert placement["placed_ms"] < placement["rest_ms"]
    assert not [name for name in placement["layers"] if name.startswith("blocks.3.")]
    least = 0.001 * placement["rest_ms"]
    assert all((gain["saved_ms"] >= least) == gain["chosen"] for gain in placement["gains"])
    models = [copy / f"dualformer-n.{precision}.onnx" for precision in ("fp16", "int8")]
    (verdict,) = json.loads(run(capsys, "plan", *models, "--device", "orin-nano", "--json")[1])["verdicts"]
    assert verdict["speedup"] == pytest.approx(placement["rest_ms"] / placement["placed_ms"])


def test_the_plan_keeps_attention_fused_and_moves_no_more_than_it_did(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_builder()
    models = [copy / f"dualformer-n.{precision}.onnx" for precision in ("fp16", "int8")]
    code, out, _ = run(capsys, "plan", *models, "--device", "agx-orin", "--require", "int8", "--json")
    document = json.loads(out)
    half, int8 = document["plans"]
    assert code == 0
    assert (int8["fused_attentions"], int8["attentions"]) == (8, 8)
    assert int8["work_shares"]["int8"] == pytest.approx(int8["asked_shares"]["int8"], abs=1e-3)
    assert int8["work_shares"]["int8"] > 0.45
    assert int8["weights_mb"] < 0.6 * half["weights_mb"]
    assert int8["layer_count"] <= 112
    assert int8["moved_mb"] < 1.35 * half["moved_mb"]


def test_another_method_than_the_stored_one_needs_clips(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in copy.iterdir()}
    assert_refused(run(capsys, "int8", copy, "--method", "max"), "holds ranges by percentile, not by max")
    assert {path: path.read_bytes() for path in copy.iterdir()} == before


@pytest.mark.slow
def test_onnx_makes_the_int8_file_too_where_it_is_asked_for(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("onnx", "--model", "n", "--output", tmp_path / "out", "--precision", "int8")
    code, _, err = run(capsys, *asked)
    assert (code, "calibrated on --clips" in " ".join(err.split())) == (2, True)
    code, out, _ = run(capsys, *asked, "--clips", copy.parent / "videos.npy")
    by_torch, by_onnx = out.split("dualformer-n.int8.onnx", 1)
    assert (code, "compared with the PyTorch network" in by_torch) == (0, True)
    assert "dualformer-n.fp32.onnx on 2 clips" in by_onnx
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [file["precision"] for file in manifest["artifacts"]] == ["fp32", "fp16", "int8"]
    assert (tmp_path / "out" / "calibration.json").is_file()


@pytest.mark.slow
def test_an_int8_engine_of_t_that_selects_frames_computes_what_its_graph_asks_for(
    size_t: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_builder()
    np.save(tmp_path / "clip.npy", render_pattern(1, 32, 224, 224)[None])
    folder = shutil.copytree(size_t, tmp_path / "dualformer-t")
    assert run(capsys, "int8", folder, "--clips", tmp_path / "clip.npy", *ALL)[0] == 0
    code, out, _ = run(capsys, "trt", folder, "--int8", "--json")
    engine = json.loads(out)["engine"]["options"]
    assert code == 0
    assert (engine["fused_attentions"], engine["attentions"]) == (18, 18)
    assert engine["int8_share"] > 0.6
    assert engine["fp32_share"] == 0

"""Rows of what once ended in a traceback, never, or in a wrong answer, each with the command that met it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from dualexport.calibration.calibrate import read_calibration
from dualexport.calibration.stored import FILE_NAME as CALIBRATION
from dualexport.calibration.stored import WEIGHTS_NAME
from dualexport.core.choices import ModelSize, Precision
from dualexport.core.errors import CheckpointError, DualExportError
from dualexport.core.files import hash_file
from dualexport.exporter.checkpoint import FIRST_WEIGHT, HEAD_WEIGHT, build_random_network, read_checkpoint
from onnx import ModelProto, TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from .commands import DIR, INT8, LIST, PREDICT, REPORT, STREAM, VERIFY, invoke, list_as_it_is, prepare
from .folder import make_network
from .kills import digest

GRAPH = f"{DIR}/dualformer-n.fp32.onnx"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a file of every kind beside it; tests work in copies."""
    place = tmp_path_factory.mktemp("rows") / "place"
    prepare(place)
    return place


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, which is the current folder."""
    copy = Path(shutil.copytree(prepared, tmp_path / "place"))
    monkeypatch.chdir(copy)
    return copy


def node(model: ModelProto, name: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(one for one in model.graph.node if one.name == name)
    return found


def resize(value: onnx.ValueInfoProto, *shape: int | str) -> None:
    value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))


def add(
    model: ModelProto, operator: str, inputs: list[str], outputs: list[str], name: str = "added", **attributes: Any
) -> None:
    model.graph.node.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))


def take_nothing(model: ModelProto, operator: str, inputs: list[str], outputs: list[str]) -> None:
    """Add an operator that reads a constant without values."""
    constant(model, "none", np.zeros(0, np.int64 if operator == "TopK" else bool))
    add(model, operator, inputs, outputs)


def constant(model: ModelProto, name: str, values: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def spoil_value(model: ModelProto, value: float) -> None:
    tensor = next(one for one in model.graph.initializer if one.name == "cls_head.fc_cls.bias")
    tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, value, np.float32), tensor.name))


def quantize(model: ModelProto, *inputs: str) -> None:
    constant(model, "text", np.array(["a"]))
    add(model, "QuantizeLinear", ["clip", *inputs], ["quantized"])


def put_outside(model: ModelProto, location: str, offset: str) -> None:
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset)):
        tensor.external_data.add(key=key, value=value)


GRAPHS: dict[str, Callable[[ModelProto], object]] = {
    "a batch of any size": lambda model: resize(model.graph.input[0], "N", 3, 4, 32, 32),
    "a clip of no size": lambda model: resize(model.graph.input[0], 1, 3, 0, 32, 32),
    "a clip of negative size": lambda model: resize(model.graph.input[0], 1, 3, -4, 32, 32),
    "a clip of doubles": lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
    "a clip of a type that there is not": lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 99),
    "an input without type": lambda model: model.graph.input[0].ClearField("type"),
    "an input without shape": lambda model: model.graph.input[0].type.tensor_type.ClearField("shape"),
    "two inputs": lambda model: model.graph.input.append(
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, (1, 3))
    ),
    "no inputs": lambda model: model.graph.ClearField("input"),
    "no outputs": lambda model: model.graph.ClearField("output"),
    "logits of rank 5": lambda model: resize(model.graph.output[0], 1, 3, 1, 1, 1),
    "other classes": lambda model: resize(model.graph.output[0], 1, 7),
    "no operator set": lambda model: model.ClearField("opset_import"),
    "operator set 5": lambda model: setattr(model.opset_import[0], "version", 5),
    "logits that are NaN": lambda model: spoil_value(model, float("nan")),
    "logits that are infinite": lambda model: spoil_value(model, float("inf")),
    "a node without outputs": lambda model: node(model, "blocks.0.0.mlp/Relu").ClearField("output"),
    "a node without inputs": lambda model: node(model, "blocks.0.0.attn.qkv/MatMul").ClearField("input"),
    "a constant without outputs": lambda model: add(model, "Constant", [], [], value_float=1.0),
    "an Einsum without equation": lambda model: add(model, "Einsum", ["clip", "clip"], ["sum"]),
    "an Einsum of nonsense": lambda model: add(model, "Einsum", ["clip", "clip"], ["sum"], equation="->,->"),
    "a TopK of nothing": lambda model: take_nothing(model, "TopK", ["clip", "none"], ["values", "indices"]),
    "a Dropout in no mode": lambda model: take_nothing(model, "Dropout", ["clip", "", "none"], ["dropped"]),
    "a scale that is missing": quantize,
    "a scale of text": lambda model: quantize(model, "text"),
    "a weight of a type that there is not": lambda model: setattr(model.graph.initializer[2], "data_type", 77),
    "a weight of negative extent": lambda model: model.graph.initializer[2].dims.append(-1),
    "a weight that is cut": lambda model: setattr(model.graph.initializer[2], "raw_data", b"\0"),
    "weights outside of the folder": lambda model: put_outside(model, "/etc/passwd", "0"),
    "weights above the folder": lambda model: put_outside(model, "../names.txt", "0"),
    "weights at a negative place": lambda model: put_outside(model, "dualformer-n.fp16.onnx", "-5"),
    "weights at no place": lambda model: put_outside(model, "dualformer-n.fp16.onnx", "x"),
    "a circle": lambda model: node(model, "tokens").input.__setitem__(0, "logits"),
    "a name that commands the terminal": lambda model: add(
        model, "Einsum", ["tokens"], ["diagonal"], "\x1b[31mred\n\u202e", equation="ii->i"
    ),
}
GRAPH_COMMANDS = (
    ("lint", GRAPH),
    PREDICT,
    (*VERIFY, "--layers"),
    (*INT8, "--sensitivity"),
    ("bench", DIR, "--seconds", "0.1", "--rounds", "2", "--runtime", "onnx", "--against", "fp32"),
    ("bundle", DIR, "-o", "x.tar.gz", "--reference", "onnx"),
    ("plan", GRAPH),
    ("trt", GRAPH),
)


@pytest.mark.parametrize("row", GRAPHS)
def test_a_graph_that_is_none_is_refused_by_every_command(place: Path, row: str) -> None:
    model = make_network(Precision.FP32)
    GRAPHS[row](model)
    (place / GRAPH).write_bytes(model.SerializeToString())
    refused = []
    for command in GRAPH_COMMANDS:
        manifest = (place / DIR / "manifest.json").read_bytes()
        list_as_it_is(place / GRAPH, place / DIR / "manifest.json")
        try:
            invoke(*command)
        except DualExportError:
            refused.append(command[0])
        (place / DIR / "manifest.json").write_bytes(manifest)
    assert refused


def spoil_calibration(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / CALIBRATION).read_text())
    change(document)
    (folder / CALIBRATION).write_text(json.dumps(document))


def spoil_weights(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_NAME)
    spoil_calibration(folder, lambda document: document["weights"].update(sha256=hash_file(folder / WEIGHTS_NAME)))


def scale_range(scale: object) -> Callable[[Path], None]:
    """Give the first range of a calibration that scale."""
    return lambda folder: spoil_calibration(
        folder, lambda document: next(iter(document["ranges"].values())).update(scale=scale)
    )


SCALES: tuple[object, ...] = (0, -1, float("nan"), float("inf"), "1", None, 1e300)
CALIBRATIONS: dict[str, Callable[[Path], object]] = {
    **{f"a range of scale {scale}": scale_range(scale) for scale in SCALES},
    "no ranges": lambda folder: spoil_calibration(folder, lambda document: document["ranges"].clear()),
    "a range missing": lambda folder: spoil_calibration(folder, lambda document: document["ranges"].popitem()),
    "frame indices of text": lambda folder: spoil_calibration(
        folder, lambda document: document["clips"][0].update(frame_indices="x")
    ),
    "weights of floats": lambda folder: spoil_weights(
        folder, lambda tensors: tensors.update({name: one.astype(np.float32) for name, one in tensors.items()})
    ),
    "weights of another shape": lambda folder: spoil_weights(
        folder, lambda tensors: tensors.update({name: one[..., :1].copy() for name, one in tensors.items()})
    ),
    "weights of scale zero": lambda folder: spoil_weights(
        folder,
        lambda tensors: tensors.update({name: one * 0 for name, one in tensors.items() if one.dtype != np.int8}),
    ),
    "no weights": lambda folder: spoil_weights(folder, lambda tensors: tensors.clear()),
    "nested": lambda folder: (folder / CALIBRATION).write_text("[" * 100_000),
}


@pytest.mark.parametrize("row", CALIBRATIONS)
def test_a_calibration_is_not_believed(place: Path, row: str) -> None:
    read_calibration(place / DIR)
    CALIBRATIONS[row](place / DIR)
    before = digest(place / DIR)
    with pytest.raises(DualExportError):
        invoke("int8", DIR)
    assert digest(place / DIR) == before


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A checkpoint's tensors."""
    return dict(build_random_network(ModelSize.N, seed=0).state_dict())


TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sparse": lambda one: one.flatten(1).to_sparse_csr(),
    "sparse by coordinates": lambda one: one.to_sparse(),
    "nested": lambda one: torch.nested.nested_tensor([one[0], one[1]]),
    "of eight bits": lambda one: one.to(torch.float8_e4m3fn),
    "of integers": lambda one: one.to(torch.int32),
    "complex": lambda one: one.to(torch.complex64),
    "quantized": lambda one: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8),
    "a scalar": lambda _: torch.tensor(1.0),
    "empty": lambda one: one[:0],
    "repeated": lambda one: one[:1].expand(3_000_000_000, *one.shape[1:]),
    "of too many classes": lambda _: torch.zeros(2_000_000, 1),
    "infinite": lambda one: one / 0,
}


@pytest.mark.parametrize("name", [HEAD_WEIGHT, FIRST_WEIGHT])
@pytest.mark.parametrize("row", TENSORS)
def test_a_tensor_that_is_no_plain_weight_is_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], row: str, name: str
) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {**state, name: TENSORS[row](state[name])}}, path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def frames(place: Path, *others: str) -> None:
    (place / "frames").mkdir()
    for number in range(8):
        cv2.imwrite(str(place / f"frames/{number}.png"), np.zeros((40, 48, 3), np.uint8))
    for other in others:
        (place / "frames" / other).symlink_to("nowhere")


ROWS: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "nothing to run": (lambda _: None, (), ""),
    "only --debug": (lambda _: None, ("--debug",), ""),
    "one video twice": (
        lambda place: (place / "l.txt").write_text("videos/0.mp4\nvideos/0.mp4\n"),
        ("predict", DIR, "l.txt", "--views", "1"),
        "",
    ),
    "a label that is no class": (
        lambda place: (place / "l.csv").write_text("videos/0.mp4,turning left\nvideos/1.mp4,nonsense\n"),
        ("verify", DIR, "--clips", "l.csv", "--reference", "onnx", "--runtime", "onnx"),
        "l.csv, line 2",
    ),
    "a label of many digits": (
        lambda place: (place / "l.csv").write_text("videos/0.mp4," + "1" * 900 + "\n"),
        ("verify", DIR, "--clips", "l.csv", "--reference", "onnx", "--runtime", "onnx"),
        "is no class of the network",
    ),
    "a frame that is a broken link": (
        lambda place: frames(place, "00.png", "10.png", "20.png"),
        ("predict", DIR, "frames"),
        "no such file",
    ),
    "swapped arguments": (lambda _: None, ("predict", "videos/0.mp4", DIR), "the folder comes first"),
    "no video": (lambda _: None, ("predict", DIR), "give a video after it"),
    "a video for a folder": (lambda _: None, ("verify", "videos/0.mp4"), "is a file, not an exported folder"),
    "a labels file that is not there": (lambda _: None, (*PREDICT, "--labels", "gone.txt"), "gone.txt: no such file"),
    "an empty folder": (lambda place: (place / "e").mkdir(), ("predict", DIR, "e"), "no video in this folder"),
    "seconds without end": (lambda _: None, ("bench", DIR, "--seconds", "inf"), "--seconds"),
    "a timeout without end": (lambda _: None, (*STREAM, "--timeout", "inf"), "--timeout"),
    "a workspace without end": (lambda _: None, ("trt", DIR, "--workspace", "inf"), "--workspace"),
    "views without end": (lambda _: None, (*PREDICT[:3], "--views", "1000000000"), "--views"),
    "a batch without end": (lambda _: None, ("onnx", "--model", "n", "--batch", "9" * 21), "--batch"),
    "a range of batches without end": (lambda _: None, ("onnx", "--model", "n", "--batch", "1-" + "9" * 21), "--batch"),
    "a name that is too long": (lambda _: None, ("onnx", "--model", "n", "--output", "a" * 300), "too long"),
    "an output that is a file": (lambda _: None, ("synth", "-o", "videos/0.mp4"), "cannot write"),
    "a report in the place of a folder": (
        lambda place: (place / "r.html").mkdir(),
        REPORT,
        "cannot write r.html",
    ),
    "a report in the place of the manifest": (
        lambda _: None,
        (*VERIFY, "--report", f"{DIR}/manifest.json"),
        "is a manifest",
    ),
    "one file for two reports": (
        lambda _: None,
        (*VERIFY, "--report", "r.html", "--junit", "r.html"),
        "is named twice",
    ),
    "more workers than videos": (
        lambda _: None,
        ("verify", DIR, "--clips", "videos/0.mp4", "--reference", "onnx", "--runtime", "onnx", "--workers", "1000"),
        "",
    ),
    "a list without videos": (
        lambda place: (place / LIST).write_text("path,label\n"),
        VERIFY,
        "no video in this list",
    ),
    "an unknown command": (lambda _: None, ("exprot",), "exprot"),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_mistake_is_two_lines_that_fit_it(place: Path, row: str) -> None:
    spoil, command, words = ROWS[row]
    spoil(place)
    before = sorted(path for path in place.rglob("*"))
    if not words:
        invoke(*command)
        return
    with pytest.raises(DualExportError, match=words):
        invoke(*command)
    assert sorted(path for path in place.rglob("*")) == before

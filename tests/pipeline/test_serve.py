"""A model repository is what Triton reads, and a real Triton answers as `predict` does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.choices import Precision, Runtime, TritonBackend
from dualexport.core.errors import EngineError, ManifestError, OutputError
from dualexport.core.files import hash_file
from dualexport.core.manifest import read_manifest, write_manifest
from dualexport.core.runner import infer_logits
from dualexport.core.types import Artifact
from dualexport.pipeline import serve as serve_module
from dualexport.pipeline.build import Built
from dualexport.pipeline.runners import choose_artifact, open_artifact
from dualexport.pipeline.serve import TritonOptions, build_into, triton
from dualexport.runtimes.tensorrt.engine_file import EngineRecord
from dualexport.verification.measures import softmax
from support.engines import NEEDS_TENSORRT
from support.triton import Server, require_triton, run_client, serve

PARSE = """
import json, sys
from pathlib import Path
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
configs = {}
for path in Path(sys.argv[1]).glob("*/config.pbtxt"):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    configs[path.parent.name] = json_format.MessageToDict(config, preserving_proto_field_name=True)
print(json.dumps(configs))
"""
ASK = """
import json, sys
import numpy as np
import tritonclient.grpc, tritonclient.http
from tritonclient.utils import InferenceServerException
model, output, http, grpc, *videos = sys.argv[1:]
answers = []
for protocol, address in ((tritonclient.http, http), (tritonclient.grpc, grpc)):
    client = protocol.InferenceServerClient(address)
    for path in videos:
        content = np.fromfile(path, np.uint8)
        video = protocol.InferInput("video", [content.size], "UINT8")
        video.set_data_from_numpy(content)
        try:
            result = client.infer(model, [video], outputs=[protocol.InferRequestedOutput(output)])
            answers.append(result.as_numpy(output).tolist())
        except InferenceServerException as error:
            answers.append(str(error))
print(json.dumps(answers))
"""
CROWD = """
import json, socket, sys, threading
import numpy as np
import tritonclient.http as protocol
model, http, path = sys.argv[1:]
content = np.fromfile(path, np.uint8)
answers = []

def ask():
    client = protocol.InferenceServerClient(http)
    video = protocol.InferInput("video", [content.size], "UINT8")
    video.set_data_from_numpy(content)
    answers.append(client.infer(model, [video]).as_numpy("probabilities").tolist())

threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
host, port = http.split(":")
leaving = socket.create_connection((host, int(port)))  # a client that leaves in the middle of its request
request = f"POST /v2/models/{model}/infer HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 100000\\r\\n\\r\\n{{"
leaving.sendall(request.encode())
leaving.close()
for thread in threads:
    thread.join()
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def repository(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose network runs in the Python backend, which every Triton has."""
    folder = tmp_path_factory.mktemp("repository") / "models"
    return triton(exported, folder, TritonOptions(TritonBackend.PYTHON)).folder


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require_triton()
    with serve(repository, "dualformer-n-video", tmp_path_factory.mktemp("triton")) as running:
        yield running


@pytest.mark.parametrize("backend", [TritonBackend.ONNXRUNTIME, TritonBackend.PYTHON])
def test_configurations_are_of_triton_s_schema_and_fit_the_file(
    exported: Path, tmp_path: Path, backend: TritonBackend
) -> None:
    require_triton()
    written = triton(exported, tmp_path / "models", TritonOptions(backend, Precision.FP16))
    configs = run_client(PARSE, written.folder)
    assert set(configs) == set(written.models)
    artifact = written.artifact
    assert artifact.precision is Precision.FP16
    network = configs["dualformer-n"]
    for tensors, specs in ((network["input"], artifact.inputs), (network["output"], artifact.outputs)):
        assert [tensor["name"] for tensor in tensors] == [spec.name for spec in specs]
        assert [tuple(map(int, tensor["dims"])) for tensor in tensors] == [spec.shape for spec in specs]
    assert network["input"][0]["data_type"] == "TYPE_FP32"
    assert network["backend"] == backend.value
    assert network["model_warmup"][0]["inputs"]["clip"]["dims"] == network["input"][0]["dims"]
    steps = configs["dualformer-n-video"]["ensemble_scheduling"]["step"]
    assert [step["model_name"] for step in steps] == ["dualformer-n-clips", "dualformer-n", "dualformer-n-classes"]
    model = written.folder / "dualformer-n" / "1" / network["default_model_filename"]
    assert model.is_file()


def test_it_says_nothing_of_where_it_was_made(repository: Path) -> None:
    texts = [path.read_text() for path in repository.rglob("*") if path.suffix in (".json", ".pbtxt", ".py", ".md")]
    assert all(str(Path.home()) not in text and str(repository) not in text for text in texts)


@pytest.mark.slow
def test_a_real_server_answers_as_predict_does(server: Server, exported: Path, video: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mkv"
    write_video(other, render_pattern(7, 40, 90, 160))
    manifest = read_manifest(exported)
    names = ("dualformer-n-video", "probabilities", server.http, server.grpc)
    answers = run_client(ASK, *names, video, other)
    with open_artifact(choose_artifact(manifest, Runtime.ONNX)) as runner:
        expected = [
            softmax(infer_logits(runner, tuple(ClipSource(path, manifest.preprocessing)))).mean(axis=0)
            for path in (video, other)
        ]
    np.testing.assert_allclose(answers[:2], expected, atol=1e-6)
    np.testing.assert_array_equal(answers[:2], answers[2:])  # HTTP and gRPC


@pytest.mark.slow
def test_a_file_of_a_range_is_served_with_the_server_s_batches(ranged: Path, video: Path, tmp_path: Path) -> None:
    require_triton()
    written = triton(ranged, tmp_path / "models", TritonOptions(TritonBackend.PYTHON, Precision.FP32))
    config = run_client(PARSE, written.folder)["dualformer-demo"]
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, ["16", "224", "224", "3"])
    with open_artifact(written.artifact) as runner:
        expected = softmax(infer_logits(runner, tuple(ClipSource(video, read_manifest(ranged).preprocessing))))
    with serve(written.folder, "dualformer-demo-video", tmp_path / "triton") as server:
        answers = run_client(ASK, "dualformer-demo-video", "probabilities", server.http, server.grpc, video)
    np.testing.assert_allclose(answers, [expected[0]] * 2, atol=1e-6)


@pytest.mark.slow
def test_bad_videos_and_clients_that_leave_are_answered_and_the_server_stays(
    server: Server, video: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:200] + b"no video")
    names = ("dualformer-n-video", "probabilities", server.http, server.grpc)
    for answer in run_client(ASK, *names, broken):
        assert "cannot be decoded" in answer
        assert "fix: " in answer
    answers = run_client(CROWD, "dualformer-n-video", server.http, video)
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)
    assert server.is_live()


def test_an_engine_is_built_into_a_repository(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a build that takes no GPU: how engines are built has its own tests."""
    library = pytest.importorskip("dualexport.runtimes.tensorrt.library", reason=NEEDS_TENSORRT)
    folder, notes = Path(shutil.copytree(exported, tmp_path / "dualformer-n")), list[str]()
    record = EngineRecord("TensorRT", "10.3.0").document()

    def build(source: Artifact, *_: object, **__: object) -> Built:
        path = folder / "dualformer-n.fp16.sm87-trt10.3.engine"
        path.write_bytes(b"engine")
        engine = replace(source, format="tensorrt", path=path, sha256=hash_file(path), options=record)
        write_manifest(read_manifest(folder).with_artifact(engine), folder / "manifest.json")
        return Built(engine, folder / "manifest.json", None)

    monkeypatch.setattr(serve_module, "build", build)
    monkeypatch.setattr(library, "is_for_rtx", lambda: True)
    with pytest.raises(EngineError, match="not of TensorRT for RTX"):
        build_into(folder, tmp_path / "models")
    monkeypatch.setattr(library, "is_for_rtx", lambda: False)
    built = build_into(folder, tmp_path / "models", notify=notes.append)
    served = tmp_path / "models" / "dualformer-n"
    assert (served / "1" / "model.plan").read_bytes() == b"engine"
    assert 'backend: "tensorrt"' in (served / "config.pbtxt").read_text()
    assert built.engine in read_manifest(folder).artifacts
    assert "TensorRT 10.3.0" in notes[0]
    with pytest.raises(OutputError, match="is there already"):
        build_into(folder, tmp_path / "models")
    (folder / "manifest.json").unlink()
    with pytest.raises(ManifestError, match="how its clips are made is not known"):
        build_into(folder / "dualformer-n.fp16.onnx", tmp_path / "others")


def test_an_engine_that_triton_does_not_load_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "dualformer-n"))
    manifest = read_manifest(folder)
    (folder / "one.engine").write_bytes(b"engine")
    record = EngineRecord("TensorRT for RTX", "1.2.0").document()
    path = folder / "one.engine"
    engine = replace(manifest.artifacts[0], format="tensorrt", path=path, sha256=hash_file(path), options=record)
    write_manifest(manifest.with_artifact(engine), manifest.path)
    with pytest.raises(EngineError, match=r"one\.engine: Triton's tensorrt backend loads engines of TensorRT, not of"):
        triton(folder, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_what_cannot_be_served_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="lists no tensorrt artifact"):
        triton(exported, tmp_path / "models", TritonOptions(TritonBackend.TENSORRT))
    with pytest.raises(ManifestError, match="no onnx file of int8"):
        triton(exported, tmp_path / "models", TritonOptions(precision=Precision.INT8))
    (tmp_path / "models").mkdir()
    with pytest.raises(OutputError, match="is there already"):
        triton(exported, tmp_path / "models")

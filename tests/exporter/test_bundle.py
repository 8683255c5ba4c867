"""A bundle is made whole and unpacked with suspicion."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import NANO_CLIP
from dualexport.core.choices import Graph, ModelSize, Precision, Server
from dualexport.core.errors import BundleError, DualExportError, ManifestError, RunnerError
from dualexport.core.files import hash_file
from dualexport.core.manifest import Manifest, read_manifest, write_manifest
from dualexport.core.types import Artifact, Clip, TensorSpec, Weights
from dualexport.exporter import bundle
from dualexport.exporter.bundle import staged_bundle, unpack_bundle
from dualexport.runtimes.expected import read_expected, write_expected
from support.runners import SHAPE, FunctionRunner

Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """A folder with one file that stands for an ONNX file, made from a checkpoint elsewhere."""
    folder = tmp_path / "net"
    folder.mkdir()
    graph = folder / "net.fp32.onnx"
    graph.write_bytes(b"graph")
    clip = TensorSpec("clip", "float32", (1, 3, NANO_CLIP.frames, NANO_CLIP.size, NANO_CLIP.size))
    specs = (clip,), (TensorSpec("logits", "float32", (1, 5)),)
    artifact = Artifact("onnx", Precision.FP32, Graph.FOLDED, graph, hash_file(graph), *specs, None)
    weights = Weights(checkpoint=tmp_path / "secret" / "trained.pth", sha256="0" * 64)
    made = Manifest(folder, ModelSize.N, 5, weights, NANO_CLIP, (artifact,))
    write_manifest(made, made.path)
    return made


@pytest.fixture
def packed(manifest: Manifest, tmp_path: Path) -> Path:
    path = tmp_path / "net.tar.gz"
    with staged_bundle(manifest, path) as folder:
        (folder / "expected.npz").write_bytes(b"outputs")
    return path


def test_a_bundle_comes_out_as_it_went_in(packed: Path, manifest: Manifest, tmp_path: Path) -> None:
    folder = unpack_bundle(packed, tmp_path / "device")
    assert folder == tmp_path / "device" / manifest.name
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.txt",
        "expected.npz",
        "manifest.json",
        "net.fp32.onnx",
    ]
    assert (folder / "net.fp32.onnx").read_bytes() == b"graph"
    assert 'pip install "dualexport[jetson]"' in (folder / "README.txt").read_text()
    assert read_manifest(folder).artifacts[0].sha256 == manifest.artifacts[0].sha256
    assert "secret" not in (folder / "manifest.json").read_text()
    assert unpack_bundle(packed, tmp_path / "device") == folder


@pytest.mark.parametrize(
    ("server", "command"),
    [
        (None, "dualexport trt net.tar.gz\n"),
        (Server.TRITON, "dualexport trt net.tar.gz --into models\n"),
        (Server.DEEPSTREAM, "dualexport deepstream net.tar.gz --output app\n"),
    ],
)
def test_its_readme_says_how_the_device_serves_it(
    manifest: Manifest, tmp_path: Path, server: Server | None, command: str
) -> None:
    with staged_bundle(manifest, tmp_path / "net.tar.gz", server) as folder:
        (folder / "expected.npz").write_bytes(b"outputs")
    unpacked = unpack_bundle(tmp_path / "net.tar.gz", tmp_path / "device")
    assert f"    {command}" in (unpacked / "README.txt").read_text()


def test_the_same_files_give_the_same_bytes(packed: Path, manifest: Manifest, tmp_path: Path) -> None:
    again = tmp_path / "again" / "net.tar.gz"
    with staged_bundle(manifest, again) as folder:
        (folder / "expected.npz").write_bytes(b"outputs")
    assert hash_file(again) == hash_file(packed)


def test_another_network_in_the_way_is_not_touched(packed: Path, manifest: Manifest, tmp_path: Path) -> None:
    folder = unpack_bundle(packed, tmp_path / "device")
    document = json.loads((folder / "manifest.json").read_text())
    document["artifacts"] = []
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="is there already and holds another network"):
        unpack_bundle(packed, tmp_path / "device")
    assert sorted(path.name for path in folder.parent.iterdir()) == [manifest.name]


def test_a_changed_file_is_not_packed(manifest: Manifest, tmp_path: Path) -> None:
    manifest.artifacts[0].path.write_bytes(b"changed")
    with pytest.raises(ManifestError, match="has changed"), staged_bundle(manifest, tmp_path / "out" / "x.tar.gz"):
        pytest.fail("it was packed")
    assert not (tmp_path / "out").exists()


def entry(name: str, content: bytes = b"x", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def rewrite(packed: Path, change: Callable[[list[Member]], list[Member]]) -> None:
    """The archive again, its members changed."""
    with tarfile.open(packed) as tar:
        members = [(info, file.read()) for info in tar if (file := tar.extractfile(info)) is not None]
    with tarfile.open(packed, "w:gz") as tar:
        for info, content in change(members):
            tar.addfile(info, io.BytesIO(content))


ATTACKS: dict[str, Member] = {
    "above": entry("../evil"),
    "above from inside": entry("net/../../evil"),
    "absolute": entry("/tmp/evil"),
    "backslash": entry("net/..\\evil"),
    "deeper": entry("net/deep/evil"),
    "no folder": entry("evil"),
    "second folder": entry("other/evil"),
    "hidden": entry("net/.evil"),
    "twice, by case": entry("net/MANIFEST.json"),
    "symbolic link": entry("net/evil", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": entry("net/evil", b"", type=tarfile.LNKTYPE, linkname="net/manifest.json"),
    "device": entry("net/evil", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "pipe": entry("net/evil", b"", type=tarfile.FIFOTYPE),
    "folder": entry("net/evil", b"", type=tarfile.DIRTYPE),
    "engine": entry("net/evil.engine"),
    "timings": entry("net/timing.sm87-trt10.3.cache"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_stranger_may_put_into_it_is_refused(
    packed: Path, manifest: Manifest, tmp_path: Path, attack: str
) -> None:
    info, content = ATTACKS[attack]
    info.name = info.name.replace("net/", f"{manifest.name}/")
    rewrite(packed, lambda members: [*members, (info, content)])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BundleError):
        unpack_bundle(packed, tmp_path / "device")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] in ([], [tmp_path / "device"])


def test_too_much_is_refused(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAX_FILES", 3), ("MAX_BYTES", 100)):
        with monkeypatch.context() as limited:
            limited.setattr(bundle, name, value)
            with pytest.raises(BundleError, match="it holds more than"):
                unpack_bundle(packed, tmp_path / "device")


def test_a_manifest_with_an_engine_is_refused(packed: Path, tmp_path: Path) -> None:
    def add_engine(members: list[Member]) -> list[Member]:
        changed = []
        for info, content in members:
            if info.name.endswith("manifest.json"):
                document = json.loads(content)
                document["artifacts"][0]["format"] = "tensorrt"
                content = json.dumps(document).encode()
                info.size = len(content)
            changed.append((info, content))
        return changed

    rewrite(packed, add_engine)
    with pytest.raises(BundleError, match="engines are built on the device"):
        unpack_bundle(packed, tmp_path / "device")


@pytest.mark.parametrize("damage", ["cut off", "no archive", "empty", "a file exchanged", "no manifest"])
def test_damage_is_refused_and_leaves_nothing(packed: Path, tmp_path: Path, damage: str) -> None:
    content = packed.read_bytes()
    if damage == "a file exchanged":
        rewrite(packed, lambda members: [(info, b"GRAPH" if "onnx" in info.name else data) for info, data in members])
    elif damage == "no manifest":
        rewrite(packed, lambda members: [member for member in members if "manifest" not in member[0].name])
    else:
        packed.write_bytes({"cut off": content[:-40], "no archive": b"PK\3\4" + bytes(100), "empty": b""}[damage])
    with pytest.raises(DualExportError) as refused:
        unpack_bundle(packed, tmp_path / "device")
    assert refused.value.fix
    assert not (tmp_path / "device").exists()


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gone\.tar\.gz: no such file"):
        unpack_bundle(tmp_path / "gone.tar.gz", tmp_path)


def test_expected_outputs_answer_their_own_clips_only(tmp_path: Path) -> None:
    clips = [Clip(f"clip {level}", 0, np.full(SHAPE, level, np.uint8), NANO_CLIP) for level in (1, 2)]
    reference = FunctionRunner(lambda values: values)
    assert write_expected(tmp_path / "expected.npz", reference, clips) == 2
    expected = read_expected(tmp_path / "expected.npz", NANO_CLIP)
    assert [clip.name for clip in expected.clips] == ["clip 1", "clip 2"]
    for clip in expected.clips:
        feeds = {"clip": clip.data[None]}
        np.testing.assert_array_equal(expected.infer(feeds)["logits"], reference.infer(feeds)["logits"])
    with pytest.raises(RunnerError, match="no logits are stored for these frames"):
        expected.infer({"clip": np.zeros((1, *SHAPE), np.uint8)})


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_file_without_expected_outputs_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "expected.npz"
    if content is None:
        np.savez(path, clips=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(RunnerError, match="is not a file of expected outputs"):
        read_expected(path, NANO_CLIP)

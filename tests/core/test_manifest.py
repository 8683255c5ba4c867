"""The manifest survives a round trip, and is refused where it cannot be trusted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dualexport.core.choices import Graph, ModelSize, Precision
from dualexport.core.errors import ManifestError
from dualexport.core.files import hash_file
from dualexport.core.manifest import (
    Manifest,
    check_artifact,
    find_manifest,
    open_manifest,
    read_manifest,
    write_manifest,
)
from dualexport.core.selection import parse_selections
from dualexport.core.types import Artifact, Preprocessing, TensorSpec, Weights
from dualexport.exporter.dualformer.token_grids import list_selected_grids


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"graph")
    artifact = Artifact(
        format="onnx",
        precision=Precision.FP32,
        graph=Graph.PLAIN,
        path=file,
        sha256=hash_file(file),
        inputs=(TensorSpec("clip", "float32", (1, 3, 16, 224, 224)),),
        outputs=(TensorSpec("logits", "float32", (1, 400)),),
        parent="ab" * 32,
        options={"opset": 20},
    )
    weights = Weights(checkpoint=tmp_path / "weights" / "n.pth", sha256="ab" * 32)
    preprocessing = Preprocessing(frames=16)
    made = Manifest(tmp_path, ModelSize.N, 400, weights, preprocessing, (artifact,), {"torch": "2.13.0"})
    write_manifest(made, made.path)
    return made


def edit(manifest: Manifest, **changes: Any) -> None:
    manifest.path.write_text(json.dumps({**json.loads(manifest.path.read_text()), **changes}))


def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert read_manifest(manifest.folder) == manifest


def test_paths_are_relative_so_that_the_folder_can_move(manifest: Manifest, tmp_path: Path) -> None:
    document = json.loads(manifest.path.read_text())
    assert document["artifacts"][0]["path"] == "net.onnx"
    assert document["weights"]["path"] == "weights/n.pth"
    assert str(tmp_path) not in manifest.path.read_text()


def test_a_newer_schema_is_refused(manifest: Manifest) -> None:
    edit(manifest, schema=99)
    with pytest.raises(ManifestError, match="schema 99, this dualexport reads up to 1"):
        read_manifest(manifest.folder)


@pytest.mark.parametrize("path", ["../net.onnx", "/etc/net.onnx"])
def test_an_artifact_outside_the_folder_is_refused(manifest: Manifest, path: str) -> None:
    entry = json.loads(manifest.path.read_text())["artifacts"][0]
    edit(manifest, artifacts=[{**entry, "path": path}])
    with pytest.raises(ManifestError, match="leaves the manifest's folder"):
        read_manifest(manifest.folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "weights": 3}', "\x00"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ManifestError, match="is not a manifest"):
        read_manifest(tmp_path)


def test_a_changed_artifact_is_refused(manifest: Manifest) -> None:
    manifest.artifacts[0].path.write_bytes(b"another graph")
    with pytest.raises(ManifestError, match=r"net\.onnx has changed since it was written"):
        check_artifact(manifest.artifacts[0])


def test_a_missing_artifact_is_named(manifest: Manifest) -> None:
    manifest.artifacts[0].path.unlink()
    with pytest.raises(ManifestError, match=r"net\.onnx: no such file"):
        check_artifact(manifest.artifacts[0])


def test_a_second_export_of_the_same_weights_keeps_the_other_artifacts(manifest: Manifest) -> None:
    again = open_manifest(replace(manifest, artifacts=()))
    other = replace(manifest.artifacts[0], path=manifest.folder / "other.onnx")
    assert again.with_artifact(other).artifacts == (*manifest.artifacts, other)
    assert again.with_artifact(manifest.artifacts[0]).artifacts == manifest.artifacts


def test_a_second_export_of_the_same_weights_keeps_the_class_names(manifest: Manifest) -> None:
    named = replace(manifest, labels=tuple(f"action {number}" for number in range(manifest.classes)))
    write_manifest(named, manifest.path)
    assert open_manifest(replace(manifest, labels=())).labels == named.labels
    other = tuple(f"other {number}" for number in range(manifest.classes))
    assert open_manifest(replace(manifest, labels=other)).labels == other


@pytest.mark.parametrize(
    "change",
    [
        {"weights": Weights(seed=1)},
        {"weights": Weights(Path("n.pth"), "ab" * 32, selector_seed=0)},
        {"selected": list_selected_grids(16, parse_selections("T0:0.5"))},
    ],
)
def test_an_export_of_another_network_starts_afresh(manifest: Manifest, change: dict[str, Any]) -> None:
    assert open_manifest(replace(manifest, artifacts=(), **change)).artifacts == ()


def test_selections_are_written_with_their_integers_and_read_back(manifest: Manifest) -> None:
    weights = replace(manifest.weights, selector_seed=3)
    selecting = replace(manifest, weights=weights, selected=list_selected_grids(16, parse_selections("T0:0.5,S2:0.74")))
    assert selecting.name == "dualformer-n-T0_0.5-S2_0.74"
    write_manifest(selecting, manifest.path)
    assert read_manifest(manifest.folder) == selecting
    document = json.loads(manifest.path.read_text())
    assert document["weights"]["untrained_selector_seed"] == 3
    assert document["selections"] == [
        {"selection": "T0:0.5", "grid": [8, 56, 56], "kept": [4, 56, 56]},
        {"selection": "S2:0.74", "grid": [4, 14, 14], "kept": [4, 12, 12]},
    ]


def test_a_selection_that_is_none_is_refused(manifest: Manifest) -> None:
    edit(manifest, selections=[{"selection": "half", "grid": [8, 56, 56], "kept": [4, 56, 56]}])
    with pytest.raises(ManifestError, match="is not a manifest"):
        read_manifest(manifest.folder)


def test_the_preferred_precision_is_found_whatever_the_order(manifest: Manifest) -> None:
    half = replace(manifest.artifacts[0], precision=Precision.FP16, path=manifest.folder / "half.onnx")
    both = replace(manifest, artifacts=(half, *manifest.artifacts))
    assert both.artifact_of("onnx", Precision.FP32) == manifest.artifacts[0]
    assert replace(manifest, artifacts=(half,)).artifact_of("onnx", Precision.FP32) == half
    with pytest.raises(ManifestError, match="lists no onnx artifact"):
        replace(manifest, artifacts=()).artifact_of("onnx", Precision.FP32)


def test_the_only_export_of_a_folder_is_found(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(manifest.folder)
    assert find_manifest(None).folder == Path()
    for name in ("dualformer-n", "dualformer-t"):
        (manifest.folder / name).mkdir()
    manifest.path.rename("dualformer-t/manifest.json")
    assert find_manifest(None).folder == Path("dualformer-t")
    shutil.copy("dualformer-t/manifest.json", "dualformer-n/manifest.json")
    with pytest.raises(ManifestError, match="2 exported networks are here: dualformer-n, dualformer-t"):
        find_manifest(None)


def test_the_only_export_is_found_whatever_its_folder_is_called(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(manifest.folder)
    for name in ("mine", "web-page", ".hidden"):
        Path(name).mkdir()
    shutil.copy(manifest.path, ".hidden")
    manifest.path.rename("mine/manifest.json")
    Path("web-page/manifest.json").write_text('{"name": "another program\'s"}')
    assert find_manifest(None).folder == Path("mine")

"""`dualexport bench` as a user types it, and what `verify` takes from it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from dualexport.core.manifest import read_manifest
from dualexport.core.reporter import SILENT, Reporter
from dualexport.pipeline.bench import find_other_work
from dualexport.pipeline.latency import read_latency
from dualexport.runtimes.machine.environment import DeviceState
from support.cli import assert_refused, run


def test_bench_measures_every_artifact_and_leaves_it_for_the_report(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "dualformer-n"))
    manifest = read_manifest(folder)
    assert read_latency(manifest, SILENT) is None
    code, out, _ = run(capsys, "bench", folder, "--seconds", 0.1, "--rounds", 2, "--json")
    document = json.loads(out)
    assert (code, document["reference"]) == (0, "dualformer-n.fp32.onnx")
    first, second = document["results"]
    assert (first["ratio"]["median"], first["batch"], first["copies"]) == (1.0, 1, "included")
    assert second["ratio"]["low"] <= second["ratio"]["median"] <= second["ratio"]["high"]
    assert 0 < first["p50_ms"] <= first["p90_ms"] <= first["p99_ms"] <= first["max_ms"]
    assert first["load_seconds"] > 0
    assert len(first["samples_ms"]) == first["runs"] >= 2
    assert json.loads((folder / "bench.json").read_text()) == document

    latency = read_latency(manifest, SILENT)
    assert latency is not None
    assert [one.artifact for one in latency.results] == ["dualformer-n.fp32.onnx", "dualformer-n.fp16.onnx"]
    exported_again = replace(
        manifest, artifacts=(replace(manifest.artifacts[0], sha256="other"), manifest.artifacts[1])
    )
    latency = read_latency(exported_again, SILENT)
    assert latency is not None
    assert [one.artifact for one in latency.results] == ["dualformer-n.fp16.onnx"]
    (folder / "bench.json").write_text("{}")
    notes: list[str] = []
    assert read_latency(manifest, Reporter(note=notes.append)) is None
    assert "bench.json is not a measurement" in notes[0]
    assert "it is left out" in notes[0]


def test_nothing_to_measure_is_an_error(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(run(capsys, "bench", exported, "--batch", 7), "no artifact of that runtime and batch")
    assert_refused(run(capsys, "bench", exported, "--runtime", "tensorrt"), "no artifact of that runtime and batch")
    assert not (exported / "bench.json").exists()


def test_work_that_was_there_before_is_said() -> None:
    idle = DeviceState(None, None, None, None, None, load=0.0)
    assert find_other_work(idle) == find_other_work(replace(idle, load=None)) == []
    (warning,) = find_other_work(replace(idle, load=1000.0))
    assert "a load of 1000 on" in warning

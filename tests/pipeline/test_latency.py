"""Measured latencies decide on INT8, for as long as they are of the files that are there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from dualexport.core.manifest import read_manifest
from dualexport.core.plain import to_plain
from dualexport.core.reporter import SILENT, Reporter
from dualexport.pipeline.latency import read_latency, read_verdicts
from dualexport.report.bench import Verdict
from dualexport.report.html import render_html
from dualexport.report.junit import render_junit
from dualexport.report.markdown import render_markdown
from dualexport.report.tables import outline
from support.documents import make_bench, make_document, make_latency, parse

FP16, INT8 = "e" * 63 + "1", "e" * 63 + "2"  # SHA-256 of engines
STRANGE: tuple[Any, ...] = (
    *(None, True, "", "x", "\ud800", "<b>\x1b[31m", [], {}, [[]], {"a": 1}, [1, "a"], 10**40),
    *(-1, 0, 1, 2**63, 1e308, -1e-300, 5e-324, float("nan"), float("inf")),
)
GRAPH = "a" * 64
GPU = {"gpu": "NVIDIA L4", "machine": "PC", "cpu": "x86", "power_mode": None}
Write = Callable[..., Path]


@pytest.fixture
def write(exported: Path, tmp_path: Path) -> Write:
    """Lists an INT8 graph and two engines beside the exported files, and writes bench.json by hand."""
    folder = Path(shutil.copytree(exported, tmp_path / "dualformer-n"))
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    fp16 = manifest["artifacts"][1]
    int8 = {**fp16, "precision": "int8", "path": "n.int8.onnx", "sha256": GRAPH, "options": {"base": "fp16"}}
    manifest["artifacts"] += [
        int8,
        {**fp16, "format": "tensorrt", "path": "n.fp16.engine", "sha256": FP16, "parent": fp16["sha256"]},
        {**int8, "format": "tensorrt", "path": "n.int8.engine", "sha256": INT8, "parent": GRAPH, "options": {}},
    ]
    path.write_text(json.dumps(manifest))

    def measure(*results: tuple[str, float, str], spread: float = 0.02, **environment: Any) -> Path:
        timed = [
            {**make_latency("n", clip_ms, 1.0, sha256, copies), "clip_ms": clip_ms, "round_spread": spread}
            for sha256, clip_ms, copies in results
        ]
        (folder / "bench.json").write_text(json.dumps(make_bench(*timed, **{**GPU, **environment})))
        return folder

    return measure


def judge(folder: Path) -> list[Verdict]:
    latency = read_latency(read_manifest(folder), SILENT)
    assert latency is not None
    return list(latency.verdicts)


def test_engines_that_were_measured_decide_by_the_gpu_s_own_times(write: Write) -> None:
    wall = ((FP16, 5.0, "included"), (INT8, 5.0, "included"))
    (verdict,) = judge(write(*wall, (FP16, 2.62, "excluded"), (INT8, 2.0, "excluded")))
    assert (verdict.artifact, verdict.on_gpu) == ("n.int8.engine", True)
    assert verdict.speedup == pytest.approx(1.31)
    assert verdict.sentence == (
        "INT8 measured 1.31x as fast as FP16 on NVIDIA L4 at batch 1: 2.00 ms a clip instead of 2.62, rounds differ by "
        "up to 2%; bench.json of 2026-05-01T10:00:00+00:00."
    )


def test_int8_that_is_no_faster_is_not_worth_it_and_noise_decides_nothing(write: Write) -> None:
    slow = ((FP16, 2.0, "excluded"), (INT8, 2.1, "excluded"))
    jetson = {"gpu": None, "machine": "Jetson AGX Orin", "power_mode": "30W"}
    (verdict,) = judge(write(*slow, **jetson))
    assert "not worth it on Jetson AGX Orin (30W): keep FP16 (measured 0.95x as fast" in verdict.sentence
    (verdict,) = judge(write((FP16, 2.2, "excluded"), (INT8, 2.0, "excluded"), spread=0.3))
    assert "keep FP16" in verdict.sentence
    assert "measure again" in verdict.sentence


def test_what_a_cpu_took_is_said_to_be_of_a_cpu(write: Write, exported: Path) -> None:
    fp16 = read_manifest(exported).artifacts[1].sha256
    (verdict,) = judge(write((fp16, 170.0, "included"), (GRAPH, 211.0, "included")))
    assert "not worth it on the CPU with ONNX Runtime (x86)" in verdict.sentence
    assert verdict.sentence.endswith("This says nothing of a GPU.")


def test_only_what_is_still_there_and_was_measured_alike_is_compared(write: Write) -> None:
    assert judge(write((FP16, 2.0, "included"), (INT8, 1.0, "excluded"))) == []
    assert judge(write((FP16, 2.0, "excluded"), ("f" * 64, 1.0, "excluded"))) == []
    folder = write((FP16, 2.0, "excluded"), (INT8, 1.0, "excluded"))
    manifest = read_manifest(folder)
    assert [verdict.artifact for verdict in read_verdicts(manifest, (GRAPH,), SILENT)] == ["n.int8.engine"]
    assert not read_verdicts(manifest, (FP16,), SILENT)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(f'"sha256": "{GRAPH}"', f'"sha256": "{"b" * 64}"'))
    assert judge(folder) == []  # the INT8 graph is another one now than that of the engine


def test_a_bench_json_that_is_malformed_is_left_out_with_a_note_and_the_report_is_made(write: Write) -> None:
    folder = write((FP16, 2.0, "included"), (INT8, 1.0, "included"))
    manifest, path = read_manifest(folder), folder / "bench.json"
    sound = json.loads(path.read_text())
    random = Random(0)
    for number in range(400):
        path.write_bytes(_break(sound, number, random))
        notes: list[str] = []
        latency = read_latency(manifest, Reporter(note=notes.append))
        assert latency is None or not notes, path.read_bytes()  # None without a note: of no file that is there
        if latency is not None:
            document = parse({**make_document(), "latency": to_plain(latency)})
            for render in (render_html, render_markdown, render_junit):
                assert render(document)
            assert list(outline(document))
    path.unlink()
    path.mkdir()
    assert read_latency(manifest, Reporter(note=notes.append)) is None
    assert "it is a folder" in notes[-1]


def _break(sound: dict[str, Any], number: int, random: Random) -> bytes:
    """A bench.json with one value changed or left out, or with its bytes damaged."""
    if number % 8 == 0:
        content = bytearray(json.dumps(sound), "utf-8")
        for _ in range(1 + number % 3):
            content[random.randrange(len(content))] = random.randrange(256)
        return bytes(content[: random.randrange(len(content))] if number % 16 else content)
    changed = json.loads(json.dumps(sound))
    place, key = changed, random.choice(list(changed))
    while isinstance(place[key], (dict, list)) and place[key] and random.random() < 0.8:
        place = place[key]
        key = random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
    if number % 5 == 0:
        del place[key]
    else:
        place[key] = random.choice(STRANGE)
    return json.dumps(changed).encode()

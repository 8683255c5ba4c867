"""`dualexport verify` on sets that take long: it goes on where it broke off, and spreads without changing a digit."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.logit_store import REFERENCE_NAME as STORED
from dualexport.runtimes.onnx_runner import OnnxRunner
from support.cli import assert_refused, run

VIDEOS = 6
FIRST_RECORD = 40_000  # bytes of a store that holds a result or more
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from dualexport.cli import main; main(sys.argv[1:])"
PATIENCE_SECONDS = 120


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos that differ, and one file among them that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(VIDEOS):
        write_video(folder / f"{number}.mp4", render_pattern(number, 34, 120, 160))
    (folder / "4b.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, in which runs leave what they leave."""
    return Path(shutil.copytree(exported, tmp_path / "dualformer-n", ignore=shutil.ignore_patterns(STORED)))


@pytest.fixture(scope="session")
def arguments(videos: Path) -> tuple[object, ...]:
    return ("--clips", videos, "--skip-unreadable", "--json")


@pytest.fixture(scope="session")
def expected(
    exported: Path, arguments: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """The report of one process that is not interrupted."""
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("plain") / "dualformer-n")
    command = [sys.executable, "-m", "dualexport", "verify", folder, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    document: dict[str, object] = json.loads(done.stdout)
    assert len(document["skipped"]) == 1  # type: ignore[arg-type]
    return document


def find_store(folder: Path) -> Path | None:
    return next((path for path in folder.glob("verify-*.logits") if path.stat().st_size > FIRST_RECORD), None)


def in_the_middle(folder: Path, act: Callable[[], None]) -> Thread:
    """Does `act` once as soon as something is in the store."""

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while find_store(folder) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        act()

    thread = Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_broke_off_goes_on_to_the_same_report(
    copy: Path,
    arguments: tuple[object, ...],
    expected: dict[str, object],
    how: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [sys.executable, "-m", "dualexport", "verify", copy, *arguments]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    in_the_middle(copy, lambda: process.send_signal(how)).join()
    out, err = process.communicate()
    assert out == ""
    assert process.returncode == (-how if how is signal.SIGKILL else 130), err
    assert ("what was computed is kept: the same command goes on behind it" in err) == (how is signal.SIGINT)
    assert find_store(copy)
    code, out, err = run(capsys, "verify", copy, *arguments)
    assert (code, json.loads(out)) == (0, expected)
    assert "note: going on after " in err
    assert not list(copy.glob("verify-*"))


@pytest.mark.slow
def test_an_artifact_that_breaks_off_fails_alike_however_the_clips_are_spread(
    copy: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "dualformer-n.fp16.onnx").unlink()
    arguments = ("verify", copy, "--clips", videos / "1.mp4", "--json")
    one, two = run(capsys, *arguments), run(capsys, *arguments, "--workers", 2)
    assert one[:2] == two[:2]
    first, second = json.loads(one[1])["reports"]
    assert (first["passed"], second["passed"], second["size_bytes"]) == (True, False, None)
    assert second["failure"].endswith("dualformer-n.fp16.onnx: no such file")


@pytest.mark.slow
def test_two_processes_say_the_same_though_one_is_killed(
    copy: Path, arguments: tuple[object, ...], expected: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    killed = []

    def kill() -> None:
        killed.append(multiprocessing.active_children()[0])
        killed[0].kill()

    in_the_middle(copy, kill)
    code, out, err = run(capsys, "verify", copy, *arguments, "--workers", 2)
    assert code == 0, err
    assert json.loads(out) == expected
    assert killed
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_ray_cluster_says_the_same_though_a_worker_is_killed(
    copy: Path,
    arguments: tuple[object, ...],
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'dualexport[ray]'")
    mark = f"DUALEXPORT_TEST={os.getpid()}".encode()
    monkeypatch.setenv(*mark.decode().split("="))
    killed = []

    def kill() -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # another user's, or ended by now
                if mark in (process / "environ").read_bytes() and b"ray::_Actor" in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    killed.append(process)
                    return

    in_the_middle(copy, kill)
    code, out, err = run(capsys, "verify", copy, *arguments, "--workers", 2, "--ray", "local")
    assert code == 0, err
    assert json.loads(out) == expected
    assert killed


@pytest.mark.slow
def test_the_reference_of_an_earlier_run_stands_in_for_pytorch(
    copy: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify_stored(*names: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "list.txt").write_text("".join(f"{videos / name}\n" for name in names))
        command = [sys.executable, "-c", WITHOUT_TORCH, "verify", copy, "--clips", tmp_path / "list.txt"]
        return subprocess.run(
            [*map(str, command), "--reference", "stored", "--json"], capture_output=True, text=True, check=False
        )

    assert "reference.logits: no such file" in verify_stored("1.mp4").stderr
    documents = [
        json.loads(run(capsys, "verify", copy, "--clips", videos / name, "--json")[1]) for name in ("1.mp4", "2.mp4")
    ]
    for name, document in zip(("1.mp4", "2.mp4"), documents, strict=True):
        stored = json.loads(verify_stored(name).stdout)
        assert stored["reference"]["name"].startswith("stored outputs of PyTorch")
        mine, theirs = (
            [[one[key] for key in ("largest_difference", "cosine", "clips")] for one in each["reports"]]
            for each in (stored, document)
        )
        assert mine == theirs
    refused = verify_stored("1.mp4", "3.mp4")
    assert refused.returncode == 1
    error, fix = refused.stderr.splitlines()[-2:]
    assert "3.mp4: no logits are stored for these frames" in error
    assert fix.startswith("fix: run `dualexport verify --clips`")


@pytest.mark.slow
def test_a_stored_reference_is_of_one_network(
    copy: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = ("--clips", videos / "1.mp4")
    run(capsys, "verify", copy, *clips)
    run(capsys, "onnx", "--model", "n", "--seed", 1, "--precision", "fp32", "--output", tmp_path / "other")
    shutil.copy(copy / STORED, tmp_path / "other" / STORED)
    result = run(capsys, "verify", tmp_path / "other", *clips, "--reference", "stored")
    assert_refused(result, "stored for another network")


def test_what_cannot_be_spread_is_refused_by_name(
    exported: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (("--workers", 2), ("--ray", "auto"), ("--reference", "stored")):
        code, _, err = run(capsys, "verify", exported, *options)
        assert (code, "--workers, --ray and --reference stored" in " ".join(err.split())) == (2, True)
    code, _, err = run(capsys, "verify", "--clips", video, "--ray", exported)
    assert (code, "is no address" in " ".join(err.split())) == (2, True)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "dualexport.verification.ray_pool", raising=False)
    result = run(capsys, "verify", exported, "--clips", video, "--ray", "auto")
    assert_refused(result, "`dualexport verify --ray` needs ray, which is not installed")


def test_a_folder_that_cannot_be_written_is_verified_all_the_same(
    copy: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("dualexport.core.logit_store.sqlite3.connect", refuse)
    code, _, err = run(capsys, "verify", copy, "--clips", video)
    assert (code, "unable to open database file: if this run breaks off, it starts anew" in err) == (0, True)


@pytest.mark.slow
def test_threads_change_no_digit(exported: Path) -> None:
    clip = np.random.default_rng(0).standard_normal((1, 3, 16, 224, 224)).astype(np.float32)
    for name in ("dualformer-n.fp32.onnx", "dualformer-n.fp16.onnx"):
        results = []
        for threads in (1, 2, 3):
            with OnnxRunner(exported / name, threads=threads) as runner:
                results.append(runner.infer({"clip": clip})["logits"].tobytes())
        assert len(set(results)) == 1

"""Whenever a command is killed, all commands work on what it leaves, and the next run of it removes what is too much.

The folder is copied before each rename, sync, change of mode and deletion that a command makes: what a kill at that
moment would leave.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from dualexport.core.files import hash_file
from dualexport.core.manifest import read_manifest
from dualexport.pipeline.clips import Clips
from dualexport.pipeline.quantize import QuantizeOptions, quantize
from support.cli import run, succeed
from support.engines import require_builder

from .folder import make_folder, make_videos
from .kills import digest, list_left, watching

DIR, VIDEOS = "D", "videos/labels.csv"
INT8 = ("int8", DIR, "--clips", VIDEOS)
VERIFY = ("verify", DIR, "--clips", VIDEOS, "--reference", "onnx", "--runtime", "onnx")
BENCH = ("bench", DIR, "--seconds", "0.1", "--rounds", "2", "--runtime", "onnx")
WRITERS = {
    "int8": INT8,
    "int8 of another base": (*INT8, "--base", "fp32"),
    "trt": ("trt", DIR, "--fp16"),
    "bundle": ("bundle", DIR, "-o", "small.tar.gz", "--reference", "onnx"),
    "synth": ("synth", "-o", "made", "--clips", "2"),
    "bench": BENCH,
    "verify": (*VERIFY, "--report", "r.html", "--report", "r.md", "--junit", "r.xml"),
    "triton": ("triton", DIR, "-o", "models"),
    "plan": ("plan", f"{DIR}/dualformer-n.fp32.onnx", "--save", "plan.json"),
}
NEEDS_BUILDER = ("trt", "plan")
FIRST_READERS = (  # they write nothing into the folder, besides finishing what was begun there
    ("predict", DIR, "videos/0.mp4", "--views", "1"),
    ("bundle", DIR, "-o", "other.tar.gz", "--reference", "onnx"),
    ("stream", DIR, "videos/0.mp4"),
    ("triton", DIR, "-o", "served", "--backend", "onnxruntime"),
)
READERS = (("lint", f"{DIR}/dualformer-n.fp16.onnx"), VERIFY, INT8, BENCH)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a small network, and its videos; tests work in copies."""
    place = tmp_path_factory.mktemp("small")
    make_folder(place / DIR)
    make_videos(place / "videos")
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_new"), [*((name, False) for name in WRITERS), ("int8", True)])
def test_all_commands_work_on_what_a_killed_one_leaves(
    place: Path,
    tmp_path: Path,
    name: str,
    is_new: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name in NEEDS_BUILDER:
        require_builder()
    command = WRITERS[name]
    work = Path(shutil.copytree(place, tmp_path / "work"))
    monkeypatch.chdir(work)
    if not is_new:
        prepare_again(command, capsys)
    with watching(work, tmp_path / "killed", monkeypatch) as snapshots:
        result = run(capsys, *command)
    assert result[0] == 0, result[2]
    assert not list_left(work)
    assert snapshots.moments > 2
    seen: set[str] = set()
    for number, state in enumerate(snapshots):
        monkeypatch.chdir(state)
        read(FIRST_READERS[number % len(FIRST_READERS)], state, capsys)
        if (found := digest(state / DIR)) not in seen:
            for reader in (*FIRST_READERS, *READERS):
                read(reader, state, capsys)
            seen.add(found)
        if command[0] == "triton":  # it writes no second time into a folder
            shutil.rmtree("models", ignore_errors=True)
        assert run(capsys, *command)[0] == 0
        assert not list_left(state), state


def read(reader: tuple[str, ...], state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command on the network's folder, in which all files are as the manifest says then."""
    shutil.rmtree("served", ignore_errors=True)
    code, _, err = run(capsys, *reader)
    assert code == 0, (state.name, reader, err)
    assert_whole(state / DIR)


def prepare_again(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command once, so that it finds its own files the next time."""
    assert run(capsys, *command)[0] == 0
    if command[0] == "triton":
        shutil.rmtree("models")


def assert_whole(folder: Path) -> None:
    """Every file that the manifest lists is there, as it was written."""
    for artifact in read_manifest(folder).artifacts:
        assert hash_file(artifact.path) == artifact.sha256


@pytest.mark.slow
def test_a_folder_works_whenever_an_export_into_it_was_killed(
    exported: Path,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(exported, tmp_path / "work" / DIR)
    monkeypatch.chdir(tmp_path / "work")
    again = ("onnx", "--model", "n", "--seed", "1", "--precision", "fp32", "--output", DIR)
    with watching(tmp_path / "work", tmp_path / "killed", monkeypatch) as snapshots:
        assert run(capsys, *again)[0] == 0
    found = set()
    for state in snapshots:
        monkeypatch.chdir(state)
        assert run(capsys, "lint", f"{DIR}/dualformer-n.fp32.onnx")[0] == 0
        result = run(capsys, "predict", DIR, video, "--views", "1")
        assert result[0] == 0, result[2]
        assert_whole(state / DIR)
        found.add(read_manifest(state / DIR).artifacts[0].sha256)
    assert len(found) == 2  # the old file, or the new one


@pytest.mark.slow
def test_two_runs_into_one_folder_lose_no_entry(place: Path, tmp_path: Path) -> None:
    work = Path(shutil.copytree(place, tmp_path / "work"))
    clips = Clips(work / VIDEOS)
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(quantize, work / DIR, clips, QuantizeOptions(base=base)) for base in ("fp16", "fp32")]
        made = {one.result().artifact.path.name for one in runs}
    assert made < {artifact.path.name for artifact in read_manifest(work / DIR).artifacts}
    assert_whole(work / DIR)


KILLED = """
import os, sys
from dualexport.cli import main
import dualexport.clips.source, dualexport.pipeline.quantize, dualexport.exporter.bundle
while line := sys.stdin.readline():
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1); os.dup2(1, 2)
        try:
            main(line.split())
        finally:
            os._exit(9)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.slow
def test_a_folder_works_after_fifty_kills_at_random_moments(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, chance = Path(shutil.copytree(place, tmp_path / "work")), random.Random(0)
    monkeypatch.chdir(work)
    writers = [writer for name, writer in WRITERS.items() if name not in (*NEEDS_BUILDER, "triton")]
    killed = 0
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None
        for number in range(50):
            print(*writers[number % len(writers)], file=forks.stdin, flush=True)
            child = int(forks.stdout.readline())
            time.sleep(chance.uniform(0.01, 0.4))
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(child, signal.SIGKILL)
            killed += int(forks.stdout.readline()) == signal.SIGKILL
            read((*FIRST_READERS, *READERS)[number % 8], work, capsys)
        forks.stdin.close()
    assert killed > 10
    for writer in writers:
        succeed(*writer)
    assert not list_left(work)

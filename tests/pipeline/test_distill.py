"""A distillation ends with a checkpoint like any other, goes on where it broke off, and says what is wrong."""

from __future__ import annotations

import csv
import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dualexport as dx
import numpy as np
import pytest
import torch
from dualexport.clips.synthetic import generated_clips
from dualexport.core.errors import CheckpointError, ClipError, DualExportError, LabelError, OptionError, OutputError
from dualexport.core.reporter import Progress
from dualexport.core.types import Preprocessing
from dualexport.exporter.distillation import state
from dualexport.pipeline.load import Network
from safetensors import safe_open
from safetensors.torch import load_file

SHORT = dx.DistillOptions(selections=("T0:0.5",), steps=4, batch=2, rate=2e-5)
CLIPS = 7


class Killed(BaseException):
    """Ends a run as nothing else does."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored scenes, which need no decoding."""
    path = tmp_path_factory.mktemp("clips") / "clips.npy"
    np.save(path, np.stack([clip.data for clip in generated_clips(CLIPS, Preprocessing(frames=16))]))
    return path


@pytest.fixture(scope="module")
def teacher() -> Network:
    return dx.load_demo()


def stop_at(step: int, error: type[BaseException] = Killed) -> Progress:
    """A progress that ends the run there."""

    def progress(task: str, done: int = 0, total: int | None = None) -> None:  # noqa: ARG001
        if task.startswith("distilling") and done == step:
            raise error

    return progress


def stop_in(begun: str) -> Progress:
    """A progress that ends the run when a task begins."""

    def progress(task: str, done: int = 0, total: int | None = None) -> None:  # noqa: ARG001
        if task.startswith(begun):
            raise Killed

    return progress


def unpack(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """The tensors and the metadata of a file, in which their order is not given."""
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}, file.metadata()  # noqa: SIM118 # it is no dict


def read_curve(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def saves_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SECONDS", 0.0)


@pytest.mark.slow
def test_a_student_is_a_checkpoint_that_says_what_it_selects(teacher: Network, videos: Path, tmp_path: Path) -> None:
    distilled = dx.distill(teacher, dx.Clips(videos), tmp_path / "half.safetensors", SHORT)
    (student,) = distilled.students
    assert (student.path, student.steps, student.held_out) == (tmp_path / "half.safetensors", SHORT.steps, 1)
    assert {path.name for path in tmp_path.iterdir()} == {f"half.{end}" for end in ("safetensors", "csv", "svg")}
    curve = read_curve(tmp_path / "half.csv")
    assert float(curve[0]["loss"]) > student.loss == pytest.approx(min(float(point["loss"]) for point in curve))
    assert (tmp_path / "half.svg").read_text().startswith("<svg ")
    network = dx.load(student.path)
    assert network.selected == ("T0:0.5 keeps 4 x 56 x 56 of 8 x 56 x 56 tokens",)
    assert network.labels == teacher.labels
    dx.load(student.path, selections="T0:0.5")
    with pytest.raises(CheckpointError, match=r"was distilled to T0:0\.5, not to T0:0\.75") as error:
        dx.load(student.path, selections="T0:0.75")
    assert "leave --stts out" in error.value.fix
    with pytest.raises(CheckpointError, match="selects tokens already"):
        dx.distill(network, dx.Clips(videos), tmp_path / "again.safetensors", SHORT)


@pytest.mark.slow
@pytest.mark.usefixtures("saves_always")
def test_a_killed_run_goes_on_bit_for_bit(teacher: Network, videos: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    dx.distill(teacher, dx.Clips(videos), whole, SHORT)
    for step in (1, 3):
        with pytest.raises(Killed):
            dx.distill(teacher, dx.Clips(videos), broken, SHORT, progress=stop_at(step))
        assert not broken.exists()
    with pytest.raises(OutputError, match="state of a run with other seed"):
        dx.distill(teacher, dx.Clips(videos), broken, replace(SHORT, seed=1))
    notes: list[str] = []
    dx.distill(teacher, dx.Clips(videos), broken, SHORT, notify=notes.append)
    assert notes == ["going on at step 2 of 4"]
    assert unpack(whole) == unpack(broken)
    losses = [[point["loss"] for point in read_curve(path.with_suffix(".csv"))] for path in (whole, broken)]
    assert losses[0] == losses[1]
    assert not list(tmp_path.glob("*.state")) + list(tmp_path.glob("*.logits"))


@pytest.mark.slow
def test_an_interrupted_run_keeps_the_best_weights_so_far(teacher: Network, videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    notes: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        dx.distill(teacher, dx.Clips(videos), path, SHORT, progress=stop_at(3, KeyboardInterrupt), notify=notes.append)
    assert notes == [f"interrupted; the best weights so far are in {path}"]
    assert dx.load(path).selected


@pytest.mark.slow
def test_several_students_of_fewer_frames_and_regions(teacher: Network, videos: Path, tmp_path: Path) -> None:
    options = replace(SHORT, selections=("T0:0.75,S2:0.74",), frames=(16, 8), steps=1)
    notes: list[str] = []
    with pytest.raises(Killed):
        dx.distill(
            teacher, dx.Clips(videos), tmp_path / "made", options, progress=stop_in("training dualformer-demo-8")
        )
    distilled = dx.distill(teacher, dx.Clips(videos), tmp_path / "made", options, notify=notes.append)
    assert notes == ["going on at step 1 of 1"]  # the first is not trained again
    assert not list((tmp_path / "made").glob("*.state"))
    assert [student.path.name for student in distilled.students] == [
        "dualformer-demo-T0_0.75-S2_0.74.safetensors",
        "dualformer-demo-8x4-T0_0.75-S2_0.74.safetensors",
    ]
    fewer = dx.load(distilled.students[1].path)
    clip = fewer.module.config.preprocessing
    assert (clip.frames, clip.stride, fewer.name) == (8, 4, "dualformer-n-8x4-T0_0.75-S2_0.74")
    assert fewer.module(torch.zeros(1, *fewer.module.config.clip_shape)).isfinite().all()


@pytest.mark.slow
def test_a_frozen_network_stays_as_it_was(teacher: Network, videos: Path, tmp_path: Path) -> None:
    options = replace(SHORT, freeze=True, steps=2)
    dx.distill(teacher, dx.Clips(videos), tmp_path / "frozen.safetensors", options)
    trained, given = load_file(tmp_path / "frozen.safetensors"), teacher.module.state_dict()
    assert all(torch.equal(trained[name], value) for name, value in given.items())
    assert len(trained) > len(given)


@pytest.mark.slow
def test_a_budget_ends_a_run(teacher: Network, videos: Path, tmp_path: Path) -> None:
    options = replace(SHORT, steps=10_000, budget_s=1.0)
    (student,) = dx.distill(teacher, dx.Clips(videos), tmp_path / "half.safetensors", options).students
    assert 1 <= student.steps < 100
    assert student.curve[-1].step == student.steps


@pytest.mark.slow
def test_two_processes_draw_the_same_curve(teacher: Network, videos: Path, tmp_path: Path) -> None:
    dx.distill(teacher, dx.Clips(videos), tmp_path / "one.safetensors", replace(SHORT, steps=2))
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    options = ("--stts", "T0:0.5", "--steps", "2", "--batch", "2", "--rate", "2e-5")
    paths = ("--model", "demo", "--clips", videos, "--output", tmp_path / "two.safetensors")
    done = subprocess.run(
        [*command, "-m", "dualexport", "distill", *options, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two.safetensors") == 2  # one process prints: a row, and what comes next
    curves = [read_curve(tmp_path / f"{name}.csv") for name in ("one", "two")]
    for column in ("training_loss", "loss"):
        alone, shared = ([float(point[column]) for point in curve] for curve in curves)
        assert shared == pytest.approx(alone, rel=1e-3)


def refuse(teacher: Network, source: Path | str, folder: Path, **changes: object) -> DualExportError:
    """The error of a run, which leaves nothing behind."""
    before = set(folder.iterdir())
    options = replace(SHORT, **changes)  # type: ignore[arg-type]
    with pytest.raises(DualExportError) as error:
        dx.distill(teacher, dx.Clips(source), folder / "half.safetensors", options)
    assert set(folder.iterdir()) == before
    assert error.value.fix
    return error.value


def test_what_cannot_be_trained_on_is_refused(teacher: Network, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert isinstance(refuse(teacher, tmp_path / "empty", tmp_path), ClipError)
    assert "6 clips to train on, a batch takes 7" in str(refuse(teacher, videos, tmp_path, batch=7))
    broken = tmp_path / "broken"
    broken.mkdir()
    for number in range(4):
        (broken / f"{number}.mp4").write_text("no video")
    assert ".mp4" in str(refuse(teacher, broken, tmp_path))
    (tmp_path / "list.csv").write_text(f"path,label\n{videos},unheard of\n")
    assert isinstance(refuse(teacher, tmp_path / "list.csv", tmp_path), LabelError)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"selections": ()}, "nothing is to be distilled"),
        ({"selections": (), "frames": (8,), "freeze": True}, "learn nothing"),
        ({"frames": (7,)}, "7 frames"),
        ({"frames": (8,), "stride": 3}, "not among the 16 of stride 2"),
        ({"selections": ("T0:0.5", "T0:0.75")}, "2 students do not go into one file"),
        ({"rate": 0.0}, "not above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(
    teacher: Network, videos: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    error = refuse(teacher, videos, tmp_path, **changes)
    assert words in str(error)
    assert isinstance(error, (OptionError, ValueError))


@pytest.mark.slow
@pytest.mark.usefixtures("saves_always")
def test_a_full_disk_leaves_the_former_state(
    teacher: Network, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        if path.suffix == ".state" and (tmp_path / path.name).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OutputError, match="No space left on device") as error:
        dx.distill(teacher, dx.Clips(videos), tmp_path / "half.safetensors", SHORT)
    assert "make room" in error.value.fix
    monkeypatch.undo()
    notes: list[str] = []
    dx.distill(teacher, dx.Clips(videos), tmp_path / "half.safetensors", SHORT, notify=notes.append)
    assert notes == ["going on at step 1 of 4"]


def test_a_file_that_is_no_state_is_refused(teacher: Network, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "half.state").write_text("no state")
    assert "is not the state of a distillation" in str(refuse(teacher, videos, tmp_path))

"""`dualexport distill` on the command line: what it takes, and what it prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from dualexport.clips.synthetic import generated_clips
from dualexport.commands.distill import parse_duration
from dualexport.core.types import Preprocessing
from support.cli import assert_refused, run


def test_a_duration_has_a_unit() -> None:
    assert [parse_duration(text) for text in ("90s", "30m", "2h")] == [90, 1800, 7200]
    for text in ("30", "m", "0s", "-1m", "1.5h", "٣m"):
        with pytest.raises(typer.BadParameter, match="no duration"):
            parse_duration(text)


@pytest.mark.parametrize("teacher", [(), ("--model", "n"), ("--model", "demo", "--checkpoint", "x.pth")])
def test_the_teacher_is_one(teacher: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "distill", *teacher, "--stts", "T0:0.5", "--clips", "videos")
    assert (code, out) == (2, "")
    assert "give the teacher" in err


def test_a_folder_without_videos_is_refused_in_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", "demo", "--stts", "T0:0.5", "--output", tmp_path / "half.safetensors")
    assert_refused(run(capsys, "distill", *options, "--clips", tmp_path), "no video in this folder")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "clips.npy", np.stack([clip.data for clip in generated_clips(4, Preprocessing(frames=16))]))
    output = tmp_path / "half.safetensors"
    options = ("--model", "demo", "--stts", "T0:0.5", "--freeze", "--steps", "1", "--batch", "2", "--output", output)
    code, out, _ = run(capsys, "distill", *options, "--clips", tmp_path / "clips.npy")
    assert code == 0
    assert out.splitlines()[-1] == f"next: dualexport onnx --checkpoint {output}"
    code, out, _ = run(capsys, "onnx", "--checkpoint", output, "--stts", "T0:0.75")
    assert code == 1

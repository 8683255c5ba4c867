"""`dualexport predict`: what is said where the words on the command line stand in the wrong places."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import assert_refused, run


def test_arguments_in_the_wrong_places_are_told_apart(
    exported: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "predict", exported)
    assert (code, f"{exported} is an exported network: give a " in err) == (2, True)
    code, _, err = run(capsys, "predict", video, exported)
    assert (code, f"the folder comes first: {exported} {video}" in err) == (2, True)
    code, _, err = run(capsys, "predict", video, video)
    assert (code, "is no exported folder: one " in err) == (2, True)
    code, _, err = run(capsys, "predict", exported, video, video)
    assert (code, "give a folder and a " in err) == (2, True)


def test_what_is_missing_is_named(
    exported: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(run(capsys, "predict", exported, tmp_path / "empty"), "no video in this folder")
    assert_refused(run(capsys, "predict", tmp_path / "empty", video), "empty/manifest.json: no such file")
    assert_refused(run(capsys, "predict", exported, video, "--labels", tmp_path / "gone.txt"), "gone.txt")
    assert_refused(run(capsys, "predict", exported, tmp_path / "gone.mp4"), "gone.mp4: no such file")

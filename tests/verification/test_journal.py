"""What a broken-off run left is taken up to the last bit, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dualexport.core.errors import OutputError
from dualexport.verification.compare import GroupLogits
from dualexport.verification.journal import Journal, name_journal
from dualexport.verification.portions import PortionLogits
from dualexport.verification.tally import View

RUN = {"network": "n", "views": 2}
KEYS = ["a", "b", "c"]


def portion(number: int) -> PortionLogits:
    values = np.random.default_rng(number).standard_normal((2, 2, 5)).astype(np.float32)
    values[1, 0, 0] = np.nan
    clips = (View(f"{number}.mp4", 0, "run"), View(f"{number}.mp4", 1))
    group = GroupLogits(clips, values[0], {"x.onnx": values[1]}, {"y.onnx": "no memory"}, (b"\1" * 32, b""))
    return PortionLogits((group,), ((f"skipped {number}", "no video"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with three results."""
    with Journal(tmp_path / "j", RUN) as journal:
        for number, key in enumerate(KEYS):
            journal.append(key, portion(number))
    return tmp_path / "j"


def replay(path: Path, keys: list[str], run: dict[str, object] = RUN) -> list[str]:
    """The names of the clips that are taken up."""
    with Journal(path, run) as journal:
        results = list(journal.replay(keys))
        assert journal.clips == sum(result.clips for result in results)
    return [result.groups[0].clips[0].name for result in results]


def test_every_bit_comes_back(path: Path) -> None:
    with Journal(path, RUN) as journal:
        for number, result in enumerate(journal.replay(KEYS)):
            wanted = portion(number)
            (group,), (expected,) = result.groups, wanted.groups
            assert (result.skipped, group.clips, group.frames) == (wanted.skipped, expected.clips, expected.frames)
            assert group.reference.tobytes() == expected.reference.tobytes()
            assert group.artifacts["x.onnx"].tobytes() == expected.artifacts["x.onnx"].tobytes()
            assert group.failures == expected.failures
        assert number == 2


def test_a_torn_record_is_dropped_and_writing_goes_on_in_its_place(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])
    with Journal(path, RUN) as journal:
        assert len(list(journal.replay(KEYS))) == 2
        journal.append("c", portion(7))
    assert replay(path, KEYS) == ["0.mp4", "1.mp4", "7.mp4"]


def test_a_changed_byte_ends_what_is_taken_up(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # in the second record
    path.write_bytes(bytes(data))
    assert replay(path, KEYS) == ["0.mp4"]


def test_other_videos_are_computed_and_another_run_starts_anew(path: Path) -> None:
    assert replay(path, ["a", "other", "c"]) == ["0.mp4"]
    other = {**RUN, "views": 3}
    assert name_journal(other) != name_journal(RUN)
    assert replay(path, KEYS, other) == []
    assert not path.exists()


def test_two_runs_do_not_write_one_journal(path: Path) -> None:
    with Journal(path, RUN), pytest.raises(OutputError, match="another run writes it"):
        Journal(path, RUN)

"""Damaged files of every kind are taken or refused in two lines; scripts/fuzz goes on from here with other seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .commands import COMMANDS
from .contract import check_contract, check_mutations
from .targets import TARGETS

OTHERS = (
    *(b"", b"\0", b"\xff\xfe", b"{}", b"[]", b"[" * 100_000),
    *(b"PK\3\4", b"\x1f\x8b\x08", b"\x93NUMPY\1\0\xff\xff", b"a,b\n" * 9),
)
COMMAND_INPUTS = 5
INPUTS = 20  # of each kind; with those of the other tests here about 400 in a minute


@pytest.mark.parametrize("kind", TARGETS)
def test_a_valid_file_is_taken(tmp_path: Path, kind: str) -> None:
    if "list" in kind:
        pytest.skip("the videos it names hold nothing")
    if not TARGETS[kind].is_taken:
        pytest.skip("a whole network would be too large")
    path = TARGETS[kind].make(tmp_path)
    assert check_contract(TARGETS[kind], path.read_bytes(), path) is None


@pytest.mark.parametrize("kind", TARGETS)
def test_damaged_files_are_taken_or_refused_in_two_lines(tmp_path: Path, kind: str) -> None:
    check_mutations(TARGETS[kind], tmp_path, seed=0, count=INPUTS)


@pytest.mark.parametrize("kind", COMMANDS)
def test_commands_take_damaged_files_or_refuse_them_in_two_lines(tmp_path: Path, kind: str) -> None:
    check_mutations(COMMANDS[kind], tmp_path, seed=0, count=COMMAND_INPUTS)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("content", OTHERS, ids=lambda content: repr(content[:8]))
def test_other_files_are_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    if kind in ("limits", "class names", "labels", "stored logits"):  # some of these are such files
        pytest.skip("text of that kind may say this")
    path = TARGETS[kind].make(tmp_path)
    assert check_contract(TARGETS[kind], content, path) is not None

"""Addresses as users give them, and the names that they are shown by."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.clips.addresses import is_live, parse_sources, read_source_list
from dualexport.core.errors import DualExportError


def test_what_is_live() -> None:
    assert all(map(is_live, ("0", "rtsp://camera/1", "tcp://camera:1")))
    assert not any(map(is_live, ("a.mp4", "file:a.mp4", "folder/0")))


def test_a_source_has_the_name_that_it_is_given_and_otherwise_its_address_without_a_password(video: Path) -> None:
    sources = parse_sources(("door=rtsp://a:b@camera/1", "rtsp://a:b@camera/2?x=1", "rtsp://camera/2?x=1", str(video)))
    names = ["door", "rtsp://camera/2?x=1", "rtsp://camera/2?x=1 (2)", str(video)]
    assert [source.name for source in sources] == names
    assert sources[0].address == "rtsp://a:b@camera/1"


def test_a_file_with_an_equals_sign_in_its_name_is_a_file(video: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a=b.mp4"
    odd.write_bytes(video.read_bytes())
    (source,) = parse_sources([str(odd)])
    assert source.path == odd


@pytest.mark.parametrize("text", ["ftp://camera/1", "gone.mp4", "door=gone.mp4"])
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(DualExportError, match=r"is not read|no such file"):
        parse_sources([text])


def test_a_list_holds_one_source_a_line(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("# the yard\nyard=0\n\n rtsp://camera/1 \n")
    assert read_source_list(tmp_path / "cameras.txt") == ("yard=0", "rtsp://camera/1")

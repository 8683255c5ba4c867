"""A folder is always the old one or the new one, whenever its writer is killed and whoever else writes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dualexport.core import files
from dualexport.core.errors import OutputError
from dualexport.core.files import staged_path, staged_set

NAMES = ("a.onnx", "b.safetensors", "manifest.json")

# A writer that dies as by kill -9 at its Nth rename or sync: without a chance to clean up, its locks gone.
DYING_WRITER = """
import os, sys
from pathlib import Path
from dualexport.core.files import staged_set

left = int(sys.argv[2])
def dying(call):
    def counted(*given, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(137)
        return call(*given, **named)
    return counted
for name in ("replace", "rename", "fsync", "rmdir", "unlink", "chmod"):
    setattr(os, name, dying(getattr(os, name)))
with staged_set(Path(sys.argv[1])) as staged:
    for name in sys.argv[3].split(","):
        staged.path(name).write_text("new")
"""


def put(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> None:
    with staged_set(folder) as staged:
        for name in names:
            staged.path(name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=["a set", "one file"])
def test_a_writer_killed_at_any_moment_leaves_the_old_files_or_the_new(tmp_path: Path, names: tuple[str, ...]) -> None:
    for moment in range(100):
        folder = tmp_path / str(moment)
        put(folder, "old", names)
        command = [sys.executable, "-c", DYING_WRITER, str(folder), str(moment), ",".join(names)]
        code = subprocess.run(command, check=False).returncode
        put(folder, "other", ("other.txt",))  # the next run
        found = read(folder)
        assert found.pop("other.txt") == "other"
        assert found in (dict.fromkeys(names, "old"), dict.fromkeys(names, "new")), moment
        if code == 0:
            assert moment >= len(names)
            return
        assert code == 137
    pytest.fail("the writer never ended")


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    with staged_set(tmp_path) as first:
        first.path("x").write_text("first")
        put(tmp_path, "second", ("y",))
    assert read(tmp_path) == {"x": "first", "y": "second"}


def test_a_folder_is_kept_from_others_while_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    with staged_set(tmp_path) as staged:
        staged.lock()
        with pytest.raises(OutputError, match="another run is writing there"):
            put(tmp_path, "other")
        staged.path("x").write_text("mine")
    assert read(tmp_path) == {"x": "mine"}


def test_counters_that_are_read_and_written_back_under_the_lock_lose_nothing(tmp_path: Path) -> None:
    def add() -> None:
        for _ in range(10):
            with staged_set(tmp_path) as staged:
                staged.lock()
                counter = tmp_path / "manifest.json"
                count = int(counter.read_text()) if counter.exists() else 0
                staged.path("manifest.json").write_text(str(count + 1))
                staged.path("a.onnx").write_text("")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(tmp_path) == {"manifest.json": "40", "a.onnx": ""}


def test_a_failure_leaves_neither_files_nor_folders(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged_path(tmp_path / "new" / "folder" / "x") as staged:
        staged.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("final", ["/dev/null", "{folder}", "{folder}/file/x", "{folder}/" + "x" * 300])
def test_what_cannot_be_written_is_refused(tmp_path: Path, final: str) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(OutputError), staged_path(Path(final.format(folder=tmp_path))) as staged:
        staged.write_text("")
    assert read(tmp_path) == {"file": "here"}


def test_private_temporary_files_of_libraries_get_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with staged_path(tmp_path / "x") as staged:
        staged.touch(0o600)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_a_link_to_the_file_that_is_there_takes_its_place(tmp_path: Path, names: tuple[str, ...]) -> None:
    for _ in range(2):
        with staged_set(tmp_path / "to") as staging:
            for name in names:
                (tmp_path / name).write_text(name)
                staging.path(name).hardlink_to(tmp_path / name)
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == list(names)

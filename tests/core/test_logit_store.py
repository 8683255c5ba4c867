"""Logits that a broken-off run left are taken up to the last bit, or not at all; a stranger's file runs nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from dualexport.core.errors import OutputError, RunnerError
from dualexport.core.logit_store import LogitStore, ReferenceInfo, StoredLogits, key_of, name_store
from dualexport.core.types import Array

RUN = {"network": "n", "views": 2}
KEYS = ["a", "b", "c"]
ABOUT = ReferenceInfo.of({"size": "n", "mean": (1.5, 2.5)}, "PyTorch 2", 5)


def rows(number: int) -> dict[bytes, Array]:
    return {bytes([number]) * 32: np.full(5, number + 0.1, np.float32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with three results."""
    with LogitStore(tmp_path / "s", RUN) as store:
        for number, key in enumerate(KEYS):
            store.append(key, f"result {number}".encode(), rows(number))
    return tmp_path / "s"


def replay(path: Path, keys: list[str], run: dict[str, object] = RUN) -> list[bytes]:
    with LogitStore(path, run) as store:
        return list(store.replay(keys))


def test_what_was_written_comes_back_and_writing_goes_on_behind_it(path: Path) -> None:
    with LogitStore(path, RUN) as store:
        assert list(store.replay(KEYS)) == [b"result 0", b"result 1", b"result 2"]
        store.append("d", b"result 3", {})
    assert replay(path, [*KEYS, "d"])[3] == b"result 3"


@pytest.mark.slow
def test_a_killed_process_leaves_all_that_it_had_written(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from dualexport.core.logit_store import LogitStore\n"
        "store = LogitStore(Path(sys.argv[1]), {})\n"
        "for key in 'ab': store.append(key, key.encode() * 100_000, {})\n"
        "store._connection.execute('BEGIN'); store._connection.execute('DELETE FROM result')\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=False)
    assert done.returncode == -9
    assert replay(tmp_path / "s", ["a", "b"], {}) == [b"a" * 100_000, b"b" * 100_000]


def test_other_videos_are_computed_and_what_was_behind_them_is_dropped(path: Path) -> None:
    assert replay(path, ["a", "other", "c"]) == [b"result 0"]
    assert replay(path, KEYS) == [b"result 0"]
    assert name_store({**RUN, "views": 3}) != name_store(RUN)


def test_a_changed_byte_ends_what_is_taken_up(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b"result 1") == 1
    path.write_bytes(data.replace(b"result 1", b"result 7"))
    assert replay(path, KEYS) == [b"result 0"]


@pytest.mark.parametrize("content", [b"no database" * 1000, b"", b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_store_begins_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with LogitStore(tmp_path / "s", RUN) as store:
        assert list(store.replay(KEYS)) == []
        store.append("a", b"result", {})
    assert replay(tmp_path / "s", KEYS) == [b"result"]


def test_two_runs_do_not_write_one_file(path: Path) -> None:
    with LogitStore(path, RUN), pytest.raises(OutputError, match="another run writes it"):
        LogitStore(path, RUN)


def test_a_run_without_a_result_leaves_no_file(tmp_path: Path) -> None:
    with LogitStore(tmp_path / "s", RUN):
        pass
    assert not list(tmp_path.iterdir())


def test_logits_are_found_by_frames_in_memory_and_in_what_is_published(path: Path, tmp_path: Path) -> None:
    published = tmp_path / "reference.logits"
    with LogitStore(path, RUN) as store:
        store.publish(published, ABOUT)
    with LogitStore(None, {}) as store:
        store.add(rows(7))
        assert store.find(bytes([7]) * 32) == pytest.approx(np.full(5, 7.1))
        store.publish(published, ABOUT)  # a later run of the same reference
    with closing(StoredLogits(published)) as stored:
        assert stored.about == ABOUT
        for number in (0, 1, 2, 7):
            ((frames, row),) = rows(number).items()
            found = stored.find(frames)
            assert found is not None
            assert found.tobytes() == row.tobytes()
        assert stored.find(b"x" * 32) is None
    with LogitStore(None, {}) as store:
        store.add(rows(8))
        store.publish(published, ReferenceInfo.of(ABOUT.network, "PyTorch 3", 5))
    with closing(StoredLogits(published)) as stored:
        assert stored.find(bytes([0]) * 32) is None, "of another PyTorch"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["reference.logits", "s"]


def test_a_stored_reference_that_is_none_or_holds_more_than_tables_is_refused(path: Path, tmp_path: Path) -> None:
    published = tmp_path / "reference.logits"
    with pytest.raises(FileNotFoundError, match="no such file"):
        StoredLogits(published)
    published.write_bytes(b'{"format": 1}\n')  # as versions before 0.2 wrote it
    with pytest.raises(RunnerError, match="not a stored reference"):
        StoredLogits(published)
    published.unlink()
    with LogitStore(path, RUN) as store:
        store.publish(published, ABOUT)
    with closing(sqlite3.connect(published)) as connection:
        connection.execute("UPDATE logits SET row = zeroblob(24)")
        connection.commit()
    with closing(StoredLogits(published)) as stored:
        assert stored.find(bytes([0]) * 32) is None, "a row of another size is not read"
    with closing(sqlite3.connect(published)) as connection:
        connection.execute("UPDATE logits SET row = ?", (np.full(5, np.nan, "<f4").tobytes(),))
        connection.commit()
    with closing(StoredLogits(published)) as stored, pytest.raises(RunnerError, match="no finite numbers"):
        stored.find(bytes([0]) * 32)
    with closing(sqlite3.connect(published)) as connection:
        connection.execute("DROP TABLE logits")
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS frames, i AS row FROM n"
        connection.execute(f"CREATE VIEW logits AS {endless}")
        connection.commit()
    with pytest.raises(RunnerError, match="another format"):
        StoredLogits(published)


def test_the_key_is_of_the_frames_in_their_order() -> None:
    clip = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    assert key_of(clip) == key_of(np.asfortranarray(clip))
    assert key_of(clip) != key_of(clip[:, ::-1])

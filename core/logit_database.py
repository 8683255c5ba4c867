"""The SQLite file of a logit store: its tables, and how it is opened alone, or read without a lock."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from .errors import OutputError

APPLICATION, VERSION = 0x6475616C, 2  # "dual"; version 1 was no database
TABLES = (
    "CREATE TABLE about (text TEXT NOT NULL)",
    "CREATE TABLE result (number INTEGER PRIMARY KEY, key TEXT NOT NULL, crc INTEGER NOT NULL, content BLOB NOT NULL)",
    "CREATE TABLE logits (frames BLOB PRIMARY KEY, row BLOB NOT NULL)",
)


def create(path: Path | str, about: str) -> sqlite3.Connection:
    """Make a new file, or with an empty path a temporary one, without the safety of what others may read meanwhile."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    _make_tables(connection, about)
    return connection


def _make_tables(connection: sqlite3.Connection, about: str) -> None:
    for statement in (f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION}", *TABLES):
        connection.execute(statement)
    connection.execute("INSERT INTO about VALUES (?)", (about,))


def connect_alone(path: Path | None, about: str) -> sqlite3.Connection:
    """Open the file for this process alone; one that is damaged, or of another run, begins anew."""
    if path is None:
        return create("", about)
    if os.path.lexists(path) and not path.is_file():
        raise OutputError(f"cannot write {path}: it is no regular file", fix="remove it")
    with refusing(path):
        for attempt in range(2):
            connection = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("BEGIN EXCLUSIVE")
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                    _make_tables(connection, about)
                _require_ours(connection)
                if connection.execute("SELECT text FROM about").fetchone() != (about,):
                    raise sqlite3.DatabaseError("of another run")
                connection.execute("COMMIT")
            except sqlite3.OperationalError:
                connection.close()
                raise
            except sqlite3.DatabaseError:
                connection.close()
                if attempt:
                    raise
                path.unlink()
            else:
                return connection
    raise AssertionError


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open without locks and without what may lie beside the file: it is written whole, and never changed."""
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        _require_ours(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_ours(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError for a database that is not exactly these tables: no view, no trigger, no virtual table."""
    numbers = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    found = connection.execute("SELECT substr(sql, 1, 999) FROM sqlite_master WHERE sql IS NOT NULL LIMIT 9").fetchall()
    if numbers != [APPLICATION, VERSION] or {sql for (sql,) in found} != set(TABLES):
        raise sqlite3.DatabaseError("it has another format")


@contextmanager
def refusing(path: Path | None) -> Iterator[None]:
    """Translate the errors of writing into an OutputError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
        raise OutputError(
            f"cannot write {path or 'a temporary file'}: {'another run writes it' if busy else error}",
            fix="wait for the other run" if busy else "make room there",
        ) from error

"""One SQLite file of a known format: made whole, opened only when it is what it should be."""

import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from attrs import field, frozen

from compute_bridge.model.errors import ComputeBridgeError


def _nothing(_connection: sqlite3.Connection) -> object:
    return None


@frozen
class SqliteFormat:
    """What a file must be. ``application_id`` marks the format, ``version`` its schema.

    ``migrations`` holds, for each older version that can still be opened, the statements that lead to the next
    one. ``check`` raises if the content does not hold, and returns what no migration may change.
    """

    what: str
    application_id: int
    version: int
    schema: str
    error: type[ComputeBridgeError]
    migrations: Mapping[int, Sequence[str]] = field(factory=dict)
    check: Callable[[sqlite3.Connection], object] = _nothing


def create_file(path: Path, file_format: SqliteFormat) -> None:
    """Make the file with its schema unless it is there; it appears whole or not at all, with mode 0600.

    A missing folder is made with mode 0700. Two processes may do this at once.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            return
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        try:
            _write_schema(draft, file_format)
            _publish(draft, path)
        except sqlite3.Error as error:
            raise explain(path, file_format, error) from error
        finally:
            draft.unlink()
    except OSError as error:
        raise file_format.error(
            f"{file_format.what} {path}: cannot be made ({error}); give a folder that this user may write to"
        ) from error


def _write_schema(draft: Path, file_format: SqliteFormat) -> None:
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.executescript(
            f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN; {file_format.schema};"
            f"PRAGMA application_id={file_format.application_id};"
            f"PRAGMA user_version={file_format.version}; COMMIT;"
        )


def _publish(draft: Path, path: Path) -> None:
    try:
        # A link, not a rename: it never replaces a file that another process has made meanwhile.
        os.link(draft, path)
    except FileExistsError:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_file(
    path: Path, file_format: SqliteFormat, *, busy_ms: int, writes: bool, older: bool = False
) -> sqlite3.Connection:
    """Return a connection in autocommit that any one thread may use.

    A writer's commits reach the disk (WAL, ``synchronous=FULL``). ``busy_ms`` bounds the wait for the lock
    of another process. ``older`` takes a file of any version that could be migrated, as it is.

    :raises ComputeBridgeError: the format's error, if the file is missing, of another kind, of another
        version, or damaged in its head.
    """
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=busy_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # A damaged text is told by whoever reads it, not by Python with the text in its message.
            connection.text_factory = partial(str, encoding="utf-8", errors="replace")
            check_format(connection, path, file_format, older=older)
            connection.execute("PRAGMA synchronous=FULL" if writes else "PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explain(path, file_format, error) from error
    return connection


def check_format(connection: sqlite3.Connection, path: Path, file_format: SqliteFormat, *, older: bool) -> int:
    """Return the schema version of the file: this release's or, if ``older``, one that leads to it.

    :raises ComputeBridgeError: the format's error, if the file is of another kind, or of no such version.
    """
    where = f"{file_format.what} {path}"
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mark != file_format.application_id:
        raise file_format.error(f"{where}: is not a {file_format.what} file of compute-bridge; name another path")
    if version > file_format.version:
        raise file_format.error(
            f"{where}: has schema version {version}, this release knows {file_format.version}; "
            "upgrade compute-bridge, or go back to the release that wrote it"
        )
    if version < file_format.version and not (older and version in file_format.migrations):
        raise file_format.error(
            f"{where}: has schema version {version}, this release needs {file_format.version}; "
            "open it once with the release that migrates it"
        )
    if mode != "wal":
        raise file_format.error(f"{where}: its journal mode is {mode}, not wal; keep it on a local disk, as it was")
    return int(version)


def explain(path: Path, file_format: SqliteFormat, error: sqlite3.Error) -> ComputeBridgeError:
    """Return SQLite's error in the format's class, with the file and the mend."""
    return file_format.error(f"{file_format.what} {path}: {error}; {_mend(primary_code(error))}")


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 when Python itself refused."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _mend(code: int) -> str:
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process holds it; end that process or wait for it"
    if code == sqlite3.SQLITE_FULL:
        return "make room on the disk"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        return "see that the file is there and that this user may write to it and to its folder"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "the file is damaged: keep it for inspection and restore a copy"
    if code == sqlite3.SQLITE_IOERR:
        # SQLite says this too where there is no room for the memory that its processes share.
        return "make room on the disk if it is full, or else check it"
    return "open it again; if that does not help, report it"

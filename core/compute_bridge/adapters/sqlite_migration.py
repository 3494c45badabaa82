"""One SQLite file led from an older schema to this release's: whole or not at all, with a copy kept beside it."""

import filecmp
import itertools
import logging
import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from compute_bridge.adapters.sqlite_file import SqliteFormat, check_format, explain, open_file

logger = logging.getLogger(__name__)


def migrate_file(path: Path, file_format: SqliteFormat, *, busy_ms: int) -> None:
    """Lead the file to the format's version in one transaction; a file that is there already is left alone.

    Before that a consistent copy is kept beside it: ``<name>.v1`` for version 1, or ``<name>.v1-2`` and so on where
    that name holds other content. What was kept once is never replaced. The format's check must pass before and
    after, and return the same; whatever fails leaves the file as it was.

    :raises ComputeBridgeError: the format's error, if the file cannot be migrated.
    """
    try:
        with closing(open_file(path, file_format, busy_ms=busy_ms, writes=True, older=True)) as db:
            if check_format(db, path, file_format, older=True) < file_format.version:
                _migrate(db, path, file_format)
                logger.info("%s %s: migrated to version %d", file_format.what, path, file_format.version)
    except sqlite3.Error as error:
        raise explain(path, file_format, error) from error
    except OSError as error:
        raise file_format.error(
            f"{file_format.what} {path}: no copy of it can be kept ({error}), so it is not migrated; make room beside "
            "it, in a folder of this user"
        ) from error


def _migrate(db: sqlite3.Connection, path: Path, file_format: SqliteFormat) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have been faster.
        version = check_format(db, path, file_format, older=True)
        if version == file_format.version:
            return
        before = file_format.check(db)
        copy = _keep_copy(path, version)
        logger.info("%s %s: version %d is kept as %s", file_format.what, path, version, copy.name)
        for step in range(version, file_format.version):
            for statement in file_format.migrations[step]:
                db.execute(statement)
        db.execute(f"PRAGMA user_version={file_format.version}")
        if file_format.check(db) != before:
            raise file_format.error(
                f"{file_format.what} {path}: its migration would change its content, so it was undone; go back to "
                "the release that wrote it, and report this"
            )
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _keep_copy(path: Path, version: int) -> Path:
    """Copy what is committed, while the caller keeps all others from writing."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        # SQLite copies nothing over a connection that is writing, so another one reads.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            source.backup(copy)
            # So that the copy, put back under the old name, opens as the file did.
            copy.execute("PRAGMA journal_mode=WAL")
        _sync(draft)
        return _publish_copy(draft, path, version)
    finally:
        draft.unlink()


def _publish_copy(draft: Path, path: Path, version: int) -> Path:
    for number in itertools.count(1):
        copy = path.with_name(f"{path.name}.v{version}" + (f"-{number}" if number > 1 else ""))
        try:
            os.link(draft, copy)
        except FileExistsError:
            # A start that was killed has kept it already; what differs is kept beside it.
            if filecmp.cmp(draft, copy, shallow=False):
                break
            continue
        break
    _sync(path.parent)
    return copy


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

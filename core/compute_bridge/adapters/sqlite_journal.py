"""The journal in one SQLite file that one bridge holds."""

import os
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from attrs import frozen

from compute_bridge.adapters import sqlite_chain as chain
from compute_bridge.adapters.file_lock import FileHeldError, FileLock
from compute_bridge.adapters.sqlite_file import create_file, explain, open_file, primary_code
from compute_bridge.adapters.sqlite_worker import SqliteReader, SqliteWriter
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import (
    GENESIS,
    EventDraft,
    Journal,
    JournalEvent,
    JournalUnwritableError,
    LeaseRow,
)

#: How long a write waits for whoever else locks the file, such as a copying tool, before it gives up.
BUSY_MS: Final = 5_000

_PAGE: Final = 1_000
# A disk that takes longer than this is taken for failed; SQLite itself never gives up on it.
_PATIENCE_S: Final = 60.0

_UNWRITABLE: Final = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_PERM: "read-only",
    sqlite3.SQLITE_CANTOPEN: "read-only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_IOERR: "io",
}


@frozen
class _Parts:
    lock: FileLock
    writer: sqlite3.Connection
    reader: sqlite3.Connection


class SqliteJournal(Journal):
    """The open journal; made by :func:`open_sqlite_journal`. Events of concurrent tasks share a commit."""

    def __init__(self, path: Path, clock: Clock, parts: _Parts) -> None:
        self._path = path
        self._clock = clock
        self._lock = parts.lock
        self._writer = SqliteWriter(parts.writer, "journal-writer", partial(_explain_write, path))
        self._reader = SqliteReader(parts.reader, "journal-reader", partial(explain, path, chain.JOURNAL_FILE))

    @property
    def commits(self) -> int:
        """How many transactions were committed since it was opened."""
        return self._writer.commits

    async def aclose(self) -> None:
        """Finish what was asked, end the threads and give the file back."""
        with anyio.CancelScope(shield=True):
            await self._writer.aclose()
            await self._reader.aclose()
            self._lock.release()

    async def record(self, *drafts: EventDraft) -> tuple[JournalEvent, ...]:
        """Append in one transaction; a disk that is silent for a minute counts as failed."""
        at_ms = self._clock.utc_ms()
        with anyio.move_on_after(_PATIENCE_S, shield=True):
            return await self._writer.run(lambda db: chain.record(db, drafts, at_ms))
        raise JournalUnwritableError(
            f"journal {self._path}: the disk did not answer within {_PATIENCE_S} s; check it", reason="io"
        )

    async def events(
        self, *, after: int = 0, lease: bytes | None = None, limit: int = 1000
    ) -> tuple[JournalEvent, ...]:
        """Read by sequence, or by the index of leases."""
        return await self._reader.run(lambda db: chain.events(db, after, lease, limit))

    async def blob(self, sequence: int) -> bytes | None:
        """Read the blob and compare it with the chain."""
        return await self._reader.run(lambda db: chain.blob(db, sequence))

    async def head(self) -> tuple[int, bytes]:
        """Read the last row."""
        return await self._reader.run(chain.head)

    async def verify(self) -> None:
        """Walk the chain by pages, so that other readers get their turn."""
        after, previous, more = 0, GENESIS, True
        while more:
            after, previous, more = await self._reader.run(partial(_verify_page, after=after, previous=previous))
        await self._reader.run(chain.verify_leases)

    async def rebuild(self) -> None:
        """Rewrite the projection in one transaction."""
        await self._writer.run(chain.rebuild)

    async def lease_states(self, *, excluding: Collection[str] = ()) -> tuple[LeaseRow, ...]:
        """Read the projection."""
        return await self._reader.run(lambda db: chain.lease_states(db, frozenset(excluding)))


def _verify_page(db: sqlite3.Connection, *, after: int, previous: bytes) -> tuple[int, bytes, bool]:
    return chain.verify_page(db, after, previous, _PAGE)


@asynccontextmanager
async def open_sqlite_journal(
    path: Path, clock: Clock, *, create: bool = False, max_bytes: int | None = None, busy_ms: int = BUSY_MS
) -> AsyncIterator[SqliteJournal]:
    """Open the journal and hold it against every other bridge; beside it stands ``<path>.lock``.

    A missing file is made, with mode 0600, only when ``create`` is true: a bridge that has lost its journal
    must not begin a new one by itself. SQLite's own pages are checked here, the chain by ``verify``.
    ``max_bytes`` bounds the file; beyond it the journal counts as full.

    :raises JournalError: if the file is missing, held, damaged, another kind of file, or of another release.
    """
    parts = await anyio.to_thread.run_sync(partial(_open, path, create=create, max_bytes=max_bytes, busy_ms=busy_ms))
    journal = SqliteJournal(path, clock, parts)
    try:
        yield journal
    finally:
        await journal.aclose()


def _open(path: Path, *, create: bool, max_bytes: int | None, busy_ms: int) -> _Parts:
    if not create and not os.path.lexists(path):
        raise JournalError(f"journal {path}: is missing; put it back, or name an empty folder as bridge.state_dir")
    with ExitStack() as undo:
        if create:
            create_file(path, chain.JOURNAL_FILE)
        lock = _take_lock(path)
        undo.callback(lock.release)
        writer = open_file(path, chain.JOURNAL_FILE, busy_ms=busy_ms, writes=True)
        undo.callback(writer.close)
        reader = open_file(path, chain.JOURNAL_FILE, busy_ms=busy_ms, writes=False)
        undo.callback(reader.close)
        _check_pages(path, reader)
        if max_bytes is not None:
            (page_size,) = writer.execute("PRAGMA page_size").fetchone()
            writer.execute(f"PRAGMA max_page_count={max(max_bytes // page_size, 1)}")
        undo.pop_all()
    return _Parts(lock, writer, reader)


def _take_lock(path: Path) -> FileLock:
    try:
        return FileLock(path)
    except FileHeldError as error:
        holder = f"process {error.pid}" if error.pid else "another process"
        raise JournalError(
            f"journal {path}: is held by {holder}; two bridges cannot share one: stop that one, or name another path"
        ) from error
    except OSError as error:
        raise JournalError(
            f"journal {path}: cannot be locked ({error}); keep it on a local disk, in a folder of this user"
        ) from error


def _check_pages(path: Path, reader: sqlite3.Connection) -> None:
    try:
        (found,) = reader.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise explain(path, chain.JOURNAL_FILE, error) from error
    if found != "ok":
        raise JournalError(f"journal {path}: SQLite finds it damaged ({' '.join(found.split())}); {chain.DAMAGED}")


def _explain_write(path: Path, error: sqlite3.Error) -> JournalError:
    explained = str(explain(path, chain.JOURNAL_FILE, error))
    reason = _UNWRITABLE.get(primary_code(error))
    return JournalUnwritableError(explained, reason=reason) if reason else JournalError(explained)

"""The journal in one SQLite file that one bridge holds."""

import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from attrs import evolve, frozen

from compute_bridge.adapters import sqlite_chain as chain
from compute_bridge.adapters.boot_inputs import is_untouched
from compute_bridge.adapters.disk_reserve import free_bytes, hold, release_when_low
from compute_bridge.adapters.file_lock import FileHeldError, FileLock
from compute_bridge.adapters.sqlite_file import create_file, explain, open_file, primary_code
from compute_bridge.adapters.sqlite_migration import migrate_file
from compute_bridge.adapters.sqlite_worker import SqliteReader, SqliteWriter
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import (
    GENESIS,
    WRITABLE,
    EventDraft,
    Journal,
    JournalEvent,
    JournalHealth,
    JournalUnwritableError,
    LeaseRow,
    Mended,
    Outage,
)
from compute_bridge.wire import codec

logger = logging.getLogger(__name__)

#: The journal's file in the bridge's folder.
JOURNAL: Final = "bridge.journal"

#: How long a write waits for whoever else locks the file, such as a copying tool, before it gives up.
BUSY_MS: Final = 5_000

_PAGE: Final = 1_000
# So much room must there be before a journal that was full counts as writable.
_ROOM_BYTES: Final = 1024 * 1024
# A disk that takes longer than this is taken for failed; SQLite itself never gives up on it.
PATIENCE_S: Final = 60.0

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
    meter: Callable[[sqlite3.Connection], tuple[int, int]]
    sizes: tuple[int, int]
    sequence: int
    has_reserve: bool


class SqliteJournal(Journal):
    """The open journal; made by :func:`open_sqlite_journal`. Events of concurrent tasks share a commit."""

    def __init__(self, path: Path, clock: Clock, parts: _Parts, *, patience_s: float = PATIENCE_S) -> None:
        self._path = path
        self._clock = clock
        self._patience_s = patience_s
        self._lock = parts.lock
        self._meter = parts.meter
        self._sizes = parts.sizes
        self._has_reserve = parts.has_reserve
        reason = "" if parts.has_reserve else "full"
        self._health = JournalHealth(not reason, reason, clock.utc_ms(), parts.sequence, *parts.sizes)
        self._writer = SqliteWriter(
            parts.writer, "journal-writer", self._explain_write, committed=partial(self._measure, parts.writer)
        )
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

    @property
    def health(self) -> JournalHealth:
        """What was last found."""
        file_bytes, room_bytes = self._sizes
        return evolve(self._health, file_bytes=file_bytes, room_bytes=room_bytes)

    async def probe(self) -> JournalHealth:
        """Measure on the reader's thread; try to record only where there is room for more than that."""
        await self._reader.run(self._look)
        health = self.health
        if health.is_writable or not self._has_room:
            return health
        with suppress(JournalUnwritableError):
            await self.record(EventDraft(WRITABLE, body=codec.encode(Outage(health.reason, health.since_ms))))
        return self.health

    async def record(self, *drafts: EventDraft) -> tuple[JournalEvent, ...]:
        """Append in one transaction; a disk that is silent for a minute counts as failed."""
        at_ms = self._clock.utc_ms()
        try:
            events = await self._record(drafts, at_ms)
        except JournalUnwritableError as error:
            if self._health.is_writable:
                logger.error("no event can be recorded: %s", error)  # noqa: TRY400 - the message says it all
            self._note(error.reason, at_ms)
            raise
        if events:
            self._note("" if self._has_room else "full", at_ms, sequence=events[-1].sequence)
        return events

    async def _record(self, drafts: tuple[EventDraft, ...], at_ms: int) -> tuple[JournalEvent, ...]:
        with anyio.move_on_after(self._patience_s, shield=True):
            return await self._writer.run(lambda db: self._append(db, drafts, at_ms))
        raise JournalUnwritableError(
            f"journal {self._path}: the disk did not answer within {self._patience_s} s; check it", reason="io"
        )

    def _append(self, db: sqlite3.Connection, drafts: tuple[EventDraft, ...], at_ms: int) -> tuple[JournalEvent, ...]:
        if self._writer.unclaimed:
            # Who was told that it failed would record it again, and two of one event may be more than a lease can read.
            raise JournalUnwritableError(
                f"journal {self._path}: an event was recorded after the disk had been given up on; check the disk, "
                "then start the bridge again, so that it reads what stands there",
                reason="io",
            )
        return chain.record(db, drafts, at_ms)

    @property
    def _has_room(self) -> bool:
        # What was full takes a small event and refuses the next one: it is full until there is room for many.
        if self._health.reason != "full":
            return True
        # The room that the reserve gave is there to end what runs, and what is sold would take it.
        return self._has_reserve and self._sizes[1] >= _ROOM_BYTES

    def _note(self, reason: str, at_ms: int, *, sequence: int = 0) -> None:
        health = self._health
        if not reason and not health.is_writable:
            logger.info("journal %s: events are recorded again", self._path)
        self._health = evolve(
            health,
            is_writable=not reason,
            reason=reason,
            since_ms=health.since_ms if reason == health.reason else at_ms,
            sequence=max(sequence, health.sequence),
        )

    def _look(self, db: sqlite3.Connection) -> None:
        with suppress(OSError):
            self._has_reserve = hold(self._path)
        self._measure(db)

    def _measure(self, db: sqlite3.Connection) -> None:
        # On a worker's thread; a disk that does not even tell its room leaves the last figures standing.
        with suppress(OSError, sqlite3.Error):
            self._sizes = self._meter(db)

    def _explain_write(self, error: sqlite3.Error) -> JournalError:
        explained = str(explain(self._path, chain.JOURNAL_FILE, error))
        reason = _UNWRITABLE.get(primary_code(error))
        return JournalUnwritableError(explained, reason=reason) if reason else JournalError(explained)

    async def events(
        self, *, after: int = 0, lease: bytes | None = None, kind: str | None = None, limit: int = 1000
    ) -> tuple[JournalEvent, ...]:
        """Read by sequence, or by the index of leases or of kinds."""
        wanted = chain.Wanted(after, lease, kind)
        return await self._reader.run(lambda db: chain.events(db, wanted, limit))

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
        await self._reader.run(chain.verify_blobs)
        await self._reader.run(chain.verify_leases)

    async def rebuild(self) -> tuple[Mended, ...]:
        """Rewrite the projection in one transaction."""
        return await self._writer.run(chain.rebuild)

    async def lease_states(self, *, excluding: Collection[str] = ()) -> tuple[LeaseRow, ...]:
        """Read the projection."""
        return await self._reader.run(lambda db: chain.lease_states(db, frozenset(excluding)))


def _verify_page(db: sqlite3.Connection, *, after: int, previous: bytes) -> tuple[int, bytes, bool]:
    return chain.verify_page(db, after, previous, _PAGE)


@asynccontextmanager
async def open_sqlite_journal(
    path: Path,
    clock: Clock,
    *,
    create: bool = False,
    max_bytes: int | None = None,
    busy_ms: int = BUSY_MS,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[SqliteJournal]:
    """Open the journal and hold it against every other bridge; beside it stands ``<path>.lock``.

    A missing file is made, with mode 0600, only when ``create`` is true: a bridge that has lost its journal
    must not begin a new one by itself. Beside it a little room is held, so that it opens on a full disk too; it is
    unwritable then until that room can be held again. An older journal is migrated, and kept beside it as it was.
    SQLite's own pages are checked here, the chain by ``verify``.
    ``max_bytes`` bounds the file; beyond it the journal counts as full. A write that takes longer than ``patience_s``
    real seconds counts as failed; one that lands all the same is the last until the journal is opened again.

    :raises JournalError: if the file is missing, held, damaged, another kind of file, or of another release.
    """
    parts = await anyio.to_thread.run_sync(partial(_open, path, create=create, max_bytes=max_bytes, busy_ms=busy_ms))
    journal = SqliteJournal(path, clock, parts, patience_s=patience_s)
    try:
        yield journal
    finally:
        await journal.aclose()


def _open(path: Path, *, create: bool, max_bytes: int | None, busy_ms: int) -> _Parts:
    if not create and not os.path.lexists(path):
        raise JournalError(f"journal {path}: is missing; {_mend_of_missing(path)}")
    with ExitStack() as undo:
        if create:
            create_file(path, chain.JOURNAL_FILE)
        lock = _take_lock(path)
        undo.callback(lock.release)
        _use_reserve(path)
        migrate_file(path, chain.JOURNAL_FILE, busy_ms=busy_ms)
        writer = open_file(path, chain.JOURNAL_FILE, busy_ms=busy_ms, writes=True)
        undo.callback(writer.close)
        reader = open_file(path, chain.JOURNAL_FILE, busy_ms=busy_ms, writes=False)
        undo.callback(reader.close)
        _check_pages(path, reader)
        if max_bytes is not None:
            (page_size,) = writer.execute("PRAGMA page_size").fetchone()
            writer.execute(f"PRAGMA max_page_count={max(max_bytes // page_size, 1)}")
        meter = partial(_measure, path, max_bytes=max_bytes)
        has_reserve = _hold_reserve(path)
        parts = _Parts(lock, writer, reader, meter, meter(reader), chain.head(reader)[0], has_reserve)
        undo.pop_all()
    return parts


def _mend_of_missing(path: Path) -> str:
    try:
        never_ran = is_untouched(path.parent)
    except FileNotFoundError:
        never_ran = True
    except OSError:
        never_ran = False
    if never_ran:
        return "name the boot file of a bridge that has run"
    return "put it back, or name an empty folder as bridge.state_dir"


def _use_reserve(path: Path) -> None:
    if release_when_low(path):
        logger.error("journal %s: the disk is full; opened with the room that was kept for this: make room", path)


def _hold_reserve(path: Path) -> bool:
    has_reserve = hold(path)
    if not has_reserve:
        logger.error("journal %s: the disk has no room to keep some for a start on a full disk: make room", path)
    return has_reserve


def _measure(path: Path, db: sqlite3.Connection, *, max_bytes: int | None) -> tuple[int, int]:
    """Return the bytes of the journal's files and those that they may still grow by."""
    size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    room = free_bytes(path.parent)
    if max_bytes is not None:
        (pages,), (page_size,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
        room = min(room, max(0, max_bytes - pages * page_size))
    return size, room


def _take_lock(path: Path) -> FileLock:
    try:
        return FileLock(path)
    except FileHeldError as error:
        holder = f"process {error.pid}" if error.pid else "another process"
        raise JournalError(
            f"journal {path}: is held by {holder}; two bridges cannot share one: stop that one, or give this one "
            "its own bridge.state_dir and bridge.root_key"
        ) from error
    except OSError as error:
        raise JournalError(
            f"journal {path}: cannot be locked ({error}); keep it on a local disk that is writable, "
            "in a folder of this user"
        ) from error


def _check_pages(path: Path, reader: sqlite3.Connection) -> None:
    try:
        chain.check_pages(reader, f"journal {path}")
    except sqlite3.Error as error:
        raise explain(path, chain.JOURNAL_FILE, error) from error

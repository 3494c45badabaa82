"""The market's own file: what it has booked, and up to where it has read each stream.

Effects and cursor change in one transaction, so an entry takes effect once, however often it is read.
Everything in the file but the operator's own choices can be made anew from the network; the link from a
request to its account stands nowhere else in clear.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from attrs import define, field

from compute_bridge.model.ids import UniqueId
from compute_bridge.ports.errors import MarketError

T = TypeVar("T")
Effects = Callable[[sqlite3.Connection], None]
"""What an entry changes in the book, given the open transaction."""

VERSION = 1
APPLICATION_ID = 0x6362_6D6B
BUSY_S = 10.0

_SCHEMA = """
CREATE TABLE owner (coalition BLOB NOT NULL);
CREATE TABLE cursor (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE card (
    provider BLOB NOT NULL, epoch INTEGER NOT NULL, version INTEGER NOT NULL, hash BLOB NOT NULL,
    signing_key BLOB NOT NULL, PRIMARY KEY (provider, epoch)
);
CREATE TABLE request (
    id BLOB PRIMARY KEY, account BLOB NOT NULL, raw BLOB NOT NULL, admitted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, is_open INTEGER NOT NULL, latest_grant BLOB
);
CREATE INDEX request_open ON request (is_open, account);
CREATE TABLE exclusion (request BLOB NOT NULL, provider BLOB NOT NULL, PRIMARY KEY (request, provider));
CREATE TABLE award (
    id BLOB PRIMARY KEY, request BLOB NOT NULL, account BLOB NOT NULL, provider BLOB NOT NULL, band TEXT NOT NULL,
    raw BLOB NOT NULL, requester_fee INTEGER NOT NULL, provider_fee INTEGER NOT NULL, card_epoch INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL, longest_ms INTEGER NOT NULL, silent_after INTEGER NOT NULL,
    control INTEGER NOT NULL, log_hash BLOB
);
CREATE INDEX award_open ON award (log_hash, provider);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, grant_id BLOB NOT NULL, kind TEXT NOT NULL, sequence INTEGER NOT NULL,
    UNIQUE (grant_id, kind, sequence)
);
CREATE TABLE posting (
    entry INTEGER NOT NULL REFERENCES entry (id), account TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (typeof (amount) = 'integer'), PRIMARY KEY (entry, account)
);
CREATE TABLE balance (account TEXT PRIMARY KEY, amount INTEGER NOT NULL CHECK (typeof (amount) = 'integer'));
"""


class BookError(MarketError):
    """The market's file did not take a transaction; nothing of it happened, mend the cause and try again."""


@define
class Book:
    """One connection to the file; every transaction runs whole, one at a time, off the event loop."""

    path: Path
    _db: sqlite3.Connection = field(repr=False)
    _turn: anyio.CapacityLimiter = field(factory=lambda: anyio.CapacityLimiter(1), init=False)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` returns, its changes durable; all or none of them.

        A cancelled caller is held until the transaction is over.

        :raises BookError: if SQLite refuses.
        """
        return await anyio.to_thread.run_sync(self._transact, work, limiter=self._turn)

    async def position(self, stream: str) -> int:
        """Return the sequence up to which the stream has taken effect."""
        return (await self.positions()).get(stream, 0)

    async def positions(self) -> dict[str, int]:
        """Return the same for every stream of which anything has."""
        return dict(await self.run(lambda db: db.execute("SELECT stream, sequence FROM cursor").fetchall()))

    async def apply(self, stream: str, sequence: int, effects: Effects) -> None:
        """Make an entry's effects and move the cursor to it; nothing, if another process has done so."""
        await self.run(lambda db: effects(db) if _advance(db, stream, sequence) else None)

    async def skip(self, stream: str, sequence: int) -> None:
        """Move the cursor past entries without effect."""
        await self.run(lambda db: _advance(db, stream, sequence))

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with _explained(self.path), _transaction(self._db):
            return work(self._db)


def _advance(db: sqlite3.Connection, stream: str, sequence: int) -> bool:
    moved = db.execute(
        "INSERT INTO cursor VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence"
        " WHERE excluded.sequence > sequence",
        (stream, sequence),
    )
    return moved.rowcount == 1


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BookError(
            f"ledger.file: {path}: {error}; see that the disk has room, the file is whole and this user may write it"
        ) from error


# --- opening --------------------------------------------------------------------------------------


@asynccontextmanager
async def open_book(path: Path, coalition: UniqueId) -> AsyncIterator[Book]:
    """Open the file, made with mode 0600 if missing.

    :raises BookError: if it cannot be used, or is the book of another coalition.
    """
    db = await anyio.to_thread.run_sync(_open, path, coalition)
    try:
        yield Book(path, db)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(db.close)


def _open(path: Path, coalition: UniqueId) -> sqlite3.Connection:
    with _explained(path):
        _touch(path)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, path, coalition)
        except BaseException:
            db.close()
            raise
    return db


def _touch(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise BookError(f"ledger.file: {path}: {error}; name a file that this user may write") from error


def _prepare(db: sqlite3.Connection, path: Path, coalition: UniqueId) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    with _transaction(db):
        mark, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if (mark, version) == (0, 0) and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            _create(db, coalition)
        elif (mark, version) != (APPLICATION_ID, VERSION):
            raise BookError(f"ledger.file: {path}: is no market's book of version {VERSION}; name another file")
        (owner,) = db.execute("SELECT coalition FROM owner").fetchone()
    if owner != coalition:
        raise BookError(
            f"ledger.file: {path}: is the book of coalition {owner.hex()[:12]}, not of {coalition.hex()[:12]}; "
            "name another file for this one"
        )


def _create(db: sqlite3.Connection, coalition: UniqueId) -> None:
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("INSERT INTO owner VALUES (?)", (coalition,))

"""The book: one SQLite file with every claim and every statement, each once, none ever changed."""

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from compute_bridge.api import SettlementResult, SettlementState
from compute_bridge.model.errors import RecordError
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey, SettlementStatement
from compute_bridge.ports.errors import BooksUnwritableError, SettlementError
from compute_bridge.wire import codec

APPLICATION = 0x63626C64
"""``cbld``: what the file says it is."""
VERSION = 1

_MAX_RECORD = 4096
_BUSY_S = 10
_SCHEMA = """
CREATE TABLE claims (
    grant_id BLOB, kind TEXT, sequence INTEGER,
    amount INTEGER NOT NULL, currency TEXT NOT NULL, record BLOB NOT NULL,
    booked_at_ms INTEGER NOT NULL, published INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (grant_id, kind, sequence)
) WITHOUT ROWID;
CREATE TABLE statements (
    grant_id BLOB, kind TEXT, sequence INTEGER,
    charge INTEGER NOT NULL, provider_fee INTEGER NOT NULL, currency TEXT NOT NULL, record BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, booked_at_ms INTEGER NOT NULL,
    PRIMARY KEY (grant_id, kind, sequence)
) WITHOUT ROWID;
"""
_KEYED = "grant_id = ? AND kind = ? AND sequence = ?"


@frozen
class ClaimEntry:
    """What the book knows of a claim: whether it was published, and what came of it, if the market has spoken."""

    published: bool
    result: SettlementResult | None


class Book:
    """The claims and statements of one bridge; every write is durable when it returns. Blocks; one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection

    def claim(self, claim: Claim, *, at_ms: int) -> ClaimEntry:
        """Book ``claim`` unless it is there, and return how it stands.

        :raises SettlementError: if its key was claimed with other content.
        """
        with self._writing():
            row = self._one("SELECT record, published FROM claims", claim.key)
            record = codec.encode(claim)
            if row is None:
                self._db.execute(
                    "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                    (*_columns(claim.key), claim.amount, claim.currency, record, at_ms),
                )
                return ClaimEntry(published=False, result=None)
            if row[0] != record:
                raise SettlementError(
                    f"{name_of(claim.key)}: claimed before with other content; the first claim stands in {self._path}:"
                    " a corrected one needs the next sequence"
                )
            return ClaimEntry(bool(row[1]), self._result(claim.key))

    def mark_published(self, key: SettlementKey) -> None:
        """Remember that the claim under ``key`` is on the network."""
        with self._writing():
            self._db.execute(f"UPDATE claims SET published = 1 WHERE {_KEYED}", _columns(key))  # noqa: S608 - a constant

    def claim_of(self, key: SettlementKey) -> Claim:
        """Return the claim under ``key``.

        :raises SettlementError: if there is none.
        """
        with self._translated():
            row = self._one("SELECT record FROM claims", key)
        if row is None:
            raise SettlementError(
                f"{name_of(key)}: the market states it, but {self._path} holds no such claim; ask the market's"
                " operator, or put back the book that is missing"
            )
        return self._decoded(row[0])

    def state(self, statement: SettlementStatement, result: SettlementResult, *, at_ms: int) -> SettlementResult:
        """Book ``statement`` with ``result`` unless it is there, and return the result that is booked.

        :raises SettlementError: if the market stated this key before with other content.
        """
        with self._writing():
            row = self._one("SELECT record FROM statements", statement.key)
            record = codec.encode(statement)
            if row is None:
                self._insert(statement, record, result, at_ms)
                return result
            if row[0] != record:
                raise SettlementError(
                    f"{name_of(statement.key)}: the market stated it before with other content; the first statement"
                    f" stands in {self._path}: ask the market's operator"
                )
            return self._result(statement.key) or result

    def agreed_micros(self) -> int:
        """Return what the agreed statements owe us, in exact integers."""
        total = 0
        with self._translated():
            rows = self._db.execute(
                "SELECT kind, charge, provider_fee FROM statements WHERE state = ?", (SettlementState.AGREED.value,)
            )
            for kind, charge, fee in rows:
                total += charge - fee if kind == EntryKind.CHARGE.value else fee - charge
        return total

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _insert(self, statement: SettlementStatement, record: bytes, result: SettlementResult, at_ms: int) -> None:
        money = (statement.charge, statement.provider_fee, statement.currency)
        self._db.execute(
            "INSERT INTO statements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*_columns(statement.key), *money, record, result.state.value, result.reason.value, at_ms),
        )

    def _result(self, key: SettlementKey) -> SettlementResult | None:
        row = self._one("SELECT state, reason FROM statements", key)
        return None if row is None else SettlementResult(SettlementState(row[0]), Reason(row[1]))

    def _one(self, select: str, key: SettlementKey) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._db.execute(f"{select} WHERE {_KEYED}", _columns(key)).fetchone()
        return found

    def _decoded(self, record: bytes) -> Claim:
        try:
            return codec.decode(record, Claim, max_bytes=_MAX_RECORD)
        except RecordError as error:
            raise SettlementError(f"settlement book {self._path} is damaged ({error}): put back a copy") from error

    @contextmanager
    def _writing(self) -> Generator[None]:
        with self._translated(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _translated(self) -> Generator[None]:
        with _translated(self._path):
            yield


def open_book(path: Path) -> Book:
    """Return the book at ``path``, begun if there is none.

    :raises SettlementError: if the file is something else, is damaged, or was written by a newer version.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise SettlementError(f"settlement book {path}: cannot be opened: {error.strerror}; mend it") from error
    with _translated(path):
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return Book(path, connection)


def name_of(key: SettlementKey) -> str:
    """Return how messages call what ``key`` stands for."""
    return f"grant {key.grant_id.hex()[:12]}, {key.kind} {key.sequence}"


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version, empty) == (0, 0, True):
        marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {marks} COMMIT;")
    elif application != APPLICATION:
        raise SettlementError(f"settlement book {path}: the file is something else; move it away")
    elif version != VERSION:
        raise SettlementError(
            f"settlement book {path}: written by version {version}, this is {VERSION}; install the newer plugin"
        )
    if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise SettlementError(f"settlement book {path} is damaged ({found}): put back a copy of it")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _translated(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise BooksUnwritableError(
            f"settlement book {path}: cannot be used: {error}; mend it, nothing is lost"
        ) from error
    except sqlite3.DatabaseError as error:
        raise SettlementError(f"settlement book {path} is damaged ({error}): put back a copy of it") from error


def _columns(key: SettlementKey) -> tuple[bytes, str, int]:
    return (key.grant_id, key.kind.value, key.sequence)

"""The journal's chain in SQL: what one connection does, on whatever thread it does it.

``events`` and ``blobs`` are the truth, ``leases`` is a projection of ``events``.
"""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final

from attrs import astuple, frozen
from blake3 import blake3

from compute_bridge.adapters.sqlite_file import SqliteFormat
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import GENESIS, EventDraft, JournalEvent, LeaseRow, Mended

_PAGE: Final = 1_000

_SCHEMA: Final = """
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, previous BLOB NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
    lease BLOB NOT NULL, body BLOB NOT NULL, state TEXT, blob_hash BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE INDEX events_by_lease ON events (lease, sequence);
CREATE INDEX events_by_kind ON events (kind, sequence);
CREATE TABLE blobs (sequence INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE leases (
    lease BLOB PRIMARY KEY, state TEXT NOT NULL, updated_sequence INTEGER NOT NULL
) WITHOUT ROWID;
CREATE VIEW chain AS SELECT sequence, previous, at_ms, kind, lease, body, state, blob_hash FROM events;
-- SQLite takes the bare column `state` from the row that has the maximum.
CREATE VIEW told AS
    SELECT lease, state, MAX(sequence) AS updated_sequence FROM events WHERE state IS NOT NULL GROUP BY lease
"""


@frozen
class Wanted:
    """Which events to read: those after a sequence, of one lease, of one kind; ``None`` is any."""

    after: int = 0
    lease: bytes | None = None
    kind: str | None = None


def record(db: sqlite3.Connection, drafts: Sequence[EventDraft], at_ms: int) -> tuple[JournalEvent, ...]:
    """Append the drafts behind the head."""
    sequence, previous = head(db)
    events: list[JournalEvent] = []
    for draft in drafts:
        blob_hash = b"" if draft.blob is None else blake3(draft.blob).digest()
        sequence += 1
        event = JournalEvent(sequence, previous, at_ms, draft.kind, draft.lease, draft.body, draft.state, blob_hash)
        previous = _insert(db, event, draft.blob)
        events.append(event)
    return tuple(events)


def _insert(db: sqlite3.Connection, event: JournalEvent, blob: bytes | None) -> bytes:
    digest = event.hash
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*astuple(event, recurse=False), digest))
    if blob is not None:
        db.execute("INSERT INTO blobs VALUES (?, ?)", (event.sequence, blob))
    if event.state is not None:
        db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (event.lease, event.state, event.sequence))
    return digest


def head(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Return the last event's sequence and hash."""
    row = db.execute("SELECT sequence, hash FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
    return (row[0], row[1]) if row else (0, GENESIS)


def events(db: sqlite3.Connection, wanted: Wanted, limit: int) -> tuple[JournalEvent, ...]:
    """Return the wanted events in order, at most ``limit``."""
    clauses, values = ["sequence > ?"], [wanted.after]
    for column, value in (("lease", wanted.lease), ("kind", wanted.kind)):
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(value)  # type: ignore[arg-type]
    rows = db.execute(
        f"SELECT * FROM chain WHERE {' AND '.join(clauses)} ORDER BY sequence LIMIT ?",  # noqa: S608 - our own words
        (*values, limit),
    )
    return tuple(read_row(row) for row in rows)


def read_row(row: Sequence[Any]) -> JournalEvent:
    """Return the event of a row of ``chain``.

    :raises JournalError: if it is none.
    """
    try:
        return JournalEvent(*row)
    except (TypeError, ValueError) as error:
        raise JournalError(f"journal event {row[0]}: is not an event any more; {DAMAGED}") from error


#: What the operator does about a chain that does not hold.
DAMAGED: Final = (
    "the file was changed by something other than compute-bridge or by a failing disk: keep it for inspection, "
    "check what runs in each backend, and restore the newest copy that verifies"
)


def blob(db: sqlite3.Connection, sequence: int) -> bytes | None:
    """Return the event's blob, checked against its hash."""
    row = db.execute(
        "SELECT blob_hash, content FROM events LEFT JOIN blobs USING (sequence) WHERE sequence = ?", (sequence,)
    ).fetchone()
    if row is None or (row[0] == b"" and row[1] is None):
        return None
    _check_blob(sequence, row[0], row[1])
    return bytes(row[1])


def _check_blob(sequence: int, expected: bytes, content: object) -> None:
    actual = blake3(content).digest() if isinstance(content, bytes) else b""
    if actual != expected:
        raise JournalError(f"journal event {sequence}: its blob is not the one that was recorded; {DAMAGED}")


def verify_page(db: sqlite3.Connection, after: int, previous: bytes, limit: int) -> tuple[int, bytes, bool]:
    """Check the next events of the chain; return the last one, its hash, and whether there was any.

    :raises JournalError: naming the first sequence that is wrong.
    """
    rows = db.execute(
        "SELECT chain.*, hash, content FROM chain JOIN events USING (sequence) LEFT JOIN blobs USING (sequence) "
        "WHERE sequence > ? ORDER BY sequence LIMIT ?",
        (after, limit),
    ).fetchall()
    for *fields, stored, content in rows:
        event = read_row(fields)
        if event.sequence != after + 1:
            raise JournalError(f"journal event {after + 1}: is missing; {DAMAGED}")
        if event.previous != previous or event.hash != stored:
            raise JournalError(f"journal event {event.sequence}: its hash does not hold; {DAMAGED}")
        if event.blob_hash or content is not None:
            _check_blob(event.sequence, event.blob_hash, content)
        after, previous = event.sequence, stored
    return after, previous, bool(rows)


def verify_blobs(db: sqlite3.Connection) -> None:
    """Return if every blob belongs to an event.

    :raises JournalError: naming the first that belongs to none.
    """
    row = db.execute(
        "SELECT sequence FROM blobs WHERE sequence NOT IN (SELECT sequence FROM events) LIMIT 1"
    ).fetchone()
    if row is not None:
        raise JournalError(f"journal event {row[0]}: is missing, and its blob is there; {DAMAGED}")


def check_file(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Check SQLite's pages and the whole chain; return the last event's sequence and hash.

    :raises JournalError: naming what does not hold, and the mend.
    """
    check_pages(db)
    after, previous, more = 0, GENESIS, True
    while more:
        after, previous, more = verify_page(db, after, previous, _PAGE)
    verify_blobs(db)
    return after, previous


def check_pages(db: sqlite3.Connection, where: str = "journal") -> None:
    """Return if SQLite finds its own pages whole; ``where`` begins the message.

    :raises JournalError: if it does not.
    """
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise JournalError(f"{where}: SQLite finds it damaged ({' '.join(found.split())}); {DAMAGED}")


JOURNAL_FILE: Final = SqliteFormat(
    what="journal",
    application_id=0x43424A31,
    version=2,
    error=JournalError,
    schema=_SCHEMA,
    # Version 2: the boot reads the events of one kind, and not the whole chain.
    migrations={1: ("CREATE INDEX events_by_kind ON events (kind, sequence)",)},
    check=check_file,
)

# --- the projection ---------------------------------------------------------------------------


def verify_leases(db: sqlite3.Connection) -> None:
    """Compare the projection with the events.

    :raises JournalError: naming a lease that differs.
    """
    mended = differences(db)
    if mended:
        raise JournalError(
            f"journal lease {mended[0].lease.hex()}: its state is not what its events say; its events hold, so run "
            "'compute-bridge journal rebuild', which makes the table anew from them"
        )


def differences(db: sqlite3.Connection) -> tuple[Mended, ...]:
    """Return where the projection is not what the events say."""
    rows = db.execute(
        "SELECT lease, leases.state, told.state FROM (SELECT * FROM told EXCEPT SELECT * FROM leases) AS told "
        "LEFT JOIN leases USING (lease) UNION ALL "
        "SELECT lease, state, NULL FROM leases WHERE lease NOT IN (SELECT lease FROM told)"
    )
    return tuple(Mended(*row) for row in rows)


def rebuild(db: sqlite3.Connection) -> tuple[Mended, ...]:
    """Make the projection anew; return what differed."""
    mended = differences(db)
    db.execute("DELETE FROM leases")
    db.execute("INSERT INTO leases SELECT * FROM told")
    return mended


def lease_states(db: sqlite3.Connection, excluding: Collection[str]) -> tuple[LeaseRow, ...]:
    """Return the projection's rows, oldest change first."""
    marks = ", ".join("?" * len(excluding))
    rows = db.execute(
        f"SELECT * FROM leases WHERE state NOT IN ({marks}) ORDER BY updated_sequence",  # noqa: S608 - marks alone
        tuple(excluding),
    )
    return tuple(LeaseRow(*row) for row in rows)

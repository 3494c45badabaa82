"""The journal's chain in SQL: what one connection does, on whatever thread it does it.

``events`` and ``blobs`` are the truth, ``leases`` is a projection of ``events``.
"""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final

from attrs import astuple
from blake3 import blake3

from compute_bridge.adapters.sqlite_file import SqliteFormat
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import GENESIS, EventDraft, JournalEvent, LeaseRow

JOURNAL_FILE: Final = SqliteFormat(
    what="journal",
    application_id=0x43424A31,
    version=1,
    error=JournalError,
    schema="""
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, previous BLOB NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
    lease BLOB NOT NULL, body BLOB NOT NULL, state TEXT, blob_hash BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE INDEX events_by_lease ON events (lease, sequence);
CREATE TABLE blobs (sequence INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE leases (
    lease BLOB PRIMARY KEY, state TEXT NOT NULL, updated_sequence INTEGER NOT NULL
) WITHOUT ROWID;
CREATE VIEW chain AS SELECT sequence, previous, at_ms, kind, lease, body, state, blob_hash FROM events;
-- SQLite takes the bare column `state` from the row that has the maximum.
CREATE VIEW told AS
    SELECT lease, state, MAX(sequence) AS updated_sequence FROM events WHERE state IS NOT NULL GROUP BY lease
""",
)


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


def events(db: sqlite3.Connection, after: int, lease: bytes | None, limit: int) -> tuple[JournalEvent, ...]:
    """Return events in order, of one lease if given."""
    if lease is None:
        rows = db.execute("SELECT * FROM chain WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit))
    else:
        rows = db.execute(
            "SELECT * FROM chain WHERE lease = ? AND sequence > ? ORDER BY sequence LIMIT ?", (lease, after, limit)
        )
    return tuple(_event(row) for row in rows)


def _event(row: Sequence[Any]) -> JournalEvent:
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
        event = _event(fields)
        if event.sequence != after + 1:
            raise JournalError(f"journal event {after + 1}: is missing; {DAMAGED}")
        if event.previous != previous or event.hash != stored:
            raise JournalError(f"journal event {event.sequence}: its hash does not hold; {DAMAGED}")
        if event.blob_hash or content is not None:
            _check_blob(event.sequence, event.blob_hash, content)
        after, previous = event.sequence, stored
    return after, previous, bool(rows)


def verify_leases(db: sqlite3.Connection) -> None:
    """Compare the projection with the events.

    :raises JournalError: naming a lease that differs.
    """
    row = db.execute(
        "SELECT lease FROM (SELECT * FROM told EXCEPT SELECT * FROM leases) UNION ALL "
        "SELECT lease FROM (SELECT * FROM leases EXCEPT SELECT * FROM told) LIMIT 1"
    ).fetchone()
    if row is not None:
        raise JournalError(
            f"journal lease {bytes(row[0]).hex()}: its state is not what its events say; rebuild the journal's tables"
        )


def rebuild(db: sqlite3.Connection) -> None:
    """Make the projection anew."""
    db.execute("DELETE FROM leases")
    db.execute("INSERT INTO leases SELECT * FROM told")


def lease_states(db: sqlite3.Connection, excluding: Collection[str]) -> tuple[LeaseRow, ...]:
    """Return the projection's rows, oldest change first."""
    rows = db.execute("SELECT * FROM leases ORDER BY updated_sequence")
    return tuple(LeaseRow(*row) for row in rows if row[1] not in excluding)

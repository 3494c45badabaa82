"""The network's records in SQL: what one connection does, on whatever thread it does it.

``topics`` holds one row for each stream and collection. ``touched`` numbers all changes of the file in the
order of their commits, so one look tells which topics changed since another.
"""

import sqlite3
from typing import Final

from compute_bridge.adapters.signalled_network import conflict, stale_cursor, stale_version, tail_moved
from compute_bridge.adapters.sqlite_file import SqliteFormat
from compute_bridge.ports.errors import NetworkError
from compute_bridge.ports.network import Entry, Versioned

NETWORK_FILE: Final = SqliteFormat(
    what="network",
    application_id=0x43424E31,
    version=1,
    error=NetworkError,
    schema="""
CREATE TABLE topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tail INTEGER NOT NULL, touched INTEGER NOT NULL
);
CREATE INDEX topics_by_touch ON topics (touched);
CREATE TABLE entries (
    topic INTEGER NOT NULL, sequence INTEGER NOT NULL, record_id BLOB NOT NULL, record BLOB NOT NULL,
    UNIQUE (topic, sequence), UNIQUE (topic, record_id)
);
CREATE TABLE pairs (
    topic INTEGER NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, changed INTEGER NOT NULL,
    value BLOB NOT NULL, UNIQUE (topic, key), UNIQUE (topic, changed)
);
CREATE TABLE cursors (
    consumer TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (consumer, stream)
) WITHOUT ROWID
""",
)

# A page is cut here, so that a reader of large records holds megabytes and not the stream.
_PAGE_BYTES = 4 * 1024 * 1024
_PAGE_ROWS = 256


def append(
    db: sqlite3.Connection, stream: str, topic: str, record_id: bytes, record: bytes, expect_last: int | None
) -> tuple[int, bool]:
    """Return the record's sequence, and whether it is new."""
    number, tail = _topic(db, topic)
    found = db.execute(
        "SELECT sequence, record FROM entries WHERE topic = ? AND record_id = ?", (number, record_id)
    ).fetchone()
    if found is not None:
        if found[1] != record:
            raise conflict(stream, record_id)
        return int(found[0]), False
    if expect_last is not None and expect_last != tail:
        raise tail_moved(stream, expect_last, tail)
    number = _touch(db, topic, tail + 1)
    db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (number, tail + 1, record_id, record))
    return tail + 1, True


def put(db: sqlite3.Connection, collection: str, topic: str, key: bytes, value: bytes, expect: int) -> int:
    """Return the version that the value got."""
    number, changes = _topic(db, topic)
    row = db.execute("SELECT version FROM pairs WHERE topic = ? AND key = ?", (number, key)).fetchone()
    version = row[0] if row else 0
    if version != expect:
        raise stale_version(collection, key, expect, version)
    number = _touch(db, topic, changes + 1)
    db.execute(
        "INSERT INTO pairs VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic, key) DO UPDATE "
        "SET version = excluded.version, changed = excluded.changed, value = excluded.value",
        (number, key, version + 1, changes + 1, value),
    )
    return version + 1


def _topic(db: sqlite3.Connection, topic: str) -> tuple[int, int]:
    row = db.execute("SELECT id, tail FROM topics WHERE name = ?", (topic,)).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _touch(db: sqlite3.Connection, topic: str, tail: int) -> int:
    db.execute(
        "INSERT INTO topics (name, tail, touched) "
        "VALUES (?, ?, (SELECT COALESCE(MAX(touched), 0) + 1 FROM topics)) "
        "ON CONFLICT (name) DO UPDATE SET tail = excluded.tail, touched = excluded.touched",
        (topic, tail),
    )
    return _topic(db, topic)[0]


def fetch(db: sqlite3.Connection, topic: str, after: int, limit: int) -> tuple[Entry, ...]:
    """Return entries until ``limit`` or a few megabytes are reached."""
    rows = db.execute(
        "SELECT sequence, record_id, record FROM entries "
        "WHERE topic = (SELECT id FROM topics WHERE name = ?) AND sequence > ? ORDER BY sequence LIMIT ?",
        (topic, after, limit),
    )
    page: list[Entry] = []
    size = 0
    for row in rows:
        page.append(Entry(*row))
        size += len(row[2])
        if size >= _PAGE_BYTES:
            break
    return tuple(page)


def tail(db: sqlite3.Connection, topic: str) -> int:
    """Return the last sequence."""
    return _topic(db, topic)[1]


def find(db: sqlite3.Connection, topic: str, record_id: bytes) -> Entry | None:
    """Return the entry with this id."""
    row = db.execute(
        "SELECT sequence, record_id, record FROM entries "
        "WHERE topic = (SELECT id FROM topics WHERE name = ?) AND record_id = ?",
        (topic, record_id),
    ).fetchone()
    return Entry(*row) if row else None


def get(db: sqlite3.Connection, topic: str, key: bytes) -> Versioned | None:
    """Return the key's value."""
    row = db.execute(
        "SELECT key, version, value FROM pairs WHERE topic = (SELECT id FROM topics WHERE name = ?) AND key = ?",
        (topic, key),
    ).fetchone()
    return Versioned(*row) if row else None


def values(db: sqlite3.Connection, topic: str) -> tuple[Versioned, ...]:
    """Return all values by key, in one statement and so of one moment."""
    rows = db.execute(
        "SELECT key, version, value FROM pairs WHERE topic = (SELECT id FROM topics WHERE name = ?) ORDER BY key",
        (topic,),
    )
    return tuple(Versioned(*row) for row in rows)


def changes(db: sqlite3.Connection, topic: str, after: int) -> tuple[list[Versioned], int]:
    """Return a page of values by change, and the last one's change."""
    rows = db.execute(
        "SELECT key, version, value, changed FROM pairs "
        "WHERE topic = (SELECT id FROM topics WHERE name = ?) AND changed > ? ORDER BY changed LIMIT ?",
        (topic, after, _PAGE_ROWS),
    ).fetchall()
    return [Versioned(*row[:3]) for row in rows], rows[-1][3] if rows else after


def cursor(db: sqlite3.Connection, consumer: str, stream: str) -> int:
    """Return the saved cursor, 0 at first."""
    row = db.execute("SELECT sequence FROM cursors WHERE consumer = ? AND stream = ?", (consumer, stream)).fetchone()
    return row[0] if row else 0


def save_cursor(db: sqlite3.Connection, consumer: str, stream: str, sequence: int) -> None:
    """Set the cursor unless it would move back."""
    saved = cursor(db, consumer, stream)
    if sequence < saved:
        raise stale_cursor(consumer, stream, sequence, saved)
    db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (consumer, stream, sequence))


def last_touch(db: sqlite3.Connection) -> int:
    """Return the number of the file's last change."""
    (touched,) = db.execute("SELECT COALESCE(MAX(touched), 0) FROM topics").fetchone()
    return int(touched)


def touched_since(db: sqlite3.Connection, position: int) -> list[tuple[str, int]]:
    """Return topics that changed after ``position``, with their changes, in the order of change."""
    return db.execute("SELECT name, touched FROM topics WHERE touched > ? ORDER BY touched", (position,)).fetchall()

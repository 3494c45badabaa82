"""One journal read as of one moment: no lock is taken, nothing is written, and a bridge may hold it meanwhile."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

from compute_bridge.adapters import sqlite_chain as chain
from compute_bridge.adapters.sqlite_file import check_format, explain, open_file
from compute_bridge.adapters.sqlite_journal import BUSY_MS
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import JournalEvent

_PAGE: Final = 200
# A lease's id has at most 64 bytes.
_LEASE_DIGITS: Final = 128


@frozen
class Verified:
    """What was found whole: how many events, the hash of the last, how many blobs and leases, and the schema."""

    events: int
    head: bytes
    blobs: int
    leases: int
    schema: int


@frozen
class Filter:
    """Which events to show: of leases whose id begins with ``lease`` (hex digits), of one kind, after a sequence."""

    lease: str = ""
    kind: str | None = None
    after: int | None = None


@frozen
class JournalFile:
    """One journal of any released schema, as it is; made by :func:`read_journal`.

    Every method raises ``JournalError`` where it meets something that is not as it was recorded.
    """

    path: Path
    schema: int
    _db: sqlite3.Connection

    def verify(self) -> Verified:
        """Check SQLite's pages, the whole chain, every blob and the projection."""
        events, head = self.check_chain()
        chain.verify_leases(self._db)
        blobs, leases = (self._count(table) for table in ("blobs", "leases"))
        return Verified(events, head, blobs, leases, self.schema)

    def check_chain(self) -> tuple[int, bytes]:
        """Check all but the projection; return the last event's sequence and hash."""
        return chain.check_file(self._db)

    def find(self, wanted: Filter, limit: int) -> tuple[JournalEvent, ...]:
        """Return the last ``limit`` events that are wanted, or the first ones after ``wanted.after``; in order."""
        clauses, values = ["sequence > ?"], [wanted.after or 0]
        if wanted.kind is not None:
            clauses.append("kind = ?")
            values.append(wanted.kind)  # type: ignore[arg-type]
        if wanted.lease:
            clauses.append("lease >= ? AND lease <= ?")
            values += _bounds(wanted.lease)  # type: ignore[arg-type]
        order = "ASC" if wanted.after is not None else "DESC"
        rows = self._db.execute(
            f"SELECT * FROM chain WHERE {' AND '.join(clauses)} ORDER BY sequence {order} LIMIT ?",  # noqa: S608 - our own words
            (*values, limit),
        )
        return tuple(sorted((chain.read_row(row) for row in rows), key=lambda event: event.sequence))

    def export(self) -> Iterator[tuple[JournalEvent, bytes | None]]:
        """Yield every event in order, each with its blob."""
        after = 0
        while events := chain.events(self._db, chain.Wanted(after), _PAGE):
            for event in events:
                yield event, chain.blob(self._db, event.sequence)
            after = events[-1].sequence

    def _count(self, table: str) -> int:
        (count,) = self._db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608 - our own words
        return int(count)


@contextmanager
def read_journal(path: Path) -> Iterator[JournalFile]:
    """Open the journal to read it as it stands now; what is recorded meanwhile is not seen.

    A journal of an older schema is read as it is: only a bridge that boots migrates it.

    :raises JournalError: if it is missing, unreadable, of another kind, newer than this release, or damaged.
    """
    if not path.exists():
        raise JournalError(f"journal {path}: is missing; name the boot file of a bridge that has run")
    try:
        with closing(open_file(path, chain.JOURNAL_FILE, busy_ms=BUSY_MS, writes=False, older=True)) as db:
            # One transaction over everything that follows, or a bridge's next event would look like damage.
            db.execute("BEGIN")
            yield JournalFile(path, check_format(db, path, chain.JOURNAL_FILE, older=True), db)
    except sqlite3.Error as error:
        raise explain(path, chain.JOURNAL_FILE, error) from error


def _bounds(prefix: str) -> tuple[bytes, bytes]:
    return bytes.fromhex(prefix.ljust(len(prefix) + len(prefix) % 2, "0")), bytes.fromhex(
        prefix.ljust(_LEASE_DIGITS, "f")
    )

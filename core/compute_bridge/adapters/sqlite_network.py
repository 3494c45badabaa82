"""A network in one SQLite file: several processes on one machine, each write on the disk when it returns."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from attrs import frozen

from compute_bridge.adapters import sqlite_records as sql
from compute_bridge.adapters.signalled_network import (
    SignalledNetwork,
    check_after,
    check_limit,
    collection_topic,
    stream_topic,
)
from compute_bridge.adapters.sqlite_bell import Bell
from compute_bridge.adapters.sqlite_file import create_file, explain, open_file
from compute_bridge.adapters.sqlite_listener import SqliteListener
from compute_bridge.adapters.sqlite_worker import SqliteReader, SqliteWriter
from compute_bridge.ports.network import (
    DEFAULT_MAX_RECORD_BYTES,
    Entry,
    SupportsBatches,
    Versioned,
    check_id,
    check_name,
)

#: How long a write waits for another process's lock before it gives up.
BUSY_MS: Final = 5_000


@frozen
class _Parts:
    """What one client holds open; made and given back off the event loop."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    listener: sqlite3.Connection
    bell: Bell


class SqliteNetwork(SignalledNetwork, SupportsBatches):
    """One client of the file; made by :func:`open_sqlite_network`.

    Writes of concurrent tasks share a commit; reads never wait for one. A write that finds the file locked
    by another process waits up to ``busy_ms`` before it raises ``NetworkError``.
    """

    def __init__(self, path: Path, parts: _Parts) -> None:
        super().__init__(DEFAULT_MAX_RECORD_BYTES)
        failure = partial(explain, path, sql.NETWORK_FILE)
        self._loop = asyncio.get_running_loop()
        self._bell = parts.bell
        self._dirty: set[str] = set()  # the writer thread's own
        self._writer = SqliteWriter(parts.writer, "network-writer", failure, committed=self._announce)
        self._reader = SqliteReader(parts.reader, "network-reader", failure)
        self._listener = SqliteListener(parts.listener, parts.bell, self._learn)

    @property
    def commits(self) -> int:
        """How many transactions this client has committed."""
        return self._writer.commits

    @property
    def looks(self) -> int:
        """How often this client has looked for other processes' changes."""
        return self._listener.looks

    @property
    def _is_closed(self) -> bool:
        return self._reader.closed

    def _announce(self) -> None:
        if self._dirty:
            topics = tuple(self._dirty)
            self._dirty.clear()
            self._loop.call_soon_threadsafe(self._signals.wake, topics)
            self._bell.ring()

    def _learn(self, topics: Sequence[str] | None) -> None:
        if topics is None:
            self._loop.call_soon_threadsafe(self._signals.wake_all)
        else:
            self._loop.call_soon_threadsafe(self._signals.wake, topics)

    async def aclose(self) -> None:
        """Finish what was asked, then end the threads; who still waits gets ``NetworkError``."""
        with anyio.CancelScope(shield=True):
            await self._writer.aclose()
            await anyio.to_thread.run_sync(self._listener.close)
            await self._reader.aclose()
        self._signals.wake_all()

    async def append(self, stream: str, record_id: bytes, record: bytes, *, expect_last: int | None = None) -> int:
        """Append in one transaction."""
        self._check_record(f"stream {stream!r}", record_id, record)
        job = partial(self._append, ((record_id, record),), stream, stream_topic(stream), expect_last)
        return (await self._writer.run(job))[0]

    async def append_many(self, stream: str, records: Sequence[tuple[bytes, bytes]]) -> list[int]:
        """Append the whole batch in one transaction."""
        for record_id, record in records:
            self._check_record(f"stream {stream!r}", record_id, record)
        job = partial(self._append, tuple(records), stream, stream_topic(stream), None)
        return await self._writer.run(job)

    def _append(
        self,
        batch: Sequence[tuple[bytes, bytes]],
        stream: str,
        topic: str,
        expect_last: int | None,
        db: sqlite3.Connection,
    ) -> list[int]:
        done = [sql.append(db, stream, topic, key, record, expect_last) for key, record in batch]
        if any(new for _, new in done):
            self._dirty.add(topic)
        return [sequence for sequence, _ in done]

    async def fetch(self, stream: str, *, after: int = 0, limit: int = 256) -> tuple[Entry, ...]:
        """Read a page of at most some megabytes."""
        topic, start, count = stream_topic(stream), check_after(after), check_limit(limit)
        return await self._reader.run(lambda db: sql.fetch(db, topic, start, count))

    async def tail(self, stream: str) -> int:
        """Read the stream's row."""
        topic = stream_topic(stream)
        return await self._reader.run(lambda db: sql.tail(db, topic))

    async def find(self, stream: str, record_id: bytes) -> Entry | None:
        """Look the id up in its index."""
        topic = stream_topic(stream)
        check_id("record id", record_id)
        return await self._reader.run(lambda db: sql.find(db, topic, record_id))

    async def get(self, collection: str, key: bytes) -> Versioned | None:
        """Look the key up in its index."""
        topic = collection_topic(collection)
        check_id("key", key)
        return await self._reader.run(lambda db: sql.get(db, topic, key))

    async def put(self, collection: str, key: bytes, value: bytes, *, expect: int) -> int:
        """Compare and set in one transaction."""
        topic = collection_topic(collection)
        check_id("key", key)
        self._check_size(f"collection {collection!r}", value)
        return await self._writer.run(partial(self._put, collection, topic, key, value, expect))

    def _put(self, collection: str, topic: str, key: bytes, value: bytes, expect: int, db: sqlite3.Connection) -> int:
        version = sql.put(db, collection, topic, key, value, expect)
        self._dirty.add(topic)
        return version

    async def entries(self, collection: str) -> tuple[Versioned, ...]:
        """Read the whole collection in one statement."""
        topic = collection_topic(collection)
        return await self._reader.run(lambda db: sql.values(db, topic))

    async def cursor(self, consumer: str, stream: str) -> int:
        """Read the consumer's row."""
        check_name(consumer)
        check_name(stream)
        return await self._reader.run(lambda db: sql.cursor(db, consumer, stream))

    async def save_cursor(self, consumer: str, stream: str, sequence: int) -> None:
        """Write the consumer's row unless it is further."""
        check_name(consumer)
        check_name(stream)
        check_after(sequence)
        await self._writer.run(lambda db: sql.save_cursor(db, consumer, stream, sequence))

    async def _changes(self, topic: str, after: int) -> tuple[list[Versioned], int]:
        return await self._reader.run(lambda db: sql.changes(db, topic, after))


@asynccontextmanager
async def open_sqlite_network(path: Path, *, busy_ms: int = BUSY_MS) -> AsyncIterator[SqliteNetwork]:
    """Open the network file, made with mode 0600 if missing; any number of processes of one user may.

    Beside it stands the folder ``<path>.wake``. The file belongs on a local disk: SQLite's write-ahead log
    needs memory that all its processes share.

    :raises NetworkError: if the file cannot be made or opened, is another kind of file, or has the schema
        of another release.
    """
    network = SqliteNetwork(path, await anyio.to_thread.run_sync(_open, path, busy_ms))
    try:
        yield network
    finally:
        await network.aclose()


def _open(path: Path, busy_ms: int) -> _Parts:
    create_file(path, sql.NETWORK_FILE)
    with ExitStack() as undo:

        def connect(*, writes: bool) -> sqlite3.Connection:
            connection = open_file(path, sql.NETWORK_FILE, busy_ms=busy_ms, writes=writes)
            undo.callback(connection.close)
            return connection

        parts = _Parts(
            writer=connect(writes=True),
            reader=connect(writes=False),
            listener=connect(writes=False),
            bell=Bell(path.with_name(path.name + ".wake")),
        )
        undo.pop_all()
    return parts

"""A network within one process, gone with it: the reference, and what tests run on."""

from collections.abc import Sequence

from anyio.lowlevel import checkpoint
from attrs import Factory, define

from compute_bridge.adapters.signalled_network import (
    SignalledNetwork,
    check_after,
    check_limit,
    collection_topic,
    conflict,
    stale_cursor,
    stale_version,
    stream_topic,
    tail_moved,
)
from compute_bridge.ports.network import (
    DEFAULT_MAX_RECORD_BYTES,
    Entry,
    SupportsBatches,
    Versioned,
    check_id,
    check_name,
)


@define
class _Stream:
    entries: list[Entry] = Factory(list)
    by_id: dict[bytes, Entry] = Factory(dict)


@define
class _Collection:
    # Ordered by change: a put takes its key out and sets it last.
    values: dict[bytes, tuple[int, Versioned]] = Factory(dict)
    changes: int = 0


class MemoryNetwork(SignalledNetwork, SupportsBatches):
    """Streams and collections as lists and dicts; used from one event loop.

    Each method passes one checkpoint before it looks or acts, so a cancelled write did not happen.
    """

    def __init__(self, *, max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES) -> None:
        super().__init__(max_record_bytes)
        self._streams: dict[str, _Stream] = {}
        self._collections: dict[str, _Collection] = {}
        self._cursors: dict[tuple[str, str], int] = {}

    async def append(self, stream: str, record_id: bytes, record: bytes, *, expect_last: int | None = None) -> int:
        """Append in one step of the event loop."""
        topic = stream_topic(stream)
        self._check_record(f"stream {stream!r}", record_id, record)
        await checkpoint()
        log = self._streams.setdefault(topic, _Stream())
        found = log.by_id.get(record_id)
        if found is None and expect_last not in (None, len(log.entries)):
            raise tail_moved(stream, expect_last, len(log.entries))
        if found is None:
            found = _add(log, record_id, record)
            self._signals.wake((topic,))
        if found.record != record:
            raise conflict(stream, record_id)
        return found.sequence

    async def append_many(self, stream: str, records: Sequence[tuple[bytes, bytes]]) -> list[int]:
        """Check the whole batch, then append it in the same step of the event loop."""
        topic = stream_topic(stream)
        for record_id, record in records:
            self._check_record(f"stream {stream!r}", record_id, record)
        await checkpoint()
        log = self._streams.setdefault(topic, _Stream())
        batch: dict[bytes, bytes] = {}
        for record_id, record in records:
            known = log.by_id.get(record_id)
            if (known.record if known else batch.setdefault(record_id, record)) != record:
                raise conflict(stream, record_id)
        entries = [log.by_id.get(key) or _add(log, key, record) for key, record in records]
        self._signals.wake((topic,))
        return [entry.sequence for entry in entries]

    async def fetch(self, stream: str, *, after: int = 0, limit: int = 256) -> tuple[Entry, ...]:
        """Cut a piece out of the list."""
        topic, start, count = stream_topic(stream), check_after(after), check_limit(limit)
        await checkpoint()
        log = self._streams.get(topic)
        return tuple(log.entries[start : start + count]) if log else ()

    async def tail(self, stream: str) -> int:
        """Count the list."""
        topic = stream_topic(stream)
        await checkpoint()
        log = self._streams.get(topic)
        return len(log.entries) if log else 0

    async def find(self, stream: str, record_id: bytes) -> Entry | None:
        """Look the id up."""
        topic = stream_topic(stream)
        check_id("record id", record_id)
        await checkpoint()
        log = self._streams.get(topic)
        return log.by_id.get(record_id) if log else None

    async def get(self, collection: str, key: bytes) -> Versioned | None:
        """Look the key up."""
        topic = collection_topic(collection)
        check_id("key", key)
        await checkpoint()
        return self._current(topic, key)

    async def put(self, collection: str, key: bytes, value: bytes, *, expect: int) -> int:
        """Compare and set in one step of the event loop."""
        topic = collection_topic(collection)
        check_id("key", key)
        self._check_size(f"collection {collection!r}", value)
        await checkpoint()
        current = self._current(topic, key)
        version = current.version if current else 0
        if version != expect:
            raise stale_version(collection, key, expect, version)
        held = self._collections.setdefault(topic, _Collection())
        held.values.pop(key, None)
        held.changes += 1
        held.values[key] = (held.changes, Versioned(key, version + 1, value))
        self._signals.wake((topic,))
        return version + 1

    async def entries(self, collection: str) -> tuple[Versioned, ...]:
        """Sort the values."""
        topic = collection_topic(collection)
        await checkpoint()
        held = self._collections.get(topic, _Collection())
        return tuple(held.values[key][1] for key in sorted(held.values))

    async def cursor(self, consumer: str, stream: str) -> int:
        """Look the cursor up."""
        key = (check_name(consumer), stream_topic(stream))
        await checkpoint()
        return self._cursors.get(key, 0)

    async def save_cursor(self, consumer: str, stream: str, sequence: int) -> None:
        """Set the cursor unless it would move back."""
        key = (check_name(consumer), stream_topic(stream))
        check_after(sequence)
        await checkpoint()
        saved = self._cursors.get(key, 0)
        if sequence < saved:
            raise stale_cursor(consumer, stream, sequence, saved)
        self._cursors[key] = sequence

    async def _changes(self, topic: str, after: int) -> tuple[list[Versioned], int]:
        await checkpoint()
        held = self._collections.get(topic, _Collection())
        newer: list[Versioned] = []
        for changed, value in reversed(held.values.values()):
            if changed <= after:
                break
            newer.append(value)
        return newer[::-1], held.changes

    def _current(self, topic: str, key: bytes) -> Versioned | None:
        held = self._collections.get(topic)
        return held.values[key][1] if held and key in held.values else None


def _add(log: _Stream, record_id: bytes, record: bytes) -> Entry:
    entry = Entry(len(log.entries) + 1, record_id, record)
    log.entries.append(entry)
    log.by_id[record_id] = entry
    return entry

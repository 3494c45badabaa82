"""The network suite catches every fault that is planted in the reference, one at a time."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio
import pytest
from anyio.lowlevel import checkpoint

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.signalled_network import Signals
from compute_bridge.ports.errors import (
    NetworkError,
    RecordConflictError,
    RecordTooLargeError,
    StaleVersionError,
    TailMovedError,
)
from compute_bridge.ports.network import Entry, Network, Versioned
from compute_bridge.testing.network import NetworkConformance, NetworkWorld


class FaultyWorld(NetworkWorld):
    patience_s = 1.0

    def __init__(self, make: Callable[[], Network]):
        self._make = make
        self._network = make()

    def open(self) -> AbstractAsyncContextManager[Network]:
        return nullcontext(self._network)


class ForgetfulWorld(FaultyWorld):
    def open(self) -> AbstractAsyncContextManager[Network]:
        return nullcontext(self._make())


class AppendsARepeatedIdAgain(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        if "s/" + stream in self._streams:
            self._streams["s/" + stream].by_id.pop(record_id, None)
        return await super().append(stream, record_id, record, expect_last=expect_last)


class TakesOtherBytesForTheSame(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        try:
            return await super().append(stream, record_id, record, expect_last=expect_last)
        except RecordConflictError:
            return await self.tail(stream)


class ComparesTheLengthOnly(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        found = await self.find(stream, record_id) if record_id else None
        if found and len(found.record) == len(record):
            return found.sequence
        return await super().append(stream, record_id, record, expect_last=expect_last)


class CutsIds(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        if len(record_id) > 128:
            raise ValueError(record_id)
        return await super().append(stream, record_id[:32], record, expect_last=expect_last)


class ChecksTheTailBeforeTheId(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        tail = await self.tail(stream)
        if expect_last not in (None, tail):
            raise TailMovedError(stream)
        return await super().append(stream, record_id, record, expect_last=expect_last)


class IgnoresExpectLast(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        return await super().append(stream, record_id, record)


class ChecksTheTailThenAppends(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        if expect_last not in (None, await self.tail(stream)) and await self.find(stream, record_id) is None:
            raise TailMovedError(stream)
        return await super().append(stream, record_id, record)


class SharesIdsBetweenStreams(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        for log in list(self._streams.values()):
            if record_id in log.by_id:
                return log.by_id[record_id].sequence
        return await super().append(stream, record_id, record, expect_last=expect_last)


class FoldsNames(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        return await super().append(stream.replace("/", "."), record_id, record, expect_last=expect_last)

    async def fetch(self, stream, *, after=0, limit=256):
        return await super().fetch(stream.replace("/", "."), after=after, limit=limit)


class IncludesAfter(MemoryNetwork):
    async def fetch(self, stream, *, after=0, limit=256):
        return await super().fetch(stream, after=after and max(after - 1, -1), limit=limit)


class IgnoresTheLimit(MemoryNetwork):
    async def fetch(self, stream, *, after=0, limit=256):
        return await super().fetch(stream, after=after, limit=limit if limit < 1 else 256)


class FollowsOnlyTheNew(MemoryNetwork):
    async def follow(self, stream, *, after=0):
        tail = await self.tail(stream)
        async for entry in super().follow(stream, after=max(after, tail)):
            yield entry


class EndsAtTheTail(MemoryNetwork):
    async def follow(self, stream, *, after=0):
        while page := await self.fetch(stream, after=after):
            for entry in page:
                after = entry.sequence
                yield entry


class ListensAfterReading(MemoryNetwork):
    async def follow(self, stream, *, after=0):
        while True:
            page = await self.fetch(stream, after=after)
            for entry in page:
                after = entry.sequence
                yield entry
            await checkpoint()
            changed = self._signals.next_change("s/" + stream)
            if not page:
                await changed.wait()


class DoublesTheFirstOfAPage(MemoryNetwork):
    async def follow(self, stream, *, after=0):
        last = None
        async for entry in super().follow(stream, after=after):
            if last is not None and entry.sequence % 100 == 0:
                yield last
            last = entry
            yield entry


class WakesTheLastWaiterOnly(MemoryNetwork):
    def __init__(self):
        super().__init__()
        self._signals = OneWaiter()


class OneWaiter(Signals):
    def next_change(self, topic):
        event = self._events[topic] = anyio.Event()
        return event


class MovesCursorsBack(MemoryNetwork):
    async def save_cursor(self, consumer, stream, sequence):
        try:
            await super().save_cursor(consumer, stream, sequence)
        except StaleVersionError:
            self._cursors[(consumer, "s/" + stream)] = sequence


class SharesCursors(MemoryNetwork):
    async def cursor(self, consumer, stream):
        return max([await super().cursor(consumer, stream), *self._cursors.values()])


class IgnoresVersions(MemoryNetwork):
    async def put(self, collection, key, value, *, expect):
        current = await self.get(collection, key)
        return await super().put(collection, key, value, expect=current.version if current else 0)


class ComparesThenSets(MemoryNetwork):
    async def put(self, collection, key, value, *, expect):
        current = await self.get(collection, key)
        if (current.version if current else 0) != expect:
            raise StaleVersionError(collection)
        while True:
            current = await self.get(collection, key)
            try:
                return await super().put(collection, key, value, expect=current.version if current else 0)
            except StaleVersionError:
                await checkpoint()


class CountsTheCollection(MemoryNetwork):
    async def put(self, collection, key, value, *, expect):
        await super().put(collection, key, value, expect=expect)
        return sum(value.version for value in await self.entries(collection))


class LeavesEntriesAsTheyCame(MemoryNetwork):
    async def entries(self, collection):
        return tuple((await self._changes("c/" + collection, 0))[0]) or await super().entries(collection)


class WatchesOnlyTheNew(MemoryNetwork):
    async def watch(self, collection):
        known = {value.key: value.version for value in await self.entries(collection)}
        async for value in super().watch(collection):
            if value.version != known.get(value.key):
                yield value


class LosesTheLastOfABurst(MemoryNetwork):
    async def watch(self, collection):
        async for value in super().watch(collection):
            if value.version % 30:
                yield value


class ShowsOldValuesAgain(MemoryNetwork):
    async def watch(self, collection):
        async for value in super().watch(collection):
            yield value
            if value.version == 10:
                yield Versioned(value.key, 9, b"8")


class TakesAnySize(MemoryNetwork):
    def _check_size(self, where, record):
        return None


class RefusesTheLimitItself(MemoryNetwork):
    def _check_size(self, where, record):
        if len(record) >= self.max_record_bytes:
            raise RecordTooLargeError(where)


class AppendsABatchInPieces(MemoryNetwork):
    async def append_many(self, stream, records):
        return [await self.append(stream, record_id, record) for record_id, record in records]


class TakesAnyName(MemoryNetwork):
    async def tail(self, stream):
        try:
            return await super().tail(stream)
        except ValueError:
            return 0


class RefusesALongName(MemoryNetwork):
    async def append(self, stream, record_id, record, *, expect_last=None):
        if len(stream) == 100:
            raise ValueError(stream)
        return await super().append(stream, record_id, record, expect_last=expect_last)


class TakesAnEmptyId(MemoryNetwork):
    async def find(self, stream, record_id):
        return await super().find(stream, record_id) if record_id else None


class ReadsLate(MemoryNetwork):
    async def find(self, stream, record_id):
        found = await super().find(stream, record_id)
        return found if found is None or await self.tail(stream) != found.sequence else None


class DecodesRecords(MemoryNetwork):
    async def find(self, stream, record_id):
        found = await super().find(stream, record_id)
        if found is None:
            return None
        return Entry(found.sequence, found.record_id, found.record.decode("utf-8", "replace").encode())


CAUGHT_BY = {
    AppendsABatchInPieces: "a_batch_is_appended_whole_or_not",
    AppendsARepeatedIdAgain: "a_repeated_append_is_the_first",
    ChecksTheTailBeforeTheId: "a_repeated_append_is_the_first",
    ChecksTheTailThenAppends: "expect_last_admits_one_of_many",
    ComparesTheLengthOnly: "one_id_stands_for_one_record",
    ComparesThenSets: "put_admits_one_of_many",
    CountsTheCollection: "put_counts_versions_from_one",
    CutsIds: "long_ids_differ_in_their_last_byte",
    DecodesRecords: "bytes_come_back_as_they_went",
    DoublesTheFirstOfAPage: "followers_of_a_busy_stream_see_every_entry_once",
    EndsAtTheTail: "follow_yields_the_old_then_the_new",
    FoldsNames: "every_good_name_is_its_own",
    FollowsOnlyTheNew: "follow_yields_the_old_then_the_new",
    IgnoresExpectLast: "expect_last_must_be_the_tail",
    IgnoresTheLimit: "fetch_pages_through_a_stream",
    IgnoresVersions: "put_of_a_stale_version_changes_nothing",
    IncludesAfter: "fetch_pages_through_a_stream",
    LeavesEntriesAsTheyCame: "entries_are_the_latest_values_by_key",
    ListensAfterReading: "follow_misses_nothing_at_any_pace",
    LosesTheLastOfABurst: "watch_of_a_busy_collection_ends_on_the_last_values",
    MovesCursorsBack: "a_cursor_never_moves_back",
    ReadsLate: "what_one_client_wrote_the_other_reads",
    RefusesALongName: "every_good_name_is_its_own",
    RefusesTheLimitItself: "a_value_beyond_the_limit_is_refused",
    SharesCursors: "cursors_belong_to_consumer_and_stream",
    SharesIdsBetweenStreams: "streams_share_nothing",
    ShowsOldValuesAgain: "watch_of_a_busy_collection_ends_on_the_last_values",
    TakesAnEmptyId: "an_id_has_one_to_some_bytes",
    TakesAnyName: "a_bad_stream_name_is_refused",
    TakesAnySize: "a_record_beyond_the_limit_is_refused",
    TakesOtherBytesForTheSame: "one_id_stands_for_one_record",
    WakesTheLastWaiterOnly: "one_append_wakes_every_follower",
    WatchesOnlyTheNew: "watch_yields_the_current_then_the_later",
}

# What a failed promise looks like; a TypeError would be a fault of the fault.
FAILURES = (AssertionError, NetworkError, ValueError, TimeoutError, StopAsyncIteration, ExceptionGroup)


def run(test: str, world: NetworkWorld) -> None:
    anyio.run(getattr(NetworkConformance(), f"test_{test}"), world)


@pytest.mark.parametrize(("network", "test"), CAUGHT_BY.items(), ids=lambda value: getattr(value, "__name__", value))
def test_the_suite_catches(network, test):
    run(test, FaultyWorld(MemoryNetwork))

    with pytest.raises((*FAILURES, pytest.fail.Exception)):
        run(test, FaultyWorld(network))


@pytest.mark.parametrize("test", ["records_outlive_their_client", "values_outlive_their_client"])
def test_the_suite_catches_what_dies_with_its_client(test):
    with pytest.raises(AssertionError):
        run(test, ForgetfulWorld(MemoryNetwork))

"""What every network promises of its streams and cursors, as tests."""

from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from compute_bridge.ports.errors import (
    RecordConflictError,
    RecordTooLargeError,
    StaleVersionError,
    TailMovedError,
)
from compute_bridge.ports.network import MAX_ID_BYTES, Entry, Network, SupportsBatches
from compute_bridge.testing.network_world import NetworkWorld, read_all, within

STREAM = "suite/stream.one-1"
BAD_NAMES = ("", "Upper", "under_score", "-first", "a b", "é", "a" * 101, "a\n", "../up")


class StreamConformance:
    """Part of :class:`compute_bridge.testing.network.NetworkConformance`."""

    async def test_append_counts_from_one_without_gaps(self, world: NetworkWorld) -> None:
        """Troubleshooting: the sequence is the record's place in its own stream, not in the whole network."""
        async with within(world), world.open() as network:
            await network.append("suite/other", b"o", b"")
            got = [await network.append(STREAM, b"%d" % n, b"record %d" % n) for n in range(3)]

            assert got == [1, 2, 3]
            assert await network.tail(STREAM) == 3
            assert await network.fetch(STREAM) == tuple(Entry(n + 1, b"%d" % n, b"record %d" % n) for n in range(3))

    async def test_bytes_come_back_as_they_went(self, world: NetworkWorld) -> None:
        """Troubleshooting: ids and records are bytes, not text; an empty record is one."""
        record_id = bytes(range(256))[:MAX_ID_BYTES]
        async with within(world), world.open() as network:
            await network.append(STREAM, record_id, bytes(range(256)))
            await network.append(STREAM, record_id[::-1], b"")

            assert await network.find(STREAM, record_id) == Entry(1, record_id, bytes(range(256)))
            assert await network.find(STREAM, record_id[::-1]) == Entry(2, record_id[::-1], b"")
            assert await network.find(STREAM, b"unknown") is None

    async def test_a_repeated_append_is_the_first(self, world: NetworkWorld) -> None:
        """Troubleshooting: look the id up before anything else, ``expect_last`` included."""
        async with within(world), world.open() as network:
            first = await network.append(STREAM, b"id", b"record", expect_last=0)
            await network.append(STREAM, b"next", b"record")
            again = [await network.append(STREAM, b"id", b"record", expect_last=last) for last in (None, 0, 7)]

            assert again == [first] * 3
            assert await network.tail(STREAM) == 2

    async def test_one_id_stands_for_one_record(self, world: NetworkWorld) -> None:
        """Troubleshooting: compare the bytes of a repeated id, all of them, and keep the first."""
        async with within(world), world.open() as network:
            await network.append(STREAM, b"id", b"record")
            for other in (b"recorD", b"record!", b""):
                with pytest.raises(RecordConflictError):
                    await network.append(STREAM, b"id", other)

            assert await read_all(network, STREAM) == [(1, b"id", b"record")]

    async def test_long_ids_differ_in_their_last_byte(self, world: NetworkWorld) -> None:
        """Troubleshooting: ids are compared whole, not cut or folded."""
        stem = b"i" * (MAX_ID_BYTES - 1)
        async with within(world), world.open() as network:
            assert [await network.append(STREAM, stem + end, b"") for end in (b"A", b"a", b"\0")] == [1, 2, 3]

    async def test_streams_share_nothing(self, world: NetworkWorld) -> None:
        """Troubleshooting: ids, tails and names count within one stream; a collection is another thing."""
        async with within(world), world.open() as network:
            await network.put(STREAM, b"id", b"value", expect=0)
            await network.append("suite/stream", b"first", b"other")
            await network.append("suite/stream", b"id", b"other")

            assert await network.tail(STREAM) == 0
            assert await network.find(STREAM, b"id") is None
            assert await network.append(STREAM, b"id", b"record", expect_last=0) == 1

    async def test_expect_last_must_be_the_tail(self, world: NetworkWorld) -> None:
        """Troubleshooting: nothing is appended when it is not; 0 means an empty stream."""
        async with within(world), world.open() as network:
            with pytest.raises(TailMovedError):
                await network.append(STREAM, b"a", b"", expect_last=1)
            await network.append(STREAM, b"a", b"", expect_last=0)
            for wrong in (0, 2):
                with pytest.raises(TailMovedError):
                    await network.append(STREAM, b"b", b"", expect_last=wrong)

            assert await network.append(STREAM, b"b", b"", expect_last=1) == 2

    async def test_expect_last_admits_one_of_many(self, world: NetworkWorld) -> None:
        """Troubleshooting: the check and the append are one step, for all clients together."""
        won: list[int] = []

        async def contend(network: Network, number: int) -> None:
            try:
                won.append(await network.append(STREAM, b"%d" % number, b"", expect_last=0))
            except TailMovedError:
                await checkpoint()

        async with within(world), world.open() as one, world.open() as two:
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(contend, (one, two)[number % 2], number)

            assert won == [1]
            assert await one.tail(STREAM) == 1

    async def test_appends_of_many_tasks_stand_in_one_order(self, world: NetworkWorld) -> None:
        """Troubleshooting: sequences are dense, each task's rise, and all clients read the same."""
        given: dict[bytes, int] = {}

        async def write(network: Network, writer: int) -> None:
            for number in range(10):
                key = b"%d/%d" % (writer, number)
                given[key] = await network.append(STREAM, key, key)

        async with within(world), world.open() as one, world.open() as two:
            async with anyio.create_task_group() as group:
                for writer in range(16):
                    group.start_soon(write, (one, two)[writer % 2], writer)
            found = await read_all(one, STREAM)

            assert [sequence for sequence, _, _ in found] == list(range(1, 161))
            assert {key: sequence for sequence, key, _ in found} == given
            assert await read_all(two, STREAM) == found
            for writer in range(16):
                own = [given[b"%d/%d" % (writer, number)] for number in range(10)]
                assert own == sorted(own)

    async def test_fetch_pages_through_a_stream(self, world: NetworkWorld) -> None:
        """Troubleshooting: ``after`` is exclusive, ``limit`` is kept, past the tail is empty."""
        async with within(world), world.open() as network:
            for number in range(7):
                await network.append(STREAM, b"%d" % number, b"")
            page = await network.fetch(STREAM, after=2, limit=3)

            assert [entry.sequence for entry in page] == [3, 4, 5][: len(page)]
            assert page
            assert await network.fetch(STREAM, after=7) == ()
            assert await network.fetch(STREAM, after=99) == ()
            assert await network.fetch("suite/nobody", limit=1) == ()
            for wrong in ({"after": -1}, {"limit": 0}):
                with pytest.raises(ValueError):
                    await network.fetch(STREAM, **wrong)

    async def test_records_outlive_their_client(self, world: NetworkWorld) -> None:
        """Troubleshooting: a write is durable when it returns, ids included."""
        async with within(world):
            async with world.open() as network:
                await network.append(STREAM, b"id", b"record")
                await network.save_cursor("reader", STREAM, 1)
            async with world.open() as network:
                assert await read_all(network, STREAM) == [(1, b"id", b"record")]
                assert await network.append(STREAM, b"id", b"record") == 1
                assert await network.cursor("reader", STREAM) == 1

    async def test_what_one_client_wrote_the_other_reads(self, world: NetworkWorld) -> None:
        """Troubleshooting: once an append has returned, every client's read shows it."""
        async with within(world), world.open() as one, world.open() as two:
            for number in range(20):
                await one.append(STREAM, b"%d" % number, b"record")
                assert await two.tail(STREAM) == number + 1
                assert await two.find(STREAM, b"%d" % number) == Entry(number + 1, b"%d" % number, b"record")

    async def test_a_cancelled_append_may_be_repeated(self, world: NetworkWorld) -> None:
        """Troubleshooting: whether it arrived or not, the same id makes one record of both."""
        async with within(world), world.open() as network:
            for number in range(8):
                async with anyio.create_task_group() as group:
                    group.start_soon(network.append, STREAM, b"%d" % number, b"record")
                    for _ in range(number):
                        await checkpoint()
                    group.cancel_scope.cancel()

                assert await network.append(STREAM, b"%d" % number, b"record") == number + 1

    async def test_cursors_belong_to_consumer_and_stream(self, world: NetworkWorld) -> None:
        """Troubleshooting: a cursor is 0 at first and keyed by both names."""
        async with within(world), world.open() as one, world.open() as two:
            await one.save_cursor("reader", STREAM, 3)
            await one.save_cursor("reader", "suite/other", 5)

            assert await two.cursor("reader", STREAM) == 3
            assert await two.cursor("reader", "suite/other") == 5
            assert await two.cursor("stranger", STREAM) == 0

    async def test_a_cursor_never_moves_back(self, world: NetworkWorld) -> None:
        """Troubleshooting: saving the same again is harmless, an earlier one tells of a second consumer."""
        async with within(world), world.open() as network:
            for sequence in (2, 2, 4):
                await network.save_cursor("reader", STREAM, sequence)
            with pytest.raises(StaleVersionError):
                await network.save_cursor("reader", STREAM, 3)

            assert await network.cursor("reader", STREAM) == 4

    async def test_a_record_beyond_the_limit_is_refused(self, world: NetworkWorld) -> None:
        """Troubleshooting: the limit itself fits, one byte more does not, and nothing is appended."""
        async with within(world), world.open() as network:
            limit = network.max_record_bytes
            with pytest.raises(RecordTooLargeError):
                await network.append(STREAM, b"id", bytes(limit + 1))

            assert await network.append(STREAM, b"id", bytes(limit)) == 1
            assert len((await network.fetch(STREAM))[0].record) == limit

    async def test_a_bad_stream_name_is_refused(self, world: NetworkWorld) -> None:
        """Troubleshooting: call ``check_name`` first in every method, ``follow`` included."""
        async with within(world), world.open() as network:
            for name in BAD_NAMES:
                for call in (
                    partial(network.append, name, b"id", b""),
                    partial(network.fetch, name),
                    partial(network.tail, name),
                    partial(network.find, name, b"id"),
                    partial(network.cursor, "reader", name),
                    partial(network.cursor, name, STREAM),
                    partial(network.save_cursor, name, STREAM, 1),
                ):
                    with pytest.raises(ValueError):
                        await call()
                with pytest.raises(ValueError):
                    await anext(network.follow(name))

    async def test_every_good_name_is_its_own(self, world: NetworkWorld) -> None:
        """Troubleshooting: no two names may be folded into one, however the network spells them inside."""
        names = ("a", "0", "a/b", "a.b", "a-b", "a/", "a" * 99, "a" * 100, "s/a", "c/a")
        async with within(world), world.open() as network:
            for name in names:
                await network.append(name, b"id", name.encode())

            assert [await read_all(network, name) for name in names] == [[(1, b"id", n.encode())] for n in names]

    async def test_an_id_has_one_to_some_bytes(self, world: NetworkWorld) -> None:
        """Troubleshooting: call ``check_id``."""
        async with within(world), world.open() as network:
            for wrong in (b"", bytes(MAX_ID_BYTES + 1)):
                for call in (partial(network.append, STREAM, wrong, b""), partial(network.find, STREAM, wrong)):
                    with pytest.raises(ValueError):
                        await call()

            assert await network.tail(STREAM) == 0

    async def test_a_batch_is_appended_whole_or_not(self, world: NetworkWorld) -> None:
        """Troubleshooting: check every record before the first is shown; a repeated one has its old place."""
        async with within(world), world.open() as network:
            if not isinstance(network, SupportsBatches):
                pytest.skip("this network has no batches")
            first = await network.append_many(STREAM, [(b"a", b"1"), (b"b", b"2"), (b"a", b"1")])
            second = await network.append_many(STREAM, [(b"b", b"2"), (b"c", b"3")])
            for wrong, error in ((b"changed", RecordConflictError), (bytes(1 << 26), RecordTooLargeError)):
                with pytest.raises(error):
                    await network.append_many(STREAM, [(b"d", b"4"), (b"a", wrong)])
            with pytest.raises(RecordConflictError):
                await network.append_many(STREAM, [(b"e", b"5"), (b"e", b"6")])

            assert (first, second) == ([1, 2, 1], [2, 3])
            assert [key for _, key, _ in await read_all(network, STREAM)] == [b"a", b"b", b"c"]

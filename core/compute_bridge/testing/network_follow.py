"""What every network promises of following a stream, as tests."""

from contextlib import aclosing

import anyio
from anyio.lowlevel import checkpoint

from compute_bridge.ports.errors import NetworkError
from compute_bridge.ports.network import Entry, Network
from compute_bridge.testing.network_streams import STREAM
from compute_bridge.testing.network_world import NetworkWorld, follow_some, take, within


class FollowConformance:
    """Part of :class:`compute_bridge.testing.network.NetworkConformance`."""

    async def test_follow_yields_the_old_then_the_new(self, world: NetworkWorld) -> None:
        """Troubleshooting: start at ``after``, and do not end at the tail."""
        async with within(world), world.open() as one, world.open() as two:
            await one.append(STREAM, b"0", b"old")
            await one.append(STREAM, b"1", b"old")
            async with aclosing(two.follow(STREAM)) as whole, aclosing(two.follow(STREAM, after=1)) as rest:
                assert [entry.sequence for entry in await take(whole, 2)] == [1, 2]
                assert [entry.sequence for entry in await take(rest, 1)] == [2]
                async with anyio.create_task_group() as group:
                    group.start_soon(_append_after, one, b"2", 20)

                    assert await anext(whole) == await anext(rest) == Entry(3, b"2", b"")

    async def test_follow_beyond_the_tail_waits_for_it(self, world: NetworkWorld) -> None:
        """Troubleshooting: entries up to ``after`` are never shown, even when they come later."""
        async with within(world), world.open() as network:
            async with anyio.create_task_group() as group:
                group.start_soon(_append_slowly, network, 5)

                assert await follow_some(network, STREAM, 2, after=3) == [4, 5]

    async def test_follow_misses_nothing_at_any_pace(self, world: NetworkWorld) -> None:
        """Troubleshooting: a record that arrives between the last read and the wait must end the wait."""
        async with within(world), world.open() as one, world.open() as two:
            async with aclosing(two.follow(STREAM)) as entries:
                for number in range(40):
                    async with anyio.create_task_group() as group:
                        group.start_soon(_append_after, one, b"%d" % number, number % 10)

                        assert (await anext(entries)).sequence == number + 1

    async def test_followers_of_a_busy_stream_see_every_entry_once(self, world: NetworkWorld) -> None:
        """Troubleshooting: in order, none lost, none doubled, whatever is appended meanwhile."""
        seen: list[list[int]] = []

        async def read(network: Network, after: int) -> None:
            seen.append(await follow_some(network, STREAM, 400 - after, after=after))

        async with within(world), world.open() as one, world.open() as two:
            async with anyio.create_task_group() as group:
                for network, after in ((one, 0), (two, 0), (two, 123)):
                    group.start_soon(read, network, after)
                for writer in range(4):
                    group.start_soon(_append_hundred, (one, two)[writer % 2], writer)

        assert sorted(seen) == [list(range(1, 401)), list(range(1, 401)), list(range(124, 401))]

    async def test_one_append_wakes_every_follower(self, world: NetworkWorld) -> None:
        """Troubleshooting: readers that wait for the same stream share nothing but the news."""
        async with within(world), world.open() as one, world.open() as two:
            async with anyio.create_task_group() as group:
                for network in (one, two, one, two):
                    group.start_soon(follow_some, network, STREAM, 1)
                await _append_after(one, b"id", 20)

    async def test_follow_survives_a_cut_connection(self, world: NetworkWorld) -> None:
        """Troubleshooting: reconnect inside and resume behind the last entry that was yielded."""
        async with within(world), world.open() as one, world.open() as two:
            async with aclosing(two.follow(STREAM)) as entries:
                for number in range(3):
                    await _append_until_it_arrives(one, b"%d" % number)

                    assert (await anext(entries)).sequence == number + 1
                    await world.cut()

    async def test_a_cancelled_follower_disturbs_nobody(self, world: NetworkWorld) -> None:
        """Troubleshooting: a cancelled wait ends at once and takes nothing from other readers."""
        async with within(world), world.open() as network, aclosing(network.follow(STREAM)) as other:
            for number in range(3):
                async with anyio.create_task_group() as group:
                    group.start_soon(follow_some, network, STREAM, 99)
                    for _ in range(number * 5):
                        await checkpoint()
                    group.cancel_scope.cancel()
                await network.append(STREAM, b"%d" % number, b"")

                assert (await anext(other)).sequence == number + 1


async def _append_slowly(network: Network, count: int) -> None:
    for number in range(count):
        await network.append(STREAM, b"%d" % number, b"")


async def _append_after(network: Network, record_id: bytes, turns: int) -> None:
    for _ in range(turns):
        await checkpoint()
    await network.append(STREAM, record_id, b"")


async def _append_hundred(network: Network, writer: int) -> None:
    for number in range(100):
        await network.append(STREAM, b"%d/%d" % (writer, number), b"")


async def _append_until_it_arrives(network: Network, record_id: bytes) -> None:
    while True:
        try:
            await network.append(STREAM, record_id, b"")
        except NetworkError:
            await anyio.sleep(0.01)
        else:
            return

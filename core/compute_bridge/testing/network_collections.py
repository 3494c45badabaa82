"""What every network promises of its collections, as tests."""

from contextlib import aclosing
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from compute_bridge.ports.errors import RecordTooLargeError, StaleVersionError
from compute_bridge.ports.network import MAX_ID_BYTES, Network, Versioned
from compute_bridge.testing.network_streams import BAD_NAMES
from compute_bridge.testing.network_world import NetworkWorld, take, within

ROSTER = "suite/roster"


class CollectionConformance:
    """Part of :class:`compute_bridge.testing.network.NetworkConformance`."""

    async def test_put_counts_versions_from_one(self, world: NetworkWorld) -> None:
        """Troubleshooting: the version counts this key's values, not the collection's changes."""
        async with within(world), world.open() as network:
            assert await network.get(ROSTER, b"key") is None
            await network.put(ROSTER, b"other", b"", expect=0)
            got = [await network.put(ROSTER, b"key", b"value %d" % n, expect=n) for n in range(3)]

            assert got == [1, 2, 3]
            assert await network.get(ROSTER, b"key") == Versioned(b"key", 3, b"value 2")

    async def test_put_of_a_stale_version_changes_nothing(self, world: NetworkWorld) -> None:
        """Troubleshooting: compare first; also a key that is not there has a version, 0."""
        async with within(world), world.open() as network:
            with pytest.raises(StaleVersionError):
                await network.put(ROSTER, b"key", b"value", expect=1)
            await network.put(ROSTER, b"key", b"value", expect=0)
            for wrong in (0, 2):
                with pytest.raises(StaleVersionError):
                    await network.put(ROSTER, b"key", b"other", expect=wrong)

            assert await network.entries(ROSTER) == (Versioned(b"key", 1, b"value"),)

    async def test_put_admits_one_of_many(self, world: NetworkWorld) -> None:
        """Troubleshooting: the comparison and the change are one step, for all clients together."""
        won: list[bytes] = []

        async def contend(network: Network, value: bytes) -> None:
            try:
                await network.put(ROSTER, b"key", value, expect=0)
                won.append(value)
            except StaleVersionError:
                await checkpoint()

        async with within(world), world.open() as one, world.open() as two:
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(contend, (one, two)[number % 2], b"%d" % number)

            assert len(won) == 1
            assert await two.get(ROSTER, b"key") == Versioned(b"key", 1, won[0])

    async def test_counting_by_compare_and_set_loses_no_count(self, world: NetworkWorld) -> None:
        """Troubleshooting: a put that succeeds saw the value that it replaces."""

        async def count_up(network: Network) -> None:
            for _ in range(5):
                await _increment(network)

        async with within(world), world.open() as one, world.open() as two:
            async with anyio.create_task_group() as group:
                for number in range(6):
                    group.start_soon(count_up, (one, two)[number % 2])

            assert await one.get(ROSTER, b"count") == Versioned(b"count", 30, b"30")

    async def test_entries_are_the_latest_values_by_key(self, world: NetworkWorld) -> None:
        """Troubleshooting: one value a key, ordered by the key's bytes."""
        keys = (b"b", b"a", b"\xff", b"aa", b"\0")
        async with within(world), world.open() as network:
            for key in keys:
                await network.put(ROSTER, key, b"old", expect=0)
            await network.put(ROSTER, b"a", b"new", expect=1)
            found = await network.entries(ROSTER)

            assert [value.key for value in found] == sorted(keys)
            assert Versioned(b"a", 2, b"new") in found
            assert await network.entries("suite/nothing") == ()

    async def test_values_outlive_their_client(self, world: NetworkWorld) -> None:
        """Troubleshooting: a put is durable when it returns, and collections share nothing."""
        async with within(world):
            async with world.open() as network:
                await network.put(ROSTER, b"key", b"value", expect=0)
            async with world.open() as network:
                assert await network.get(ROSTER, b"key") == Versioned(b"key", 1, b"value")
                assert await network.get("suite/other", b"key") is None

    async def test_watch_yields_the_current_then_the_later(self, world: NetworkWorld) -> None:
        """Troubleshooting: start with every key's value as it is, and do not end there."""
        async with within(world), world.open() as one, world.open() as two:
            for key in (b"a", b"b"):
                await one.put(ROSTER, key, b"old", expect=0)
            await one.put(ROSTER, b"a", b"current", expect=1)
            async with aclosing(two.watch(ROSTER)) as values:
                current = {value.key: value for value in await take(values, 2)}
                await one.put(ROSTER, b"b", b"new", expect=1)

                assert current == {b"a": Versioned(b"a", 2, b"current"), b"b": Versioned(b"b", 1, b"old")}
                assert await anext(values) == Versioned(b"b", 2, b"new")

    async def test_watch_misses_no_change_at_any_pace(self, world: NetworkWorld) -> None:
        """Troubleshooting: a value that arrives between the last read and the wait must end the wait."""
        async with within(world), world.open() as one, world.open() as two:
            async with aclosing(two.watch(ROSTER)) as values:
                for number in range(40):
                    async with anyio.create_task_group() as group:
                        group.start_soon(_put_after, one, number, number % 10)

                        assert (await anext(values)).version == number + 1

    async def test_watch_of_a_busy_collection_ends_on_the_last_values(self, world: NetworkWorld) -> None:
        """Troubleshooting: values may be skipped, the last never; versions of a key only rise."""
        keys = [b"%d" % number for number in range(5)]

        async def write(network: Network, key: bytes) -> None:
            for version in range(30):
                await network.put(ROSTER, key, b"%d" % version, expect=version)

        async with within(world), world.open() as one, world.open() as two, aclosing(two.watch(ROSTER)) as values:
            async with anyio.create_task_group() as group:
                for key in keys:
                    group.start_soon(write, one, key)
                seen = dict.fromkeys(keys, 0)
                while any(version < 30 for version in seen.values()):
                    value = await anext(values)
                    assert value.version > seen[value.key]
                    assert value.value == b"%d" % (value.version - 1)
                    seen[value.key] = value.version

    async def test_watch_survives_a_cut_connection(self, world: NetworkWorld) -> None:
        """Troubleshooting: reconnect inside, and yield what changed meanwhile."""
        async with within(world), world.open() as one, world.open() as two, aclosing(two.watch(ROSTER)) as values:
            for number in range(3):
                await one.put(ROSTER, b"key", b"%d" % number, expect=number)
                while (await anext(values)).version <= number:
                    await checkpoint()
                await world.cut()

    async def test_a_cancelled_watcher_disturbs_nobody(self, world: NetworkWorld) -> None:
        """Troubleshooting: a cancelled wait ends at once and takes nothing from other watchers."""

        async def look_on(network: Network) -> None:
            async with aclosing(network.watch(ROSTER)) as values:
                await take(values, 99)

        async with within(world), world.open() as network, aclosing(network.watch(ROSTER)) as other:
            for number in range(3):
                async with anyio.create_task_group() as group:
                    group.start_soon(look_on, network)
                    for _ in range(number * 5):
                        await checkpoint()
                    group.cancel_scope.cancel()
                await network.put(ROSTER, b"key", b"", expect=number)

                assert (await anext(other)).version == number + 1

    async def test_a_value_beyond_the_limit_is_refused(self, world: NetworkWorld) -> None:
        """Troubleshooting: the limit itself fits, one byte more does not, and nothing changes."""
        async with within(world), world.open() as network:
            limit = network.max_record_bytes
            with pytest.raises(RecordTooLargeError):
                await network.put(ROSTER, b"key", bytes(limit + 1), expect=0)

            assert await network.put(ROSTER, b"key", bytes(limit), expect=0) == 1

    async def test_a_bad_collection_name_or_key_is_refused(self, world: NetworkWorld) -> None:
        """Troubleshooting: call ``check_name`` and ``check_id`` first in every method, ``watch`` included."""
        async with within(world), world.open() as network:
            for name in BAD_NAMES:
                for call in (
                    partial(network.get, name, b"key"),
                    partial(network.put, name, b"key", b"", expect=0),
                    partial(network.entries, name),
                ):
                    with pytest.raises(ValueError):
                        await call()
                with pytest.raises(ValueError):
                    await anext(network.watch(name))
            for key in (b"", bytes(MAX_ID_BYTES + 1)):
                with pytest.raises(ValueError):
                    await network.put(ROSTER, key, b"", expect=0)


async def _increment(network: Network) -> None:
    while True:
        current = await network.get(ROSTER, b"count")
        version, count = (current.version, int(current.value)) if current else (0, 0)
        try:
            await network.put(ROSTER, b"count", b"%d" % (count + 1), expect=version)
        except StaleVersionError:
            await checkpoint()
        else:
            return


async def _put_after(network: Network, version: int, turns: int) -> None:
    for _ in range(turns):
        await checkpoint()
    await network.put(ROSTER, b"key", b"", expect=version)

"""What a lease costs in calls: two that change something, and listings that do not grow with the leases."""

import anyio
import pytest

from compute_bridge.testing.promises.situation import end, make, tasks_of_a_test
from compute_bridge_gcp.testing.world import GcpWorld

pytestmark = pytest.mark.anyio


@pytest.mark.needs("sshd")
async def test_a_lease_takes_two_calls_that_change_something(world):
    async with world.open() as backend:
        [offer, *_] = await backend.offers()
        instance = await make(world, backend, world.order(offer))
        await backend.usage(instance.id)
        await end(world, backend, instance.id)

    assert ["insert", "delete"] == [call.op for call in world.physics.calls if call.changes]
    assert world.physics.count("zoneOperations.get") == 0, "where all goes well, no operation is asked for"


@pytest.mark.parametrize(("leases", "pages"), [(1, 1), (100, 1), (1000, 2)])
async def test_a_listing_is_one_call_for_five_hundred_leases(leases, pages):
    with GcpWorld(has_guests=False) as world:
        world.physics.boot_ms = 0
        async with world.open() as backend:
            [offer, *_] = [one for one in await backend.offers() if one.shape == "e2-standard-2"]
            await anyio.to_thread.run_sync(lambda: [world.start_now(world.order(offer)) for _ in range(leases)])
            before = world.physics.count()
            owned = await backend.list_owned()

            assert len(owned) == leases
            assert world.physics.count() - before == pages


async def test_a_hundred_watches_take_one_listing_a_tick():
    with GcpWorld(has_guests=False) as world:
        async with world.open() as backend:
            [offer, *_] = [one for one in await backend.offers() if one.shape == "e2-standard-2"]
            ids = [await world.start(world.order(offer)) for _ in range(100)]
            begun_ms, before = world.clock.monotonic_ms(), world.physics.count()
            async with tasks_of_a_test() as tasks:
                for id_ in ids:
                    tasks.start_soon(backend.watch_until_exit, id_)
                await world.clock.sleep_ms(10 * world.config.watch_ms)
                tasks.cancel_scope.cancel()
            ticks = (world.clock.monotonic_ms() - begun_ms) // world.config.watch_ms
            calls = world.physics.count() - before

    assert 2 <= calls <= ticks + 2

"""What a lease costs in calls: two that change something, and listings that do not grow with the leases."""

import pytest
from anyio import to_thread

from compute_bridge.testing.promises.situation import end, make, tasks_of_a_test

pytestmark = pytest.mark.anyio


async def cheap(backend):
    return next(one for one in await backend.offers() if one.shape == "e2-standard-2")


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
async def test_a_listing_is_one_call_for_five_hundred_leases(bare_world, leases, pages):
    async with bare_world.open() as backend:
        await to_thread.run_sync(bare_world.crowd, await cheap(backend), leases)
        before = bare_world.physics.count()
        owned = await backend.list_owned()

        assert len(owned) == leases
        assert bare_world.physics.count() - before == pages


async def test_a_hundred_watches_take_one_listing_a_tick(bare_world):
    async with bare_world.open() as backend:
        await to_thread.run_sync(bare_world.crowd, await cheap(backend), 100)
        ids = [one.id for one in await backend.list_owned()]
        begun_ms, before = bare_world.clock.monotonic_ms(), bare_world.physics.count()
        async with tasks_of_a_test() as tasks:
            for id_ in ids:
                tasks.start_soon(backend.watch_until_exit, id_)
            while bare_world.physics.count() < before + 3:
                await bare_world.clock.sleep_ms(bare_world.config.watch_ms)
            tasks.cancel_scope.cancel()
        ticks = (bare_world.clock.monotonic_ms() - begun_ms) // bare_world.config.watch_ms

    assert bare_world.physics.count() - before <= ticks + 2

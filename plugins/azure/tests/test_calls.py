"""How often Azure is asked: two changes a lease, and lists that do not grow with the leases."""

from collections import Counter

import anyio
import pytest

from compute_bridge.cloud.tags import tags_of
from compute_bridge.testing.orders import new_token
from compute_bridge_azure import body
from compute_bridge_azure.testing.machines import SCOPE

pytestmark = pytest.mark.anyio

LISTS = ("ListNic", "ListAddress", "ListDisk", "ListMachines", "ListStatuses")


@pytest.mark.needs("sshd")
async def test_a_lease_takes_two_changes(world):
    async with world.open() as backend:
        instance = await backend.provision(world.order((await backend.offers())[0]))
        await backend.usage(instance.id)
        await backend.terminate(instance.id)

    changes = Counter(call.op for call in world.physics.calls if call.changes)
    assert changes == {"PutMachine": 1, "DeleteMachine": 1}


def fill(world, backend, offer, count):
    """Put ``count`` machines of ours into the account, as many creates would have."""
    for _ in range(count):
        order = world.order(offer, new_token())
        document = body.machine_body(world.config, order)
        machine = world.physics.launch(
            region=offer.region,
            zone=offer.zone,
            shape=offer.shape,
            name=order.ownership.name,
            name_scope=SCOPE,
            tags=tags_of(order, world.config),
            document={key: value for key, value in document.items() if key != "tags"},
        ).machine
        world.arm.machines._add_parts(machine, document)


@pytest.mark.parametrize("leases", [1, 100, 1000])
async def test_lists_do_not_grow_with_the_leases(bare, leases):
    bare.arm.page_size = 10_000
    async with bare.open() as backend:
        fill(bare, backend, (await backend.offers())[0], leases)
        await bare.clock.sleep_ms(5000)
        before = Counter(call.op for call in bare.physics.calls)
        owned = await backend.list_owned()
        asked = Counter(call.op for call in bare.physics.calls) - before

    assert len(owned) == leases
    assert asked == dict.fromkeys(LISTS, 1)


async def test_a_hundred_watches_share_their_lists(bare):
    async with bare.open() as backend:
        [offer, *_] = await backend.offers()
        fill(bare, backend, offer, 100)
        ids = [one.id for one in await backend.list_owned()]
        before = backend.places.where(offer).reads
        began_ms = bare.clock.monotonic_ms()
        async with anyio.create_task_group() as tasks:
            for id_ in ids:
                tasks.start_soon(backend.watch_until_exit, id_)
            await bare.clock.sleep_ms(30_000)
            tasks.cancel_scope.cancel()
        ticks = (bare.clock.monotonic_ms() - began_ms) // bare.config.watch_ms

    assert 1 <= backend.places.where(offer).reads - before <= ticks + 1


@pytest.mark.parametrize("leases", [1, 30])
async def test_images_are_read_once_however_many_leases_are_made(bare, leases):
    async with bare.open() as backend:
        [offer, *_] = await backend.offers()
        before = Counter(call.op for call in bare.physics.calls)
        async with anyio.create_task_group() as tasks:
            for _ in range(leases):
                tasks.start_soon(backend.cloud.create, bare.order(offer, new_token()))
        asked = Counter(call.op for call in bare.physics.calls) - before

    assert asked == {"ListImages": 1, "GetImage": 1, "PutMachine": leases}


async def test_offers_ask_each_location_once(bare):
    async with bare.open() as backend:
        before = Counter(call.op for call in bare.physics.calls)
        await backend.offers()
        asked = Counter(call.op for call in bare.physics.calls) - before

    assert asked == {"ListUsages": len(bare.config.locations)}

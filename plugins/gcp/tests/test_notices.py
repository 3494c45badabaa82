"""Spot machines that are being preempted are announced by the shared listing, and nothing is asked while none is."""

import logging
from functools import partial

import anyio
import pytest
from anyio import to_thread

from compute_bridge.ports.backend import ExitCause
from compute_bridge.ports.errors import NoCapacityError
from compute_bridge.ports.notices import Interruption, SupportsNotices
from compute_bridge.testing.promises.situation import end, make, patience, tasks_of_a_test, watching
from compute_bridge_gcp.policy import PERMISSIONS

pytestmark = pytest.mark.anyio

LONG_MS = 10**9


async def next_notices(world, backend) -> tuple[Interruption, ...]:
    assert isinstance(backend, SupportsNotices)
    async with patience(world, "tell a notice"):
        return await backend.next_notices()


async def a_while(world, ticks=4):
    await world.clock.sleep_ms(ticks * world.config.watch_ms)


async def offered(backend, *, spot=True):
    return next(one for one in await backend.offers() if one.spot is spot and one.shape == "e2-standard-2")


async def started(world, backend, *, spot=True):
    """Start a machine without a guest, and return its id."""
    return await world.start(world.order(await offered(backend, spot=spot)))


@pytest.fixture
def spot(bare_world):
    bare_world.reconfigure(spot=True)
    return bare_world


async def test_a_preemption_is_announced_with_the_moment_by_which_the_machine_is_gone(spot):
    async with spot.open() as backend:
        firm, one = await started(spot, backend, spot=False), await started(spot, backend)
        spot.physics.preempt(spot.machine_of(one).id, notice_ms=LONG_MS)
        told = await next_notices(spot, backend)
        owned = {machine.id for machine in await backend.list_owned()}

    begun_ms = spot.machine_of(one).notice_ms
    assert told == (Interruption(one, begun_ms + 30_000, "by compute.instances.preempted"),)
    assert owned == {firm, one}


async def test_the_notice_that_a_machine_was_made_with_comes_before_its_shutdown(spot):
    async with spot.open() as backend:
        one = await started(spot, backend)
        machine = spot.machine_of(one)
        scheduling = {**machine.document["scheduling"], "preemptionNoticeDuration": {"seconds": "120"}}
        spot.physics.amend(machine.id, {**machine.document, "scheduling": scheduling})
        spot.physics.preempt(machine.id, notice_ms=LONG_MS)
        [told] = await next_notices(spot, backend)

    assert told.at == spot.machine_of(one).notice_ms + 150_000


async def test_somebody_s_own_stop_is_no_notice_and_is_asked_for_once(spot):
    spot.physics.ending_ms = LONG_MS
    async with spot.open() as backend:
        one = await started(spot, backend)
        zone, _, name = one.partition("/")
        spot.fake.instances.delete(zone, name, "6f0c4a0e-9d0b-5d64-8a53-3b5b0d5a7f11", "somebody@example.com")
        with anyio.move_on_after(0.5) as waits:
            await next_notices(spot, backend)

    assert waits.cancelled_caught
    assert spot.physics.count("zoneOperations.list") == 1


async def test_of_machines_that_are_not_spot_nothing_is_asked(spot):
    async with spot.open() as backend:
        one = await started(spot, backend, spot=False)
        spot.physics.preempt(spot.machine_of(one).id, notice_ms=LONG_MS)
        with anyio.move_on_after(0.5) as waits:
            await next_notices(spot, backend)

    assert waits.cancelled_caught
    assert spot.physics.count("zoneOperations.list") == 0


@pytest.mark.parametrize("machines", [1, 100])
async def test_a_tick_without_a_preemption_takes_one_listing_for_leases_and_notices(spot, machines):
    async with spot.open() as backend:
        await to_thread.run_sync(partial(spot.crowd, await offered(backend), machines, spot=True))
        ids = [one.id for one in await backend.list_owned()]
        begun_ms, before = spot.clock.monotonic_ms(), spot.physics.count()
        async with tasks_of_a_test() as tasks:
            tasks.start_soon(backend.next_notices)
            for id_ in ids:
                tasks.start_soon(backend.watch_until_exit, id_)
            # However busy the machine is: until two ticks were listed.
            while spot.physics.count() < before + 2:
                await a_while(spot)
            tasks.cancel_scope.cancel()
        ticks = (spot.clock.monotonic_ms() - begun_ms) // spot.config.watch_ms

    asked = spot.physics.calls[before:]
    assert {call.op for call in asked} == {"aggregatedList"}
    assert len(asked) <= ticks + 2


async def test_an_account_that_sells_no_spot_capacity_asks_nothing(bare_world):
    async with bare_world.open() as backend:
        before = bare_world.physics.count()
        with anyio.move_on_after(0.3):
            await next_notices(bare_world, backend)

    assert bare_world.physics.count() == before


async def test_operations_that_are_not_told_hide_no_machine_and_are_asked_for_again(spot, caplog):
    async with spot.open() as backend:
        other, one = await started(spot, backend), await started(spot, backend)
        spot.fake.granted = frozenset(PERMISSIONS) - {"compute.zoneOperations.list"}
        spot.physics.preempt(spot.machine_of(one).id, notice_ms=LONG_MS)
        with caplog.at_level(logging.WARNING):
            hidden = [{machine.id for machine in await backend.list_owned()} for _ in range(3)]
        spot.fake.granted = None
        told = await next_notices(spot, backend)

    assert hidden == [{other}] * 3
    assert caplog.text.count("is being preempted is not known") == 1
    assert [one] == [notice.instance for notice in told]


@pytest.mark.needs("sshd")
async def test_a_lease_goes_on_until_its_machine_is_gone_and_ended_when_the_preemption_began(world):
    world.reconfigure(spot=True)
    async with world.open() as backend:
        instance = await make(world, backend, world.order(await offered(backend)))
        async with watching(world, backend, instance.id) as [watch]:
            world.physics.preempt(world.machine_of(instance.id).id, notice_ms=30_000)
            [told] = await next_notices(world, backend)
            went_on = watch.seen is None
            seen = await watch.exit()

    assert went_on
    assert seen.cause is ExitCause.PREEMPTED
    assert seen.ended_at == told.at - 30_000
    assert world.physics.existing() == ()


@pytest.mark.needs("sshd")
async def test_a_machine_that_is_preempted_while_it_is_made_is_a_lack_of_capacity(world):
    world.reconfigure(spot=True)
    async with world.open() as backend:
        order = world.order(await offered(backend))
        one = await world.start(order)
        world.physics.preempt(world.machine_of(one).id, notice_ms=LONG_MS)
        with pytest.raises(NoCapacityError, match="is being preempted"):
            await backend.provision(order)

    assert world.physics.existing() == ()


@pytest.mark.needs("sshd")
async def test_a_machine_that_is_preempted_can_be_ended_by_hand(world):
    world.reconfigure(spot=True)
    async with world.open() as backend:
        instance = await make(world, backend, world.order(await offered(backend)))
        world.physics.preempt(world.machine_of(instance.id).id, notice_ms=LONG_MS)
        await next_notices(world, backend)
        await end(world, backend, instance.id)

    assert world.physics.existing() == ()

"""What goes wrong at Azure alone, beside test_fault_matrix: each ends in one outcome, with nothing left of any kind."""

from contextlib import asynccontextmanager

import anyio
import pytest
from attrs import evolve

from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause
from compute_bridge.ports.errors import (
    CredentialsError,
    NoCapacityError,
    NotYetTerminatedError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.testing.physics.matter import Then, Why
from compute_bridge_azure.testing.answers import No
from compute_bridge_azure.testing.machines import ADDRESS, DISK, NIC

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]


@pytest.fixture(autouse=True)
def nothing_is_left(world):
    """Every test ends with no machine, no NIC, no address and no disk at the fake."""
    yield
    assert world.billed() == frozenset()
    assert [machine for machine in world.physics.existing() if machine.tags] == []
    assert world.physics.leftovers() == ()


@asynccontextmanager
async def opened(world):
    async with world.open() as backend:
        yield backend


async def order_of(world, backend, at=0):
    return world.order((await backend.offers())[at])


async def end(backend, instance):
    while True:
        try:
            return await backend.terminate(instance.id)
        except NotYetTerminatedError:
            continue


def tell_time(world, now_ms):
    """Let it be ``now_ms`` by Azure's clock, however slow a test is."""
    world.arm.skew_ms = now_ms - world.physics.now_ms()


async def watched(backend, instance):
    with anyio.fail_after(60):
        return await backend.watch_until_exit(instance.id)


@pytest.mark.parametrize("code", ["AllocationFailed", "ZonalAllocationFailed"])
async def test_an_allocation_that_fails_late_is_undone(world, code):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        world.physics.fail_next_launch(code)
        with pytest.raises(NoCapacityError) as caught:
            await backend.provision(order)

        assert caught.value.scope is Scope.OFFER
        assert code in str(caught.value)


async def test_a_failed_machine_stands_with_its_parts_until_it_is_deleted(world):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        world.physics.fail_next_launch("AllocationFailed", in_ms=0)
        await backend.cloud.create(order)

        assert {one.kind for one in world.physics.leftovers()} == {NIC, ADDRESS, DISK}
        # A process that finds it later says why, and takes it away.
        with pytest.raises(NoCapacityError):
            await backend.provision(order)


async def test_a_size_that_is_not_to_be_had_is_told_at_once(world):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        await world.exhaust()
        with pytest.raises(NoCapacityError) as caught:
            await backend.provision(order)

        assert "SkuNotAvailable" in str(caught.value)
        assert world.physics.made() == ()


async def test_a_quota_is_told_as_one(world):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        await world.use_up_quota()
        with pytest.raises(QuotaError) as caught:
            await backend.provision(order)

        assert caught.value.scope is Scope.REGION
        assert "approved" not in str(caught.value)


async def test_a_throttled_create_waits_as_told_and_is_sent_once(world):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        world.arm.refuse_next("PutMachine", No(429, "TooManyRequests", headers={"Retry-After": "7"}))
        with pytest.raises(ThrottledError) as caught:
            await backend.provision(order)

        assert caught.value.retry_after_s == 7
        assert world.physics.count("PutMachine") == 1


@pytest.mark.parametrize("status", [500, 503])
async def test_a_create_is_never_sent_twice_by_the_sdk(world, status):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        world.arm.refuse_next("PutMachine", No(status, "InternalServerError"))
        with pytest.raises(UnavailableError):
            await backend.provision(order)

        assert world.physics.count("PutMachine") == 1


async def test_credentials_that_end_mid_life_end_no_machine(world):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        instance = await backend.provision(order)
        world.arm.tokens.forget()
        for call in (backend.list_owned, lambda: backend.terminate(instance.id), lambda: backend.find(order.token)):
            with pytest.raises(CredentialsError) as caught:
                await call()
            assert "InvalidAuthenticationToken" in str(caught.value)
        assert world.billed() == {instance.id}
    async with opened(world) as backend:
        await end(backend, instance)


async def test_parts_without_a_listed_machine_are_a_machine_that_comes(world):
    world.physics.propagation_ms = 1_000_000
    async with opened(world) as backend:
        order = await order_of(world, backend)
        await backend.cloud.create(order)
        [machine] = (await backend.cloud.machines("")).values()

        assert machine.is_live
        assert not machine.stays
        world.physics.propagation_ms = 0
        instance = await backend.provision(order)
        await end(backend, instance)


@pytest.mark.parametrize("is_told", [True, False])
async def test_parts_that_stand_before_their_machine_has_them_are_left_over_only_after_the_window(
    world, monkeypatch, is_told
):
    world.physics.propagation_ms = 1_000_000
    views = world.arm.machines.part_views

    def loose(kind):
        # As Azure shows a NIC and a disk that it has made already for a machine that it still makes.
        shown = views(kind)
        for one in shown:
            one.pop("managedBy", None)
            one["properties"].pop("virtualMachine", None)
        return shown

    async with opened(world) as backend:
        order = await order_of(world, backend)
        made_ms = world.physics.now_ms()
        if is_told:
            await backend.cloud.create(order)
        else:
            await world.lose_next_answer()
            with pytest.raises(UnavailableError):
                await backend.cloud.create(order)
        monkeypatch.setattr(world.arm.machines, "part_views", loose)
        tell_time(world, made_ms)
        [early] = (await backend.cloud.machines("")).values()
        tell_time(world, made_ms + 2 * backend.consistency_window_ms)
        [late] = (await backend.cloud.machines("")).values()
        world.arm.skew_ms = 0

        assert (early.is_live, early.stays) == (True, False)
        assert (late.is_live, late.stays) == (False, True)
        monkeypatch.undo()
        world.physics.propagation_ms = 0
        await end(backend, await backend.provision(order))


async def test_parts_that_a_delete_leaves_are_left_over_at_once(world):
    world.physics.ending_ms = 0
    async with opened(world) as backend:
        order = await order_of(world, backend)
        made_ms = world.physics.now_ms()
        await backend.cloud.create(order)
        for part in world.physics.leftovers():
            world.physics.put(evolve(part, dies_with_machine=False))
        await backend.cloud.discard(order, {})
        tell_time(world, made_ms)
        [machine] = (await backend.cloud.machines("")).values()
        world.arm.skew_ms = 0

        assert machine.stays
        await end(backend, machine)


@pytest.mark.parametrize("kind", [NIC, ADDRESS, DISK])
async def test_what_azure_leaves_behind_is_deleted(world, kind):
    async with opened(world) as backend:
        instance = await backend.provision(await order_of(world, backend))
        [part] = world.physics.resources(kind)
        world.physics.put(evolve(part, dies_with_machine=False))
        await end(backend, instance)


async def test_everything_left_behind_is_deleted_in_its_order(world):
    async with opened(world) as backend:
        instance = await backend.provision(await order_of(world, backend))
        for part in world.physics.leftovers():
            world.physics.put(evolve(part, dies_with_machine=False))
        await end(backend, instance)


async def test_a_machine_that_is_deleted_by_others_leaves_no_parts(world):
    async with opened(world) as backend:
        instance = await backend.provision(await order_of(world, backend))
        for part in world.physics.leftovers():
            world.physics.put(evolve(part, dies_with_machine=False))
        world.arm.machines.delete(instance.id)
        exit_ = await watched(backend, instance)
        assert exit_.cause is ExitCause.LOST
    async with opened(world) as backend:
        # Another process: a NIC and an address carry our tags, and tell of the machine that had them.
        await end(backend, instance)
        left = {one.kind for one in world.physics.leftovers()}
        assert left <= {DISK}
        for part in world.physics.leftovers():
            world.physics.remove(part.kind, part.id)


async def test_a_machine_on_demand_that_vanishes_is_lost(world):
    async with opened(world) as backend:
        instance = await backend.provision(await order_of(world, backend))
        await backend.list_owned()
        world.arm.machines.delete(instance.id)

        assert (await watched(backend, instance)).cause is ExitCause.LOST
        await end(backend, instance)


@pytest.mark.parametrize(("is_spot", "cause"), [(True, ExitCause.PREEMPTED), (False, ExitCause.LOST)])
async def test_a_list_of_machines_that_is_older_than_their_states_changes_no_cause(world, monkeypatch, is_spot, cause):
    world.reconfigure(spot=True)
    # Longer than a tick, so that one tick falls into it.
    world.physics.ending_ms = 3 * world.config.watch_ms
    async with opened(world) as backend:
        offer = next(one for one in await backend.offers() if one.spot is is_spot)
        instance = await backend.provision(world.order(offer))
        await backend.list_owned()
        older, newer = world.arm.machines.views(), world.arm.machines.views
        lists = iter([older])
        # The first tick has the list of before the end, and the states of after it.
        monkeypatch.setattr(world.arm.machines, "views", lambda: next(lists, None) or newer())
        world.physics.end(world.machine_of(instance.id).id, Why.PREEMPTED)

        assert (await watched(backend, instance)).cause is cause
        await end(backend, instance)
        assert next(lists, None) is None


async def test_a_machine_that_somebody_deallocates_is_told_as_terminated(world):
    async with opened(world) as backend:
        instance = await backend.provision(await order_of(world, backend))
        world.physics.end(world.machine_of(instance.id).id, Why.API, then=Then.DEALLOCATED)

        assert (await watched(backend, instance)).cause is ExitCause.TERMINATED
        await end(backend, instance)


async def test_a_deadline_while_the_bridge_is_down_stops_a_machine_that_goes_on_billing(world):
    async with opened(world) as backend:
        offer = (await backend.offers())[0]
        order = evolve(world.order(offer), ends_at=UtcMs(world.clock.utc_ms() + world.near_end_ms))
        instance = await backend.provision(order)
    await world.clock.sleep_ms(world.near_end_ms + 150_000)
    assert await world.running() == frozenset()
    assert world.billed() == {instance.id}
    assert backend.dead_mans_leaves_bill
    async with opened(world) as backend:
        assert await backend.find(order.token) is None
        exit_ = await watched(backend, instance)

        assert exit_.cause is ExitCause.DEADLINE
        assert "billing" in exit_.detail
        await end(backend, instance)


async def test_a_wrong_clock_of_the_bridge_makes_no_deadline_of_a_crash(world):
    async with opened(world) as backend:
        instance = await backend.provision(await order_of(world, backend))
        await world.jump_clock(10 * 3_600_000)
        await world.kill(instance.id)

        assert (await watched(backend, instance)).cause is ExitCause.EXITED
        await end(backend, instance)


async def test_an_image_that_is_gone_is_unservable(world):
    async with opened(world) as backend:
        order = await order_of(world, backend)
        world.arm.rules = evolve(world.arm.rules, images={})
        with pytest.raises(UnservableError):
            await backend.provision(order)


async def test_another_identity_does_nothing(world):
    world.tokens.principal = "33333333-3333-3333-3333-333333333333"
    async with world.open_backend() as backend:
        for call in (backend.fetch_catalog, backend.list_owned, backend.offers):
            with pytest.raises(CredentialsError) as caught:
                await call()
            assert "OtherIdentity" in str(caught.value)
    asked = {call.op for call in world.physics.calls}
    assert asked <= {"Configuration", "Token"}

"""What goes wrong at this vendor alone, beside test_fault_matrix, ends in one outcome; nothing is left of it."""

from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import anyio
import pytest
from attrs import evolve

from compute_bridge.cloud.watch import CAUSE_MS
from compute_bridge.model.resources import Posture
from compute_bridge.ports.backend import ExitCause
from compute_bridge.ports.errors import (
    NoCapacityError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.testing.physics.matter import Then, Why
from compute_bridge.testing.promises.situation import a_moment, end, make, settle, watching
from compute_bridge_gcp.testing.stock import SNP_ZONES, TDX_ZONES

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]

LONG_MS = 10**9


@pytest.fixture
async def backend(world):
    """Open a backend; whatever a test did, nothing may be left when it ends."""
    async with world.open() as backend:
        yield backend
        assert world.physics.existing() == ()
        assert world.physics.leftovers() == ()


async def offered(backend, *, shape="e2-standard-2", zone="europe-west4-a", spot=False):
    [offer] = [one for one in await backend.offers() if (one.shape, one.zone, one.spot) == (shape, zone, spot)]
    return offer


@pytest.fixture
async def order(world, backend):
    return world.order(await offered(backend))


@asynccontextmanager
async def refused(kind, scope=None):
    with pytest.raises(kind) as caught:
        yield caught
    assert kind is caught.type
    assert scope is None or scope is caught.value.scope


async def test_a_name_that_is_taken_is_met(world, backend, order):
    # As where the vendor has forgotten the request id of an attempt whose machine lives on.
    await world.start(order, request=str(uuid4()))
    instance = await make(world, backend, order)

    assert instance.token == order.token
    assert len(world.physics.made()) == 1
    await end(world, backend, instance.id)


@pytest.mark.parametrize(
    ("code", "kind", "scope"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", NoCapacityError, Scope.ZONE),
        ("QUOTA_EXCEEDED", QuotaError, Scope.REGION),
        ("INTERNAL_ERROR", NoCapacityError, Scope.OFFER),
        ("INVALID_USAGE", UnservableError, None),
    ],
)
async def test_an_accepted_create_that_fails_later_has_its_class(world, backend, order, code, kind, scope):
    world.physics.fail_next_launch(code)
    async with refused(kind, scope):
        await backend.provision(order)
    async with world.open() as other, refused(kind, scope):
        await other.provision(order)

    assert await backend.find(order.token) is None


async def test_a_create_that_fails_for_a_reason_that_nobody_knows_is_no_answer(world, backend, order):
    world.physics.fail_next_launch("SOMETHING_NEW")
    async with refused(UnavailableError):
        await backend.provision(order)

    assert await backend.find(order.token) is None


async def test_what_a_quota_has_no_room_for_is_not_offered(world, backend, order):
    assert await backend.offers()
    await world.use_up_quota()

    assert await backend.offers() == ()
    async with refused(QuotaError, Scope.REGION):
        await backend.provision(order)


@pytest.mark.parametrize(
    "answer", [(429, "rateLimitExceeded"), (403, "rateLimitExceeded"), (403, "userRateLimitExceeded")]
)
async def test_throttling_tells_how_long_to_wait(world, backend, order, answer):
    world.fake.throttled_as = answer
    await world.throttle()
    async with refused(ThrottledError) as caught:
        await backend.provision(order)
    await world.relent()

    assert caught.value.retry_after_s == 7
    assert world.physics.made() == ()


async def test_every_page_of_a_listing_is_read(world, backend):
    world.reconfigure(page_size=2)
    async with world.open() as paged:
        offer = await offered(paged)
        ids = {await world.start(world.order(offer)) for _ in range(5)}
        before = world.physics.count("aggregatedList")
        owned = {one.id for one in await paged.list_owned()}

        assert ids == owned
        assert world.physics.count("aggregatedList") - before == 3
        for instance in ids:
            await end(world, paged, instance)


async def test_a_zone_that_is_down_makes_the_listing_no_answer(world, backend, order):
    instance = await make(world, backend, order)
    async with watching(world, backend, instance.id) as [watch]:
        world.fake.go_down("us-central1-a")
        async with refused(UnavailableError):
            await backend.list_owned()
        world.fake.go_down("europe-west4-a")
        async with refused(UnavailableError):
            await backend.terminate(instance.id)
        await a_moment(world)
        assert watch.seen is None
        world.fake.come_back()
        await end(world, backend, instance.id)

        assert ExitCause.TERMINATED is (await watch.exit()).cause


async def test_a_zone_that_the_table_does_not_name_is_left_out_while_it_is_silent(world, backend, caplog):
    europe, _ = world.config.regions
    world.reconfigure(regions=(evolve(europe, zones=("europe-west4-a",)),), sev_snp_zones=SNP_ZONES[:1])
    async with world.open() as smaller:
        instance = await make(world, smaller, world.order(await offered(smaller)))
        world.go_down_in("europe-west4-b")
        owned = [[one.id for one in await smaller.list_owned()] for _ in range(2)]
        catalog = await smaller.fetch_catalog()
        told = caplog.text.count("cannot list machines in zones/europe-west4-b, which is left out")
        world.go_down_in("us-central1-a")
        owned += [[one.id for one in await smaller.list_owned()]]
        told_more = caplog.text.count("cannot list machines in zones/us-central1-a, which is left out")
        await end(world, smaller, instance.id)
    await world.come_back()

    assert [[instance.id]] * 3 == owned
    assert {"europe-west4-a"} == {row.zone for row in catalog.rows}
    assert (1, 1) == (told, told_more)


@pytest.mark.parametrize("zones", [(), ("europe-west4-a",)])
async def test_a_zone_that_the_table_names_is_missed_while_it_is_silent(world, backend, zones):
    europe, _ = world.config.regions
    world.reconfigure(regions=(evolve(europe, zones=zones),), sev_snp_zones=SNP_ZONES[:1])
    async with world.open() as smaller:
        world.go_down_in("europe-west4-a")
        for ask in (smaller.list_owned, smaller.fetch_catalog):
            async with refused(UnavailableError) as caught:
                await ask()
            assert "backend gcp-test: cannot list machine" in str(caught.value)
            assert "in zones/europe-west4-a: unreachable" in str(caught.value)
    await world.come_back()


@pytest.mark.parametrize("place", ["regions/us-central1", "somewhere/new"])
async def test_a_silent_place_that_is_no_zone_may_hold_a_machine_of_ours(world, backend, place):
    world.fake.unreachables = (place,)
    for ask in (backend.list_owned, backend.fetch_catalog):
        async with refused(UnavailableError) as caught:
            await ask()
        assert f"in {place}: unreachable" in str(caught.value)
    world.fake.unreachables = ()


async def test_a_zone_that_the_table_names_no_more_is_missed_where_a_machine_was_seen_in_it(world, backend):
    order = world.order(await offered(backend, zone="us-central1-a"))
    instance = await make(world, backend, order)
    world.reconfigure(regions=world.config.regions[:1], sev_snp_zones=SNP_ZONES[:1])
    async with world.open() as smaller:
        assert instance in await smaller.list_owned()
        world.go_down_in("us-central1-a")
        assert await smaller.offers()
        for ask in (smaller.list_owned, partial(smaller.find, order.token), partial(smaller.terminate, instance.id)):
            async with refused(UnavailableError):
                await ask()
        async with watching(world, smaller, instance.id) as [watch]:
            await a_moment(world)
            assert watch.seen is None
        await world.come_back()
        await end(world, smaller, instance.id)


async def test_a_machine_in_a_zone_that_the_table_names_no_more_stops_the_start(world, backend):
    europe, _ = world.config.regions
    offers = {one.zone: one for one in await backend.offers()}
    world.reconfigure(regions=(evolve(europe, zones=("europe-west4-a",)),), sev_snp_zones=SNP_ZONES[:1])
    async with world.open() as smaller:
        reached = {zone for zone, offer in offers.items() if smaller.reaches(offer)}

    assert {"europe-west4-a"} == reached


async def test_a_guest_that_powers_off_has_exited_and_its_disk_goes_with_it(world, backend, order):
    instance = await make(world, backend, order)
    async with watching(world, backend, instance.id) as [watch]:
        world.physics.shut_down(world.machine_of(instance.id).id)
        seen = await watch.exit()

    assert ExitCause.EXITED is seen.cause
    assert await backend.find(order.token) is None
    await end(world, backend, instance.id)


@pytest.mark.parametrize(("late_ms", "cause"), [(20_000, ExitCause.LOST), (10**9, ExitCause.EXITED)])
async def test_a_stop_whose_operation_is_late_is_told_by_it_and_not_waited_for_without_end(
    world, backend, order, late_ms, cause
):
    instance = await make(world, backend, order)
    world.fake.operations.late_ms = late_ms
    async with watching(world, backend, instance.id) as [watch]:
        await world.kill(instance.id)
        seen = await watch.exit()
    ended_ms = world.machine_of(instance.id).ended_ms
    await end(world, backend, instance.id)

    assert (seen.cause, seen.ended_at) == (cause, ended_ms)


async def test_a_stop_without_an_operation_is_told_before_the_watch_gives_up(world, backend, order):
    instance = await make(world, backend, order)
    world.fake.operations.late_ms = 10**9
    async with watching(world, backend, instance.id) as [watch]:
        await world.kill(instance.id)
        await world.let_pass(CAUSE_MS - 2000)
        seen = watch.seen
    await end(world, backend, instance.id)

    assert seen is not None
    assert seen.cause is ExitCause.EXITED


async def test_a_stop_that_takes_its_time_and_has_no_operation_is_told_before_the_watch_gives_up(world, backend, order):
    instance = await make(world, backend, order)
    world.fake.operations.late_ms = LONG_MS
    machine = world.machine_of(instance.id).id
    async with watching(world, backend, instance.id) as [watch]:
        # Not of a spot offer, so a mark is no preemption: the vendor shows it as stopping, until it has stopped.
        world.physics.preempt(machine, notice_ms=LONG_MS)
        world.physics.end(machine, Why.GUEST, then=Then.STOPPED, in_ms=CAUSE_MS // 3)
        seen = await watch.exit()
    ended_ms = world.machine_of(instance.id).ended_ms
    await end(world, backend, instance.id)

    assert (seen.cause, seen.ended_at) == (ExitCause.EXITED, ended_ms)


async def test_a_stop_that_takes_longer_than_that_is_told_by_its_operation(world, backend, order):
    instance = await make(world, backend, order)
    machine = world.machine_of(instance.id).id
    world.physics.preempt(machine, notice_ms=LONG_MS)
    world.physics.end(machine, Why.GUEST, then=Then.STOPPED, in_ms=CAUSE_MS * 4 // 5)
    async with watching(world, backend, instance.id) as [watch]:
        seen = await watch.exit()
    await end(world, backend, instance.id)

    assert (seen.cause, seen.detail) == (ExitCause.PREEMPTED, "by compute.instances.preempted")


async def test_a_preemption_whose_operation_is_late_is_told_as_one(world):
    world.reconfigure(spot=True)
    async with world.open() as backend:
        offer = next(one for one in await backend.offers() if one.spot)
        instance = await make(world, backend, world.order(offer))
        world.fake.operations.late_ms = 15_000
        async with watching(world, backend, instance.id) as [watch]:
            world.physics.preempt(world.machine_of(instance.id).id, notice_ms=30_000)
            seen = await watch.exit()
        await end(world, backend, instance.id)

    assert ExitCause.PREEMPTED is seen.cause


async def test_a_host_that_breaks_has_lost_the_machine(world, backend, order):
    instance = await make(world, backend, order)
    async with watching(world, backend, instance.id) as [watch]:
        await world.kill(instance.id)

        assert ExitCause.LOST is (await watch.exit()).cause
    await end(world, backend, instance.id)


async def test_a_confidential_machine_where_the_vendor_makes_none_benches_that_shape_alone(world, backend):
    world.reconfigure(tdx_zones=(*TDX_ZONES, "europe-west4-b"))
    async with world.open() as hopeful:
        offer = await offered(hopeful, shape="c3-standard-4", zone="europe-west4-b")
        assert Posture.TDX is offer.posture
        async with refused(NoCapacityError, Scope.OFFER):
            await hopeful.provision(world.order(offer))


async def test_a_trust_domain_is_made_where_the_vendor_makes_them(world, backend):
    instance = await make(world, backend, world.order(await offered(backend, shape="c3-standard-4")))
    asked = world.machine_of(instance.id).document["confidentialInstanceConfig"]

    assert asked == {"confidentialInstanceType": "TDX"}
    await end(world, backend, instance.id)


async def test_a_token_whose_machine_has_ended_is_used_up(world, backend, order):
    instance = await make(world, backend, order)
    await end(world, backend, instance.id)
    async with refused(UnservableError):
        await backend.provision(order)

    assert len(world.physics.made()) == 1


async def test_a_create_that_is_cancelled_on_the_wire_is_waited_for_and_undone(world, backend, order):
    gate = world.fake.hold_next("insert")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.provision, order)
        await gate.reached.wait()
        tasks.cancel_scope.cancel()
        gate.release()
    await settle(world, backend)

    assert [False] == [one.exists for one in world.physics.made()]


async def test_an_end_is_told_even_where_the_vendor_takes_no_filter(world, backend, order):
    instance = await make(world, backend, order)
    await end(world, backend, instance.id)
    world.fake.refuse_next("zoneOperations.list", 400, "invalid")

    assert ExitCause.TERMINATED is (await backend.watch_until_exit(instance.id)).cause


async def test_a_listing_that_is_refused_tells_nothing(world, backend, order):
    instance = await make(world, backend, order)
    for answer in [(404, "notFound"), (400, "invalid")]:
        world.fake.refuse_next("aggregatedList", *answer)
        async with refused(UnavailableError):
            await backend.find(order.token)
    world.fake.refuse_next("delete", 400, "invalid")
    async with refused(UnavailableError):
        await backend.terminate(instance.id)

    assert await world.running() == {instance.id}
    await end(world, backend, instance.id)

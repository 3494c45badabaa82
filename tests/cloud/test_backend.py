"""The backend over a cloud where the kit does not look: how often it asks, and what it does when a cloud misbehaves."""

from contextlib import asynccontextmanager

import anyio
import pytest
from attrs import evolve
from toycloud.cloud import ToyApi, ToyCloud
from toycloud.world import ToyWorld

from compute_bridge.cloud.backend import CloudBackend
from compute_bridge.model.ids import BackendName
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import BackendContext, ExitCause
from compute_bridge.ports.errors import (
    NoCapacityError,
    StopFailoverError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.toy import ZONES
from compute_bridge.testing.promises.situation import a_moment, end, watching

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]


class DeafWorld(ToyWorld):
    """A cloud whose machines run and take no login."""

    def make_physics(self):
        return Physics(self.clock, zones=ZONES)


@pytest.fixture
def world():
    with ToyWorld() as world:
        yield world


async def an_order(world, backend):
    return world.order((await backend.offers())[0])


@asynccontextmanager
async def opened(world, kind=ToyCloud, **changes):
    """Open a backend with another table, or over another cloud."""
    settings = evolve(world.settings(), **changes)
    context = BackendContext(BackendName("toy"), world.clock, lambda _: b"")
    backend = CloudBackend(context, settings, kind(context, settings, ToyApi(settings.port, world.secrets()[0])))
    backend.use_catalog(await backend.fetch_catalog())
    yield backend


async def test_a_lease_changes_the_account_twice(world):
    async with world.open() as backend:
        instance = await backend.provision(await an_order(world, backend))
        await backend.terminate(instance.id)

    assert [call.op for call in world.physics.calls if call.changes] == ["create", "delete"]
    assert world.physics.leftovers() == ()


async def test_watching_asks_no_more_for_many_leases_than_for_one(world):
    async with world.open() as backend, anyio.create_task_group() as tasks:
        instance = await backend.provision(await an_order(world, backend))
        for _ in range(200):
            tasks.start_soon(backend.watch_until_exit, instance.id)
        await anyio.sleep(0.1)
        began, before = world.clock.monotonic_ms(), world.physics.count("list")
        await anyio.sleep(0.5)
        ticks = (world.clock.monotonic_ms() - began) // 5000
        asked = world.physics.count("list") - before
        tasks.cancel_scope.cancel()

    assert 1 <= asked <= ticks + 2


async def test_a_launch_that_fails_after_it_was_accepted_keeps_its_class_and_leaves_nothing(world):
    world.physics.fail_next_launch("capacity", in_ms=3000)
    async with world.open() as backend:
        order = await an_order(world, backend)
        with pytest.raises(NoCapacityError):
            await backend.provision(order)
        found = await backend.find(order.token)

    assert found is None
    assert world.physics.existing() == ()


async def test_another_order_under_the_same_token_is_refused(world):
    async with world.open() as backend:
        order = await an_order(world, backend)
        instance = await backend.provision(order)
        with pytest.raises(UnservableError, match="token-mismatch"):
            await backend.provision(evolve(order, access=evolve(order.access, user="other")))

    assert await world.running() == {instance.id}


async def test_a_machine_that_takes_no_login_is_ended():
    with DeafWorld() as world:
        async with opened(world, ready_s=1) as backend:
            with pytest.raises(UnservableError, match="took no login within 1 s"):
                await backend.provision(await an_order(world, backend))

        assert await world.running() == frozenset()


async def test_what_cannot_be_cleaned_up_stops_the_failover():
    class Stuck(ToyCloud):
        async def discard(self, order, machines):
            raise UnavailableError("backend toy: no answer")

    with DeafWorld() as world:
        async with opened(world, Stuck, ready_s=1) as backend:
            with pytest.raises(StopFailoverError, match="may be left behind"):
                await backend.provision(await an_order(world, backend))


async def test_a_create_that_no_listing_ever_shows_concludes_nothing():
    with ToyWorld(propagation_ms=10**9) as world:
        async with opened(world, window_ms=1000) as backend:
            with pytest.raises(UnavailableError, match="in no listing"):
                await backend.provision(await an_order(world, backend))

        assert len(await world.running()) == 1


class Forgetful(ToyCloud):
    """A cloud of which one listing misses every machine, once ``forgets`` is set."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.forgets, self.missed = False, anyio.Event()

    async def machines(self, place):
        found = await super().machines(place)
        if not self.forgets:
            return found
        self.forgets = False
        self.missed.set()
        return {}


async def test_a_machine_that_one_listing_misses_has_not_ended(world):
    async with opened(world, Forgetful, window_ms=20_000) as backend:
        instance = await backend.provision(await an_order(world, backend))
        async with watching(world, backend, instance.id) as [watch]:
            backend._cloud.forgets = True
            await backend._cloud.missed.wait()
            await backend.places.of(instance.id).until(lambda machines: instance.id in machines or None)
            await a_moment(world)
            assert watch.seen is None
            await end(world, backend, instance.id)

            assert (await watch.exit()).cause is ExitCause.TERMINATED


@pytest.mark.parametrize(
    ("befall", "cause"),
    [
        (Physics.preempt, ExitCause.PREEMPTED),
        (Physics.kill, ExitCause.LOST),
        (Physics.shut_down, ExitCause.EXITED),
        (Physics.end, ExitCause.TERMINATED),
    ],
)
async def test_an_end_is_told_by_the_clouds_record(world, befall, cause):
    async with world.open() as backend:
        instance = await backend.provision(await an_order(world, backend))
        befall(world.physics, instance.id)
        exit_ = await backend.watch_until_exit(instance.id)

    [machine] = world.physics.made()
    assert (exit_.cause, exit_.ended_at) == (cause, machine.ended_ms)


async def test_a_machine_of_which_nobody_knows_when_it_ended_has_no_usage_until_now(world):
    """A bridge would take it for the last time that the machine was seen, and bill the time since its end."""

    class Forgetful(ToyCloud):
        async def machines(self, place):
            machines = await super().machines(place)
            return {
                id_: evolve(one, exit=one.exit and evolve(one.exit, ended_at=UtcMs(0))) for id_, one in machines.items()
            }

    async with opened(world, Forgetful) as backend:
        instance = await backend.provision(await an_order(world, backend))
        alive = await backend.usage(instance.id)
        await world.kill(instance.id)
        await backend.watch_until_exit(instance.id)

        assert alive.wall_ms.value > 0
        with pytest.raises(UnavailableError, match="nothing tells when"):
            await backend.usage(instance.id)


async def test_two_owners_in_one_account_do_not_see_each_other(world):
    async with world.open() as ours, opened(world, owner="others") as theirs:
        order = await an_order(world, ours)
        instance = await ours.provision(order)
        owned = await theirs.list_owned()
        found = await theirs.find(order.token)
        await theirs.terminate(instance.id)

    assert (owned, found) == ((), None)
    assert await world.running() == {instance.id}


async def test_a_spot_row_makes_a_spot_machine(world):
    async with world.open() as backend:
        offer = next(offer for offer in await backend.offers() if offer.spot)
        await backend.provision(world.order(offer))

    assert [machine.spot for machine in world.physics.existing()] == [True]


async def test_a_region_is_sold_under_the_markets_word_and_made_under_the_clouds(world):
    async with opened(world, sold_as={"toy-north": "eu"}) as backend:
        offer = next(one for one in await backend.offers() if one.region == "eu")
        reached = backend.reaches(offer)
        instance = await backend.provision(world.order(offer))
        (machine,) = world.physics.existing()
        await backend.terminate(instance.id)

    assert ("toy-north", True) == (machine.region, reached)
    assert {"eu", "toy-south"} == {capability.region for capability in backend.capabilities()}


async def test_two_regions_of_one_backend_are_not_sold_under_one_word(world):
    with pytest.raises(ValueError, match="two regions are sold as eu"):
        evolve(world.settings(), sold_as={"toy-north": "eu", "toy-south": "eu"})

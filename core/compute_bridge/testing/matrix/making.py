"""What goes wrong while a machine is made."""

from functools import partial

import pytest

from compute_bridge.ports.backend import Backend, Instance, Offer, Order
from compute_bridge.ports.errors import (
    BackendError,
    NoCapacityError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
)
from compute_bridge.ports.remains import SupportsRemains
from compute_bridge.testing.matrix.situation import CloudSituation, abandons, offers_of, place_of
from compute_bridge.testing.physics.world import CloudWorld
from compute_bridge.testing.promises.situation import a_moment, end, make, patience, power, settle, tasks_of_a_test

_RETRY_AFTER_S = 7
_BOOTED_MS = 20_000


class MakingFaults(CloudSituation):
    """Lost answers, duplicates, failures that come late, no room, throttling, slowness, listings that are behind."""

    async def test_a_lost_reply_is_met_by_its_token(self, world: CloudWorld, backend: Backend, order: Order) -> None:
        """The cloud made the machine and the answer was lost: the same order meets that machine.

        Troubleshooting: send the order's token, or a name made of it, with the create.
        """
        await _lose_the_answer(world, backend, order)
        instance = await make(world, backend, order)

        assert [machine.name for machine in world.physics.made()] == [order.ownership.name], "it was made twice"
        await end(world, backend, instance.id)

    async def test_a_lost_reply_is_sent_once(self, world: CloudWorld, backend: Backend, order: Order) -> None:
        """A create whose answer was lost is not sent again by the SDK; ``find`` tells what came of it.

        Troubleshooting: switch the SDK's retries off for the create; the host retries, with the same token.
        """
        await _lose_the_answer(world, backend, order)
        sent = world.physics.count(world.create_call)
        await settle(world, backend)
        found = await backend.find(order.token)

        assert sent == 1, f"the create was sent {sent} times"
        assert found is not None, "the machine whose answer was lost is not found"
        await end(world, backend, found.id)

    async def test_a_duplicate_create_meets_the_first_machine(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """A create that is sent again by another process, though its machine runs, makes nothing.

        Troubleshooting: the cloud's "exists already" is an answer, not an error.
        """
        instance = await make(world, backend, order)
        async with world.open() as other:
            again = await make(world, other, order)
        sent = world.physics.count(world.create_call)

        assert again == instance, f"the duplicate returned {again} after {instance}"
        assert sent == 2, "the second process did not send its create: looking first is a race"
        assert len(world.physics.made()) == 1, "the duplicate made another machine"
        await end(world, backend, instance.id)

    async def test_a_create_that_fails_late_is_told_and_leaves_nothing(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """A create that was accepted and then failed raises what its code means, and leaves nothing of it.

        Troubleshooting: read why from the machine or from its operation, and delete what stands of it.
        """
        for code, kind in world.late_failures.items():
            world.physics.fail_next_launch(code)
            await _refused(world, backend, world.order(order.offer), kind)
            await settle(world, backend)

            assert await backend.list_owned() == (), f"a create that failed with {code} is still listed"
            assert world.physics.leftovers() == (), f"a create that failed with {code} left something behind"

    async def test_what_failed_while_nobody_looked_remains_until_it_is_terminated(
        self, world: CloudWorld, backend: Backend, offer: Offer
    ) -> None:
        """A create whose answer was lost, and that failed afterwards, is told among the remains if it stands.

        Troubleshooting: what is called failed, or ended by half, stands until it is deleted; tell it by its tags.
        """
        remaining = power(backend, SupportsRemains)
        for code in world.late_failures:
            world.physics.fail_next_launch(code)
            await _lose_the_answer(world, backend, world.order(offer))
            await world.let_pass(_BOOTED_MS)
            await settle(world, backend)
            told, standing = {one.id for one in await remaining.list_remains()}, await world.standing()
            for one in told:
                await end(world, backend, one)

            assert told == standing, f"{sorted(told)} is told to remain, and {sorted(standing)} stands after {code}"
            assert await world.standing() == frozenset(), f"terminate() returned, and what failed with {code} stands"

    async def test_capacity_ends_zone_by_zone(self, world: CloudWorld, backend: Backend, order: Order) -> None:
        """Without capacity in one zone that zone refuses, once, and another one serves.

        Troubleshooting: the scope is the zone at most; a lack of capacity that comes as an HTTP 500 is no silence.
        """
        place = place_of(order.offer)
        world.physics.exhaust(place)
        error = await _refused(world, backend, order, NoCapacityError)
        sent = world.physics.count(world.create_call)
        other = next(one for one in await offers_of(world, backend) if place_of(one) != place)
        instance = await make(world, backend, world.order(other))

        assert isinstance(error, NoCapacityError)
        assert error.scope in (Scope.OFFER, Scope.ZONE), f"a zone without capacity is told as one of the {error.scope}"
        assert sent == 1, f"the create was sent {sent} times"
        await end(world, backend, instance.id)

    async def test_a_quota_is_of_a_region_or_the_account(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """A quota that is used up is told as one, of the region at least, and the create is sent once.

        Troubleshooting: tell quotas by their codes; classes of the SDK put them together with refused credentials.
        """
        await world.use_up_quota()
        error = await _refused(world, backend, order, QuotaError)
        sent = world.physics.count(world.create_call)

        assert isinstance(error, QuotaError)
        assert error.scope in (Scope.REGION, Scope.ACCOUNT), f"a quota of a region is told as one of the {error.scope}"
        assert sent == 1, f"the create was sent {sent} times"

    async def test_throttling_says_for_how_long(self, world: CloudWorld, backend: Backend, order: Order) -> None:
        """Throttled with ``Retry-After: 7``, the create is sent once and tells the 7 s; after them it works.

        Troubleshooting: read the header; let the SDK neither wait nor retry by itself.
        """
        world.physics.throttle(retry_after_s=_RETRY_AFTER_S)
        error = await _refused(world, backend, order, ThrottledError)
        asked = world.physics.count()
        await world.let_pass(_RETRY_AFTER_S * 1000)
        meanwhile = world.physics.count() - asked
        await world.relent()
        instance = await make(world, backend, order)

        assert isinstance(error, ThrottledError)
        assert error.retry_after_s == _RETRY_AFTER_S, f"Retry-After: 7 is told as {error.retry_after_s}"
        assert meanwhile == 0, "the cloud was asked again before its time"
        assert world.physics.count(world.create_call, changes=True) <= 2, "a throttled create was sent again"
        await end(world, backend, instance.id)

    async def test_a_slow_create_that_is_cancelled_is_waited_for(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """A create that takes two minutes, cancelled meanwhile, is not abandoned: what it makes in the end is ended.

        Troubleshooting: make changing calls in a worker thread that cancellation waits for.
        """
        await make_ready(world, backend)
        call = partial(backend.provision, order)
        was_abandoned = await abandons(world, backend, world.create_call, call, "end a cancelled provision")
        await settle(world, backend)

        assert not was_abandoned, "the create was abandoned while it was under way"
        assert await world.running() == frozenset(), "what a cancelled create made in the end runs on"
        assert await backend.find(order.token) is None, "find() tells of what a cancelled create made"

    async def test_a_create_that_is_cancelled_before_it_is_listed_leaves_nothing(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """A create that is cancelled while no listing shows its machine yet is ended all the same.

        Troubleshooting: wait out the consistency window before you conclude that nothing was made.
        """
        world.physics.propagation_ms = _behind_ms(backend)
        held = await world.hold_next_create()
        async with patience(world, "end a cancelled provision"), tasks_of_a_test() as tasks:
            tasks.start_soon(backend.provision, order)
            await held.reached.wait()
            tasks.cancel_scope.cancel()
            held.release()

        assert await world.running() == frozenset(), "a machine that no listing showed yet was left running"

    async def test_a_machine_that_no_listing_shows_yet_is_not_lost(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """Not found straight after its create, a machine is waited for within the window, and ended when asked.

        Troubleshooting: absence means gone only beyond the consistency window.
        """
        world.physics.propagation_ms = _behind_ms(backend)
        async with patience(world, "provision"):
            instance = await backend.provision(order)
        running = await world.running()
        async with world.open() as other:
            await end(world, other, instance.id)

        assert running == {instance.id}, "the machine that was returned is not the one that runs"
        assert len(world.physics.made()) == 1, "a machine that no listing showed yet was made again"

    async def test_a_machine_that_takes_no_login_yet_is_waited_for(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """Running is not ready: until the guest shows the order's host key ``provision`` does not return.

        Troubleshooting: dial the machine and compare its host key with the order's.
        """
        made: list[Instance] = []

        async def provision() -> None:
            made.append(await backend.provision(order))

        held = world.physics.hold_next_login()
        async with patience(world, "provision"), tasks_of_a_test() as tasks:
            tasks.start_soon(provision)
            await held.reached.wait()
            await world.let_pass(_BOOTED_MS)
            await a_moment(world)
            is_early = bool(made)
            held.release()
        await end(world, backend, made[0].id)

        assert not is_early, "provision returned a machine that takes no login"

    async def test_a_machine_that_dies_before_its_login_leaves_nothing(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """A machine that crashes before it was ready is a definite failure, and nothing of it is left.

        Troubleshooting: what has ended by itself may still stand, and bill: delete it before you raise.
        """
        held = world.physics.hold_next_login()
        async with patience(world, "fail"), tasks_of_a_test() as tasks:
            tasks.start_soon(_refused, world, backend, order, BackendError)
            await held.reached.wait()
            await world.let_pass(_BOOTED_MS)
            [machine] = world.physics.made()
            world.physics.kill(machine.id)
        await settle(world, backend)

        assert await backend.list_owned() == (), "a machine that died before it was ready is still listed"


async def make_ready(world: CloudWorld, backend: Backend) -> None:
    """Provision once and end it, so that what leases share is there and the create is the next changing call."""
    [offer, *_] = await offers_of(world, backend)
    await end(world, backend, (await make(world, backend, world.order(offer))).id)


def _behind_ms(backend: Backend) -> int:
    return backend.consistency_window_ms * 3 // 4


async def _lose_the_answer(world: CloudWorld, backend: Backend, order: Order) -> None:
    await world.lose_next_answer()
    await _refused(world, backend, order, UnavailableError)


async def _refused(world: CloudWorld, backend: Backend, order: Order, kind: type[BackendError]) -> BackendError:
    with pytest.raises(kind) as caught:
        async with patience(world, "fail"):
            await backend.provision(order)
    return caught.value

"""What goes wrong while an account is looked at."""

import logging

import pytest

from compute_bridge.ports.backend import Backend, ExitCause, Instance, Offer, Order
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.ports.errors import BackendError, CredentialsError, UnavailableError
from compute_bridge.testing.matrix.situation import CloudSituation, offers_of, place_of, silent_ms, slow_ms
from compute_bridge.testing.physics.world import CloudWorld, SupportsClosedRegions, SupportsPages
from compute_bridge.testing.promises.situation import (
    a_moment,
    end,
    make,
    patience,
    power,
    settle,
    tasks_of_a_test,
    watching,
)

_PAGE = 3


class SeeingFaults(CloudSituation):
    """Credentials that expire, pages, places that are silent or closed, slow listings, and another bridge."""

    async def test_credentials_that_expire_mid_life_are_told_and_end_nothing(
        self, world: CloudWorld, backend: Backend, instance: Instance, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Refused while a machine lives, every call says so, the watch warns the operator, and nothing is ended.

        Once they are accepted again the watch goes on, and says that too.

        Troubleshooting: a 401 is ``CredentialsError``, whatever was asked; a watch waits it out.
        """
        caplog.set_level(logging.INFO)
        async with watching(world, backend, instance.id) as [watch]:
            await world.refuse_credentials()
            calls = (backend.list_owned, lambda: backend.find(instance.token), lambda: backend.terminate(instance.id))
            for call in calls:
                with pytest.raises(CredentialsError, match=str(backend.name)):
                    await call()
            await world.let_pass(silent_ms(backend))
            seen, running = watch.seen, await world.running()
            loud = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
            await world.accept_credentials()
            await world.let_pass(silent_ms(backend))
            await end(world, backend, instance.id)
            exit_ = await watch.exit()

        assert seen is None, f"refused credentials were taken for an end: {seen}"
        assert running == {instance.id}, "refused credentials changed what runs"
        assert any(str(backend.name) in line and "cannot see instances" in line for line in loud), (
            f"no warning tells the operator that backend {backend.name} sees nothing any more: {loud}"
        )
        assert "answers again" in caplog.text, "nobody tells that the credentials are accepted again"
        assert exit_.cause is ExitCause.TERMINATED, "the watch missed the end after the credentials were accepted"

    async def test_pages_of_three_are_all_read(self, world: CloudWorld) -> None:
        """With three machines a page, four are listed, found and ended.

        Troubleshooting: follow the cloud's page token to its end, in every list.
        """
        power(world, SupportsPages).page_by(_PAGE)
        async with world.open() as backend:
            [offer, *_] = await offers_of(world, backend)
            made = await _make_all(world, backend, [offer] * (_PAGE + 1))
            owned = {one.id for one in await backend.list_owned()}
            for instance in made:
                await end(world, backend, instance.id)

        assert owned == {one.id for one in made}, f"of {len(made)} machines {len(owned)} are listed"

    async def test_every_place_is_listed(self, world: CloudWorld, backend: Backend, order: Order) -> None:
        """Machines in two regions, or two zones where there is one region, are listed by one call.

        Troubleshooting: ask every region that the table names.
        """
        other = await _elsewhere(world, backend, order.offer)
        made = await _make_all(world, backend, [order.offer, other])
        owned = {one.id for one in await backend.list_owned()}
        for instance in made:
            await end(world, backend, instance.id)

        assert owned == {one.id for one in made}, (
            f"of a machine in {place_of(order.offer)} and one in {place_of(other)} {owned} are listed"
        )

    async def test_a_silent_place_is_not_taken_for_empty(
        self, world: CloudWorld, backend: Backend, instance: Instance, order: Order
    ) -> None:
        """Where the machine's own place does not answer, it is still listed or the listing fails, and no watch ends.

        Troubleshooting: a listing that lacks one place is no listing.
        """
        async with watching(world, backend, instance.id) as [watch]:
            for place in {order.offer.region, order.offer.zone}:
                if place:
                    world.go_down_in(place)
            told = await _told(backend)
            await world.let_pass(silent_ms(backend))
            seen = watch.seen
        await world.come_back()
        await end(world, backend, instance.id)

        assert told in ([instance.id], None), f"with one place silent the account is told to have {told}"
        assert seen is None, f"a silent place was taken for an end: {seen}"

    async def test_a_slow_listing_that_is_cancelled_holds_nobody_up(
        self, world: CloudWorld, backend: Backend, instance: Instance
    ) -> None:
        """A listing that takes two minutes, cancelled meanwhile, ends at once, and the next one tells the truth.

        Troubleshooting: a call that changes nothing may be abandoned; leave no lock held behind it.
        """
        slow = world.physics.hold_next_call(world.list_call)
        async with patience(world, "end a cancelled listing"), tasks_of_a_test() as tasks:
            tasks.start_soon(backend.list_owned)
            await slow.reached.wait()
            await world.let_pass(slow_ms(backend))
            tasks.cancel_scope.cancel()
        async with patience(world, "list again"):
            owned = [one.id for one in await backend.list_owned()]
        slow.release()
        running = await world.running()
        await end(world, backend, instance.id)

        assert owned == [instance.id], f"after a listing that was cancelled {owned} is told"
        assert running == {instance.id}, "a listing that was cancelled changed what runs"

    async def test_a_region_that_is_closed_is_left_out_of_the_catalog(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """A region that the account may not use refuses orders and is declared no more; the others are, as before.

        Troubleshooting: read the catalog region by region, and leave such a one out.
        """
        regions = power(world, SupportsClosedRegions)
        catalog = power(backend, SupportsCatalog)
        other = await _elsewhere(world, backend, order.offer)
        regions.close_region(other.region)
        with pytest.raises(BackendError):
            async with patience(world, "refuse the order"):
                await backend.provision(world.order(other))
        catalog.use_catalog(await catalog.fetch_catalog())
        declared = {capability.region for capability in backend.capabilities()}

        assert other.region not in declared, f"{other.region} is closed to the account and declared all the same"
        assert order.offer.region in declared, f"with {other.region} closed {order.offer.region} is not declared either"

    async def test_two_bridges_that_share_an_account_leave_each_other_alone(
        self, world: CloudWorld, backend: Backend, instance: Instance
    ) -> None:
        """Two owners in one account list, find, and end their own machines, and never the other's.

        Troubleshooting: filter by the owner's tag in every list, and end nothing that no list of yours shows.
        """
        world.reconfigure(owner="another-bridge")
        async with world.open() as other:
            [offer, *_] = await offers_of(world, other)
            theirs = await make(world, other, world.order(offer))
            listed = [[one.id for one in await side.list_owned()] for side in (backend, other)]
            found = [await other.find(instance.token), await backend.find(theirs.token)]
            await other.terminate(instance.id)
            await backend.terminate(theirs.id)
            running = await world.running()
            await end(world, other, theirs.id)
        await end(world, backend, instance.id)

        assert listed == [[instance.id], [theirs.id]], f"the two bridges list {listed}"
        assert found == [None, None], f"a bridge finds the other's machine: {found}"
        assert running == {instance.id, theirs.id}, "a bridge ended the other's machine"


async def _make_all(world: CloudWorld, backend: Backend, offers: list[Offer]) -> list[Instance]:
    made: list[Instance] = []

    async def provision(offer: Offer) -> None:
        made.append(await backend.provision(world.order(offer)))

    async with patience(world, "provision"), tasks_of_a_test() as tasks:
        for offer in offers:
            tasks.start_soon(provision, offer)
    await settle(world, backend)
    await a_moment(world)
    return made


async def _elsewhere(world: CloudWorld, backend: Backend, offer: Offer) -> Offer:
    others = [one for one in await offers_of(world, backend) if place_of(one) != place_of(offer)]
    return next((one for one in others if one.region != offer.region), others[0])


async def _told(backend: Backend) -> list[str] | None:
    try:
        return [one.id for one in await backend.list_owned()]
    except UnavailableError:
        return None

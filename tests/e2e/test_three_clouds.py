"""One bridge over AWS, GCP, Azure and a shelf of its own: where one has nothing, the next serves, and all is told.

The clouds are wire-level fakes, driven through their real SDKs; guests are real SSH servers.
"""

from contextlib import AsyncExitStack

import anyio
import pytest
from attrs import evolve
from manyclouds import AWS, AZURE, EU, GCP, SHELF, clouds

from compute_bridge.cloud.settings import HostKey
from compute_bridge.cloud.ssh import shown_host_key
from compute_bridge.host.explain import explain
from compute_bridge.host.offer_index import RouteQuestion
from compute_bridge.host.routing import Router
from compute_bridge.model.control import ControlAction
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Posture
from compute_bridge.model.units import MicrosPerHour
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.clock import poll
from compute_bridge_routing.policies import (
    AvailabilityFirst,
    AvailabilityFirstConfig,
    Cheapest,
    CheapestConfig,
)
from crashkit.coalition import Coalition, found, late_machine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300), pytest.mark.needs("sshd")]

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)
LEASE_MS = 4 * 3_600_000


class CloudyCoalition(Coalition):
    """A coalition whose bridges sell every cloud."""

    async def open_backends(self, stack: AsyncExitStack) -> list[Backend]:
        """Open all of them."""
        opened: list[Backend] = await self.cloud.open_backends(stack)
        return opened

    def kind_of(self, backend: Backend) -> str:
        """Return the kind, which is the name here, but for the shelf."""
        return "memory" if backend.name == SHELF else backend.name


@pytest.fixture
def speed():
    return 20


@pytest.fixture
def table():
    return {}


@pytest.fixture
def accounts(speed, table):
    with clouds(speed=speed, **table) as accounts:
        yield accounts


@pytest.fixture
async def coalition(tmp_path, accounts):
    made = await found(tmp_path, accounts, made=CloudyCoalition, currency="USD")
    async with made.market():
        yield made


def cheapest(parts):
    return evolve(parts, router=evolve(parts.router, policy=Cheapest(CheapestConfig())))


def looking_once(parts):
    """Let a bridge ask for offers at its start alone: one that asks again sees the quota before it is refused."""
    bridge = evolve(parts.boot.bridge, refresh_s=600)
    return evolve(parts, boot=evolve(parts.boot, bridge=bridge))


def wanted(coalition):
    manifest = coalition.manifest(duration_ms=LEASE_MS)
    return evolve(manifest, requirements=evolve(manifest.requirements, regions=(EU,)))


async def served(coalition, requester):
    """Return the handle of a request that a bridge has served."""
    handle = await requester.submit(wanted(coalition), MAX_RATE, SSH_KEY)
    return handle, await requester.serve_until_receipt(handle)


async def routed(bridge, requester, access):
    """Return what the journal tells of the route of a lease."""
    (story,) = await explain(
        bridge.parts.journal,
        access.grant.value.id.hex(),
        domain=requester.market.domain,
        module_key=requester.market.config.signing_key,
        provider_fee=requester.market.config.provider_fee,
    )
    return [line for line in story.lines if line.event == "routed"]


async def backends_in_use(coalition):
    return sorted(one.split()[0] for one in await coalition.cloud.running())


async def end(coalition, requester, *handles) -> None:
    """Release leases and wait until nothing of them is left anywhere."""
    for handle in handles:
        await requester.control(handle, ControlAction.RELEASE)

    async def gone():
        return True if not await coalition.cloud.running() and not await coalition.cloud.leftovers() else None

    with anyio.fail_after(60):
        await poll(coalition.clock, 2000, gone)


@pytest.mark.needs("root")
@pytest.mark.parametrize("table", [{"host_key": HostKey.ROTATED}], ids=["rotated"])
@pytest.mark.parametrize("cloud", [AWS, GCP, AZURE])
async def test_a_receipt_names_the_host_key_that_no_cloud_has_seen(coalition, cloud) -> None:
    worlds, requester = coalition.cloud.worlds, coalition.requester()
    for name in {AWS, GCP, AZURE} - {cloud}:
        worlds[name].physics.exhaust()
    await worlds[SHELF].exhaust()
    async with coalition.bridge("one", wrap=looking_once):
        handle, access = await served(coalition, requester)
        receipt = access.receipt.value
        shown = await shown_host_key(receipt.host, receipt.port, within_s=20)
        [machine] = worlds[cloud].physics.existing()
        await end(coalition, requester, handle)

    assert (receipt.host_key_source, receipt.host_key) == ("rotated", shown)
    assert receipt.host_key.split()[1] not in machine.user_data.decode()


# A quota's bench of five minutes has to outlast a restart of the bridge, also on a busy machine.
@pytest.mark.parametrize("speed", [8])
async def test_what_one_cloud_lacks_the_next_serves_and_every_candidate_is_told_of(coalition) -> None:
    worlds, requester = coalition.cloud.worlds, coalition.requester()
    async with coalition.bridge("one", wrap=looking_once) as bridge:
        worlds[AWS].physics.exhaust()
        worlds[GCP].physics.exhaust("europe-west4-a")
        worlds[GCP].physics.exhaust("europe-west4-b")
        worlds[AZURE].physics.use_up_quota()
        first, access = await served(coalition, requester)
        lines = await routed(bridge, requester, access)
        calls = {name: len(worlds[name].physics.made()) for name in (AWS, GCP, AZURE)}
        benched = {(one.backend, one.reason) for one in bridge.parts.fleet.bench_state()}

        assert [SHELF] == await backends_in_use(coalition)
        told = {line.text.split(":")[0].split("/")[0] for line in lines}
        assert {AWS, GCP, AZURE, SHELF} == told
        assert Reason.ROUTED.value in {line.reason for line in lines if line.text.startswith(SHELF)}
        lost = {line.reason for line in lines if not line.text.startswith(SHELF)}
        assert lost >= {Reason.NO_CAPACITY.value, Reason.QUOTA.value}
        assert {AWS: 0, GCP: 0, AZURE: 0} == calls
        assert (AZURE, Reason.QUOTA) in benched
    # A start later what was used up is not asked again yet, though it could serve by now.
    worlds[AZURE].physics.restore_quota()
    async with coalition.bridge("one") as again:
        asked = {name: worlds[name].physics.count(changes=True) for name in (AWS, GCP, AZURE)}
        still = {one.backend for one in again.parts.fleet.bench_state() if one.reason is Reason.QUOTA}
        second, access = await served(coalition, requester)
        lines = await routed(again, requester, access)

        assert {AZURE} == still
        assert asked[AZURE] == worlds[AZURE].physics.count(changes=True)
        assert Reason.BENCHED.value in {line.reason for line in lines if line.text.startswith(AZURE)}
        await end(coalition, requester, first, second)


async def test_each_cloud_serves_in_the_order_of_the_boot_file_as_the_ones_before_it_sell_out(coalition) -> None:
    worlds, requester, handles, used = coalition.cloud.worlds, coalition.requester(), [], []
    async with coalition.bridge("one") as bridge:
        for name in (AWS, GCP, AZURE):
            handle, access = await served(coalition, requester)
            handles.append(handle)
            (line,) = [one for one in await routed(bridge, requester, access) if one.reason == Reason.ROUTED]
            used.append(line.text.split("/")[0])
            worlds[name].physics.exhaust()

        assert [AWS, GCP, AZURE] == used
        assert [AWS, AZURE, GCP] == await backends_in_use(coalition)
        await end(coalition, requester, *handles)
        assert frozenset() == await coalition.cloud.leftovers()


@pytest.mark.parametrize("cloud", [GCP, AZURE])
async def test_what_was_powered_off_and_belongs_to_no_lease_is_reaped(coalition, cloud) -> None:
    requester, world = coalition.requester(), coalition.cloud.worlds[cloud]
    async with coalition.bridge("one", intent_window_s=60, sweep_every_s=20) as bridge:
        handle, access = await served(coalition, requester)
        await end(coalition, requester, handle)
        stray = await late_machine(world, bridge, access.grant)
        # As its own timer does once a bridge with the journal is gone: it stops, and is billed until it is deleted.
        await world.power_off(stray.id)

        async def reaped():
            return bridge.reconciler.reaped or None

        with anyio.fail_after(60):
            await poll(coalition.clock, 2000, reaped)

        assert frozenset() == await world.standing()
        assert frozenset() == await world.leftovers()


async def test_price_first_goes_back_to_the_cheapest_and_availability_first_to_what_was_never_lacking(
    coalition,
) -> None:
    async with coalition.bridge("one", wrap=cheapest) as bridge:
        fleet, requester = bridge.parts.fleet, coalition.requester()
        manifest = wanted(coalition)
        question = RouteQuestion(manifest.requirements, manifest.image, EU, Posture.NONE)

        def first(policy):
            router = Router(fleet, policy, coalition.clock, bridge.parts.router.provider_fee)
            return router.rank(list(fleet.candidates(question, policy.preference)))[0].offer

        price, availability = Cheapest(CheapestConfig()), AvailabilityFirst(AvailabilityFirstConfig())
        best = first(price)
        await coalition.cloud.worlds[SHELF].use_up_quota()
        handle, _ = await served(coalition, requester)
        used = await backends_in_use(coalition)
        await coalition.cloud.worlds[SHELF].replenish()

        async def over():
            return True if fleet.bench_of(best) is None else None

        with anyio.fail_after(60):
            await poll(coalition.clock, 100, over)
        again, elsewhere = first(price), first(availability)

        assert [AWS] == used
        assert (SHELF, SHELF, AWS) == (best.backend, again.backend, elsewhere.backend)
        await end(coalition, requester, handle)

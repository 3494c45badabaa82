"""A lease ends at its end and hears its requester, whatever stays silent, stays broken or is killed beside it."""

from contextlib import AsyncExitStack, aclosing
from functools import partial

import anyio
import pytest
from attrs import define, evolve, field

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.host.bridge import Bridge
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.lease_state import Ended, LeaseState, Released, read_facts
from compute_bridge.host.requester_state import NotYetError
from compute_bridge.host.status import answer
from compute_bridge.host.sweep import NotServingError
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.model.usage import Figure, UsageMetrics, UsageSource
from compute_bridge.ports.clock import Clock, poll
from compute_bridge.ports.errors import (
    BooksUnwritableError,
    CredentialsError,
    MarketError,
    NetworkError,
    UnavailableError,
)
from compute_bridge.ports.journal import JournalUnwritableError
from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit.coalition import SSH_KEY, Coalition, found, serve_or_not

pytestmark = pytest.mark.anyio

MAX_RATE = MicrosPerHour(10**9)


@pytest.fixture
async def coalition(tmp_path) -> Coalition:
    return await found(tmp_path, MemoryCloud(), made=Coalition)


async def submit(coalition, duration_ms):
    requester = coalition.requester()
    manifest = coalition.manifest(duration_ms=duration_ms)
    return requester, await requester.submit(manifest, MAX_RATE, SSH_KEY, open_ms=Milliseconds(600_000))


async def lease(coalition, duration_ms):
    requester, handle = await submit(coalition, duration_ms)
    return requester, handle, (await requester.serve_until_receipt(handle)).grant.value


async def are_gone(cloud):
    return True if not await cloud.running() else None


async def is_closed(bridge):
    return None if bridge.provider.leases else True


async def wait(coalition, probe):
    with anyio.fail_after(60):
        return await poll(coalition.clock, 1000, probe)


class StopsAfter:
    """A journal that keeps its caller waiting after an event of one kind, until the bridge is killed."""

    def __init__(self, journal, kind: str) -> None:
        self._journal = journal
        self._kind = kind
        self.reached = anyio.Event()

    def __getattr__(self, name: str):
        return getattr(self._journal, name)

    async def record(self, *drafts):
        events = await self._journal.record(*drafts)
        if drafts[0].kind == self._kind:
            self.reached.set()
            await anyio.sleep_forever()
        return events


def stopping(stops, kind):
    def wrap(parts):
        stops.append(StopsAfter(parts.journal, kind))
        return evolve(parts, journal=stops[-1])

    return wrap


class Full:
    """A journal that takes no event of some kinds until it is mended."""

    def __init__(self, journal, *kinds: str) -> None:
        self._journal = journal
        self._kinds = kinds
        self.is_mended = False

    def __getattr__(self, name: str):
        return getattr(self._journal, name)

    async def record(self, *drafts):
        if drafts and drafts[0].kind in self._kinds and not self.is_mended:
            raise JournalUnwritableError("the disk is full", reason="full")
        return await self._journal.record(*drafts)


def without_releases(parts):
    return evolve(parts, journal=Full(parts.journal, "released"))


@pytest.mark.parametrize("wrap", [lambda parts: parts, without_releases], ids=["journalled", "held in memory"])
async def test_what_the_module_decided_before_a_lease_was_taken_on_is_heard_by_the_next_start(coalition, wrap) -> None:
    async with coalition.market(), anyio.create_task_group() as tasks:
        stops: list[StopsAfter] = []
        async with coalition.bridge("one", wrap=stopping(stops, "granted")):
            requester, handle = await submit(coalition, 3_600_000)
            tasks.start_soon(serve_or_not, requester, handle)
            await stops[0].reached.wait()
            async with aclosing(requester.market.grants(0)) as grants:
                _, grant = await anext(grants)
            await wait(coalition, partial(release, requester, handle))
            # The bridge reads the answer, knows of no such lease, and goes on.
            await coalition.clock.sleep_ms(5_000)
        async with coalition.bridge("one", wrap=wrap) as again:
            await wait(coalition, partial(is_closed, again))
            facts = await read_facts(again.parts.journal, grant.value.id)
        tasks.cancel_scope.cancel()

    assert (facts.get(Released) is None) == (wrap is without_releases)
    assert Reason.RELEASED is facts.require(Ended).reason


async def release(requester, handle):
    try:
        return await requester.control(handle, ControlAction.RELEASE)
    except NotYetError:
        return None  # it has not seen its grant yet


class NoMeter:
    """A backend whose credentials are good for everything but its meter."""

    def __init__(self, backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    async def usage(self, instance):
        raise CredentialsError("backend cloud: may not read usage")


async def test_a_lease_that_was_taken_back_ends_at_its_end_though_its_backend_never_tells_what_it_counted(
    coalition,
) -> None:
    async with coalition.market():
        async with coalition.bridge("one", provision_allowance_s=3600):
            _, _, grant = await lease(coalition, 60_000)
        async with coalition.bridge("one", wrap=unmetered) as again:
            await wait(coalition, partial(is_closed, again))
            ended = (await read_facts(again.parts.journal, grant.id)).require(Ended)

    assert Reason.DEADLINE is ended.reason


def unmetered(parts):
    return with_backend(parts, NoMeter)


def with_backend(parts, wrapper):
    """The same parts, whose fleet is of the same backends with something taken from them."""
    backends = [wrapper(backend) for backend in parts.fleet.backends]
    fleet = Fleet(backends, parts.clock, currency=parts.market.config.currency)
    return evolve(parts, fleet=fleet, router=evolve(parts.router, fleet=fleet))


class NoRecord:
    """A backend that keeps no record of a machine's end."""

    def __init__(self, backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    async def watch_until_exit(self, instance):
        raise UnavailableError("backend cloud: keeps no records")


def unrecorded(parts):
    return with_backend(parts, NoRecord)


async def test_a_lease_that_was_found_ending_is_billed_for_what_its_backend_counted(coalition) -> None:
    async with coalition.market():
        stops: list[StopsAfter] = []
        async with coalition.bridge("one", wrap=stopping(stops, "ending"), provision_allowance_s=3600):
            _, _, grant = await lease(coalition, 60_000)
            await stops[0].reached.wait()
        async with coalition.bridge("one", wrap=unrecorded) as again:
            await wait(coalition, partial(is_closed, again))
            ended = (await read_facts(again.parts.journal, grant.id)).require(Ended)

    assert (Reason.DEADLINE, Reason.END_COUNTED, 60_000) == (ended.reason, ended.evidence, ended.billable_ms)


async def test_a_machine_that_is_gone_costs_nothing_more_while_its_end_cannot_be_journalled(coalition) -> None:
    def wrap(parts):
        return unrecorded(evolve(parts, journal=Full(parts.journal, "ending", "ended")))

    async with coalition.market(), coalition.bridge("one", wrap=wrap) as bridge:
        requester, handle, grant = await lease(coalition, 3_600_000)
        await requester.control(handle, ControlAction.RELEASE)
        await wait(coalition, partial(are_gone, coalition.cloud))
        (machine,) = coalition.cloud.account.machines.values()
        await coalition.clock.sleep_ms(300_000)
        bridge.parts.journal.is_mended = True
        await wait(coalition, partial(is_closed, bridge))
        ended = (await read_facts(bridge.parts.journal, grant.id)).require(Ended)

    assert Reason.END_COUNTED is ended.evidence
    assert ended.billable_ms < machine.ended_ms - machine.started_ms + 60_000


async def test_a_bridge_that_is_still_starting_says_so_when_it_is_told_to_drain(coalition) -> None:
    async with coalition.market(), AsyncExitStack() as stack:
        bridge = Bridge(await coalition.parts(stack, "one"))
        with pytest.raises(NotServingError, match="still starting"):
            await answer(bridge, {"ask": "drain", "undo": False})


class Forgetful:
    """A backend that has forgotten how long its machines have run, and counts from nothing."""

    def __init__(self, backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    async def usage(self, instance):
        return UsageMetrics(wall_ms=Figure(0, UsageSource.BACKEND))


async def test_the_count_of_a_lease_never_goes_back_behind_its_checkpoint(coalition) -> None:
    async with coalition.market():
        async with coalition.bridge("one", meter_every_s=10, provision_allowance_s=7200):
            _, _, grant = await lease(coalition, 1_200_000)
            await coalition.clock.sleep_ms(800_000)
        async with coalition.bridge("one", wrap=lambda parts: with_backend(parts, Forgetful)) as again:
            await wait(coalition, partial(is_closed, again))
            ended = (await read_facts(again.parts.journal, grant.id)).require(Ended)
    (machine,) = coalition.cloud.account.machines.values()

    assert Reason.DEADLINE is ended.reason
    assert machine.ended_ms - machine.started_ms < 2_000_000


async def test_an_extended_machine_ends_by_itself_only_some_while_after_its_lease(coalition) -> None:
    async with coalition.market(), coalition.bridge("one", provision_allowance_s=7200):
        requester, handle, _ = await lease(coalition, 600_000)
        (machine,) = coalition.cloud.account.machines.values()
        first_ms = coalition.cloud.account.timers[machine.id]
        await requester.control(handle, ControlAction.EXTEND, extend_ms=Milliseconds(1_200_000))
        moved_ms = await wait(coalition, partial(another_end, coalition.cloud, machine, first_ms))

    assert machine.started_ms + 1_800_000 + 6_000_000 < moved_ms


async def another_end(cloud, machine, before_ms):
    due_ms = cloud.account.timers[machine.id]
    return None if due_ms == before_ms else due_ms


class Sleeper(Clock):
    """The clock of a computer that is put to sleep: time passes, and whoever waits finds out when he wakes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.slept_ms = 0

    def utc_ms(self) -> int:
        return self._clock.utc_ms() + self.slept_ms

    def monotonic_ms(self) -> int:
        return self._clock.monotonic_ms() + self.slept_ms

    async def sleep_ms(self, ms: int) -> None:
        await self._clock.sleep_ms(ms)


@define
class Sleepy(Coalition):
    """A coalition whose bridges run on a computer that may be put to sleep."""

    sleeper: Sleeper = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.sleeper = Sleeper(self.cloud.clock)

    @property
    def bridge_clock(self) -> Clock:
        return self.sleeper


async def test_a_lease_that_ended_while_the_computer_slept_ends_soon_after_it_wakes(tmp_path) -> None:
    coalition = await found(tmp_path, MemoryCloud(), made=Sleepy)
    async with coalition.market(), coalition.bridge("one") as bridge:
        _, _, grant = await lease(coalition, 7_200_000)
        coalition.sleeper.slept_ms = 7_200_000
        await wait(coalition, partial(is_closed, bridge))
        ended = (await read_facts(bridge.parts.journal, grant.id)).require(Ended)

    assert Reason.DEADLINE is ended.reason


class LateClaim:
    """A settlement that claims only when the market has long stated what it owes."""

    def __init__(self, settlement, clock) -> None:
        self._settlement = settlement
        self._clock = clock

    def __getattr__(self, name: str):
        return getattr(self._settlement, name)

    async def settle(self, claim):
        await self._clock.sleep_ms(60_000)
        return await self._settlement.settle(claim)


async def test_a_statement_that_came_before_our_claim_is_reconciled_with_it_all_the_same(coalition) -> None:
    def wrap(parts):
        return evolve(parts, settlement=LateClaim(parts.settlement, parts.clock))

    async with coalition.market(), coalition.bridge("one", wrap=wrap) as bridge:
        requester, _, grant = await lease(coalition, 60_000)
        await wait(coalition, partial(is_closed, bridge))
        statement = (await requester.market.statement(grant.id)).value

        assert 0 < statement.charge - statement.provider_fee == await bridge.parts.settlement.balance()


def without_grants(fulls):
    def wrap(parts):
        fulls.append(Full(parts.journal, "granted"))
        return evolve(parts, journal=fulls[-1])

    return wrap


async def test_a_grant_that_comes_while_the_disk_is_full_is_taken_on_when_there_is_room(coalition) -> None:
    fulls: list[Full] = []
    async with coalition.market(), coalition.bridge("one", wrap=without_grants(fulls)) as bridge:
        requester, handle = await submit(coalition, 60_000)
        await wait(coalition, partial(is_cleared, requester))
        await coalition.clock.sleep_ms(10_000)
        taken = len(bridge.provider.leases)
        fulls[0].is_mended = True
        await requester.serve_until_receipt(handle)

        assert (0, 1) == (taken, len(bridge.provider.leases))


async def is_cleared(requester):
    return await requester.market.network.tail(channels.GRANT_STREAM) or None


class MuteNetwork(MemoryNetwork):
    """A network that tells nobody's epoch any more once it is mute."""

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__()
        vars(self).update(vars(network))
        self.is_mute = False

    async def get(self, collection, key):
        if self.is_mute and collection == channels.EPOCHS:
            raise NetworkError("no answer")
        return await super().get(collection, key)


async def test_a_machine_that_runs_is_taken_back_though_nobody_tells_whose_epoch_is_the_last(coalition) -> None:
    fulls: list[Full] = []

    def wrap(parts):
        fulls.append(Full(parts.journal, "routed"))
        return evolve(parts, journal=fulls[-1])

    mute = evolve(coalition, network=MuteNetwork(coalition.network))
    async with coalition.market(), anyio.create_task_group() as tasks, mute.bridge("one", wrap=wrap) as bridge:
        requester, handle = await submit(coalition, 3_600_000)
        tasks.start_soon(requester.serve_until_receipt, handle)
        await wait(coalition, partial(is_made, coalition))
        mute.network.is_mute = True
        fulls[0].is_mended = True
        (open_lease,) = bridge.provider.leases.values()
        await wait(coalition, partial(is_delivered, open_lease))
        tasks.cancel_scope.cancel()

    assert 1 == len(coalition.cloud.account.machines)


async def is_made(coalition):
    return await coalition.cloud.running() or None


async def is_delivered(lease):
    return True if lease.facts.state is LeaseState.DELIVERED else None


class FullBooks:
    """A settlement whose books have no room for the first statements after its claim."""

    def __init__(self, settlement) -> None:
        self._settlement = settlement
        self._has_claimed = False
        self.refusals = 3

    def __getattr__(self, name: str):
        return getattr(self._settlement, name)

    async def settle(self, claim):
        result = await self._settlement.settle(claim)
        self._has_claimed = True
        return result

    async def reconcile(self, statement):
        if self._has_claimed and self.refusals:
            self.refusals -= 1
            raise BooksUnwritableError("disk is full")
        return await self._settlement.reconcile(statement)


async def test_a_statement_for_which_the_books_have_no_room_is_booked_once_they_have(coalition) -> None:
    def wrap(parts):
        return evolve(parts, settlement=FullBooks(parts.settlement))

    away, back = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_market, coalition, away, back)
        async with coalition.bridge("one", wrap=wrap) as bridge:
            requester, _, grant = await lease(coalition, 60_000)
            away.set()
            # It has claimed, and nobody has stated anything.
            await wait(coalition, partial(is_closed, bridge))
            back.set()
            await is_booked(bridge, requester, grant)
        tasks.cancel_scope.cancel()


async def test_a_statement_before_our_claim_is_booked_too_once_the_books_have_room(coalition) -> None:
    def wrap(parts):
        return evolve(parts, settlement=FullBooks(LateClaim(parts.settlement, parts.clock)))

    async with coalition.market(), coalition.bridge("one", wrap=wrap) as bridge:
        requester, _, grant = await lease(coalition, 60_000)
        await is_booked(bridge, requester, grant)


async def keep_market(coalition, away, back):
    async with coalition.market():
        await away.wait()
    await back.wait()
    async with coalition.market():
        await anyio.sleep_forever()


async def is_booked(bridge, requester, grant):
    async def probe():
        try:
            statement = (await requester.market.statement(grant.id)).value
        except MarketError:
            return None
        owed = statement.charge - statement.provider_fee
        return True if owed > 0 and owed == await bridge.parts.settlement.balance() else None

    with anyio.fail_after(60):
        await poll(bridge.parts.clock, 1000, probe)

    assert 0 == bridge.parts.settlement.refusals

"""What a start of the bridge does with open leases, whoever else is away and whatever the clock says."""

from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial

import anyio
import pytest
from attrs import define, evolve, field

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.boot import _prepare as prepare
from compute_bridge.host.bridge import Bridge
from compute_bridge.host.epoch import SupersededError, raise_epoch
from compute_bridge.host.lease_state import Ended, LeaseState, Resumed, read_facts
from compute_bridge.host.log_checks import await_log, find_log
from compute_bridge.host.rates import RateBook
from compute_bridge.host.requester import NoLeaseError
from compute_bridge.host.status import status
from compute_bridge.model import channels
from compute_bridge.model.boot import BelowCost
from compute_bridge.model.control import ControlAction
from compute_bridge.model.ids import Fingerprint, PublicKey
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.units import BasisPoints, Micros, MicrosPerHour, Milliseconds
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.clock import Clock, poll
from compute_bridge.ports.errors import BootError
from compute_bridge.ports.journal import EventDraft, JournalUnwritableError
from compute_bridge.ports.strategy import RatePolicy
from compute_bridge.testing.memory_cloud import MemoryCloud
from compute_bridge.wire.signing import sign
from crashkit.coalition import SSH_KEY, Coalition, found

pytestmark = pytest.mark.anyio

MAX_RATE = MicrosPerHour(10**9)
HOURS_MS = 5 * 3_600_000


class JumpyClock(Clock):
    """The bridge's clock: its wall time can be set, its monotonic time cannot."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset_ms = 0

    def utc_ms(self) -> int:
        return self._clock.utc_ms() + self.offset_ms

    def monotonic_ms(self) -> int:
        return self._clock.monotonic_ms()

    async def sleep_ms(self, ms: int) -> None:
        await self._clock.sleep_ms(ms)


@define
class Jumpy(Coalition):
    """A coalition whose bridges have a clock of their own."""

    jumpy: JumpyClock = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.jumpy = JumpyClock(self.cloud.clock)

    @property
    def bridge_clock(self) -> Clock:
        return self.jumpy


@pytest.fixture
async def coalition(tmp_path) -> Coalition:
    return await found(tmp_path, MemoryCloud(), made=Jumpy)


@asynccontextmanager
async def unadmitted(coalition, name="one"):
    """A bridge that does not wait for the market."""
    async with AsyncExitStack() as stack:
        bridge = Bridge(await coalition.parts(stack, name))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bridge.parts.market.follow_almanac)
            await bridge.prove()
            await bridge.look()
            await bridge.reconcile()
            await bridge.enter()
            tasks.start_soon(bridge.serve)
            yield bridge
            tasks.cancel_scope.cancel()


async def lease(coalition, duration_ms):
    requester = coalition.requester()
    manifest = coalition.manifest(duration_ms=duration_ms)
    handle = await requester.submit(manifest, MAX_RATE, SSH_KEY, open_ms=Milliseconds(600_000))
    access = await requester.serve_until_receipt(handle)
    return requester, handle, access.grant.value


async def lease_in_vain(coalition):
    with suppress(NoLeaseError):
        await lease(coalition, 10_000)


async def wait(coalition, probe):
    with anyio.fail_after(60):
        return await poll(coalition.clock, 1000, probe)


async def are_gone(cloud):
    return True if not await cloud.running() else None


async def logs(coalition):
    return await coalition.network.tail(channels.LOGS) or None


async def facts_of(bridge, grant):
    return await read_facts(bridge.parts.journal, grant.id)


# --- the market is away ---------------------------------------------------------------------------


async def test_a_start_without_a_market_ends_an_open_lease_at_its_end_and_sends_its_log(coalition) -> None:
    async with coalition.market(), coalition.bridge("one"):
        requester, _, grant = await lease(coalition, 60_000)
    async with unadmitted(coalition) as again:
        await wait(coalition, partial(are_gone, coalition.cloud))
        await wait(coalition, partial(logs, coalition))
        log = (await find_log(requester.market, grant)).value
        verdicts = await coalition.network.tail(channels.CARD_VERDICTS)

        assert 1 == again.epoch.number - 1
        assert (Outcome.SERVED, Reason.DEADLINE) == (log.outcome, log.reason)
        assert 1 == verdicts


async def test_a_market_that_comes_back_settles_what_ended_without_it(coalition) -> None:
    async with coalition.market(), coalition.bridge("one"):
        requester, _, grant = await lease(coalition, 60_000)
    async with unadmitted(coalition) as again:
        await wait(coalition, partial(logs, coalition))
        async with coalition.market():
            await wait(coalition, partial(is_paid, again))
            statement = (await requester.market.statement(grant.id)).value

            assert await again.parts.settlement.balance() == statement.charge - statement.provider_fee


async def is_paid(bridge):
    return await bridge.parts.settlement.balance() or None


class StopsAfter:
    """A journal that keeps its caller waiting after an event of one kind, until it is let go."""

    def __init__(self, journal, kind: str) -> None:
        self._journal = journal
        self._kind = kind
        self.reached, self.go = anyio.Event(), anyio.Event()

    def __getattr__(self, name: str):
        return getattr(self._journal, name)

    async def record(self, *drafts):
        events = await self._journal.record(*drafts)
        if drafts[0].kind == self._kind:
            self.reached.set()
            await self.go.wait()
        return events


def stopping(stops, kind):
    """Return what wraps a bridge's journal, and puts the wrapped one into ``stops``."""

    def wrap(parts):
        stops.append(StopsAfter(parts.journal, kind))
        return evolve(parts, journal=stops[0])

    return wrap


async def test_what_the_market_gave_up_meanwhile_gets_no_machine(coalition) -> None:
    async with coalition.market(), anyio.create_task_group() as tasks:
        stops: list[StopsAfter] = []
        async with coalition.bridge("one", wrap=stopping(stops, "opened")):
            tasks.start_soon(lease_in_vain, coalition)
            await stops[0].reached.wait()
        async with aclosing(coalition.requester("looker").market.grants(0)) as grants:
            _, grant = await anext(grants)
        await wait(coalition, partial(statement_of, coalition, grant.value))
        async with coalition.bridge("one") as again:
            await wait(coalition, partial(is_closed, again))
            ended = (await facts_of(again, grant.value)).require(Ended)
        tasks.cancel_scope.cancel()

    assert (Outcome.FAILED, Reason.GRANT_SETTLED) == (ended.outcome, ended.reason)
    assert {} == coalition.cloud.account.machines


async def test_what_the_market_gave_up_while_its_machine_was_ordered_is_ended_at_once(coalition) -> None:
    async with coalition.market(), anyio.create_task_group() as tasks:
        stops: list[StopsAfter] = []
        async with coalition.bridge("one", wrap=stopping(stops, "provision-intended")):
            tasks.start_soon(lease_in_vain, coalition)
            await stops[0].reached.wait()
        async with aclosing(coalition.requester("looker").market.grants(0)) as grants:
            _, grant = await anext(grants)
        await wait(coalition, partial(statement_of, coalition, grant.value))
        async with coalition.bridge("one") as again:
            await wait(coalition, partial(is_closed, again))
            ended = (await facts_of(again, grant.value)).require(Ended)
        tasks.cancel_scope.cancel()

    assert Reason.GRANT_SETTLED is ended.reason
    assert set() == await coalition.cloud.running()


async def test_the_duty_to_end_a_machine_is_written_with_the_intent_to_make_it(coalition) -> None:
    async with coalition.market(), anyio.create_task_group() as tasks:
        stops: list[StopsAfter] = []
        async with coalition.bridge("one", wrap=stopping(stops, "provision-intended")) as bridge:
            tasks.start_soon(lease_in_vain, coalition)
            await stops[0].reached.wait()
            (row,) = await bridge.parts.journal.lease_states()
            *_, intent, duty = await bridge.parts.journal.events(lease=row.lease)
            made = len(coalition.cloud.account.machines)
        tasks.cancel_scope.cancel()

    assert ("provision-intended", "terminate-intended", 0) == (intent.kind, duty.kind, made)
    assert intent.body == duty.body


async def statement_of(coalition, grant):
    return await coalition.network.find(channels.SETTLEMENTS, grant.id + channels.number(0))


async def is_closed(bridge):
    return None if bridge.provider.leases else True


def give_up(coalition, grant):
    """Return the statement by which the market settles a grant for nothing, signed as only the module can."""
    statement = SettlementStatement(
        key=SettlementKey(grant.id, EntryKind.CHARGE, 0),
        provider_id=grant.provider_id,
        log_hash=Fingerprint(bytes(32)),
        reason=Reason.NOTHING_DUE,
        rate=grant.rate,
        billable_ms=Milliseconds(0),
        charge=Micros(0),
        requester_fee=Micros(0),
        provider_fee=Micros(0),
        currency=grant.currency,
    )
    signed = sign(statement, coalition.module.secrets.signing, domain=coalition.module.domain)
    return grant.id + channels.number(0), signed.raw


async def test_a_machine_whose_grant_the_market_gives_up_is_ended(coalition) -> None:
    async with coalition.market(), coalition.bridge("one") as bridge:
        _, _, grant = await lease(coalition, 3_600_000)
        await coalition.network.append(channels.SETTLEMENTS, *give_up(coalition, grant))
        await wait(coalition, partial(are_gone, coalition.cloud))
        await wait(coalition, partial(is_closed, bridge))
        ended = (await facts_of(bridge, grant)).require(Ended)

    assert Reason.GRANT_SETTLED is ended.reason


async def test_a_start_asks_of_each_machine_whether_its_grant_is_still_open(coalition) -> None:
    async with coalition.market():
        async with coalition.bridge("one") as bridge:
            _, _, grant = await lease(coalition, 3_600_000)
        sequence = await coalition.network.append(channels.SETTLEMENTS, *give_up(coalition, grant))
        # Read, and not acted upon, by the start before.
        consumer = f"bridge/{bridge.parts.identity.provider.hex()}"
        await coalition.network.save_cursor(consumer, channels.SETTLEMENTS, sequence)
        async with coalition.bridge("one") as again:
            await wait(coalition, partial(is_closed, again))
            ended = (await facts_of(again, grant)).require(Ended)

    assert Reason.GRANT_SETTLED is ended.reason


# --- a backend is away ----------------------------------------------------------------------------


async def test_a_lease_without_a_machine_waits_for_a_backend_that_is_silent_at_the_start(coalition) -> None:
    async with coalition.market(), anyio.create_task_group() as tasks:
        stops: list[StopsAfter] = []
        async with coalition.bridge("one", wrap=stopping(stops, "opened")):
            tasks.start_soon(lease_in_vain, coalition)
            await stops[0].reached.wait()
        await coalition.cloud.go_down()
        async with unadmitted(coalition) as again:
            await coalition.clock.sleep_ms(20_000)
            (waiting,) = again.provider.leases.values()
            silent = (waiting.facts.state, again.parts.fleet.unheard)
            await coalition.cloud.come_back()
            await wait(coalition, partial(is_closed, again))
            ended = (await facts_of(again, waiting.grant.value)).require(Ended)
        tasks.cancel_scope.cancel()

    assert (LeaseState.OPENED, ("memory",)) == silent
    assert (Outcome.SERVED, Reason.DEADLINE) == (ended.outcome, ended.reason)


class BrokenPolicy(RatePolicy):
    """A rate policy that answers nothing that can be used."""

    def rates(self, question):
        raise ZeroDivisionError


@asynccontextmanager
async def broken(coalition):
    """A bridge with a broken rate policy, before the steps of its boot that ask anybody."""
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        parts = await coalition.parts(stack, "one")
        book = RateBook(BrokenPolicy(), currency="EUR", provider_fee=BasisPoints(0), below_cost=BelowCost.REFUSE)
        bridge = Bridge(evolve(parts, rates=book))
        tasks.start_soon(bridge.parts.market.follow_almanac)
        yield bridge
        tasks.cancel_scope.cancel()


async def test_a_broken_rate_policy_stops_a_start_only_where_no_lease_is_open(coalition) -> None:
    async with coalition.market():
        async with broken(coalition) as bridge:
            with pytest.raises(BootError, match="BrokenPolicy"):
                await prepare(bridge)
        async with coalition.bridge("one"):
            await lease(coalition, 3_600_000)
        async with broken(coalition) as bridge:
            await prepare(bridge)

            assert () == bridge.parts.rates.rates.table.rows


# --- the clock lies -------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_ms", [HOURS_MS, -HOURS_MS])
async def test_a_jump_of_the_wall_clock_neither_ends_nor_lengthens_a_running_lease(coalition, jump_ms) -> None:
    async with coalition.market(), coalition.bridge("one"):
        requester, _, grant = await lease(coalition, 100_000)
        coalition.bridge_clock.offset_ms = jump_ms
        log = (await await_log(requester.market, grant)).value
    (machine,) = coalition.cloud.account.machines.values()

    assert (Reason.DEADLINE, 100_000) == (log.reason, log.billable_ms)
    assert 100_000 <= machine.ended_ms - machine.started_ms < 160_000


@pytest.mark.parametrize("jump_ms", [HOURS_MS, -HOURS_MS])
async def test_a_jump_across_a_restart_neither_ends_nor_lengthens_a_lease(coalition, jump_ms) -> None:
    async with coalition.market():
        async with coalition.bridge("one"):
            requester, _, grant = await lease(coalition, 200_000)
        coalition.bridge_clock.offset_ms = jump_ms
        async with coalition.bridge("one"):
            log = (await await_log(requester.market, grant)).value
    (machine,) = coalition.cloud.account.machines.values()

    assert (Reason.DEADLINE, 200_000) == (log.reason, log.billable_ms)
    assert 200_000 <= machine.ended_ms - machine.started_ms < 300_000


# --- what ended while nobody looked ---------------------------------------------------------------


async def test_a_machine_that_ended_while_the_bridge_was_away_is_billed_by_the_best_evidence(coalition) -> None:
    async with coalition.market():
        async with coalition.bridge("one"):
            _, _, grant = await lease(coalition, 3_600_000)
            (machine,) = coalition.cloud.account.machines.values()
            await coalition.cloud.kill(machine.id)
        async with coalition.bridge("one") as again:
            await wait(coalition, partial(is_closed, again))
            facts = await facts_of(again, grant)
    ended = facts.require(Ended)
    (machine,) = coalition.cloud.account.machines.values()

    assert (Reason.LOST, Reason.END_RECORDED) == (ended.reason, ended.evidence)
    assert machine.ended_ms - machine.started_ms == ended.billable_ms
    assert "delivered" == facts.require(Resumed).at


async def test_a_machine_that_its_cloud_has_forgotten_is_billed_until_it_was_last_seen(coalition) -> None:
    async with coalition.market():
        async with coalition.bridge("one", meter_every_s=5):
            _, _, grant = await lease(coalition, 3_600_000)
            await coalition.clock.sleep_ms(12_000)
        lived_ms = forget_machine(coalition)
        await coalition.clock.sleep_ms(60_000)
        async with coalition.bridge("one", meter_every_s=5) as again:
            await wait(coalition, partial(is_closed, again))
            ended = (await facts_of(again, grant)).require(Ended)

    assert (Reason.LOST, Reason.END_LAST_SEEN) == (ended.reason, ended.evidence)
    assert 5_000 <= ended.billable_ms <= lived_ms


async def test_a_machine_that_went_while_its_backend_was_silent_is_billed_until_it_was_last_seen(coalition) -> None:
    async with coalition.market(), coalition.bridge("one", meter_every_s=5) as bridge:
        _, _, grant = await lease(coalition, 3_600_000)
        await coalition.clock.sleep_ms(12_000)
        await coalition.cloud.go_down()
        lived_ms = forget_machine(coalition)
        await coalition.clock.sleep_ms(60_000)
        await coalition.cloud.come_back()
        await wait(coalition, partial(is_closed, bridge))
        ended = (await facts_of(bridge, grant)).require(Ended)

    assert (Reason.LOST, Reason.END_LAST_SEEN) == (ended.reason, ended.evidence)
    assert 5_000 <= ended.billable_ms <= lived_ms


def forget_machine(coalition):
    """Return for how long the one machine had run."""
    (machine,) = coalition.cloud.account.machines.values()
    coalition.cloud.account.machines.clear()
    return coalition.clock.utc_ms() - machine.started_ms


# --- an extension in silence ----------------------------------------------------------------------


async def test_an_extension_that_the_backend_did_not_hear_is_told_again(coalition) -> None:
    async with coalition.market(), coalition.bridge("one", provision_allowance_s=1):
        requester, handle, grant = await lease(coalition, 60_000)
        await coalition.cloud.go_down()
        await requester.control(handle, ControlAction.EXTEND, extend_ms=Milliseconds(100_000))
        await coalition.clock.sleep_ms(5_000)
        await coalition.cloud.come_back()
        log = (await await_log(requester.market, grant)).value

    assert (Reason.DEADLINE, 160_000) == (log.reason, log.billable_ms)


# --- order and fences -----------------------------------------------------------------------------


async def test_logs_that_waited_for_the_network_leave_in_the_order_in_which_they_were_kept(coalition) -> None:
    async with coalition.market(), coalition.bridge("one") as bridge:
        outbox = bridge.provider.tools.outbox
        for order in (5, 3, 9, 4):
            outbox.post(order, "test-logs", bytes([order]), b"log")
        with anyio.fail_after(60):
            await outbox.send(7, "test-logs", b"\7", b"log")
            await outbox.send(10, "test-logs", b"\n", b"log")
        sent = [entry.record_id[0] for entry in await coalition.network.fetch("test-logs")]

    assert [3, 4, 5, 7, 9, 10] == sent


class DeafNetwork(MemoryNetwork):
    """A client that is never told of another's epoch."""

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__()
        vars(self).update(vars(network))

    async def watch(self, collection):
        await anyio.sleep_forever()
        yield


async def test_a_bridge_whose_identity_was_taken_over_makes_no_machine(coalition) -> None:
    async with coalition.market(), anyio.create_task_group() as tasks:
        deaf, stops = evolve(coalition, network=DeafNetwork(coalition.network)), list[StopsAfter]()
        async with deaf.bridge("one", wrap=stopping(stops, "opened")) as old:
            tasks.start_soon(lease_in_vain, coalition)
            await stops[0].reached.wait()
            identity = old.parts.identity
            await raise_epoch(coalition.network, identity.domain, identity.root, PublicKey(bytes(32)))
            stops[0].go.set()
            await coalition.clock.sleep_ms(20_000)
            (open_lease,) = old.provider.leases.values()
            with pytest.raises(SupersededError):
                await old.provider.tools.fence()
        tasks.cancel_scope.cancel()

    assert LeaseState.OPENED is open_lease.facts.state
    assert {} == coalition.cloud.account.machines


async def test_a_bridge_whose_identity_was_taken_over_makes_no_machine_that_it_began_to_make(coalition) -> None:
    async with coalition.market(), anyio.create_task_group() as tasks:
        deaf, stops = evolve(coalition, network=DeafNetwork(coalition.network)), list[StopsAfter]()
        async with coalition.bridge("one", wrap=stopping(stops, "provision-intended")):
            tasks.start_soon(lease_in_vain, coalition)
            await stops[0].reached.wait()
        await coalition.cloud.go_down()
        async with unadmitted(deaf) as old:
            identity = old.parts.identity
            await raise_epoch(coalition.network, identity.domain, identity.root, PublicKey(bytes(32)))
            await coalition.cloud.come_back()
            await coalition.clock.sleep_ms(20_000)
            (open_lease,) = old.provider.leases.values()
        tasks.cancel_scope.cancel()

    assert LeaseState.PROVISIONING is open_lease.facts.state
    assert {} == coalition.cloud.account.machines


# --- the disk is full -----------------------------------------------------------------------------


async def test_a_start_on_a_full_disk_ends_what_runs_and_takes_nothing_on(coalition) -> None:
    async with coalition.market():
        async with coalition.bridge("one", journal_bytes=200_000) as bridge:
            requester, handle, grant = await lease(coalition, 3_600_000)
            with pytest.raises(JournalUnwritableError):
                await fill(bridge.parts.journal)
        async with coalition.bridge("one", journal_bytes=200_000) as again:
            await requester.control(handle, ControlAction.RELEASE)
            await wait(coalition, partial(are_gone, coalition.cloud))

            told = await status(again)
            assert (False, "full", 0) == (
                told["journal"]["is_writable"],
                told["journal"]["reason"],
                again.publisher.card.value.max_leases,
            )
            assert again.parts.current.nonce == bridge.parts.current.nonce
            assert again.epoch.number == bridge.epoch.number + 1
        async with coalition.bridge("one"):
            log = (await await_log(requester.market, grant)).value

    assert Outcome.SERVED is log.outcome


async def fill(journal) -> None:
    for size in (4000, 100, 0):
        try:
            while True:
                await journal.record(EventDraft("filler", body=bytes(size)))
        except JournalUnwritableError:
            if not size:
                raise

"""The main job in one process: a request is cleared, served, accessed, logged, charged and settled."""

from contextlib import aclosing

import anyio
import pytest
from attrs import evolve

from compute_bridge.adapters.direct_shuffle import DirectShuffle
from compute_bridge.host.explain import explain
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.requester import NoLeaseError
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour, Milliseconds, charge
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import NetworkError
from compute_bridge.ports.journal import EventDraft, JournalUnwritableError

pytestmark = pytest.mark.anyio

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)


async def settled(market, grant):
    """Return the module's statement on a grant, waiting for it."""
    key = grant + channels.number(0)
    async with aclosing(market.statements(0)) as statements:
        async for _, statement in statements:
            if statement.value.key.grant_id + channels.number(statement.value.key.sequence) == key:
                return statement.value
    raise RuntimeError("the stream has ended")


async def balance_is(bridge, owed):
    return True if await bridge.parts.settlement.balance() == owed else None


async def fill(journal) -> None:
    for size in (4000, 100, 0):
        while await is_recorded(journal, EventDraft("filler", body=bytes(size))):
            pass


async def is_recorded(journal, draft) -> bool:
    try:
        await journal.record(draft)
    except JournalUnwritableError:
        return False
    return True


async def are_gone(cloud):
    return True if not await cloud.running() else None


async def are_running(cloud, count):
    return True if len(await cloud.running()) >= count else None


async def idle(bridge) -> None:
    with anyio.fail_after(60):
        await bridge.provider.idle()


async def test_the_cheaper_of_two_bridges_serves_and_is_paid_what_the_market_computes(open_coalition) -> None:
    async with (
        open_coalition() as coalition,
        coalition.bridge("dear", margin_bps=5000, seed=1),
        coalition.bridge("cheap", seed=2) as cheap,
    ):
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        await requester.control(handle, ControlAction.RELEASE)
        grant = access.grant.value
        log = (await await_log(requester.market, grant)).value
        statement = await settled(requester.market, grant.id)
        await idle(cheap)

        assert cheap.parts.identity.provider == grant.provider_id
        assert (Outcome.SERVED, Reason.RELEASED) == (log.outcome, log.reason)
        assert charge(grant.rate, log.billable_ms) == statement.charge
        assert log.development_attestation
        assert frozenset() == await coalition.cloud.running()


async def test_what_the_market_books_is_what_the_bridge_has_in_its_books(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        await requester.control(handle, ControlAction.RELEASE)
        statement = await settled(requester.market, access.grant.value.id)
        owed = statement.charge - statement.provider_fee
        with anyio.fail_after(60):
            await poll(coalition.clock, 1000, lambda: balance_is(bridge, owed))

        assert statement.charge > 0


async def test_a_lease_ends_at_its_own_end(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=20_000), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        log = (await await_log(requester.market, access.grant.value)).value

        assert (Outcome.SERVED, Reason.DEADLINE, 20_000) == (log.outcome, log.reason, log.billable_ms)


async def test_an_extension_by_the_module_s_word_lengthens_the_lease(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=60_000), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        await requester.control(handle, ControlAction.EXTEND, extend_ms=Milliseconds(30_000))
        log = (await await_log(requester.market, access.grant.value)).value

        assert (Reason.DEADLINE, 90_000) == (log.reason, log.billable_ms)


async def test_a_machine_that_dies_by_itself_ends_its_lease_with_the_cause(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=3_600_000), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        for machine in await coalition.cloud.running():
            await coalition.cloud.kill(machine)
        log = (await await_log(requester.market, access.grant.value)).value

        assert (Outcome.SERVED, Reason.LOST) == (log.outcome, log.reason)


async def test_a_backend_that_goes_silent_neither_ends_nor_bills_wrongly(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=100_000), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        await coalition.cloud.go_down()
        await coalition.clock.sleep_ms(50_000)
        still_open = len(bridge.provider.leases)
        await coalition.cloud.come_back()
        log = (await await_log(requester.market, access.grant.value)).value

        assert 1 == still_open
        assert (Outcome.SERVED, Reason.DEADLINE) == (log.outcome, log.reason)


async def test_a_backend_that_was_silent_at_the_start_is_reconciled_when_it_is_back(open_coalition) -> None:
    async with open_coalition() as coalition:
        await coalition.cloud.go_down()
        async with coalition.bridge("one", sweep_every_s=5) as bridge:
            silent = bridge.findings.silent
            await coalition.cloud.come_back()
            await coalition.clock.sleep_ms(20_000)

            assert ("memory",) == silent
            assert () == bridge.findings.silent


async def test_a_refused_request_is_cleared_again_to_another_bridge(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("first", seed=1) as first:
        first.provider.retired = True
        async with coalition.bridge("second", margin_bps=9000, seed=2) as second:
            requester = coalition.requester()
            handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
            access = await requester.serve_until_receipt(handle)

            assert second.parts.identity.provider == access.grant.value.provider_id
            assert {Reason.RETIRED: 1} == dict(first.provider.refused)


async def test_a_requester_that_vanishes_after_clearing_is_a_no_show_and_pays_nothing(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one", envelope_wait_s=1):
        requester = coalition.requester()
        await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
        grants = requester.market.grants(0)
        _, grant = await anext(grants)
        await grants.aclose()
        log = (await await_log(requester.market, grant.value)).value
        statement = await settled(requester.market, grant.value.id)

        assert (Outcome.NO_SHOW, Reason.ENVELOPE_ABSENT) == (log.outcome, log.reason)
        assert 0 == statement.charge
        assert frozenset() == await coalition.cloud.running()


async def test_a_bridge_killed_while_a_lease_runs_takes_it_back_at_its_next_start(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        async with coalition.bridge("one"):
            handle = await requester.submit(coalition.manifest(duration_ms=300_000), MAX_RATE, SSH_KEY)
            access = await requester.serve_until_receipt(handle)
        before = await coalition.cloud.running()
        async with coalition.bridge("one") as again:
            await requester.control(handle, ControlAction.RELEASE)
            log = (await await_log(requester.market, access.grant.value)).value
            await idle(again)
        replies = await coalition.network.tail(f"shuffle/replies/{access.grant.value.bearer_pointer.hex()}")

        assert 1 == len(before)
        assert (Outcome.SERVED, Reason.RELEASED, 2) == (log.outcome, log.reason, log.epoch)
        assert 1 == replies
        assert frozenset() == await coalition.cloud.running()


async def test_a_lease_taken_back_still_ends_at_its_own_end(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        async with coalition.bridge("one"):
            handle = await requester.submit(coalition.manifest(duration_ms=150_000), MAX_RATE, SSH_KEY)
            access = await requester.serve_until_receipt(handle)
            await coalition.clock.sleep_ms(50_000)
        async with coalition.bridge("one"):
            await await_log(requester.market, access.grant.value)
        (machine,) = coalition.cloud.account.machines.values()

        assert 150_000 <= machine.ended_ms - machine.started_ms < 200_000


class MuteShuffle(DirectShuffle):
    """A shuffle that takes no reply."""

    async def reply(self, pointer: bytes, sealed: bytes) -> None:
        raise NetworkError("nobody takes replies")


async def test_a_receipt_that_cannot_be_delivered_keeps_no_lease_from_its_end(open_coalition) -> None:
    async with open_coalition() as coalition:
        mute = MuteShuffle(coalition.network)
        async with coalition.bridge("one", wrap=lambda parts: evolve(parts, shuffle=mute)):
            requester = coalition.requester()
            handle = await requester.submit(coalition.manifest(duration_ms=60_000), MAX_RATE, SSH_KEY)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(requester.serve_until_receipt, handle)
                async with aclosing(requester.market.grants(0)) as grants:
                    _, grant = await anext(grants)
                log = (await await_log(requester.market, grant.value)).value
                tasks.cancel_scope.cancel()

            assert (Outcome.SERVED, Reason.DEADLINE, 60_000) == (log.outcome, log.reason, log.billable_ms)


async def test_a_full_disk_stops_new_grants_and_no_termination(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        async with coalition.bridge("one", journal_bytes=200_000) as bridge:
            handle = await requester.submit(
                coalition.manifest(duration_ms=3_600_000), MAX_RATE, SSH_KEY, open_ms=Milliseconds(600_000)
            )
            access = await requester.serve_until_receipt(handle)
            await fill(bridge.parts.journal)
            await requester.control(handle, ControlAction.RELEASE)
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, lambda: are_gone(coalition.cloud))
            unlogged = await coalition.network.find(channels.LOGS, access.grant.value.id)
        async with coalition.bridge("one"):
            log = (await await_log(requester.market, access.grant.value)).value

        assert unlogged is None
        assert Outcome.SERVED is log.outcome


async def test_a_bridge_stopped_in_the_middle_of_a_create_makes_no_second_machine(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        async with anyio.create_task_group() as tasks:
            held = await coalition.cloud.hold_next_create()
            async with coalition.bridge("one"):
                handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=Milliseconds(600_000))
                tasks.start_soon(requester.serve_until_receipt, handle)
                await held.reached.wait()
                held.release()
            async with coalition.bridge("one") as again:
                access = await requester.serve_until_receipt(handle)
                running = await coalition.cloud.running()
                await requester.control(handle, ControlAction.RELEASE)
                await await_log(requester.market, access.grant.value)
                await idle(again)
        logs = await coalition.network.tail(channels.LOGS)

        assert 1 == len(running)
        assert 1 == logs


async def test_the_cap_on_leases_holds_whatever_is_asked(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one", max_leases=2) as bridge:
        requester = coalition.requester()
        handles = [
            await requester.submit(
                coalition.manifest(duration_ms=600_000), MAX_RATE, SSH_KEY, open_ms=Milliseconds(600_000)
            )
            for _ in range(3)
        ]
        async with anyio.create_task_group() as tasks:
            for handle in handles:
                tasks.start_soon(requester.serve_until_receipt, handle)
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, lambda: are_running(coalition.cloud, 2))
            await coalition.clock.sleep_ms(20_000)
            most = len(await coalition.cloud.running())
            tasks.cancel_scope.cancel()

        assert 2 == most
        assert 2 == bridge.provider.load.open


async def test_explain_tells_the_whole_story_of_a_lease(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        await requester.control(handle, ControlAction.RELEASE)
        await await_log(requester.market, access.grant.value)
        await idle(bridge)
        parts = bridge.parts
        prefix = access.grant.value.id.hex()[:12]
        (story,) = await explain(
            parts.journal, prefix, domain=parts.market.domain, module_key=parts.market.config.signing_key
        )

        told = [(line.event, line.reason) for line in story.lines if line.reason]
        expected = [
            ("granted", "won"),
            ("provision-intended", "routed"),
            ("routed", "routed"),
            ("routed", "region"),
            ("released", "control-applied"),
            ("ending", "released"),
            ("ended", "released"),
            ("settled", "charged"),
        ]

        assert "settled" == story.state
        assert expected == told


async def test_nobody_serves_what_no_card_offers(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        manifest = coalition.manifest(cpu_millis=9_000_000)
        handle = await requester.submit(manifest, MAX_RATE, SSH_KEY, open_ms=Milliseconds(20_000))
        with pytest.raises(NoLeaseError, match="nobody took it"):
            await requester.serve_until_receipt(handle)

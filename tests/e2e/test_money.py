"""No cost and no rate of later changes what a lease paid and cost; a cost that leaps is not sold on, and told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from compute_bridge.host.explain import explain
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.status import answer
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour, NanosPerHour, charge
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.clock import poll
from compute_bridge.testing.memory import MemoryBackend, MemoryConfig
from compute_bridge.testing.memory_account import connect
from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit.coalition import SSH_KEY, Coalition, found

pytestmark = pytest.mark.anyio

MAX_RATE = MicrosPerHour(10**9)


class Catalogue(MemoryBackend):
    """A backend whose costs a test multiplies, or whose shapes it withdraws."""

    factor = 1
    is_withdrawn = False

    async def offers(self) -> tuple[Offer, ...]:
        return () if self.is_withdrawn else tuple(self.repriced(offer) for offer in await super().offers())

    def repriced(self, offer: Offer) -> Offer:
        units = offer.cost.units
        dearer = evolve(units, vcpu=NanosPerHour(units.vcpu * self.factor))
        return evolve(offer, cost=evolve(offer.cost, units=dearer))


@asynccontextmanager
async def open_catalogue(context, config: MemoryConfig) -> AsyncIterator[Catalogue]:
    yield Catalogue(context, connect(config.endpoint, context.read_secret(config.api_key)))


@asynccontextmanager
async def leased(folder: Path):
    """Run a coalition with one bridge and one lease that runs."""
    coalition = await found(folder, MemoryCloud(open_catalogue), made=Coalition)
    async with coalition.market(), coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=3_600_000), MAX_RATE, SSH_KEY)
        yield coalition, bridge, requester, handle, await requester.serve_until_receipt(handle)


async def account(coalition, bridge, requester, handle, access):
    """End the lease; return its log, the market's statement, and the bridge's own story of it."""
    await requester.control(handle, ControlAction.RELEASE)
    log = (await await_log(requester.market, access.grant.value)).value
    key = access.grant.value.id + channels.number(0)
    with anyio.fail_after(60):
        await poll(coalition.clock, 1000, lambda: coalition.network.find(channels.SETTLEMENTS, key))
        await bridge.provider.idle()
    statement = (await requester.market.statement(access.grant.value.id)).value
    return log, statement, await story_of(bridge, access)


async def story_of(bridge, access):
    parts, config = bridge.parts, bridge.parts.market.config
    fee, prefix = config.provider_fee, access.grant.value.id.hex()
    (story,) = await explain(
        parts.journal, prefix, domain=parts.market.domain, module_key=config.signing_key, provider_fee=fee
    )
    return story


@pytest.mark.parametrize("change", ["dearer", "far dearer", "withdrawn"])
async def test_nothing_of_later_changes_what_a_lease_paid_and_cost(tmp_path: Path, change: str) -> None:
    async with leased(tmp_path) as (coalition, bridge, requester, handle, access):
        before = (await story_of(bridge, access)).money.basis
        (catalogue,) = bridge.parts.fleet.backends
        catalogue.factor = {"dearer": 2, "far dearer": 50, "withdrawn": 1}[change]
        catalogue.is_withdrawn = change == "withdrawn"
        rates = bridge.parts.rates.rates.fingerprint
        await bridge.look()
        log, statement, story = await account(coalition, bridge, requester, handle, access)
        grant, money = access.grant.value, story.money

        assert bridge.parts.rates.rates.fingerprint != rates
        assert (grant.rate, charge(grant.rate, log.billable_ms)) == (statement.rate, statement.charge)
        assert (statement.charge, statement.provider_fee) == (money.charge, money.market_fee)
        assert before == money.basis
        assert charge(MicrosPerHour(before.hourly_micros), log.billable_ms) == money.cost
        assert "settled" == story.state


async def test_a_cost_that_leaps_is_not_sold_on_and_touches_no_lease(tmp_path: Path) -> None:
    async with leased(tmp_path) as (coalition, bridge, _, _, _):
        (catalogue,) = bridge.parts.fleet.backends
        catalogue.factor = 50
        await bridge.look()
        running = await coalition.cloud.running()
        told = await answer(bridge, {"ask": "rates"})
        status = await answer(bridge, {"ask": "status"})

        assert 1 == len(running)
        assert () == bridge.parts.rates.rates.table.rows
        assert {Reason.COST_JUMP.value} == {one["reason"] for one in told["quarantined"]}
        assert told["quarantined"] == status["fleet"]["quarantined"]
        assert ("cost-quarantined", "cost-jump", "memory") in [
            (line["event"], line["reason"], line["where"]) for line in told["ledger"]
        ]


async def test_what_the_policy_asked_for_below_cost_stands_in_the_ledger(tmp_path: Path) -> None:
    coalition = await found(tmp_path, MemoryCloud(), made=Coalition)
    async with coalition.market(), coalition.bridge("one", margin_bps=0) as bridge:
        told = await answer(bridge, {"ask": "rates"})

        assert [] == told["in_force"]["rows"]
        assert {("rate-refused", Reason.COST_FLOOR.value)} == {
            (line["event"], line["reason"]) for line in told["ledger"]
        }


async def test_a_question_on_rates_that_is_none_is_refused(tmp_path: Path) -> None:
    async with leased(tmp_path) as (_, bridge, _, _, _):
        with pytest.raises(Exception, match="'limit' of 1 to 10000"):
            await answer(bridge, {"ask": "rates", "limit": 0})

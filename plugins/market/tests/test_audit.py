"""The host's auditor, which knows nothing of this market's code, finds every record as it should be."""

from typing import Any

import pytest

from compute_bridge.host.audit import Auditor
from compute_bridge.host.market import Market
from compute_bridge.model.reason import Reason
from compute_bridge.model.usage import Outcome
from compute_bridge_market.rule import LowestRate

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
NO_QUOTES: Any = None


@pytest.fixture
def accounts():
    return {"alice": 5000, "bob": 10**9}


@pytest.fixture
async def past(world):
    """Rounds with scarcity, losses, requests without credit, and one cleared again; an extension; logs."""
    sellers = [await world.provider("cheap").sell(max_leases=2), await world.provider("twin").sell(max_leases=1)]
    sellers.append(await world.provider("dear").sell(3000))
    alice, bob = world.requester("alice"), world.requester("bob")
    for _ in range(3):
        await alice.ask()
        await bob.ask(max_rate=2000)
    await bob.ask(max_rate=500)
    failed, extended = await bob.ask(), await bob.ask()
    await world.tick()
    owners = {provider.id: provider for provider in sellers}
    void = await world.grant(failed)
    await owners[void.provider_id].tell(void, outcome=Outcome.FAILED, reason=Reason.NO_OFFER)
    await bob.control(await world.grant(extended), "extend", extend_ms=HOUR)
    await world.tick()
    for grant in await world.grants():
        if grant.id != void.id:
            billable = 2 * HOUR if grant.request_id == extended else HOUR // 3
            await owners[grant.provider_id].tell(grant, billable_ms=billable, ended_at=3 * HOUR)
    return world


@pytest.fixture
def auditor(past):
    return Auditor(Market(past.network, past.module.handshake), NO_QUOTES)


async def test_every_round_is_computed_again_to_the_same_end(past, auditor):
    records = await past.records()
    for record in records:
        (await auditor.clearing(record.value.round, LowestRate())).require()

    assert len(records) == 2


async def test_the_past_has_all_that_is_hard_to_compute(past):
    told = {verdict.reason for number in (1, 2) for verdict in await past.verdicts(number)}

    assert told >= {
        Reason.WON,
        Reason.OUTBID,
        Reason.ABOVE_MAX_RATE,
        Reason.NO_FREE_CAPACITY,
        Reason.EXCLUDED,
        Reason.CREDIT_EXHAUSTED,
    }


async def test_every_log_and_settlement_is_computed_again_to_the_same_amounts(past, auditor):
    grants = await past.grants()
    for grant in grants:
        (await auditor.log(grant.id)).require()
        report = await auditor.ledger(grant.id)
        faults = [check.name for check in report.faults if check.name != "claim"]

        assert faults == []
    assert len(grants) >= 4

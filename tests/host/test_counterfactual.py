"""The ledger of what was not sold, read back from a journal."""

import pytest

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.counterfactual import read_ledger
from compute_bridge.host.journal_events import (
    CostsQuarantined,
    CostsReleased,
    HeldOffer,
    RateRefused,
    RateStands,
    bridge_draft,
)
from compute_bridge.host.lease_state import Ended, LeaseState, draft
from compute_bridge.model.ids import BackendName, GrantId
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import HOUR_MS, Milliseconds, NanosPerHour, UtcMs
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock

RACK = BackendName("rack")
GRANT = GrantId(b"\xab" * 32)
REFUSED = RateRefused(
    "eu",
    "none",
    "small",
    asked=UnitNanos(vcpu=NanosPerHour(1)),
    currency="EUR",
    reason=Reason.COST_FLOOR,
    detail="too little",
    backend="rack",
    offer="a",
    short_micros=7,
    times=3,
)
HELD = CostsQuarantined(RACK, Reason.COST_JUMP, 2, (HeldOffer("a", "vcpu went up"),))


def ended(grant, reason):
    body = Ended("refused", reason, "costs more", UtcMs(0), Milliseconds(0), UsageMetrics())
    return draft(grant, body, state=LeaseState.ENDED)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def journal(tmp_path, clock):
    async with open_sqlite_journal(tmp_path / "journal", clock, create=True) as opened:
        yield opened


@pytest.mark.anyio
async def test_rates_costs_and_grants_stand_in_the_order_in_which_they_were_refused(journal):
    other = GrantId(b"\xcd" * 32)
    await journal.record(bridge_draft(REFUSED), bridge_draft(HELD), ended(GRANT, Reason.ABOVE_CLEARED_RATE))
    await journal.record(ended(other, Reason.DRAINING), bridge_draft(CostsReleased(RACK, Reason.COST_JUMP)))
    await journal.record(bridge_draft(RateStands("eu", "none", "small", published=True)))
    lines = await read_ledger(journal)

    assert [
        ("rate-refused", "cost-floor", "eu/none/small", "not published: too little"),
        ("cost-quarantined", "cost-jump", "rack", "2 offers, such as a: vcpu went up"),
        ("grant-refused", "above-cleared-rate", "grant abababababab", "refused: costs more"),
        ("cost-released", "cost-jump", "rack", "no offer is kept out for this any more"),
        ("rate-stands", "", "eu/none/small", "published again"),
    ] == [(one.event, one.reason, one.where, one.text) for one in lines]
    assert (7, 3, GRANT.hex()) == (lines[0].short_micros, lines[0].times, lines[2].grant)


@pytest.mark.anyio
async def test_the_latest_lines_are_told_where_there_are_more(journal):
    await journal.record(*(ended(GrantId(bytes([at]) * 32), Reason.COST_FLOOR) for at in range(9)))

    assert [bytes([at]).hex() * 6 for at in (7, 8)] == [
        one.where.removeprefix("grant ") for one in await read_ledger(journal, limit=2)
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("since", [0, 1, 2, 3, 4, 5, 6])
async def test_nothing_from_before_is_told(journal, clock, since):
    start = clock.utc_ms()
    for _ in range(5):
        await journal.record(bridge_draft(REFUSED), EventDraft("metered"))
        await clock.advance(HOUR_MS)

    assert max(0, 5 - since) == len(await read_ledger(journal, since_ms=start + since * HOUR_MS))


@pytest.mark.anyio
async def test_an_event_that_cannot_be_read_is_told_and_hides_no_other(journal):
    await journal.record(EventDraft("rate-refused", body=b"\xff"), bridge_draft(HELD))
    damaged, whole = await read_ledger(journal)

    assert "body cannot be read" in damaged.text
    assert "cost-quarantined" == whole.event

"""Costs that cannot be sold on are kept out, with a reason, and told once; what was accepted survives a restart."""

import logging
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
import pytest
from attrs import evolve

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.costs import AHEAD_MS, CostBook, CostLimits
from compute_bridge.host.journal_events import CostsAccepted, CostsQuarantined, CostsReleased, read_event
from compute_bridge.host.ledger import MOST, Ledger
from compute_bridge.model.boot import RateSettings, ZeroCost
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import HOUR_MS, BasisPoints, Nanos, NanosPerHour, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.journal import JournalUnwritableError
from compute_bridge.testing.clock import VirtualClock

RACK = BackendName("rack")
LIMITS = CostLimits(max_age_ms=10_000, jump=BasisPoints(5000), settle_ms=2000)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def book(clock):
    return CostBook(clock, LIMITS, Ledger())


def offer(clock, name="a", vcpu=1000, age_ms=0, address=0, **units):
    prices: dict[str, Any] = units
    cost = UnitNanos(vcpu=NanosPerHour(vcpu), **prices)
    return Offer(
        id=OfferId(name),
        backend=RACK,
        region=Region("eu"),
        zone=Zone("a"),
        shape="shape",
        resources=Resources(4000, 8192),
        posture=Posture.NONE,
        networks=(NetworkPolicy.ISOLATED,),
        cost=CostBasis("EUR", cost, UtcMs(clock.utc_ms() - age_ms), "test", NanosPerHour(address)),
    )


def sold(book, *offers):
    return [one.id for one in book.sift(RACK, offers)]


def reasons(book):
    return {one.offer_id: one.reason for one in book.quarantined}


def negative(one):
    object.__setattr__(one.cost.units, "vcpu", -1)
    return one


# --- what is kept out -----------------------------------------------------------------------------


def test_a_fresh_cost_is_sold_on(book, clock):
    assert ["a"] == sold(book, offer(clock))
    assert () == book.quarantined


@pytest.mark.parametrize(
    ("age_ms", "reason"),
    [(9_999, None), (10_000, Reason.COST_STALE), (-AHEAD_MS, None), (-AHEAD_MS - 1, Reason.COST_FUTURE)],
)
def test_a_cost_of_long_ago_or_of_the_future_is_kept_out(book, clock, age_ms, reason):
    sold(book, offer(clock, age_ms=age_ms))

    assert reason == reasons(book).get("a")


def test_a_cost_of_nothing_is_kept_out(book, clock):
    sold(book, offer(clock, vcpu=0), offer(clock, "b", vcpu=0, address=1))

    assert {"a": Reason.COST_ZERO} == reasons(book)
    assert "rate.zero_cost" in book.quarantined[0].detail


def test_a_cost_of_nothing_is_sold_on_where_the_operator_says_so_in_words(clock):
    book = CostBook(clock, evolve(LIMITS, zero=ZeroCost.ALLOW), Ledger())

    assert ["a"] == sold(book, offer(clock, vcpu=0))


def test_a_negative_cost_that_got_past_the_values_is_kept_out(book, clock):
    sold(book, negative(offer(clock)))

    assert {"a": Reason.COST_NEGATIVE} == reasons(book)


def test_an_offer_that_is_mended_or_gone_leaves_quarantine(book, clock):
    sold(book, offer(clock, vcpu=0), offer(clock, "b", vcpu=0))
    sold(book, offer(clock))

    assert () == book.quarantined


def test_the_limits_are_those_of_the_boot_file():
    settings = RateSettings(
        policy="fixed", cost_max_age_s=60, cost_jump_bps=7, cost_settle_s=3, zero_cost=ZeroCost.ALLOW
    )

    assert CostLimits(60_000, BasisPoints(7), 3000, ZeroCost.ALLOW) == CostLimits.of(settings)
    assert CostLimits() == CostLimits.of(RateSettings(policy="fixed"))


# --- jumps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "jumps"), [(1500, False), (1501, True), (667, False), (666, True)])
def test_a_cost_that_leaps_either_way_is_kept_out(book, clock, cost, jumps):
    sold(book, offer(clock))
    sold(book, offer(clock, vcpu=cost))

    assert ({"a": Reason.COST_JUMP} if jumps else {}) == reasons(book)


@pytest.mark.parametrize("change", [{"address": 1}, {"disk_gib": 1}, {"gpu": 5}, {"ram_gib": 9}, {"machine": 2}])
def test_every_part_of_a_cost_may_leap(book, clock, change):
    sold(book, offer(clock))
    sold(book, offer(clock, **change))

    (held,) = book.quarantined
    assert f"{next(iter(change))} went from 0 to {next(iter(change.values()))} nanos" in held.detail


def test_egress_may_leap_too(book, clock):
    one = offer(clock)
    sold(book, one)
    sold(book, evolve(one, cost=evolve(one.cost, units=evolve(one.cost.units, egress_gib=Nanos(7)))))

    assert {"a": Reason.COST_JUMP} == reasons(book)


def test_a_cost_is_held_against_the_last_one_and_not_the_first(book, clock):
    assert [["a"]] * 3 == [sold(book, offer(clock, vcpu=cost)) for cost in (1000, 1500, 2200)]


def test_a_leap_names_the_key_that_says_how_long_it_must_stand(book, clock):
    sold(book, offer(clock))
    sold(book, offer(clock, vcpu=9000))

    assert book.quarantined[0].detail.endswith("sold again when it has stood for rate.cost_settle_s = 2")


def test_the_first_sight_of_an_offer_is_no_jump(book, clock):
    sold(book, offer(clock))

    assert ["b"] == sold(book, offer(clock, "b", vcpu=10**9))


@pytest.mark.anyio
async def test_a_leap_that_stands_is_sold_on_after_a_while(book, clock):
    sold(book, offer(clock))
    sold(book, offer(clock, vcpu=9000))
    await clock.advance(1999)
    early = sold(book, offer(clock, vcpu=9000))
    await clock.advance(1)

    assert ([], ["a"]) == (early, sold(book, offer(clock, vcpu=9000)))
    assert () == book.quarantined


@pytest.mark.anyio
async def test_a_leap_that_leaps_on_waits_anew(book, clock):
    sold(book, offer(clock))
    sold(book, offer(clock, vcpu=9000))
    await clock.advance(1500)
    sold(book, offer(clock, vcpu=90_000))
    await clock.advance(1500)

    assert [] == sold(book, offer(clock, vcpu=90_000))


@pytest.mark.anyio
async def test_a_leap_is_never_sold_on_at_first_sight_however_short_it_must_stand(clock):
    book = CostBook(clock, evolve(LIMITS, settle_ms=0), Ledger())
    sold(book, offer(clock))
    at_once = sold(book, offer(clock, vcpu=9000))
    await clock.advance(1)

    assert [] == at_once
    assert ["a"] == sold(book, offer(clock, vcpu=9000))


@pytest.mark.anyio
async def test_a_leap_that_wavers_a_little_is_settled_all_the_same(book, clock):
    sold(book, offer(clock))
    for cost in (9000, 9100, 9050, 9001):
        sold(book, offer(clock, vcpu=cost))
        await clock.advance(500)

    assert ["a"] == sold(book, offer(clock, vcpu=9002))


def test_a_leap_that_goes_back_is_sold_on_at_once(book, clock):
    sold(book, offer(clock))
    sold(book, offer(clock, vcpu=9000))

    assert ["a"] == sold(book, offer(clock, vcpu=1001))


# --- while a backend is silent, and when clocks jump ----------------------------------------------


@pytest.mark.anyio
async def test_an_accepted_cost_grows_stale_though_nobody_asks(book, clock):
    one = offer(clock, age_ms=4000)
    sold(book, one)
    await clock.advance(5999)
    fresh = book.stale(one)
    await clock.advance(1)

    assert (None, Reason.COST_STALE) == (fresh, book.stale(one).reason)
    assert () == book.expire(RACK, (one,))
    assert {"a": Reason.COST_STALE} == reasons(book)


def test_a_wall_clock_that_jumps_takes_back_nothing_that_was_accepted(book, clock):
    one = offer(clock)
    sold(book, one)
    clock.jump_utc(48 * HOUR_MS)

    assert None is book.stale(one)
    assert (one,) == book.expire(RACK, (one,))


def test_a_wall_clock_that_jumps_is_told_when_a_backend_tells_old_costs(book, clock, caplog):
    one = offer(clock)
    sold(book, one)
    clock.jump_utc(48 * HOUR_MS)
    sold(book, one)

    assert {"a": Reason.COST_STALE} == reasons(book)
    assert "1 in quarantine: cost-stale: offer a: observed 172800 s ago" in caplog.text


# --- told once, and in the journal ----------------------------------------------------------------


def test_a_quarantine_is_told_once(book, clock, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        sold(book, offer(clock, vcpu=0))
    sold(book, offer(clock))

    assert ["1 in quarantine", "no offer is in quarantine"] == [
        text for text in ("1 in quarantine", "no offer is in quarantine") if caplog.text.count(text) == 1
    ]


@asynccontextmanager
async def journal_at(tmp_path, clock, **more):
    async with open_sqlite_journal(tmp_path / "journal", clock, create=True, **more) as journal:
        yield journal


async def told(journal, *kinds):
    return [read_event(one) for one in await journal.events(lease=b"") if one.kind in kinds]


@pytest.mark.anyio
async def test_the_journal_tells_of_quarantine_and_release(book, clock, tmp_path):
    async with journal_at(tmp_path, clock) as journal:
        sold(book, offer(clock, vcpu=0), offer(clock, "b"))
        await book.ledger.write(journal, now_ms=0)
        sold(book, offer(clock), offer(clock, "b"))
        await book.ledger.write(journal, now_ms=HOUR_MS)
        held, released = await told(journal, "cost-quarantined", "cost-released")

    assert (RACK, Reason.COST_ZERO, 1, "a", "test") == (
        held.backend,
        held.reason,
        held.count,
        held.offers[0].offer,
        held.offers[0].source,
    )
    assert CostsReleased(RACK, Reason.COST_ZERO) == released


@pytest.mark.anyio
async def test_a_cost_cannot_leap_across_a_restart(book, clock, tmp_path):
    async with journal_at(tmp_path, clock) as journal:
        sold(book, offer(clock, address=30, egress_gib=7))
        await book.ledger.write(journal, now_ms=0)
        again = CostBook(clock, LIMITS, Ledger())
        await again.restore(journal)

        assert [] == sold(again, offer(clock, vcpu=9000, address=30, egress_gib=7))
        assert ["a"] == sold(again, offer(clock, address=30, egress_gib=7))
        await again.ledger.write(journal, now_ms=0)
        assert 1 == len(await told(journal, "cost-accepted"))


@pytest.mark.anyio
async def test_a_large_catalogue_is_journalled_in_pieces_that_can_be_read_again(book, clock, tmp_path):
    long = "\N{OLD PERSIAN SIGN A}" * 120
    async with journal_at(tmp_path, clock) as journal:
        sold(book, *(offer(clock, f"{long}{at}", vcpu=10**15) for at in range(450)))
        await book.ledger.write(journal, now_ms=0)
        pieces = await told(journal, "cost-accepted")

    assert 450 == sum(len(piece.costs) for piece in pieces if isinstance(piece, CostsAccepted))


@pytest.mark.anyio
async def test_a_cost_that_flaps_at_every_look_is_journalled_once_an_hour_and_counted(book, clock, tmp_path):
    async with journal_at(tmp_path, clock) as journal:
        sold(book, offer(clock))
        for look in range(241):
            sold(book, offer(clock, vcpu=0 if look % 2 else 1000))
            await book.ledger.write(journal, now_ms=look * 30_000)
        events = await told(journal, "cost-quarantined", "cost-released")

    assert 3 >= len(events)
    assert 100 < max(one.times for one in events)


@pytest.mark.anyio
async def test_a_full_journal_stops_no_decision_and_is_written_later(clock, tmp_path):
    book = CostBook(clock, LIMITS, Ledger())
    async with journal_at(tmp_path, clock) as journal:
        sold(book, offer(clock, vcpu=0))
        full: Any = Full(journal)
        await book.ledger.write(full, now_ms=0)
        assert {"a": Reason.COST_ZERO} == reasons(book)
        full.is_full = False
        await book.ledger.write(full, now_ms=1)

        assert 1 == len(await told(journal, "cost-quarantined"))


class Full:
    """A journal whose disk is full for as long as a test says."""

    def __init__(self, journal):
        self._journal = journal
        self.is_full = True

    async def record(self, *drafts):
        await anyio.lowlevel.checkpoint()
        if self.is_full:
            raise JournalUnwritableError("no room", reason="full")
        return await self._journal.record(*drafts)


class Busy(Full):
    """A journal during whose first write something else becomes so."""

    def __init__(self, journal, meanwhile):
        super().__init__(journal)
        self.is_full = False
        self._meanwhile = [meanwhile]

    async def record(self, *drafts):
        recorded = await super().record(*drafts)
        if self._meanwhile:
            self._meanwhile.pop()()
        return recorded


@pytest.mark.anyio
async def test_what_becomes_so_while_a_note_is_written_is_written_later(clock, tmp_path):
    ledger = Ledger()
    first, second = CostsReleased(RACK, Reason.COST_ZERO), CostsReleased(RACK, Reason.COST_JUMP)
    async with journal_at(tmp_path, clock) as journal:
        ledger.note("key", first)
        busy: Any = Busy(journal, lambda: ledger.note("key", second))
        await ledger.write(busy, now_ms=0)
        await ledger.write(journal, now_ms=HOUR_MS)

        assert [first, second] == await told(journal, "cost-released")


@pytest.mark.anyio
async def test_a_ledger_writes_no_more_than_so_many_events_an_hour(clock, tmp_path):
    ledger = Ledger()
    async with journal_at(tmp_path, clock) as journal:
        for look in range(3):
            for at in range(MOST):
                ledger.note((look, at), CostsReleased(RACK, Reason.COST_ZERO))
            await ledger.write(journal, now_ms=look)
        in_the_hour = (await journal.head())[0]
        await ledger.write(journal, now_ms=HOUR_MS)

        assert (MOST, 2 * MOST) == (in_the_hour, (await journal.head())[0])


def test_an_event_names_some_offers_and_counts_all(book, clock):
    sold(book, *(offer(clock, f"o{at:03}", vcpu=0) for at in range(100)))
    (held,) = [one for one in book.ledger.waiting if isinstance(one, CostsQuarantined)]

    assert (100, 32) == (held.count, len(held.offers))

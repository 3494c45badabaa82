from fractions import Fraction
from itertools import product
from math import ceil
from typing import Any

import pytest
from attrs import asdict, astuple, evolve
from hypothesis import event, given, settings
from hypothesis import strategies as st

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.costs import Quarantined
from compute_bridge.host.floor import Shortfall, covers, shortfall
from compute_bridge.host.journal_events import RateRefused, RateStands, read_event
from compute_bridge.host.plugin_call import PluginResultError
from compute_bridge.host.rates import CostFloorError, RateBook, ask, check_grant_floor, enforce
from compute_bridge.model.boot import BelowCost
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import (
    BackendName,
    BandName,
    Fingerprint,
    GrantId,
    OfferId,
    ProviderId,
    PublicKey,
    RequestId,
)
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import (
    CapacityBand,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    Zone,
)
from compute_bridge.model.units import HOUR_MS, BasisPoints, MicrosPerHour, Milliseconds, Tick, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import RatePolicy, RateQuestion
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.wire.signing import fingerprint

ISOLATED = (NetworkPolicy.ISOLATED,)
BOTH = (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED)


def units(machine=0, vcpu=0, ram_gib=0, disk_gib=0, gpu=0, egress_gib=0) -> Any:
    whole: Any = UnitNanos
    return whole(machine, vcpu, ram_gib, disk_gib, gpu, egress_gib)


def offer(name="a", size=(8000, 16384), cost=None, currency="EUR", address=0, **more):
    base = Offer(
        id=OfferId(name),
        backend=BackendName("rack"),
        region=Region("eu"),
        zone=Zone("a"),
        shape="shape",
        resources=Resources(*size),
        posture=Posture.NONE,
        networks=BOTH,
        cost=CostBasis(currency, cost or units(vcpu=10_000_000), UtcMs(1), "test", address),
    )
    return evolve(base, **more)


def band(name="small", floor=(1000, 1024), ceiling=(4000, 8192), **more):
    return CapacityBand(BandName(name), Resources(*floor), Resources(*ceiling), 4, **more)


def row(asked, name="small", region="eu", posture=Posture.NONE):
    return RateRow(Region(region), posture, BandName(name), asked)


def table(*rows, currency="EUR"):
    return RateTable(currency, tuple(sorted(rows, key=lambda one: one.key)))


def question(*offers, bands=None):
    return RateQuestion("EUR", offers, (band(),) if bands is None else bands)


def enforced(asked, *offers, fee=0, below_cost=BelowCost.REFUSE, bands=None):
    return enforce(
        table(row(asked)), question(*offers, bands=bands), provider_fee=BasisPoints(fee), below_cost=below_cost
    )


def reasons(rates):
    return [one.reason for one in rates.refusals]


# --- the promise ----------------------------------------------------------------------------------

SIZES = st.tuples(
    st.sampled_from([1000, 1500, 2000, 4000]), st.sampled_from([1024, 2048, 3000]), st.integers(0, 2), st.integers(0, 2)
)
NANOS = st.sampled_from([0, 0, 1, 999, 1000, 5001, 10_000_000])
UNITS = st.builds(units, NANOS, NANOS, NANOS, NANOS, NANOS, NANOS)
OFFERS = st.lists(
    st.builds(
        lambda size, cost, **more: offer(size=size, cost=cost, **more),
        SIZES,
        UNITS,
        networks=st.sampled_from([BOTH, BOTH, ISOLATED]),
        max_duration_ms=st.sampled_from([2 * HOUR_MS, 2 * HOUR_MS, HOUR_MS]),
        runs_oci=st.sampled_from([True, True, False]),
        images=st.sampled_from([("plain",), ("plain",), ()]),
        currency=st.sampled_from(["EUR"] * 9 + ["USD"]),
        address=st.sampled_from([0, 0, 1, 1_000_000]),
    ),
    min_size=1,
    max_size=3,
).map(lambda many: [evolve(one, id=OfferId(f"o{at}")) for at, one in enumerate(many)])


def bands_of(low, high):
    return band(
        floor=tuple(map(min, low, high)), ceiling=tuple(map(max, low, high)), max_duration_ms=Milliseconds(2 * HOUR_MS)
    )


BANDS = st.builds(bands_of, SIZES, SIZES)
FEES = st.sampled_from([0, 0, 1, 250, 5000, -250])


@st.composite
def near_cost(draw, offers, fee):
    """Rates that just cover one offer or all, but for one unit, which is sometimes a little short."""
    costs = [asdict(one.cost.total) for one in offers]
    some = costs if draw(st.booleans()) else [draw(st.sampled_from(costs))]
    asked = {unit: -(-max(one[unit] for one in some) * 10_000 // (10_000 - fee)) for unit in costs[0]}
    asked["machine"] += draw(st.sampled_from([0, 1000, 1_000_000]))
    spoiled = draw(st.sampled_from(list(asked)))
    asked[spoiled] -= draw(st.sampled_from([0, 0, 1, 1000, 1001, 1_000_000]))
    return units(**{unit: max(0, nanos) for unit, nanos in asked.items()})


def edges(one_band, offers):
    """Yield requirements in every corner that the band and its offers make, of every kind."""
    low, high = astuple(one_band.floor), astuple(one_band.ceiling)
    sizes = [low, high, *(tuple(map(min, high, astuple(one.resources))) for one in offers)]
    for size in product(*(sorted({one[at] for one in sizes if one[at] >= low[at]}) for at in range(4))):
        for network, duration, egress in product(BOTH, (HOUR_MS, 2 * HOUR_MS), (0, 7)):
            yield Requirements(Resources(*size), Milliseconds(duration), network=network, egress_gib=egress)


def losses(rates, offers, one_band, fee):
    """Yield the requirements that the published row serves only below cost, if any."""
    for needs in edges(one_band, offers) if rates.table.rows else ():
        serving = [one for one in offers if one.serves(needs)]
        rate = rates.table.rows[0].units.hourly(needs)
        for image in (ImageRef("oci@sha256:" + "ab" * 32), ImageRef("vm:plain")):
            running = [one for one in serving if one.runs(image)]
            costs = [one.cost.hourly(needs) for one in running if one.cost.currency == "EUR"]
            if running and not any(covers(rate, cost, BasisPoints(fee)) for cost in costs):
                yield needs


@given(OFFERS, BANDS, FEES, st.data())
@settings(max_examples=600)
def test_no_published_row_sells_below_cost(offers, one_band, fee, data):
    rates = enforced(data.draw(near_cost(offers, fee)), *offers, fee=fee, bands=(one_band,))
    event("published" if rates.table.rows else rates.refusals[0].reason)

    assert None is next(losses(rates, offers, one_band, fee), None)


def test_that_search_would_find_a_loss():
    rates = enforced(units(vcpu=1), offer(), below_cost=BelowCost.ALLOW)
    needs = Requirements(Resources(1000, 1024), Milliseconds(HOUR_MS))

    assert needs in losses(rates, [offer()], band(), 0)


@given(UNITS, UNITS, BANDS, SIZES, FEES)
@settings(max_examples=400)
def test_a_shortfall_stands_in_the_corner_that_it_names(asked, cost, one_band, size, fee):
    one = offer(size=tuple(map(max, size, (one_band.floor.cpu_millis, one_band.floor.mem_mib, 3, 2))), cost=cost)
    short = shortfall(asked, one_band, one, BasisPoints(fee))
    if short is None or short.egress:
        return
    needs = Requirements(short.at, Milliseconds(HOUR_MS))
    net_nanos = asked.hourly(needs) * (10_000 - fee) // 10

    assert net_nanos < (one.cost.hourly(needs) + 1) * 1000 + 1000


def parts_of(cost, needs):
    """Return what an hour costs in micros as a fraction: compute, disk, GPUs, address and egress, one by one."""
    wants, prices = needs.resources, cost.units
    compute = prices.machine + Fraction(wants.cpu_millis * prices.vcpu, 1000)
    memory = Fraction(wants.mem_mib * prices.ram_gib, 1024)
    disk, gpus = wants.disk_gib * prices.disk_gib, wants.gpus * prices.gpu
    egress = Fraction(needs.egress_gib * prices.egress_gib * HOUR_MS, needs.duration_ms)
    return (compute + memory + disk + gpus + egress + cost.address) / 1000


NEEDS = st.builds(
    Requirements,
    SIZES.map(lambda size: Resources(*size)),
    st.integers(1, 3 * HOUR_MS).map(Milliseconds),
    egress_gib=st.integers(0, 9),
)


@given(UNITS, NANOS, NEEDS, st.sampled_from([0, 1, 250, 5000, -250]), st.integers(-2, 2))
@settings(max_examples=400)
def test_the_floor_is_the_sum_of_all_parts_and_the_fee_rounded_up_once(cost, address, needs, fee, off):
    one = offer(size=(8000, 16384, 8, 8), cost=cost, address=address)
    floor = ceil(parts_of(one.cost, needs))
    least = ceil(Fraction(floor * 10_000, 10_000 - fee))
    grant = evolve(GRANT, requirements=needs, rate=MicrosPerHour(max(0, least + off)))

    assert (grant.rate >= least) is is_covered(grant, one, fee)


def is_covered(grant, one, fee):
    try:
        check_grant_floor(grant, one, provider_fee=BasisPoints(fee))
    except CostFloorError:
        return False
    return True


def test_an_address_must_be_covered_too():
    one = offer(cost=units(vcpu=10_000_000), address=1_000_000)
    covered = units(machine=1_000_000, vcpu=10_000_000)

    assert [Reason.COST_FLOOR] == reasons(enforced(units(vcpu=10_000_000), one))
    assert [] == reasons(enforced(covered, one))


def test_a_rate_at_cost_stands_without_a_fee_and_falls_with_one():
    cost = units(vcpu=10_000_000)

    assert ([], [Reason.COST_FLOOR]) == (
        reasons(enforced(cost, offer(cost=cost))),
        reasons(enforced(cost, offer(cost=cost), fee=1)),
    )


def test_a_machines_price_may_be_covered_by_what_the_bands_floor_pays():
    dear, cheap = units(vcpu=10_000_000), units(vcpu=9_999_999)
    machine = offer(cost=units(machine=10_000_000))

    assert ([], [Reason.COST_FLOOR]) == (reasons(enforced(dear, machine)), reasons(enforced(cheap, machine)))


WIDE_BAND = band(floor=(1000, 1024, 0, 0), ceiling=(4000, 8192, 10, 2), max_duration_ms=Milliseconds(2 * HOUR_MS))


@pytest.mark.parametrize(
    ("unit", "corner"),
    [
        ("vcpu", Resources(4000, 1024)),
        ("ram_gib", Resources(1000, 8192)),
        ("disk_gib", Resources(1000, 1024, 10)),
        ("gpu", Resources(1000, 1024, 0, 2)),
    ],
)
def test_what_a_unit_loses_shows_at_the_top_of_the_band(unit, corner):
    one = offer(size=(8000, 16384, 20, 4), cost=units(**{unit: 1_000_000}))
    enough = one.cost.hourly(Requirements(corner, Milliseconds(HOUR_MS))) * 1000

    assert None is shortfall(units(machine=enough), WIDE_BAND, one, BasisPoints(0))
    assert Shortfall(corner, 1, egress=False) == shortfall(units(machine=enough - 1), WIDE_BAND, one, BasisPoints(0))


CHEAP = offer("cheap", (4000, 8192, 10, 2), units(machine=5), images=("plain",), max_duration_ms=2 * HOUR_MS)
DEAR = evolve(CHEAP, id=OfferId("dear"), cost=CostBasis("EUR", units(machine=10**12), UtcMs(1), "test"))


@pytest.mark.parametrize(
    "cheap",
    [CHEAP, evolve(CHEAP, resources=Resources(9000, 9000, 90, 9)), evolve(CHEAP, images=("other", "plain"))],
    ids=["as large", "larger", "more images"],
)
def test_a_dear_offer_is_no_loss_where_a_cheap_one_serves_the_same(cheap):
    assert [] == reasons(enforced(units(vcpu=10), cheap, DEAR, bands=(WIDE_BAND,)))


@pytest.mark.parametrize(
    "lacks",
    [
        {"resources": Resources(3999, 8192, 10, 2)},
        {"resources": Resources(4000, 8191, 10, 2)},
        {"resources": Resources(4000, 8192, 9, 2)},
        {"resources": Resources(4000, 8192, 10, 1)},
        {"max_duration_ms": 2 * HOUR_MS - 1},
        {"networks": ISOLATED},
        {"runs_oci": False},
        {"images": ()},
    ],
    ids=["CPU", "RAM", "disk", "GPUs", "duration", "network", "containers", "images"],
)
def test_a_dear_offer_that_alone_serves_something_must_be_covered(lacks):
    refusal = enforced(units(vcpu=10), evolve(CHEAP, **lacks), DEAR, bands=(WIDE_BAND,)).refusals[0]

    assert Reason.COST_FLOOR == refusal.reason
    assert "offer dear costs 1000000000 micros/h more than is left of the rate at 1000 millicores" in refusal.detail
    assert "ask that much more" in refusal.detail


def test_egress_that_is_given_away_is_below_cost():
    refusal = enforced(units(vcpu=2), offer(cost=units(vcpu=1, egress_gib=1))).refusals[0]

    assert "a GiB of egress costs more" in refusal.detail


def test_a_subsidy_counts_towards_the_rate():
    assert [] == reasons(enforced(units(vcpu=10_000_000), offer(cost=units(vcpu=10_001_000)), fee=-2))


# --- what else is refused -------------------------------------------------------------------------


def test_a_refused_row_is_kept_as_the_counterfactual():
    asked = units(vcpu=1)
    rates = enforced(asked, offer())

    assert ((), [row(asked)]) == (rates.table.rows, [one.row for one in rates.refusals])


def test_the_operator_may_allow_rows_below_cost_and_they_are_still_told():
    rates = enforced(units(vcpu=1), offer(), below_cost=BelowCost.ALLOW)

    assert (1, [True]) == (len(rates.table.rows), [one.allowed for one in rates.refusals])


@pytest.mark.parametrize("below_cost", BelowCost)
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (row(units(vcpu=10**9), name="huge"), Reason.OUT_OF_BAND),
        (row(units()), Reason.NO_RATE),
        (row(units(vcpu=10**9), region="moon"), Reason.NO_OFFER),
        (row(units(vcpu=10**9), posture=Posture.TDX), Reason.NO_OFFER),
    ],
)
def test_a_row_of_nothing_known_is_refused_whatever_the_operator_allows(asked, reason, below_cost):
    rates = enforce(table(asked), question(offer()), provider_fee=BasisPoints(0), below_cost=below_cost)

    assert ((), [reason]) == (rates.table.rows, reasons(rates))


def test_a_band_that_no_offer_reaches_is_refused():
    large = band(floor=(9000, 1024), ceiling=(9000, 8192))

    assert [Reason.NO_OFFER] == reasons(enforced(units(vcpu=10**9), offer(), bands=(large,)))


def test_the_fingerprint_is_that_of_the_table_in_force():
    rates = enforced(units(vcpu=10**9), offer())

    assert fingerprint(rates.table) == rates.fingerprint


# --- the policy's answer --------------------------------------------------------------------------


class Says(RatePolicy):
    def __init__(self, *answers: Any):
        self.answers = list(answers)
        self.asked: list[RateQuestion] = []

    def rates(self, question):
        self.asked.append(question)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def mangled():
    wrong = table(row(units(vcpu=1)))
    object.__setattr__(wrong, "rows", (3,))
    return wrong


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "the answer is no RateTable"),
        ({"vcpu": 1}, "the answer is no RateTable"),
        (mangled(), "the answer is no RateTable of RateRows"),
        (table(currency="USD"), "answers in USD, the market settles in EUR"),
        (ZeroDivisionError("by zero"), "raised ZeroDivisionError"),
    ],
    ids=["none", "dict", "mangled", "currency", "error"],
)
def test_an_answer_that_is_no_table_names_the_policy(answer, words):
    with pytest.raises(PluginResultError, match=f"rate policy Says.*{words}") as caught:
        ask(Says(answer), question(offer()))

    assert Reason.PLUGIN_RESULT == caught.value.reason


def book(*answers, **more):
    more.setdefault("below_cost", BelowCost.REFUSE)
    return RateBook(Says(*answers), currency="EUR", provider_fee=BasisPoints(0), **more)


HIGH, LOW = table(row(units(vcpu=20_000_000))), table(row(units(vcpu=1)))


@pytest.mark.anyio
async def test_nothing_is_asked_before_the_first_update():
    assert () == book(HIGH).rates.table.rows


@pytest.mark.anyio
async def test_an_update_tells_whether_the_table_changed():
    rates = book(HIGH)

    assert [True, False] == [await rates.update(question(offer())), await rates.update(question(offer()))]


@pytest.mark.anyio
async def test_a_cost_that_rises_takes_the_row_off_the_table():
    rates = book(HIGH)
    await rates.update(question(offer()))
    changed = await rates.update(question(offer(cost=units(vcpu=20_000_001))))

    assert (True, ()) == (changed, rates.rates.table.rows)


@pytest.mark.anyio
async def test_a_policy_that_fails_leaves_the_table_but_not_below_todays_cost():
    rates = book(HIGH, ValueError("bad day"), ValueError("again"))
    await rates.update(question(offer()))
    with pytest.raises(PluginResultError):
        await rates.update(question(offer()))
    stands = rates.rates.table
    with pytest.raises(PluginResultError):
        await rates.update(question(offer(cost=units(vcpu=20_000_001))))

    assert (HIGH, ()) == (stands, rates.rates.table.rows)


@pytest.mark.anyio
async def test_what_the_policy_asked_for_is_kept_whatever_became_of_it():
    rates = book(LOW)
    await rates.update(question(offer()))

    assert (LOW, ()) == (rates.asked, rates.rates.table.rows)


# --- the counterfactual ---------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_refused_row_is_taken_down_with_offer_and_shortfall():
    rates = book(LOW)
    await rates.update(question(offer("dear")))
    (taken,) = rates.ledger.waiting

    assert ("eu/none/small", Reason.COST_FLOOR, "rack", "dear") == (
        taken.where,
        taken.reason,
        taken.backend,
        taken.offer,
    )
    assert (units(vcpu=1), 40_000) == (taken.asked, taken.short_micros)


@pytest.mark.anyio
async def test_the_same_refusal_is_taken_down_once_and_its_end_too(tmp_path):
    rates = book(LOW, LOW, HIGH)
    async with open_sqlite_journal(tmp_path / "journal", VirtualClock(), create=True) as journal:
        for look in range(3):
            await rates.update(question(offer()))
            await rates.ledger.write(journal, now_ms=look * HOUR_MS)
        events = [read_event(event) for event in await journal.events(lease=b"")]

    assert [RateRefused, RateStands] == [type(one) for one in events]
    assert RateStands("eu", "none", "small", published=True) == events[1]


@pytest.mark.anyio
async def test_a_row_that_has_only_offers_in_quarantine_is_refused_for_what_ails_them():
    rates = book(HIGH)
    held = Quarantined(BackendName("rack"), OfferId("a"), Reason.COST_STALE, "too old", offer())
    elsewhere = evolve(held, offer=offer(region=Region("us")), reason=Reason.COST_JUMP)
    await rates.update(question(), held=(elsewhere, held))
    (refusal,) = rates.rates.refusals

    assert (Reason.COST_STALE, "rack", "a") == (refusal.reason, refusal.backend, refusal.offer)


# --- a grant at admission -------------------------------------------------------------------------

GRANT = ComputeGrant(
    id=GrantId(b"g" * 32),
    request_id=RequestId(b"r" * 32),
    request_key=PublicKey(b"k" * 32),
    provider_id=ProviderId(b"p" * 32),
    card_hash=Fingerprint(b"c" * 32),
    round=1,
    requirements=Requirements(Resources(1000, 1024), Milliseconds(HOUR_MS)),
    region=Region("eu"),
    posture=Posture.NONE,
    band=BandName("small"),
    manifest_commitment=b"m" * 32,
    envelope_commitment=b"e" * 32,
    bearer_pointer=b"b" * 32,
    rate=MicrosPerHour(10_000),
    currency="EUR",
    valid_from=Tick(1),
    valid_to=Tick(9),
    duration_ms=Milliseconds(HOUR_MS),
)


def test_a_grant_that_covers_its_offer_passes():
    check_grant_floor(GRANT, offer(), provider_fee=BasisPoints(0))


@pytest.mark.parametrize(
    ("one", "fee", "words"),
    [
        (offer(cost=units(vcpu=10_000_001)), 0, "costs 10001 micros/h, the grant clears 10000 less 0 basis points"),
        (offer(), 1, "costs 10000 micros/h, the grant clears 10000 less 1 basis points"),
        (offer(currency="USD"), 0, "costs USD, the grant pays EUR"),
    ],
    ids=["cost", "fee", "currency"],
)
def test_a_grant_below_cost_is_refused_by_name(one, fee, words):
    with pytest.raises(CostFloorError, match=f"backend rack: offer a {words}") as caught:
        check_grant_floor(GRANT, one, provider_fee=BasisPoints(fee))

    assert Reason.COST_FLOOR == caught.value.reason

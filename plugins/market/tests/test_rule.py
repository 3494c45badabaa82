"""The rule by itself: what it promises for every round."""

from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from compute_bridge.api import Bidder, OpenRequest, Round
from compute_bridge.model.bid import Bid, bid
from compute_bridge.model.card import BootKeys, Custody, ProviderCard, QuoteBinding
from compute_bridge.model.clearing import BandLoad, ClearingInputs, ProviderInput, RequestInput
from compute_bridge.model.ids import BandName, SealingKey, digest
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import ComputeRequest, Preferences
from compute_bridge.model.resources import (
    Capability,
    CapacityBand,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    TdxNeed,
)
from compute_bridge.model.units import BasisPoints, Milliseconds, NanosPerHour, Tick
from compute_bridge.testing.policies import ClearingRuleConformance
from compute_bridge_market.matching import priority
from compute_bridge_market.outcome_check import require_sound
from compute_bridge_market.rule import LowestRate

HOUR = 3_600_000
BIG = Resources(64_000, 65_536, 1000, 8)
ZERO: Any = bytes(32)
ONE: Any = 1
KEYS = BootKeys(ZERO, SealingKey(bytes(33)))
BINDING = QuoteBinding(KEYS, ZERO, ZERO, ZERO, ONE, ZERO, "test")
EU = Region("eu")
STD, OTHER = BandName("std"), BandName("other")
EVERYWHERE = (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED)


def name(label):
    return digest("test", label.encode())


def row(micros, *, region="eu", posture=Posture.NONE, band="std"):
    return RateRow(region, posture, band, UnitNanos(machine=1000 * micros))


def card(label, *rows, capabilities=None, bands=None, max_leases=10, currency="USD"):
    rows = rows or (row(1000),)
    places = sorted({(one.region, one.posture) for one in rows})
    return ProviderCard(
        provider_id=name(label),
        epoch=1,
        version=1,
        certificate=b"c",
        capabilities=capabilities or tuple(Capability(region, posture, BIG, EVERYWHERE) for region, posture in places),
        bands=bands
        or tuple(CapacityBand(band, Resources(1, 1), BIG, 10) for band in sorted({one.band for one in rows})),
        max_leases=max_leases,
        rates=RateTable(currency, tuple(sorted(rows, key=lambda one: one.key))),
        rate_fingerprint=ZERO,
        organism=ZERO,
        binding=BINDING,
        evidence=Evidence(b"q"),
        pre_hash=ZERO,
        post_hash=ZERO,
        custody=Custody.OPERATOR_HELD,
        retirement=b"",
        refreshed_at=ONE,
        development_attestation=False,
    )


def bidder(value, *, open_=0, **loads):
    return Bidder(value, name(value.provider_id.hex()), open_, loads)


def request(label, *, max_rate=10_000, excluded=(), **changes):
    requirements = evolve(Requirements(Resources(1000, 1024), Milliseconds(HOUR)), **changes)
    value = ComputeRequest(ZERO, requirements, max_rate, "USD", Preferences(), ZERO, ZERO, ZERO, Tick(1000))
    return OpenRequest(name(f"request {label}"), value, frozenset(excluded))


def round_(requests, bidders, *, beacon=bytes(32), number=7):
    inputs = ClearingInputs(
        number,
        ONE,
        beacon,
        tuple(RequestInput(one.id, tuple(sorted(one.excluded))) for one in requests),
        tuple(
            ProviderInput(
                one.card.provider_id,
                one.card_hash,
                one.open,
                tuple(BandLoad(band, count) for band, count in sorted(one.loads.items())),
            )
            for one in bidders
        ),
    )
    return Round(inputs, tuple(requests), tuple(bidders), "USD", BasisPoints(0), BasisPoints(0), name("module"))


def clear(requests, bidders, **changes):
    return LowestRate().clear(round_(requests, bidders, **changes))


def reasons(cleared, one):
    return {verdict.provider_id: verdict.reason for verdict in cleared.verdicts if verdict.request_id == one.id}


class TestLowestRate(ClearingRuleConformance):
    @pytest.fixture
    def rule(self):
        return LowestRate()


def test_the_lowest_rate_wins():
    one, dear, cheap = request("r"), card("dear", row(2000)), card("cheap", row(1000))
    cleared = clear([one], [bidder(dear), bidder(cheap)])

    assert [(award.provider_id, award.rate) for award in cleared.awards] == [(cheap.provider_id, 1000)]
    assert reasons(cleared, one) == {cheap.provider_id: Reason.WON, dear.provider_id: Reason.OUTBID}


@pytest.mark.parametrize(
    ("changes", "wants", "reason"),
    [
        ({}, {"regions": ("us",)}, Reason.REGION),
        ({}, {"resources": Resources(65_000, 1024)}, Reason.SHAPE),
        ({}, {"tdx": TdxNeed.REQUIRED}, Reason.TDX_POSTURE),
        (
            {"capabilities": (Capability(EU, Posture.NONE, BIG, (NetworkPolicy.ISOLATED,)),)},
            {"network": NetworkPolicy.EGRESS},
            Reason.NETWORK_POLICY,
        ),
        (
            {"bands": (CapacityBand(STD, Resources(2000, 2048), BIG, 1),)},
            {},
            Reason.OUT_OF_BAND,
        ),
        ({"bands": (CapacityBand(OTHER, Resources(1, 1), BIG, 1),)}, {}, Reason.NO_RATE),
        ({"currency": "EUR"}, {}, Reason.NO_RATE),
        ({"max_leases": 0}, {}, Reason.NO_FREE_CAPACITY),
    ],
)
def test_a_bid_that_cannot_be_made_says_why(changes, wants, reason):
    one, value = request("r", **wants), card("p", **changes)
    cleared = clear([one], [bidder(value)])

    assert (cleared.awards, reasons(cleared, one)) == ((), {value.provider_id: reason})


def test_a_bid_above_the_max_rate_loses_and_shows_its_rate():
    one, value = request("r", max_rate=999), card("p", row(1000))
    cleared = clear([one], [bidder(value)])

    assert [(verdict.reason, verdict.rate) for verdict in cleared.verdicts] == [(Reason.ABOVE_MAX_RATE, 1000)]


def test_a_rate_beyond_what_a_record_holds_is_no_bid():
    monstrous = RateRow(EU, Posture.NONE, STD, UnitNanos(disk_gib=NanosPerHour(10**15)))
    one, value = (
        request("r", resources=Resources(1, 1, 2**24)),
        card(
            "p",
            monstrous,
            capabilities=(Capability(EU, Posture.NONE, Resources(1, 1, 2**24), EVERYWHERE),),
            bands=(CapacityBand(STD, Resources(1, 1), Resources(1, 1, 2**24), 1),),
        ),
    )
    cleared = clear([one], [bidder(value)])

    assert reasons(cleared, one) == {value.provider_id: Reason.NO_RATE}


def test_an_excluded_provider_is_passed_over():
    cheap, dear = card("cheap", row(1000)), card("dear", row(2000))
    one = request("r", excluded=[cheap.provider_id])
    cleared = clear([one], [bidder(cheap), bidder(dear)])

    assert reasons(cleared, one) == {cheap.provider_id: Reason.EXCLUDED, dear.provider_id: Reason.WON}


def test_of_equal_bids_the_beacon_chooses():
    one, left, right = request("r"), card("left"), card("right")
    beacon = name("beacon")
    first, second = sorted((left.provider_id, right.provider_id), key=lambda one_: priority(beacon, one.id, one_))
    cleared = clear([one], [bidder(left), bidder(right)], beacon=beacon)

    assert reasons(cleared, one) == {first: Reason.WON, second: Reason.TIE_LOST}


def test_either_of_equal_bidders_can_win():
    one, bidders = request("r"), [bidder(card("left")), bidder(card("right"))]
    winners = {clear([one], bidders, beacon=name(f"beacon {count}")).awards[0].provider_id for count in range(64)}

    assert winners == {name("left"), name("right")}


def test_of_two_requests_for_one_slot_the_beacon_chooses():
    requests, value, beacon = [request("a"), request("b")], card("p", max_leases=1), name("beacon")
    first, second = sorted(requests, key=lambda one: priority(beacon, one.id, value.provider_id))
    cleared = clear(requests, [bidder(value)], beacon=beacon)

    assert [award.request_id for award in cleared.awards] == [first.id]
    assert reasons(cleared, second) == {value.provider_id: Reason.NO_FREE_CAPACITY}


def test_who_is_crowded_out_goes_to_the_next_best():
    requests = [request("a"), request("b")]
    cheap, dear = card("cheap", row(1000), max_leases=1), card("dear", row(2000))
    cleared = clear(requests, [bidder(cheap), bidder(dear)])
    crowded = next(award.request_id for award in cleared.awards if award.provider_id == dear.provider_id)
    one = next(one for one in requests if one.id == crowded)

    assert reasons(cleared, one) == {cheap.provider_id: Reason.NO_FREE_CAPACITY, dear.provider_id: Reason.WON}


def test_what_is_open_takes_slots():
    one, full = request("r"), card("full", max_leases=3)
    cleared = clear([one], [bidder(full, open_=3, std=3)])

    assert reasons(cleared, one) == {full.provider_id: Reason.NO_FREE_CAPACITY}


def test_a_full_band_gives_way_to_the_next_dearer_one():
    bands = (CapacityBand(BandName("a"), Resources(1, 1), BIG, 1), CapacityBand(BandName("b"), Resources(1, 1), BIG, 1))
    value = card("p", row(1000, band="a"), row(2000, band="b"), bands=bands)
    requests = [request("a"), request("b"), request("c")]
    cleared = clear(requests, [bidder(value)])

    assert sorted((award.band, award.rate) for award in cleared.awards) == [("a", 1000), ("b", 2000)]


def test_a_preferred_tdx_machine_goes_before_a_cheaper_one_without():
    one = request("r", tdx=TdxNeed.PREFERRED)
    plain, tdx = card("plain", row(1000)), card("tdx", row(2000, posture=Posture.TDX))
    cleared = clear([one], [bidder(plain), bidder(tdx)])

    assert reasons(cleared, one) == {plain.provider_id: Reason.OUTBID, tdx.provider_id: Reason.WON}


# --- for every round ------------------------------------------------------------------------------

REGIONS = st.sampled_from(["eu", "us"])
POSTURES = st.sampled_from([Posture.NONE, Posture.TDX])
RATES = st.integers(0, 5).map(lambda count: 1000 * count)
BANDS = tuple(
    CapacityBand(BandName(label), Resources(low, 1), Resources(high, 65_536), 1)
    for label, low, high in [("a", 1, 2000), ("b", 1000, 64_000)]
)


@st.composite
def bidders(draw, label):
    places = st.tuples(REGIONS, POSTURES, st.sampled_from(["a", "b"]))
    rows = [
        row(draw(RATES), region=region, posture=posture, band=band)
        for region, posture, band in draw(st.sets(places, min_size=1, max_size=6))
    ]
    bands = tuple(evolve(one, slots=draw(st.integers(1, 2))) for one in BANDS)
    value = card(label, *rows, bands=bands, max_leases=draw(st.integers(0, 3)))
    return bidder(value, open_=draw(st.integers(0, 2)), a=draw(st.integers(0, 2)), b=draw(st.integers(0, 1)))


@st.composite
def requests(draw, label, providers):
    return request(
        label,
        max_rate=draw(st.integers(1, 5000)),
        excluded=draw(st.sets(st.sampled_from(providers))) if providers else (),
        resources=Resources(draw(st.sampled_from([500, 1500, 3000])), 1024),
        tdx=draw(st.sampled_from(list(TdxNeed))),
        regions=draw(st.sampled_from([(), ("eu",), ("us",)])),
    )


def test_a_preferred_bid_beyond_the_max_rate_leaves_the_affordable_one_in_another_band():
    dear = row(900, posture=Posture.TDX, band="other")
    seller = bidder(card("p", row(100), dear, max_leases=1))
    asked = request("r", max_rate=500, tdx=TdxNeed.PREFERRED)
    (award,) = clear([asked], [seller]).awards

    assert ("std", Posture.NONE, 100) == (award.band, award.posture, award.rate)


@st.composite
def rounds(draw):
    sellers = [draw(bidders(f"p{count}")) for count in range(draw(st.integers(0, 4)))]
    ids = [one.card.provider_id for one in sellers]
    asked = [draw(requests(f"r{count}", ids)) for count in range(draw(st.integers(0, 6)))]
    return asked, sellers, draw(st.binary(min_size=32, max_size=32))


@given(rounds())
@settings(max_examples=300)
def test_every_outcome_is_sound(case):
    asked, sellers, beacon = case
    value = round_(asked, sellers, beacon=beacon)

    require_sound("lowest-rate", value, LowestRate().clear(value))


@given(rounds(), st.randoms(use_true_random=False))
def test_the_order_of_the_inputs_changes_nothing(case, chance):
    asked, sellers, beacon = case
    before = clear(asked, sellers, beacon=beacon)
    chance.shuffle(asked)
    chance.shuffle(sellers)

    assert clear(asked, sellers, beacon=beacon) == before


@frozen
class Place:
    """A request's best bid at a provider whose band it could get."""

    standing: tuple[bool, int, bytes]
    band: str


def best_bids(one, seller, beacon):
    """Return every bid of a card that ``one`` could accept, by band."""
    if seller.card.provider_id in one.excluded:
        return []
    names = {band.name for band in seller.card.bands}
    found = [bid(seller.card, one.request.requirements, busy=frozenset(names - {band})) for band in names]
    return [
        Place(standing(one, answer, seller.card.provider_id, beacon), answer.band)
        for answer in found
        if isinstance(answer, Bid) and answer.rate <= one.request.max_rate
    ]


def standing(one, answer, provider, beacon):
    wants_tdx = one.request.requirements.tdx is TdxNeed.PREFERRED
    return (wants_tdx and answer.posture is not Posture.TDX, answer.rate, priority(beacon, one.id, provider))


@given(rounds())
@settings(max_examples=300)
def test_no_request_and_bidder_would_rather_have_each_other(case):
    asked, sellers, beacon = case
    cleared = clear(asked, sellers, beacon=beacon)
    by_id = {one.id: one for one in asked}
    won = {award.request_id: award for award in cleared.awards}
    for seller in sellers:
        provider, held = (
            seller.card.provider_id,
            [one for one in won.values() if one.provider_id == seller.card.provider_id],
        )
        rank = {award.request_id: priority(beacon, award.request_id, provider) for award in held}
        for one in asked:
            if one.id in rank:
                continue
            mine = won.get(one.id)
            have = (
                standing(one, Bid(mine.region, mine.posture, mine.band, mine.rate), mine.provider_id, beacon)
                if mine
                else None
            )
            for place in best_bids(one, seller, beacon):
                if have is not None and have <= place.standing:
                    continue
                in_band = [award.request_id for award in held if award.band == place.band]
                slots = next(band.slots for band in seller.card.bands if band.name == place.band)
                full_band = seller.loads.get(place.band, 0) + len(in_band) >= slots
                full = seller.open + len(held) >= seller.card.max_leases
                assert full_band or full, "a free slot was left to nobody"
                rivals = in_band if full_band else list(rank)
                own = priority(beacon, one.id, provider)
                assert all(rank[rival] < own for rival in rivals), "a request was passed over for a worse one"
    assert set(won) <= set(by_id)

"""What a card asks: the cheapest feasible row, or the one reason why nothing."""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.bid import Bid, bid
from compute_bridge.model.card import BootKeys, Custody, ProviderCard, QuoteBinding
from compute_bridge.model.ids import BandName, Fingerprint, ProviderId, PublicKey, SealingKey, UniqueId
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
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
from compute_bridge.model.units import MicrosPerHour, Milliseconds, NanosPerHour, Tick

HERE, THERE = Region("eu-1"), Region("us-1")
SMALL, LARGE = BandName("small"), BandName("large")
ISOLATED = (NetworkPolicy.ISOLATED,)
CAPABILITIES = (
    Capability(HERE, Posture.NONE, Resources(8000, 8192), ISOLATED, Milliseconds(10_000)),
    Capability(HERE, Posture.TDX, Resources(4000, 4096), ISOLATED, Milliseconds(10_000)),
    Capability(THERE, Posture.NONE, Resources(2000, 2048), (NetworkPolicy.EGRESS, *ISOLATED), Milliseconds(10_000)),
)
BANDS = (
    CapacityBand(LARGE, Resources(1001, 1), Resources(8000, 8192), 2),
    CapacityBand(SMALL, Resources(1, 1), Resources(2000, 2048), 2),
)
NEEDS = Requirements(Resources(1000, 512), Milliseconds(5000))


def row(region: Region, posture: Posture, band: BandName, nanos: int) -> RateRow:
    return RateRow(region, posture, band, UnitNanos(machine=NanosPerHour(nanos)))


ROWS = (
    row(HERE, Posture.NONE, LARGE, 9_000_000),
    row(HERE, Posture.NONE, SMALL, 5_000_000),
    row(HERE, Posture.TDX, SMALL, 7_000_000),
    row(THERE, Posture.NONE, SMALL, 3_000_000),
)


def card(**changes: Any) -> ProviderCard:
    keys = BootKeys(PublicKey(bytes(32)), SealingKey(bytes([1]) + bytes(32)))
    one = UniqueId(bytes(32))
    rates = RateTable("EUR", ROWS)
    blank = Fingerprint(bytes(32))
    made = ProviderCard(
        provider_id=ProviderId(bytes(32)),
        epoch=1,
        version=1,
        certificate=b"-",
        capabilities=CAPABILITIES,
        bands=BANDS,
        max_leases=4,
        rates=rates,
        rate_fingerprint=blank,
        organism=blank,
        binding=QuoteBinding(keys, one, one, bytes(32), Tick(1), blank, "0"),
        evidence=Evidence(b"-"),
        pre_hash=blank,
        post_hash=blank,
        custody=Custody.OPERATOR_HELD,
        retirement=b"",
        refreshed_at=Tick(1),
        development_attestation=True,
    )
    return evolve(made, **changes)


def asked(region: Region, posture: Posture, band: BandName, rate: int) -> Bid:
    return Bid(region, posture, band, MicrosPerHour(rate))


CARD = card()


def test_the_cheapest_feasible_row_is_bid():
    assert asked(THERE, Posture.NONE, SMALL, 3000) == bid(CARD, NEEDS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"regions": (HERE,)}, asked(HERE, Posture.NONE, SMALL, 5000)),
        ({"tdx": TdxNeed.REQUIRED}, asked(HERE, Posture.TDX, SMALL, 7000)),
        ({"tdx": TdxNeed.PREFERRED}, asked(HERE, Posture.TDX, SMALL, 7000)),
        ({"tdx": TdxNeed.PREFERRED, "regions": (THERE,)}, asked(THERE, Posture.NONE, SMALL, 3000)),
        ({"resources": Resources(3000, 512)}, asked(HERE, Posture.NONE, LARGE, 9000)),
        ({"network": NetworkPolicy.EGRESS}, asked(THERE, Posture.NONE, SMALL, 3000)),
        ({"regions": (Region("mars"),)}, Reason.REGION),
        ({"regions": (THERE,), "tdx": TdxNeed.REQUIRED}, Reason.TDX_POSTURE),
        ({"regions": (HERE,), "network": NetworkPolicy.EGRESS}, Reason.NETWORK_POLICY),
        ({"resources": Resources(8001, 512)}, Reason.SHAPE),
        ({"resources": Resources(1000, 8193)}, Reason.SHAPE),
        ({"resources": Resources(1000, 512, 0, 1)}, Reason.SHAPE),
        ({"duration_ms": Milliseconds(10_001)}, Reason.SHAPE),
        ({"resources": Resources(1000, 4096)}, Reason.OUT_OF_BAND),
        ({"resources": Resources(3000, 512), "tdx": TdxNeed.REQUIRED}, Reason.NO_RATE),
    ],
    ids=str,
)
def test_requirements_get_the_right_bid_or_the_right_reason(changes, expected):
    assert expected == bid(CARD, evolve(NEEDS, **changes))


def test_a_band_without_a_slot_bids_nothing():
    assert bid(CARD, NEEDS, busy=frozenset({SMALL})) is Reason.NO_FREE_CAPACITY


def test_another_band_bids_where_one_is_full():
    needs = evolve(NEEDS, resources=Resources(1500, 512), regions=(HERE,))

    assert asked(HERE, Posture.NONE, LARGE, 9000) == bid(CARD, needs, busy=frozenset({SMALL}))


def test_a_card_without_rates_bids_nothing():
    assert bid(card(rates=RateTable("EUR", ())), NEEDS) is Reason.NO_RATE


def test_a_tie_goes_to_the_first_key():
    rows = (row(HERE, Posture.NONE, SMALL, 3_000_000), row(THERE, Posture.NONE, SMALL, 3_000_000))

    assert asked(HERE, Posture.NONE, SMALL, 3000) == bid(card(rates=RateTable("EUR", rows)), NEEDS)


_NEEDS = st.builds(
    Requirements,
    st.builds(Resources, st.integers(1, 9000), st.integers(1, 9000), st.integers(0, 2), st.integers(0, 1)),
    st.integers(1, 12_000).map(Milliseconds),
    st.sampled_from(TdxNeed),
    st.sampled_from(NetworkPolicy),
    st.sampled_from([(), (HERE,), (THERE,), (HERE, THERE)]),
)
_BUSY = st.frozensets(st.sampled_from([SMALL, LARGE]))


@given(_NEEDS, _BUSY)
def test_a_bid_is_a_promise_that_the_card_can_keep(needs, busy):
    found = bid(CARD, needs, busy=busy)
    if isinstance(found, Reason):
        return
    row_ = CARD.rates.find(found.region, found.posture, found.band)

    assert any(one.serves(needs) for one in CAPABILITIES if (one.region, one.posture) == (found.region, found.posture))
    assert any(band.covers(needs) for band in BANDS if band.name == found.band)
    assert found.band not in busy
    assert row_ is not None
    assert row_.units.hourly(needs) == found.rate


@given(_NEEDS)
def test_fewer_free_bands_never_make_a_bid_cheaper(needs):
    free, less = bid(CARD, needs), bid(CARD, needs, busy=frozenset({SMALL}))
    if isinstance(free, Bid) and isinstance(less, Bid) and needs.tdx is not TdxNeed.PREFERRED:
        assert free.rate <= less.rate
